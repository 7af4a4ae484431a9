"""The continuous emotion attributes, by name and in the one order we write them."""

ATTRIBUTES: tuple[str, ...] = ("valence", "arousal", "dominance")

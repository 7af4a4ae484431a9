"""The names of the attributes, in the order of every output."""

ATTRIBUTES: tuple[str, ...] = ("valence", "arousal", "dominance")

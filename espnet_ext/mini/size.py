"""How large the built-in corpora are."""

from dataclasses import dataclass

from espnet_ext.errors import UserError

_SMALLEST = 0.1


@dataclass(frozen=True, slots=True)
class MiniSize:
    """Size of a generated corpus.

    Attributes:
        scale: Factor on the number of utterances of each label; 1 is the built-in
            corpus, tests take less. Every label of each session or split stays
            present.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not _SMALLEST <= self.scale <= 100:
            raise UserError(
                f"scale {self.scale} is not between {_SMALLEST} and 100: below, the "
                "dialogs of a session could not all be filled"
            )

    def count(self, full: int) -> int:
        """Scale a number of utterances; at least one remains."""
        return max(1, round(full * self.scale))

"""One labeled recording, as its corpus tells it."""

import math
from dataclasses import dataclass, replace

UNKNOWN = "<unk>"
"""Stands for a speaker, gender, split or label that the corpus does not tell."""

GENDERS = ("f", "m", UNKNOWN)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording with its raw labels; nothing is mapped or scaled here.

    Text that is missing is ``<unk>``, numbers are nan.
    """

    id: str  # unique within its corpus, without blanks
    wav: str  # absolute path
    corpus: str  # its name in the registry, or a manifest's
    speaker: str  # within the corpus
    gender: str  # f or m
    split: str  # the part of the corpus as its makers drew it: Session1, train, ...
    emotion: str  # the corpus' own label
    valence: float = math.nan  # on the corpus' own scale
    arousal: float = math.nan
    dominance: float = math.nan
    labeled_seconds: float = math.nan  # the length that the labels tell
    language: str = UNKNOWN  # as a manifest names it

    @property
    def attributes(self) -> tuple[float, float, float]:
        """Valence, arousal and dominance."""
        return self.valence, self.arousal, self.dominance

    def with_attributes(
        self, valence: float, arousal: float, dominance: float
    ) -> "Utterance":
        """Return the utterance with these values."""
        return replace(self, valence=valence, arousal=arousal, dominance=dominance)

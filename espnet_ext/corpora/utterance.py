"""One labelled recording, as its corpus tells it."""

import math
from dataclasses import dataclass, replace

UNKNOWN = "<unk>"
"""Stands for a speaker, gender, split or label that the corpus does not tell."""

GENDERS = ("f", "m", UNKNOWN)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording with its raw labels; nothing is mapped or scaled here.

    Attributes:
        id: Unique within its corpus, without blanks.
        wav: Absolute path of the audio file.
        corpus: Name of the corpus in the registry.
        speaker: The speaker within the corpus, or ``<unk>``.
        gender: ``f``, ``m`` or ``<unk>``.
        split: The part of the corpus as its makers drew it (IEMOCAP ``Session1``...,
            MSP-Podcast ``train``, ``validation``, ``test1``...), or ``<unk>``.
        emotion: The corpus' own label, or ``<unk>``.
        valence: On the corpus' own scale, nan where missing; so are the next two.
        arousal: See valence.
        dominance: See valence.
        labelled_seconds: The length that the labels tell, nan where they do not.
        language: As a manifest names it, or ``<unk>``.
    """

    id: str
    wav: str
    corpus: str
    speaker: str
    gender: str
    split: str
    emotion: str
    valence: float = math.nan
    arousal: float = math.nan
    dominance: float = math.nan
    labelled_seconds: float = math.nan
    language: str = UNKNOWN

    @property
    def attributes(self) -> tuple[float, float, float]:
        """Valence, arousal and dominance."""
        return self.valence, self.arousal, self.dominance

    def with_attributes(
        self, valence: float, arousal: float, dominance: float
    ) -> "Utterance":
        """Return the utterance with these values."""
        return replace(self, valence=valence, arousal=arousal, dominance=dominance)

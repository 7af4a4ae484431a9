"""What a model answers about one recording, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from espnet_ext.attributes import ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation over the members of an ensemble; named as in `EmotionResult`.

    Attributes:
        scores: Of each class' probability.
        valence: On the model's scale.
        arousal: As valence.
        dominance: As valence.
    """

    scores: dict[str, float] | None
    valence: float | None
    arousal: float | None
    dominance: float | None


@dataclass(frozen=True, slots=True)
class EmotionResult:
    """The answer about one recording.

    What the model cannot tell is None, never zero: a model without classes has no
    `label` and `scores`, one without attributes no `valence`, `arousal`, `dominance`.

    Attributes:
        source: Name of the recording.
        seconds: Its length.
        label: The most probable class.
        scores: Probability of each class; they add up to 1.
        valence: On `scale`; low is unpleasant.
        arousal: On `scale`; low is calm.
        dominance: On `scale`; low is weak.
        scale: Ends of the scale that the model was trained on, such as (1, 5).
            A model may go beyond them. None if they are not known.
        speech: Share of 20 ms frames that are loud enough to be speech, 0 to 1.
        warnings: What makes the answer doubtful.
        attention: (T,) weights of the pooling by branch; see `attention_times`.
        embeddings: The vectors E_D and E_C by branch, if they were asked for; of an
            ensemble those of each member, ``BRANCH_1`` and so on.
        spread: How far the members of an ensemble are apart; None of a single model.
    """

    source: str
    seconds: float
    label: str | None
    scores: dict[str, float] | None
    valence: float | None
    arousal: float | None
    dominance: float | None
    scale: tuple[float, float] | None
    speech: float
    warnings: tuple[str, ...] = ()
    attention: dict[str, np.ndarray] = field(default_factory=dict, compare=False)
    embeddings: dict[str, np.ndarray] | None = field(default=None, compare=False)
    spread: Spread | None = None

    @property
    def unit(self) -> dict[str, float] | None:
        """The attributes brought from `scale` to [0, 1] (not clipped)."""
        return to_unit(attributes_of(self), self.scale)

    @property
    def attention_times(self) -> np.ndarray:
        """Seconds (T,) of the attention's weights, about to a frame: spread evenly.

        Frames are 20 ms apart with HuBERT, 10 ms with cepstra, more in an encoder that
        subsamples.
        """
        frames = len(next(iter(self.attention.values()), ()))
        return (np.arange(frames) + 0.5) * self.seconds / max(frames, 1)

    def to_dict(self, arrays: str = "without") -> dict[str, Any]:
        """Return what JSON can hold.

        Args:
            arrays: ``with`` adds attention and embeddings as lists.
        """
        values: dict[str, Any] = {
            "source": self.source,
            "seconds": round(self.seconds, 6),
            "label": self.label,
            "scores": self.scores,
            **{name: getattr(self, name) for name in ATTRIBUTES},
            "scale": None if self.scale is None else list(self.scale),
            "unit": self.unit,
            "spread": None if self.spread is None else asdict(self.spread),
            "speech": round(self.speech, 6),
            "warnings": list(self.warnings),
        }
        if arrays == "with":
            values["attention"] = _lists(self.attention)
            values["embeddings"] = (
                None if self.embeddings is None else _lists(self.embeddings)
            )
        return values

    def to_hf(self) -> list[dict[str, Any]]:
        """Return ``[{"label", "score"}, ...]``, best first, as audio pipelines do."""
        ranked = sorted((self.scores or {}).items(), key=lambda item: -item[1])
        return [{"label": label, "score": score} for label, score in ranked]


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that could not be used.

    Attributes:
        source: Name of the recording.
        error: Why, and what to do.
    """

    source: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"source": self.source, "error": self.error}


def attributes_of(result: Any) -> dict[str, float] | None:
    """Return a result's attributes by name, or None where it has none."""
    values = {name: getattr(result, name) for name in ATTRIBUTES}
    return None if None in values.values() else values


def to_unit(
    values: Mapping[str, float] | None, scale: tuple[float, float] | None
) -> dict[str, float] | None:
    """Bring attributes from a scale to [0, 1], without clipping."""
    if values is None or scale is None:
        return None
    low, high = scale
    return {name: (value - low) / (high - low) for name, value in values.items()}


def _lists(arrays: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in arrays.items()}

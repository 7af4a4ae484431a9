"""Emotion over time: windows over a long recording, and what is made of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.audio import RATE
from espnet_ext.inference.results import to_unit
from espnet_ext.inference.speech import FRAME

if TYPE_CHECKING:
    import pandas as pd

    from espnet_ext.train.prediction import UtterancePrediction

NO_SPEECH = "no_speech"
SPEECH = "speech"  # of a model without classes
MIN_SHARE = 0.1  # of a step's frames, for it to hold speech


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording; what it lacks is None, as in `EmotionResult`.

    Attributes:
        start: Seconds.
        end: Seconds.
        label: The class; ``no_speech``; or ``speech`` from a model without classes.
        scores: Mean probability of each class.
        valence: Mean, on the model's scale.
        arousal: As valence.
        dominance: As valence.
        unit: The attributes on [0, 1], if the scale is known.
        speech: Share of frames that may be speech.
    """

    start: float
    end: float
    label: str
    scores: dict[str, float] | None
    valence: float | None
    arousal: float | None
    dominance: float | None
    unit: dict[str, float] | None
    speech: float

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Timeline:
    """A recording as steps of one hop each, and as segments of one label each.

    Attributes:
        source: Name of the recording.
        seconds: Its length.
        steps: One after the other, all of it.
        segments: Neighbors of one label joined.
        labels: Names of the model's classes.
    """

    source: str
    seconds: float
    steps: tuple[Segment, ...]
    segments: tuple[Segment, ...]
    labels: tuple[str, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Return the steps as a table: start, end, label, prob_*, attributes, speech.

        The columns are the same for all recordings, also for one without speech.
        """
        import pandas as pd

        names = [f"prob_{label}" for label in self.labels]
        columns = ["start", "end", "label", *names, *ATTRIBUTES, "speech"]
        return pd.DataFrame([_flat(step) for step in self.steps], columns=columns)

    def to_rttm(self) -> str:
        """Return the segments that hold speech as RTTM lines; the name is the label."""
        name = "_".join(Path(self.source).stem.split()) or "recording"
        return "".join(
            f"SPEAKER {name} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> "
            f"{s.label} <NA> <NA>\n"
            for s in self.segments
            if s.label != NO_SPEECH
        )

    def summary(self) -> dict[str, Any]:
        """Return seconds of each label and the means over what holds speech."""
        seconds: dict[str, float] = {}
        for s in self.steps:
            seconds[s.label] = seconds.get(s.label, 0.0) + s.end - s.start
        spoken = [s for s in self.steps if s.label != NO_SPEECH]
        whole = _join(spoken) if spoken else None
        return {
            "source": self.source,
            "seconds": self.seconds,
            "seconds_by_label": {k: round(v, 3) for k, v in seconds.items()},
            "scores": whole and whole.scores,
            **{name: whole and getattr(whole, name) for name in ATTRIBUTES},
            "unit": whole and whole.unit,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**self.summary(), "segments": [s.to_dict() for s in self.segments]}


class Windows:
    """Which windows of a recording are to be predicted.

    Windows start every `hop`; the last one is put at the end of the recording.

    Args:
        total: Samples of the recording.
        size: Samples of a window.
        hop: Samples between the starts.
        speech: (T,) of bool, by 20 ms frame.
    """

    def __init__(self, total: int, size: int, hop: int, speech: np.ndarray) -> None:
        self.total, self.hop, self.size = total, hop, min(size, total)
        starts = list(range(0, total - self.size + 1, hop))
        if starts[-1] + self.size < total:
            starts.append(total - self.size)
        edges = np.arange(0, total, hop)  # start of each step
        self.steps = np.stack([edges, np.minimum(edges + hop, total)], axis=1)
        # Share of speech of each step (S,), by the frames that begin in it.
        place = np.minimum(np.arange(len(speech)) * FRAME // hop, len(edges) - 1)
        frames = np.maximum(np.bincount(place, minlength=len(edges)), 1)
        self.speech = np.bincount(place, speech, minlength=len(edges)) / frames
        self.spoken = self.speech >= MIN_SHARE
        self.starts = [s for s in starts if self.spoken[self.steps_of(s)].any()]

    def steps_of(self, start: int) -> slice:
        """Return the steps that a window overlaps."""
        return slice(start // self.hop, -(-(start + self.size) // self.hop))

    def cut(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Cut the windows out of a stream: their start and samples (size,)."""
        held, at = np.zeros(0, np.float32), 0
        stream = iter(blocks)
        for start in self.starts:
            while at + len(held) < start + self.size:
                skip = min(max(0, start - at), len(held))
                held, at = np.concatenate([held[skip:], next(stream)]), at + skip
            yield start, held[start - at : start - at + self.size]


def make_timeline(
    source: str,
    plan: Windows,
    answers: "Iterable[tuple[int, UtterancePrediction]]",
    labels: Sequence[str],
    scale: tuple[float, float] | None,
) -> Timeline:
    """Average the windows over each step, and join steps of one label.

    A window counts in a step as much as it overlaps it.

    Args:
        source: Name of the recording.
        plan: The windows.
        answers: Start and prediction of each window.
        labels: Names of the classes.
        scale: Of the attributes.
    """
    count = len(plan.steps)
    scores = np.zeros((count, len(labels)))
    attributes = np.zeros((count, len(ATTRIBUTES)))
    weight = np.zeros((count, 1))
    has_scores = has_attributes = False
    for start, answer in answers:
        here = plan.steps_of(start)
        begin, stop = plan.steps[here].T
        overlap = np.minimum(stop, start + plan.size) - np.maximum(begin, start)
        weight[here, 0] += overlap
        if answer.probabilities is not None:
            has_scores = True
            scores[here] += overlap[:, None] * answer.probabilities
        if answer.attributes is not None:
            has_attributes = True
            attributes[here] += overlap[:, None] * answer.attributes
    weight = np.maximum(weight, 1)
    steps = [
        _step(
            (plan.steps[i, 0] / RATE, plan.steps[i, 1] / RATE),
            dict(zip(labels, (scores[i] / weight[i]).tolist(), strict=True))
            if has_scores and plan.spoken[i]
            else None,
            (attributes[i] / weight[i]).tolist()
            if has_attributes and plan.spoken[i]
            else None,
            scale,
            float(plan.speech[i]),
            spoken=bool(plan.spoken[i]),
        )
        for i in range(count)
    ]
    segments: list[list[Segment]] = []
    for step in steps:
        if segments and segments[-1][0].label == step.label:
            segments[-1].append(step)
        else:
            segments.append([step])
    joined = tuple(_join(parts) for parts in segments)
    return Timeline(source, plan.total / RATE, tuple(steps), joined, tuple(labels))


def _flat(segment: Segment) -> dict[str, Any]:
    """Return a segment as one row of a table."""
    row: dict[str, Any] = {
        "start": segment.start,
        "end": segment.end,
        "label": segment.label,
    }
    row |= {f"prob_{name}": p for name, p in (segment.scores or {}).items()}
    row |= {name: getattr(segment, name) for name in ATTRIBUTES}
    return row | {"speech": segment.speech}


def _step(
    times: tuple[float, float],
    scores: dict[str, float] | None,
    values: Sequence[float] | None,
    scale: tuple[float, float] | None,
    speech: float,
    *,
    spoken: bool,
) -> Segment:
    label = SPEECH if spoken else NO_SPEECH
    if scores is not None:
        label = max(scores, key=lambda name: scores[name])
    named = None if values is None else dict(zip(ATTRIBUTES, values, strict=True))
    return Segment(
        float(times[0]),
        float(times[1]),
        label,
        scores,
        **{name: None if named is None else named[name] for name in ATTRIBUTES},
        unit=to_unit(named, scale),
        speech=speech,
    )


def _join(parts: Sequence[Segment]) -> Segment:
    """Join steps; numbers are means over their time."""
    seconds = np.array([s.end - s.start for s in parts])
    share = seconds / seconds.sum()

    def mean(values: Sequence[float | None]) -> float | None:
        if any(value is None for value in values):
            return None
        return float(share @ np.array(values, dtype=float))

    def means(dicts: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
        known = [values for values in dicts if values is not None]
        if len(known) < len(dicts):
            return None
        return {k: float(share @ [values[k] for values in known]) for k in known[0]}

    return Segment(
        parts[0].start,
        parts[-1].end,
        parts[0].label,
        means([s.scores for s in parts]),
        **{name: mean([getattr(s, name) for s in parts]) for name in ATTRIBUTES},
        unit=means([s.unit for s in parts]),
        speech=float(share @ [s.speech for s in parts]),
    )

"""Ask the model about recordings and write what it answers as HTML."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError
from espnet_ext.inference.outputs import ResultWriter
from espnet_ext.inference.page import parts
from espnet_ext.inference.page.figures import (
    attention_figure,
    class_colors,
    timeline_figure,
)
from espnet_ext.inference.results import Failure
from espnet_ext.inference.sources import Source
from espnet_ext.inference.timeline import Timeline
from espnet_ext.scoring.names import corpus_name

if TYPE_CHECKING:
    from espnet_ext.inference.emotion import SpeechEmotion
    from espnet_ext.inference.info import ModelInfo

WINDOW, HOP = 4.0, 1.0  # seconds of a timeline
LONG = 2 * WINDOW  # longer ones get a timeline
WHOLE = 120.0  # longer ones get no answer as a whole: it takes time and means little


@dataclass(frozen=True, slots=True)
class Table:
    """Several files: what is shown, and the rows as a file once all are there."""

    html: str
    csv: Path | None = None


def answer(ser: "SpeechEmotion", path: Path, max_seconds: float) -> str:
    """Answer about one recording; a message if it cannot be used."""
    source = Source(path.name, str(path))
    try:
        return _answer(ser, source, max_seconds)
    except (UserError, OSError) as error:
        return parts.box("error", "This recording cannot be used.", str(error))


def answer_all(
    ser: "SpeechEmotion", paths: Sequence[Path], folder: Path, max_seconds: float
) -> Iterator[Table]:
    """Answer about several files; those that cannot be used do not stop the rest.

    Args:
        ser: The model.
        paths: The files.
        folder: For ``emotions.csv``, as ``ser predict --format csv`` writes it.
        max_seconds: Of a file.

    Yields:
        The table up to each file; with the csv at the end.
    """
    rows = []
    path = folder / "emotions.csv"
    with ResultWriter("csv", path, ser.labels, len(ser.info.members)) as writer:
        for file in paths:
            source = Source(file.name, str(file))
            try:
                _check_length(source, max_seconds)
                found = ser(source).to_dict()
            except (UserError, OSError) as error:
                found = Failure(file.name, str(error)).to_dict()
            writer.write(file.name, found)
            rows.append(parts.short_row(file.name, found))
            yield Table(parts.table(rows))
    yield Table(parts.table(rows), path)


def warn_of_toy(info: "ModelInfo") -> str:
    """Say that a model of the built-in corpora is a toy."""
    if not info.builtin:
        return ""
    return parts.box(
        "warning",
        "This model is a toy.",
        "It was trained on the built-in, synthetic corpora: it shows how the software "
        "works and knows nothing of people.",
    )


def about(ser: "SpeechEmotion", description: str) -> str:
    """Say what the model was made of.

    Args:
        ser: The model.
        description: As ``ser info`` prints it.
    """
    info = ser.info
    corpora = ", ".join(corpus_name(name) for name in info.corpora) or "not known"
    if info.builtin:
        corpora = f"built-in, synthetic stand-in for {corpora}"
    if info.clips is not None:
        shortest, longest = info.clips
        corpora += f"; {info.utterances} clips of {shortest:.1f} to {longest:.1f} s"
    facts = {"Model": info.name, "Trained on": corpora}
    if ser.labels:
        facts["Classes"] = ", ".join(ser.labels)
    if ser.scale is not None:
        low, high = ser.scale
        facts["Attributes"] = f"{', '.join(ATTRIBUTES)}, from {low:g} to {high:g}"
    return parts.facts(facts) + parts.fold("More about the model", description)


def _answer(ser: "SpeechEmotion", source: Source, max_seconds: float) -> str:
    seconds = _check_length(source, max_seconds)
    timeline = ser.timeline(source, WINDOW, HOP) if seconds > LONG else None
    if timeline is not None and seconds > WHOLE:
        values = timeline.summary()
        note = f"mean over {seconds:.0f} s"
        attention = ""
    else:
        result = ser(source)
        values, note = result.to_dict(), f"{seconds:.2f} s"
        wave = source.load()
        attention = parts.picture(
            lambda width: attention_figure(result.attention, wave, width),
            "Attention over the waveform",
        )
    return _show(ser, values, note, attention, timeline)


def _check_length(source: Source, max_seconds: float) -> float:
    """Return the length of a recording that is not too long."""
    seconds = source.seconds()
    if seconds > max_seconds:
        raise UserError(
            f"{source.name}: {seconds:.0f} s; this page takes {max_seconds:g} s (see "
            "--max_seconds)"
        )
    return seconds


def _show(
    ser: "SpeechEmotion",
    values: dict[str, Any],
    note: str,
    attention: str,
    timeline: Timeline | None,
) -> str:
    """Put the parts together; those that the model lacks are empty.

    Args:
        ser: The model.
        values: `EmotionResult.to_dict` or `Timeline.summary`.
        note: What the numbers are about.
        attention: Picture.
        timeline: Of a long recording.
    """
    colors = class_colors(ser.info.classes, ser.labels)
    named = {name: values[name] for name in ATTRIBUTES}
    known = None if None in named.values() else named
    warnings = "".join(
        parts.box("warning", "Doubtful:", text) for text in values.get("warnings", ())
    )
    if values["scores"] is None and known is None:
        warnings += parts.box("warning", "No speech", "was found in this recording.")
    scale = ser.scale
    on = "" if scale is None else "from {:g} to {:g}".format(*scale)
    plane = parts.plane(values["unit"], scale)
    rows = parts.attributes(known, values["unit"])
    even = "1: all moments count the same"
    cards = [
        parts.card("Class", parts.classes(values["scores"], colors), note),
        parts.card("Valence and arousal", plane, on, "ser-right"),
        parts.card("Attributes", rows, on),
        parts.card("Where the model attends", attention, even, "ser-wide"),
    ]
    if timeline is not None:
        figure = parts.picture(
            lambda width: timeline_figure(timeline, colors, width), "Emotion over time"
        )
        table = parts.table(map(parts.segment_row, timeline.segments))
        steps = f"windows of {WINDOW:g} s, steps of {HOP:g} s"
        cards.append(parts.card("Timeline", figure + table, steps, "ser-wide"))
        values = {**values, "segments": timeline.to_dict()["segments"]}
    text = json.dumps(values, indent=2, ensure_ascii=False)
    return (
        f'{warnings}<div class="ser-cards">{"".join(cards)}</div>'
        f"{parts.fold('All numbers (JSON)', text)}"
    )

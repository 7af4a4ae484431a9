"""What a corpus module hands over: its records and its registration."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.corpora.splits import Scheme
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError

Counts = Mapping[tuple[str, ...], int]
"""Number of labeled utterances by ``()`` (all), ``(split,)``, ``(emotion,)``,
``(split, emotion)`` and ``(split, gender)``.
"""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A label or a recording that is not in the data directory, and why."""

    name: str  # utterance id, or name of the file
    reason: str  # a phrase that is the same for all cases of one kind
    where: str  # file:line or path to look at
    utterance: Utterance | None = None  # where there was a label to make one of
    expected: bool = False  # as the release is known to be: --strict lets it pass


@dataclass(slots=True)
class Reading:
    """What was found under a corpus root."""

    utterances: dict[str, Utterance] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Corpus:
    """A corpus' registration."""

    name: str  # as in --corpus and utt2corpus
    display: str  # as in tables and plots
    read: Callable[[Path], Reading]  # from the corpus root
    labels: Mapping[str, str]  # to the common name that class maps use (exc: excited)
    # Lowest and highest possible attribute; None where there are none.
    attribute_scale: tuple[float, float] | None = None
    releases: Mapping[str, Counts] = field(default_factory=dict)  # true counts by name
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    # Whether the paper's released preparation exchanged valence and arousal.
    paper_swapped_va: bool = False


def read_file_names(
    files: Iterable[tuple[str, Path]],
    pattern: re.Pattern[str],
    record: Callable[[str, re.Match[str]], Utterance],
    none: str,
) -> Reading:
    """Read a corpus that has its labels in the names of its files.

    Args:
        files: Name without suffix and path of each recording.
        pattern: Of a name; files with other names are left out.
        record: Makes the record of a file from its path and the match.
        none: The message where there is no recording.

    Raises:
        UserError: There is no recording, or two make the same utterance.
    """
    reading = Reading()
    for name, path in sorted(files, key=lambda file: file[1]):
        match = pattern.fullmatch(name)
        if match is None:
            reason = "name does not tell a label"
            reading.left_out.append(LeftOut(name, reason, str(path)))
            continue
        utterance = record(str(path), match)
        first = reading.utterances.setdefault(utterance.id, utterance)
        if first is not utterance:
            raise UserError(f"{path}: the same utterance as {first.wav}; remove one")
    if not reading.utterances:
        raise UserError(none)
    return reading


def check_label(label: str, labels: Iterable[str], where: str) -> None:
    """Raise UserError for a label that the corpus does not have."""
    if label not in labels:
        known = ", ".join(labels)
        raise UserError(f"{where}: unknown emotion {label!r}; there are {known}")

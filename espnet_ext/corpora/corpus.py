"""What a corpus module hands over: its records and its registration."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.corpora.splits import Scheme
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError

Counts = Mapping[tuple[str, ...], int]
"""Number of labelled utterances of which a set of properties holds.

A key is a tuple of split, emotion or gender values, all of which hold, in the order
``(split, emotion)`` or ``(split, gender)``; ``()`` counts every utterance.
"""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A label or a recording that is not in the data directory, and why.

    Attributes:
        name: Utterance id, or the name of the file.
        reason: A phrase that is the same for all cases of one kind.
        where: ``file:line`` or path to look at.
        utterance: The record, where there was a label to make one of.
        expected: True for a known peculiarity of the release, which ``--strict`` lets
            pass.
    """

    name: str
    reason: str
    where: str
    utterance: Utterance | None = None
    expected: bool = False


@dataclass(slots=True)
class Reading:
    """What was found under a corpus root."""

    utterances: dict[str, Utterance] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_file_names(
    files: Iterable[Path],
    pattern: re.Pattern[str],
    record: Callable[[Path, re.Match[str]], Utterance],
) -> Reading:
    """Read a corpus that has its labels in the names of its files.

    Args:
        files: The recordings.
        pattern: Of a name without suffix. A file with another name is left out.
        record: Makes the record of a file from its path and the match.

    Raises:
        UserError: Two files make the same utterance.
    """
    reading = Reading()
    for path in sorted(files):
        match = pattern.fullmatch(path.stem)
        if match is None:
            reading.left_out.append(
                LeftOut(path.stem, "name does not tell a label", str(path))
            )
            continue
        utterance = record(path, match)
        if utterance.id in reading.utterances:
            first = reading.utterances[utterance.id].wav
            raise UserError(f"{path}: the same utterance as {first}; remove one")
        reading.utterances[utterance.id] = utterance
    return reading


@dataclass(frozen=True)
class Corpus:
    """A corpus' registration.

    Attributes:
        name: As in ``--corpus``, ``utt2corpus`` and the class maps.
        read: From the corpus root to its records.
        labels: Every label that the corpus uses; a class map must name them all.
        attribute_scale: Lowest and highest possible valence, arousal and dominance, or
            None where the corpus has no such labels.
        releases: Name of a release to its true counts, for the check after preparation.
        schemes: Name of a split scheme to the scheme.
    """

    name: str
    read: Callable[[Path], Reading]
    labels: Sequence[str]
    attribute_scale: tuple[float, float] | None = None
    releases: Mapping[str, Counts] = field(default_factory=dict)
    schemes: Mapping[str, Scheme] = field(default_factory=dict)

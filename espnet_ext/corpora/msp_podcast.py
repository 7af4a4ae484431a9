r"""MSP-Podcast: spontaneous speech from podcasts, releases 1.0 to 2.0.

Root (1.8; the spelling of names differs between releases, see below)::

    readme.txt  Speaker_ids.txt  Partitions.txt
    Audios/MSP-PODCAST_0001_0008.wav
    Labels/labels_concensus.csv     consensus labels (sic; labels_consensus from 1.10)
    Labels/labels_concensus.json    the same
    Labels/labels.txt               consensus and every worker's ratings
    Labels/labels_detailed.csv      every worker's ratings, never read

``labels_con?ensus.csv`` has named columns; *arousal ("activation") stands before
valence*, so columns are found by name::

    FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
    MSP-PODCAST_0001_0008.wav,N,4.2,5.8,4.8,127,Female,Test1

Releases 1.0 to 1.5 have no csv. There the label is from ``labels.txt``, the split from
``Partitions.txt``, the speaker from ``Speaker_ids.txt``::

    MSP-PODCAST_0001_0139.wav; N; A:2.400000; V:4.000000; D:2.800000;
    WORKER00000001; Other-confused; Concerned,Confused; A:3.000000; V:3.000000; ...

    Train; MSP-PODCAST_0023_0048.wav

    Speaker_127; Female
    MSP-PODCAST_0001_0008.wav;127

What differs between releases is resolved here: the label folder is ``Labels``,
``labels`` or ``label``, the audio folder ``Audios`` or ``Audio``, names are found
without regard to case, and each split has its aliases (``Development`` is
``validation``, 1.6's ``Test`` is ``test1``). Test3 of 1.11 and later has audio only:
its utterances have neither emotion nor attributes.

Attributes are from 1 to 7. Emotions: A angry, S sad, H happy, U surprise, F fear,
D disgust, C contempt, N neutral, O other, X no agreement.

Reference: R. Lotfian and C. Busso, "Building naturalistic emotionally balanced speech
corpus by retrieving emotional speech from existing podcast recordings", IEEE
Transactions on Affective Computing 10(4), 2019.
"""

import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, LeftOut, Reading
from espnet_ext.corpora.listing import AUDIO, find_child, list_names
from espnet_ext.corpora.splits import (
    Scheme,
    Split,
    SplitOptions,
    Utterances,
    sample,
    split_by_part,
)
from espnet_ext.corpora.textio import read_lines, read_table
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

NAME = "msp_podcast"
LABELS = ("A", "S", "H", "U", "F", "D", "C", "N", "O", "X")

_SPLITS = {
    "train": "train",
    "validation": "validation",
    "development": "validation",
    "dev": "validation",
    "test": "test1",
    "test1": "test1",
    "test2": "test2",
    "test3": "test3",
}
_GENDERS = {"male": "m", "female": "f", "unknown": UNKNOWN, "": UNKNOWN}
_COLUMNS = (
    "FileName",
    "EmoClass",
    "EmoAct",
    "EmoVal",
    "EmoDom",
    "SpkrID",
    "Gender",
    "Split_Set",
)
# Release 2.0 lists this file and does not have it.
_KNOWN_MISSING = frozenset({"MSP-PODCAST_1909_1017"})

_FILE_LINE = re.compile(r"(\S+\.wav) *; *(\w+) *;((?: *[AVD] *: *[-\d.]+ *;){3})\s*")
_ATTRIBUTE = re.compile(r"([AVD]) *: *([-\d.]+)")
_WORKER_LINE = re.compile(r"WORKER\d+ *;.*;\s*")


@dataclass(slots=True)
class _Row:
    """One labelled file, as text."""

    where: str
    file: str
    emotion: str
    arousal: str
    valence: str
    dominance: str
    speaker: str
    gender: str
    split: str


def read(root: Path) -> Reading:
    """Read the labels of any release under `root`.

    A label whose audio is missing, and audio that has no label and is not in Test3, are
    left out and told.

    Raises:
        UserError: With file and line, for anything that does not fit the format or an
            utterance that occurs twice.
    """
    labels, layout = _find_labels(root)
    audio_folder = find_child(root, "Audios", "Audio")
    if audio_folder is None or not audio_folder.is_dir():
        raise UserError(f"{root}: no folder Audios; give the root of MSP-Podcast")
    # One listing instead of a quarter of a million look-ups.
    audio = list_names(audio_folder)
    reading = Reading(notes=[layout])
    prefix = str(audio_folder)
    missing: set[str] = set()
    for row in _rows(root, labels):
        utterance = _utterance(row)
        if utterance.id in reading.utterances or utterance.id in missing:
            raise UserError(f"{row.where}: {utterance.id} has a label already")
        name = audio.pop(utterance.id, None)
        if name is not None:
            wav = f"{prefix}/{name}"
            reading.utterances[utterance.id] = replace(utterance, wav=wav)
        else:
            missing.add(utterance.id)
            reading.left_out.append(
                LeftOut(
                    utterance.id,
                    "label without audio",
                    row.where,
                    utterance,
                    expected=utterance.id in _KNOWN_MISSING,
                )
            )
    if not reading.utterances and not missing:
        raise UserError(f"{labels}:1: no labels in this file; unpack the corpus again")
    _add_unlabelled(root, prefix, audio, reading)
    return reading


def _find_labels(root: Path) -> tuple[Path, str]:
    """Return the label file, and what its place tells about the release."""
    # 1.8 was seen with a folder "labels" and another one "label".
    folders = [
        path
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name.strip().lower() in ("labels", "label")
    ]
    for suffix in (".csv", ".json"):
        for stem, releases in (
            ("labels_consensus", "1.10 or later"),
            ("labels_concensus", "1.6 to 1.9"),
        ):
            for folder in folders:
                path = find_child(folder, stem + suffix)
                if path is not None:
                    return path, _layout(path, root, releases)
    for folder in (*folders, root):
        path = find_child(folder, "labels.txt")
        if path is not None and path.is_file():
            return path, _layout(path, root, "1.0 to 1.5")
    raise UserError(
        f"{root}: no Labels/labels_consensus.csv (or .json; labels_concensus in 1.6 to "
        "1.9; labels.txt in 1.0 to 1.5); give the root of MSP-Podcast"
    )


def _layout(path: Path, root: Path, releases: str) -> str:
    return f"labels from {path.relative_to(root)}: release {releases} by its layout"


def _rows(root: Path, labels: Path) -> Iterator[_Row]:
    """Yield the labelled files of a label file of any kind."""
    if labels.suffix.lower() == ".csv":
        return _csv_rows(labels)
    if labels.suffix.lower() == ".json":
        return _json_rows(labels)
    return _text_rows(root, labels)


def _csv_rows(path: Path) -> Iterator[_Row]:
    rows, header = read_table(path)
    reader = rows.reader
    try:
        order = _find_columns(header, f"{path}:1")
        for cells in reader:
            if not cells:
                continue
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise UserError(
                    f"{where}: {len(cells)} columns where the first line has "
                    f"{len(header)}; is the file cut off? unpack the corpus again"
                )
            yield _Row(where, *(cells[index].strip() for index in order))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from error


def _find_columns(header: list[str], where: str) -> list[int]:
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise UserError(f"{where}: no column {', '.join(missing)} in {header}")
    return [header.index(name) for name in _COLUMNS]


class _Entries(list):
    """The (file, values) pairs of a consensus json."""


def _json_rows(path: Path) -> Iterator[_Row]:
    """Yield rows of ``{file: {column: value}}``; a file that occurs twice is seen."""
    text = "\n".join(text for _, text in read_lines(path))

    def keep(pairs: list[tuple[str, object]]) -> object:
        # Innermost objects become tuples: far smaller than dictionaries.
        if any(isinstance(value, tuple) for _, value in pairs):
            return _Entries(pairs)
        values = dict(pairs)
        return tuple(values.get(name) for name in _COLUMNS[1:])

    try:
        entries = json.loads(text, object_pairs_hook=keep)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: {error.msg}; is the file cut off? unpack the "
            "corpus again"
        ) from error
    if not isinstance(entries, _Entries):
        raise UserError(f"{path}:1: not {{file: {{EmoClass, EmoAct, ...}}}}")
    for line, (file, values) in _with_lines(text, entries):
        where = f"{path}:{line}"
        if not isinstance(values, tuple) or None in values:
            raise UserError(
                f"{where}: {file} must have {', '.join(_COLUMNS[1:])} as in the csv"
            )
        yield _Row(where, file, *(str(value).strip() for value in values))


def _with_lines(text: str, entries: _Entries) -> Iterator[tuple[int, tuple]]:
    """Add the line of each entry's key."""
    position, line = 0, 1
    for entry in entries:
        found = text.find(json.dumps(entry[0]), position)
        if found >= 0:
            line += text.count("\n", position, found)
            position = found + 1
        yield line, entry


def _text_rows(root: Path, path: Path) -> Iterator[_Row]:
    """Yield the consensus lines of ``labels.txt``, joined with the other two files."""
    splits = dict(_partitions(root))
    speakers, genders = _speakers(root)
    for number, text in read_lines(path, errors="replace"):
        where = f"{path}:{number}"
        if not text.strip() or _WORKER_LINE.fullmatch(text):
            continue
        match = _FILE_LINE.fullmatch(text)
        if match is None:
            raise UserError(
                f"{where}: neither 'FILE.wav; EMOTION; A:a; V:v; D:d;' nor a line of a "
                f"worker: {text[:80]!r}"
            )
        file, emotion, values = match.groups()
        attributes = dict(_ATTRIBUTE.findall(values))
        if len(attributes) != 3:
            raise UserError(f"{where}: A, V and D must each occur once: {text[:80]!r}")
        speaker = speakers.get(file, UNKNOWN)
        yield _Row(
            where,
            file,
            emotion,
            attributes["A"],
            attributes["V"],
            attributes["D"],
            speaker,
            genders.get(speaker, ""),
            splits.get(file, ""),
        )


def _partitions(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, split as written) of the partition file."""
    path = find_child(root, "Partitions.txt", "Partition.txt")
    if path is None:
        return
    for _, text in read_lines(path, errors="replace"):
        split, separator, file = text.partition(";")
        if separator:
            yield file.strip().strip(";").strip(), sys.intern(split.strip())


def _speakers(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the speaker of each file and the gender of each speaker."""
    speakers: dict[str, str] = {}
    genders: dict[str, str] = {}
    path = find_child(root, "Speaker_ids.txt")
    if path is None:
        return speakers, genders
    for _, text in read_lines(path, errors="replace"):
        left, separator, right = (part.strip() for part in text.partition(";"))
        if not separator:
            continue
        if left.lower().endswith(".wav"):
            speakers[left] = sys.intern(right.removeprefix("Speaker_"))
        elif left.startswith("Speaker_"):
            genders[left.removeprefix("Speaker_")] = right
    return speakers, genders


def _utterance(row: _Row) -> Utterance:
    """Check a row and make a record of it, without its audio."""
    where = row.where
    if row.emotion not in LABELS:
        raise UserError(
            f"{where}: unknown emotion {row.emotion!r}; there are {', '.join(LABELS)}"
        )
    gender = _GENDERS.get(row.gender.lower())
    if gender is None:
        raise UserError(f"{where}: unknown gender {row.gender!r}")
    id_, suffix = os.path.splitext(row.file)
    if not id_ or suffix.lower() not in AUDIO or "/" in id_:
        raise UserError(f"{where}: {row.file!r} is no name of a wav file")
    return Utterance(
        id=id_,
        wav="",
        corpus=NAME,
        # Shared strings: there are a quarter of a million records.
        speaker=_speaker(row.speaker),
        gender=gender,
        split=_split_name(row.split, where),
        emotion=sys.intern(row.emotion),
        valence=_number(row.valence, where),
        arousal=_number(row.arousal, where),
        dominance=_number(row.dominance, where),
    )


def _speaker(text: str) -> str:
    return UNKNOWN if text.lower() in ("unknown", "") else sys.intern(text)


def _split_name(text: str, where: str) -> str:
    key = _split_key(text)
    if not key:
        return UNKNOWN
    if key not in _SPLITS:
        raise UserError(f"{where}: unknown split {text!r}; there are {list(_SPLITS)}")
    return _SPLITS[key]


def _split_key(text: str) -> str:
    return text.lower().replace(" ", "").replace("_", "")


def _number(text: str, where: str) -> float:
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is no number") from error


def _add_unlabelled(
    root: Path, prefix: str, audio: Mapping[str, str], reading: Reading
) -> None:
    """Keep Test3, which has audio only, and tell other audio without a label."""
    if not audio:
        return
    splits: Mapping[str, str] = dict(_partitions(root))
    test3 = 0
    for id_, name in sorted(audio.items()):
        split = _split_key(splits.get(f"{id_}.wav", ""))
        if "test3" not in (split, *name.lower().split("_")):
            reading.left_out.append(
                LeftOut(id_, "audio without a label", f"{prefix}/{name}")
            )
            continue
        test3 += 1
        reading.utterances[id_] = Utterance(
            id=id_,
            wav=f"{prefix}/{name}",
            corpus=NAME,
            speaker=UNKNOWN,
            gender=UNKNOWN,
            split="test3",
            emotion=UNKNOWN,
        )
    if test3:
        reading.notes.append(f"{test3} utterances of test3 have audio and no labels")


def official(utterances: Utterances, options: SplitOptions) -> Split:
    """Train, validation and Test1, the set of the paper."""
    del options
    return split_by_part(utterances, "train", "validation", "test1")


def official_test2(utterances: Utterances, options: SplitOptions) -> Split:
    """Train, validation and Test2."""
    del options
    return split_by_part(utterances, "train", "validation", "test2")


def subset(utterances: Utterances, options: SplitOptions) -> Split:
    """As many training and validation utterances as asked, drawn; all of Test1."""
    full = official(utterances, options)
    return Split(
        train=sample(full.train, options.subset_train, options.seed),
        valid=sample(full.valid, options.subset_valid, options.seed),
        test=full.test,
    )


def _by_emotion(split: str, counts: str) -> dict[tuple[str, ...], int]:
    """Spell out counts such as ``N4702 H3475`` of one split (or of all, if empty)."""
    start = (split,) if split else ()
    return {(*start, item[0]): int(item[1:]) for item in counts.split()}


# True counts; what is not told of a release is not compared.
RELEASES: dict[str, dict[tuple[str, ...], int]] = {
    "MSP-Podcast 1.7": {
        ("train",): 38179,
        ("validation",): 7538,
        ("test1",): 12902,
        ("test2",): 3521,
    },
    "MSP-Podcast 1.8": {
        (): 73042,
        ("validation",): 7800,
        ("test1",): 15326,
        **_by_emotion(
            "", "N26009 H14285 X14199 U4084 C3644 A3218 S2649 D2593 F1544 O817"
        ),
        **_by_emotion("train", "N16518 H8564 A1839 S1680"),
        **_by_emotion("validation", "N2529 H1320 A621 D441 S302"),
        **_by_emotion("test1", "N4702 H3475 D709 A622 S505 X2955 U1029 C736 F367 O226"),
    },
    "MSP-Podcast 1.10": {
        ("train",): 63076,
        ("validation",): 10999,
        ("test1",): 16903,
        ("test2",): 13289,
    },
    "MSP-Podcast 1.11": {
        ("train",): 84030,
        ("validation",): 19815,
        ("test1",): 30647,
        ("test2",): 14815,
        ("test3",): 2347,
    },
    "MSP-Podcast 1.12": {(): 207136},
    "MSP-Podcast 2.0": {(): 264705},
}


CORPUS = Corpus(
    name=NAME,
    read=read,
    labels=LABELS,
    attribute_scale=(1.0, 7.0),
    releases=RELEASES,
    # The makers keep known speakers apart; should a release not, it is told, not fatal.
    schemes={
        "msp_podcast": Scheme(
            official,
            folds=1,
            description="official train, validation and test1",
            unseen_test_speakers=False,
        ),
        "msp_podcast_test2": Scheme(
            official_test2,
            folds=1,
            description="official train, validation and test2",
            unseen_test_speakers=False,
        ),
        "msp_podcast_subset": Scheme(
            subset,
            folds=1,
            description="a drawn part of train and validation, and test1",
            unseen_test_speakers=False,
            whole=official,
        ),
    },
)

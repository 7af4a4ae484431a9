"""MSP-Podcast: spontaneous speech from podcasts, releases 1.0 to 2.0.

Root (1.8; the spelling of names differs between releases, see below)::

    readme.txt  Speaker_ids.txt  Partitions.txt
    Audios/MSP-PODCAST_0001_0008.wav
    Labels/labels_concensus.csv     consensus labels (sic; labels_consensus from 1.10)
    Labels/labels_concensus.json    the same, read where there is no csv
    Labels/labels.txt               consensus and every worker's ratings
    Labels/labels_detailed.csv      every worker's ratings, never read

Columns are found by name, for *arousal ("activation") stands before valence*::

    FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
    MSP-PODCAST_0001_0008.wav,N,4.2,5.8,4.8,127,Female,Test1

Releases 1.0 to 1.5 have neither csv nor json. There the label is from ``labels.txt``
(or ``Labels.txt`` in the root), the split from ``Partitions.txt``, the speaker from
``Speaker_ids.txt``::

    MSP-PODCAST_0001_0139.wav; N; A:2.400000; V:4.000000; D:2.800000;
    WORKER00000001; Other-confused; Concerned,Confused; A:3.000000; V:3.000000; ...

    Train; MSP-PODCAST_0023_0048.wav

    Speaker_127; Female
    MSP-PODCAST_0001_0008.wav;127

What differs between releases is resolved here: the label folder is ``Labels``,
``labels`` or ``label``, the audio folder ``Audios`` or ``Audio``, names are found
without regard to case, and each split has its aliases (``Development`` is
``validation``, 1.6's ``Test`` is ``test1``). Test3 of 1.11 and later has audio only,
and lines ``Test3; FILE.wav`` in Partitions.txt: its utterances have neither emotion nor
attributes. Attributes are from 1 to 7.

Reference: R. Lotfian and C. Busso, "Building naturalistic emotionally balanced speech
corpus by retrieving emotional speech from existing podcast recordings", IEEE
Transactions on Affective Computing 10(4), 2019.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, LeftOut, Reading, check_label
from espnet_ext.corpora.listing import AUDIO, find_child, list_names
from espnet_ext.corpora.splits import (
    Scheme,
    Split,
    SplitOptions,
    Utterances,
    published_parts,
    sample,
)
from espnet_ext.corpora.textio import read_lines, table_rows
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

NAME = "msp_podcast"
LABELS = {
    **{"A": "angry", "S": "sad", "H": "happy", "U": "surprised", "F": "fearful"},
    **{"D": "disgusted", "C": "contemptuous", "N": "neutral", "O": "other"},
    "X": "no_agreement",
}

_SPLITS = {
    "train": "train",
    **dict.fromkeys(("validation", "development", "dev"), "validation"),
    **{"test": "test1", "test1": "test1", "test2": "test2", "test3": "test3"},
    "": UNKNOWN,
}
_GENDERS = {"male": "m", "female": "f", "unknown": UNKNOWN, "": UNKNOWN}
_COLUMNS = (
    *("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom"),
    *("SpkrID", "Gender", "Split_Set"),
)
# The first that is there is read, in a label folder or the root.
_LABEL_FILES = (
    ("labels_consensus.csv", "1.10 or later"),
    ("labels_concensus.csv", "1.6 to 1.9"),
    ("labels_consensus.json", "1.10 or later"),
    ("labels_concensus.json", "1.6 to 1.9"),
    ("labels.txt", "1.0 to 1.5"),
)
# Lines of labels.txt.
_FILE_LINE = re.compile(r"(\S+\.wav) *; *(\w+) *;((?: *[AVD] *: *[-\d.]+ *;){3})\s*")
_ATTRIBUTE = re.compile(r"([AVD]) *: *([-\d.]+)")
_WORKER_LINE = re.compile(r"WORKER\d+ *;.*;\s*")
# Release 2.0 lists this file and does not have it.
_KNOWN_MISSING = frozenset({"MSP-PODCAST_1909_1017"})


def read(root: Path) -> Reading:
    """Read the labels of any release under `root`.

    A label whose audio is missing, and audio that has no label and is not in Test3, are
    left out and listed.

    Raises:
        UserError: With file and line, for anything that does not fit the format or an
            utterance that occurs twice.
    """
    labels, releases = _find_labels(root)
    folder = find_child(root, "Audios", "Audio")
    if folder is None or not folder.is_dir():
        raise UserError(f"{root}: no folder Audios; give the root of MSP-Podcast")
    place = labels.relative_to(root)
    reading = Reading(notes=[f"labels from {place}: release {releases} by its layout"])
    # One listing instead of a quarter of a million look-ups; copies may have changed
    # the case of names.
    audio = {name.lower(): (name, file) for name, file in list_names(folder).items()}
    missing: set[str] = set()
    kind = labels.suffix.lower()
    if kind == ".csv":
        rows = table_rows(labels, _COLUMNS)
    else:
        rows = _json_rows(labels) if kind == ".json" else _text_rows(root, labels)
    for where, row in rows:
        utterance = _utterance(where, row)
        id_ = utterance.id
        if id_ in reading.utterances or id_ in missing:
            raise UserError(f"{where}: {id_} has a label already")
        if id_.lower() in audio:
            wav = f"{folder}/{audio.pop(id_.lower())[1]}"
            reading.utterances[id_] = replace(utterance, wav=wav)
        else:
            missing.add(id_)
            reason, expected = "label without audio", id_ in _KNOWN_MISSING
            reading.left_out.append(LeftOut(id_, reason, where, utterance, expected))
    if not reading.utterances and not missing:
        raise UserError(f"{labels}:1: no labels in this file; unpack the corpus again")
    if audio:
        _add_unlabeled(root, folder, dict(audio.values()), reading)
    return reading


def _find_labels(root: Path) -> tuple[Path, str]:
    """Return the label file, and the releases that have it at this place."""
    # 1.8 was seen with a folder "labels" and another one "label".
    folders = [
        path
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name.strip().lower() in ("labels", "label")
    ]
    for name, releases in _LABEL_FILES:
        for folder in (*folders, root):
            path = find_child(folder, name)
            if path is not None and path.is_file():
                return path, releases
    raise UserError(
        f"{root}: no Labels/labels_consensus.csv (or .json; labels_concensus in 1.6 to "
        "1.9; labels.txt in 1.0 to 1.5); give the root of MSP-Podcast"
    )


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of ``{file: {column: value}}``."""
    text = "\n".join(line for _, line in read_lines(path))
    try:
        # Objects as tuples of their pairs, to see a file that occurs twice.
        entries = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: {error.msg}; is the file cut off? unpack the "
            "corpus again"
        ) from error
    if not isinstance(entries, tuple):
        raise UserError(f"{path}:1: not {{file: {{EmoClass, EmoAct, ...}}}}")
    start, line = 0, 1
    for file, pairs in entries:
        found = text.find(json.dumps(file), start)
        if found >= 0:
            line += text.count("\n", start, found)
            start = found + 1
        where = f"{path}:{line}"
        values = dict(pairs) if isinstance(pairs, tuple) else {}
        values["FileName"] = file
        if any(values.get(name) is None for name in _COLUMNS):
            columns = ", ".join(_COLUMNS[1:])
            raise UserError(f"{where}: {file} must have {columns} as in the csv")
        yield where, {name: str(values[name]).strip() for name in _COLUMNS}


def _text_rows(root: Path, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the consensus lines of ``labels.txt``, joined with the other two files."""
    splits = _splits(root)
    # Of "FILE.wav;127" and of "Speaker_127; Female".
    people = {key.lower(): value for key, value in _pairs(root, "Speaker_ids.txt")}
    for number, text in read_lines(path, errors="replace"):
        where = f"{path}:{number}"
        if not text.strip() or _WORKER_LINE.fullmatch(text):
            continue
        match = _FILE_LINE.fullmatch(text)
        values = dict(_ATTRIBUTE.findall(match[3])) if match else {}
        if match is None or len(values) != 3:
            raise UserError(
                f"{where}: neither 'FILE.wav; EMOTION; A:a; V:v; D:d;' nor a line of a "
                f"worker: {text[:80]!r}"
            )
        file, emotion = match[1], match[2]
        speaker = people.get(file.lower(), "").removeprefix("Speaker_")
        gender = people.get(f"speaker_{speaker}".lower(), "")
        attributes = (values[letter] for letter in "AVD")
        split = splits.get(file.lower(), "")
        cells = (file, emotion, *attributes, speaker, gender, split)
        yield where, dict(zip(_COLUMNS, cells, strict=True))


def _splits(root: Path) -> dict[str, str]:
    """Return the split, as written, of each file in small letters."""
    pairs = _pairs(root, "Partitions.txt", "Partition.txt")
    return {file.lower(): split for split, file in pairs}


def _pairs(root: Path, *names: str) -> Iterator[tuple[str, str]]:
    """Yield both sides of each line ``left; right`` of a file, if it is there."""
    path = find_child(root, *names)
    for _, text in read_lines(path, errors="replace") if path is not None else ():
        left, separator, right = text.strip("; \t").partition(";")
        if separator:
            yield left.strip(), right.strip()


def _utterance(where: str, row: dict[str, str]) -> Utterance:
    """Check a row and make a record of it, without its audio."""
    file, emotion, gender, split, speaker = (
        row[name] for name in ("FileName", "EmoClass", "Gender", "Split_Set", "SpkrID")
    )
    check_label(emotion, LABELS, where)
    if gender.lower() not in _GENDERS:
        raise UserError(f"{where}: unknown gender {gender!r}")
    if _split_key(split) not in _SPLITS:
        raise UserError(f"{where}: unknown split {split!r}; there are {list(_SPLITS)}")
    id_, suffix = os.path.splitext(file)
    if not id_ or suffix.lower() not in AUDIO or "/" in id_:
        raise UserError(f"{where}: {file!r} is no name of a wav file")
    # Shared strings: there are a quarter of a million records.
    speaker = UNKNOWN if speaker.lower() in ("unknown", "") else sys.intern(speaker)
    gender, split = _GENDERS[gender.lower()], _SPLITS[_split_key(split)]
    utterance = Utterance(id_, "", NAME, speaker, gender, split, sys.intern(emotion))
    names = ("EmoVal", "EmoAct", "EmoDom")
    return utterance.with_attributes(*(_number(row[name], where) for name in names))


def _split_key(text: str) -> str:
    return text.lower().replace(" ", "").replace("_", "")


def _number(text: str, where: str) -> float:
    try:
        return float(text or "nan")
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is no number") from error


def _add_unlabeled(
    root: Path, folder: Path, audio: dict[str, str], reading: Reading
) -> None:
    """Keep Test3, which has audio only, and list other audio without a label."""
    splits = _splits(root)
    test3 = 0
    for id_, file in sorted(audio.items()):
        wav = f"{folder}/{file}"
        split = _split_key(splits.get(f"{id_}.wav".lower(), ""))
        if "test3" in (split, *file.lower().split("_")):
            test3 += 1
            reading.utterances[id_] = Utterance(
                id_, wav, NAME, UNKNOWN, UNKNOWN, "test3", UNKNOWN
            )
        else:
            reading.left_out.append(LeftOut(id_, "audio without a label", wav))
    if test3:
        reading.notes.append(f"{test3} utterances of test3 have audio and no labels")


OFFICIAL = published_parts(
    "train", "validation", "test1", "official train, validation and test1"
)


def subset(utterances: Utterances, options: SplitOptions) -> Split:
    """As many training and validation utterances as asked, drawn; all of Test1."""
    full = OFFICIAL.split(utterances, options)
    return Split(
        train=sample(full.train, options.subset_train, options.seed),
        valid=sample(full.valid, options.subset_valid, options.seed),
        test=full.test,
    )


def _by_emotion(counts: str, *split: str) -> dict[tuple[str, ...], int]:
    """Spell out counts such as ``N4702 H3475`` of a split, or of all."""
    return {(*split, item[0]): int(item[1:]) for item in counts.split()}


def _by_split(*counts: int) -> dict[tuple[str, ...], int]:
    splits = ("train", "validation", "test1", "test2", "test3")
    return {(split,): count for split, count in zip(splits, counts, strict=False)}


# True counts; what is not known of a release is not compared.
RELEASES: dict[str, dict[tuple[str, ...], int]] = {
    "MSP-Podcast 1.7": _by_split(38179, 7538, 12902, 3521),
    "MSP-Podcast 1.8": {
        (): 73042,
        ("validation",): 7800,
        ("test1",): 15326,
        **_by_emotion("N26009 H14285 X14199 U4084 C3644 A3218 S2649 D2593 F1544 O817"),
        **_by_emotion("N16518 H8564 A1839 S1680", "train"),
        **_by_emotion("N2529 H1320 A621 D441 S302", "validation"),
        **_by_emotion("N4702 H3475 D709 A622 S505 X2955 U1029 C736 F367 O226", "test1"),
    },
    "MSP-Podcast 1.10": _by_split(63076, 10999, 16903, 13289),
    "MSP-Podcast 1.11": _by_split(84030, 19815, 30647, 14815, 2347),
    "MSP-Podcast 1.12": {(): 207136},
    "MSP-Podcast 2.0": {(): 264705},
}


CORPUS = Corpus(
    name=NAME,
    display="MSP-Podcast",
    read=read,
    labels=LABELS,
    attribute_scale=(1.0, 7.0),
    releases=RELEASES,
    paper_swapped_va=True,
    schemes={
        "msp_podcast": OFFICIAL,
        "msp_podcast_test2": published_parts(
            "train", "validation", "test2", "official train, validation and test2"
        ),
        "msp_podcast_subset": Scheme(
            subset,
            folds=1,
            description="a drawn part of train and validation, and test1",
            unseen_test_speakers=False,
            whole=OFFICIAL.split,
        ),
    },
)

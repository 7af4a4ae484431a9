"""Data directories: the Kaldi-style text files between preparation and training.

One line an utterance, the same ids in every file, sorted::

    wav.scp       utt /path/of.wav
    utt2spk       utt speaker
    utt2gender    utt f|m|<unk>
    utt2corpus    utt iemocap
    utt2split     utt Session1
    emotion       utt neu                 the corpus' own label
    attributes    utt V A D               on the corpus' own scale, nan where missing
    utt2lang      utt language            where a manifest tells any
    utt2dur       utt seconds             where the audio is checked
    label_dur     utt seconds             where the labels tell a length

and two files with other keys: ``spk2utt`` and ``attribute_scale`` (``iemocap 1 5``, a
line for each corpus that has attributes). A speaker, gender, split or emotion that is
missing is ``<unk>``.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.textio import read_lines, write_text
from espnet_ext.corpora.utterance import GENDERS, UNKNOWN, Utterance
from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_dir

Scale = tuple[float, float]  # lowest and highest attribute

# File name to the field of Utterance that is its second column.
_COLUMNS = {
    "utt2spk": "speaker",
    "utt2gender": "gender",
    "utt2corpus": "corpus",
    "utt2split": "split",
    "emotion": "emotion",
}
_BLANK = re.compile(r"\s")


@dataclass(slots=True)
class DataDir:
    """The content of a data directory."""

    utterances: dict[str, Utterance]  # by id, sorted
    durations: dict[str, float] = field(default_factory=dict)  # s; or {}: not checked
    scales: dict[str, Scale] = field(default_factory=dict)  # by corpus

    def select(self, ids: Iterable[str]) -> "DataDir":
        """Return the data of these ids, sorted."""
        chosen = sorted(ids)
        return DataDir(
            {id_: self.utterances[id_] for id_ in chosen},
            {id_: self.durations[id_] for id_ in chosen if id_ in self.durations},
            self.scales,
        )

    def map(self, change: Callable[[Utterance], Utterance]) -> "DataDir":
        """Return the data with every utterance changed."""
        changed = {id_: change(u) for id_, u in self.utterances.items()}
        return DataDir(changed, self.durations, self.scales)


def write_data_dir(
    path: Path | str,
    utterances: Mapping[str, Utterance] | Iterable[Utterance],
    durations: Mapping[str, float] | None = None,
    scales: Mapping[str, Scale] | None = None,
) -> None:
    """Validate and write in one step; an older data directory is replaced.

    Raises:
        UserError: See `make_data_dir`, or `path` is a folder with other things in it.
    """
    if isinstance(utterances, Mapping):
        utterances = utterances.values()
    data = make_data_dir(utterances, durations, scales)
    with replaced_dir(path, marker="wav.scp") as folder:
        write_data_files(folder, data)


def make_data_dir(
    utterances: Iterable[Utterance],
    durations: Mapping[str, float] | None = None,
    scales: Mapping[str, Scale] | None = None,
) -> DataDir:
    """Sort and validate; `durations` (s) are of all utterances or of none.

    Raises:
        UserError: Something that the files cannot hold or that is inconsistent.
    """
    by_id: dict[str, Utterance] = {}
    for utterance in sorted(utterances, key=lambda u: u.id):
        if utterance.id in by_id:
            raise UserError(f"utterance {utterance.id} occurs twice")
        _validate(utterance)
        by_id[utterance.id] = utterance
    if not by_id:
        raise UserError("there are no utterances to write")
    if durations and durations.keys() != by_id.keys():
        odd = min(durations.keys() ^ by_id.keys())
        raise UserError(f"{odd}: has a duration but no utterance, or the other way")
    ordered = {id_: durations[id_] for id_ in by_id} if durations else {}
    return DataDir(by_id, ordered, dict(scales or {}))


def _validate(utterance: Utterance) -> None:
    """Raise UserError for a field that the text files cannot hold."""
    for name in ("id", *_COLUMNS.values(), "language"):
        value = getattr(utterance, name)
        if not value or _BLANK.search(value):
            raise UserError(
                f"utterance {utterance.id!r}: {name} is {value!r}; it must be a word "
                f"without blanks (missing is {UNKNOWN})"
            )
    if utterance.gender not in GENDERS:
        raise UserError(f"utterance {utterance.id}: gender {utterance.gender!r}")
    wav = utterance.wav
    if wav.splitlines() != [wav] or wav != wav.strip():
        raise UserError(f"utterance {utterance.id}: audio path {utterance.wav!r}")
    if any(map(math.isinf, utterance.attributes)):
        raise UserError(f"utterance {utterance.id}: an attribute is infinite")


def replaced_dir(path: Path | str, marker: str) -> AbstractContextManager[Path]:
    """Yield a new folder that becomes `path`, like `atomic_dir`, but guard old content.

    Raises:
        UserError: `path` is a file, or a folder with other things in it: it is not
            empty and lacks the file `marker`.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; choose another --output")
    if path.is_dir() and any(path.iterdir()) and not (path / marker).exists():
        raise UserError(
            f"{path}: holds other files (there is no {marker}); choose another --output"
        )
    return atomic_dir(path)


def write_data_files(folder: Path, data: DataDir) -> None:
    """Write the files of a validated `DataDir` into a folder that is there."""
    records = data.utterances.values()
    files: dict[str, Mapping[str, object]] = {
        name: {u.id: getattr(u, column) for u in records}
        for name, column in {"wav.scp": "wav", **_COLUMNS}.items()
    }
    # repr is the shortest text that reads back as the same number.
    files["attributes"] = {u.id: " ".join(map(repr, u.attributes)) for u in records}
    if any(u.language != UNKNOWN for u in records):
        files["utt2lang"] = {u.id: u.language for u in records}
    if not all(math.isnan(u.labeled_seconds) for u in records):
        files["label_dur"] = {u.id: f"{u.labeled_seconds:.4f}" for u in records}
    speakers: dict[str, list[str]] = {}
    for u in records:
        speakers.setdefault(u.speaker, []).append(u.id)
    files["spk2utt"] = {s: " ".join(ids) for s, ids in sorted(speakers.items())}
    if data.durations:
        files["utt2dur"] = {id_: f"{s:.6f}" for id_, s in data.durations.items()}
    if data.scales:
        scales = data.scales.items()
        files["attribute_scale"] = {n: f"{low:g} {high:g}" for n, (low, high) in scales}
    for name, rows in files.items():
        text = "".join(f"{key} {value}\n" for key, value in rows.items())
        write_text(folder / name, text)


def read_data_dir(path: Path | str) -> DataDir:
    """Read a data directory.

    Raises:
        UserError: A file is missing, a line is malformed, or the ids of two files
            differ; with file and line.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such data directory; prepare the corpus first")
    wavs = read_wav_scp(path / "wav.scp")
    ids = list(wavs)
    columns: dict[str, list] = {"id": ids, "wav": list(wavs.values())}
    for name, column in _COLUMNS.items():
        columns[column] = _column(path / name, ids, sys.intern)
    vectors = _column(path / "attributes", ids, _three_numbers)
    columns |= zip(ATTRIBUTES, map(list, zip(*vectors, strict=True)), strict=True)
    if (path / "utt2lang").exists():
        columns["language"] = _column(path / "utt2lang", ids, sys.intern)
    if (path / "label_dur").exists():
        columns["labeled_seconds"] = _column(path / "label_dur", ids, float)
    utterances = {
        row[0]: Utterance(**dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    }
    durations, scales = {}, {}
    if (path / "utt2dur").exists():
        seconds = _column(path / "utt2dur", ids, float)
        durations = dict(zip(ids, seconds, strict=True))
    scale_file = path / "attribute_scale"
    for number, text in read_lines(scale_file) if scale_file.exists() else ():
        try:
            corpus, low, high = text.split()
            scales[corpus] = (float(low), float(high))
        except ValueError as error:
            raise UserError(f"{scale_file}:{number}: not 'corpus low high'") from error
    return DataDir(utterances, durations, scales)


def read_wav_scp(path: Path | str) -> dict[str, str]:
    """Read the audio file of each utterance; UserError names file and line."""
    return dict(_rows(Path(path), str))


def _column[T](path: Path, ids: list[str], parse: Callable[[str], T]) -> list[T]:
    """Return the second column of a file whose first one must be `ids`."""
    values = []
    for index, (id_, value) in enumerate(_rows(path, parse)):
        if index >= len(ids) or id_ != ids[index]:
            wanted = ids[index] if index < len(ids) else "the end of the file"
            raise UserError(
                f"{path}:{index + 1}: {id_} where wav.scp has {wanted}; all files of a "
                "data directory must have the same sorted ids"
            )
        values.append(value)
    if len(values) < len(ids):
        raise UserError(
            f"{path}:{len(values) + 1}: the file ends before {ids[len(values)]}, which "
            "wav.scp has"
        )
    return values


def _rows[T](path: Path, parse: Callable[[str], T]) -> Iterator[tuple[str, T]]:
    """Yield (id, parsed rest of the line); the ids must be sorted."""
    before = ""
    for number, text in read_lines(path, errors="surrogateescape"):
        id_, _, rest = text.partition(" ")
        try:
            value = parse(rest.strip())
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error} in {text[:80]!r}") from error
        if not id_ or not rest.strip():
            raise UserError(f"{path}:{number}: not 'id value': {text[:80]!r}")
        if id_ <= before:
            raise UserError(
                f"{path}:{number}: {id_} after {before}; ids must be unique and sorted "
                "(LC_ALL=C sort)"
            )
        before = id_
        yield id_, value


def _three_numbers(text: str) -> tuple[float, ...]:
    parts = text.split()
    if len(parts) != 3:
        raise ValueError(f"{len(parts)} values instead of V A D")
    return tuple(map(float, parts))


def combine(parts: Iterable[DataDir]) -> DataDir:
    """Join data directories; ids and known speakers become ``iemocap-...``.

    Durations are kept if all parts have them.
    """
    utterances: list[Utterance] = []
    durations: dict[str, float] = {}
    scales: dict[str, Scale] = {}
    for data in parts:
        for id_, u in data.utterances.items():
            speaker = UNKNOWN if u.speaker == UNKNOWN else f"{u.corpus}-{u.speaker}"
            utterances.append(replace(u, id=f"{u.corpus}-{id_}", speaker=speaker))
            if id_ in data.durations:
                durations[utterances[-1].id] = data.durations[id_]
        scales |= data.scales
    complete = len(durations) == len(utterances)
    return make_data_dir(utterances, durations if complete else None, scales)

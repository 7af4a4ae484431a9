"""A corpus as a file: a manifest with a row for each recording.

A csv, tsv or jsonl file (or a folder that `formats` reads) becomes a `Corpus` at run
time. `columns` says which columns there are and what else they may be called;
only the path is required. What is wrong is named by line, all of it at once.
"""

import math
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.corpus import LeftOut, Reading
from espnet_ext.corpora.manifest.columns import (
    PARTS,
    UNUSED_PARTS,
    as_gender,
    as_word,
    is_missing,
    is_part,
    parse_number,
)
from espnet_ext.corpora.manifest.rows import Row, Rows, read_rows
from espnet_ext.corpora.manifest.split import split_table
from espnet_ext.corpora.manifest.table import (
    Faults,
    ManifestOptions,
    Table,
    is_bare,
    join_place,
    part_place,
)
from espnet_ext.corpora.pieces import piece_path
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

_BLANKS = re.compile(r"\s+")
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest holds."""

    reading: Reading  # the split of its records is filled in
    folds: int  # 0 for train, valid and test
    labels: tuple[str, ...]  # the emotions that occur, sorted
    attribute_scale: tuple[float, float] | None  # None where there are no attributes


def read_manifest(path: Path, corpus: str, options: ManifestOptions) -> Manifest:
    """Read and check a manifest, and split it where it is not split.

    `path` is a csv, tsv or jsonl file, or a folder in one of the `formats`.

    Raises:
        UserError: Something is malformed: each row at fault is named by line.
    """
    check_name(corpus)
    rows = open_manifest(path, options.columns)
    root = (options.root or rows.root).absolute()
    scale = options.attribute_scale or rows.scale
    shared = options.shared_speakers or rows.shared_speakers
    options = replace(options, root=root, attribute_scale=scale, shared_speakers=shared)
    faults = Faults()
    has_parts, table = _read(rows, corpus, options, faults)
    faults.check()
    if not table.records:
        _raise_empty(path, table, options)
    labels = {u.emotion for u in table.records.values()} - {UNKNOWN}
    _check_spellings(labels, table)
    if options.class_of is not None:
        _check_classes(labels, table, options.class_of, faults)
    reading = Reading(table.records, table.left_out, rows.notes)
    folds = split_table(table, has_parts, options, reading.notes, faults)
    faults.check()
    some = any(not is_bare(u) for u in table.records.values())
    return Manifest(reading, folds, tuple(sorted(labels)), scale if some else None)


def open_manifest(path: Path, columns: Mapping[str, str]) -> Rows:
    """Open a file or a folder as rows.

    Raises:
        UserError: There is no such file, or nothing that can be read.
    """
    if path.is_dir():
        from espnet_ext.corpora.manifest.formats import open_folder

        return open_folder(path, columns)
    return read_rows(path, columns)


def check_name(corpus: str) -> None:
    """Raise UserError for a name that folders and tables of data cannot have."""
    from espnet_ext.corpora.registry import CORPORA

    if not _NAME.fullmatch(corpus):
        raise UserError(
            f"--corpus {corpus!r}: name the manifest's corpus with letters, digits, _, "
            ". and - (by default it has the name of the file)"
        )
    if corpus in CORPORA:
        raise UserError(
            f"--corpus {corpus}: this corpus has a reader of its own; give your "
            "manifest another name"
        )


def _read(
    rows: Rows, corpus: str, options: ManifestOptions, faults: Faults
) -> tuple[bool, Table]:
    """Read all rows; whether some of them says its part comes first."""
    table = Table()
    unsplit: tuple[str, int] | None = None
    split = False
    unscaled: list[tuple[float, str]] = []
    exists = _FileCheck()
    for where, row in rows.rows:
        try:
            utterance = _record(row, corpus, options)
        except ValueError as error:
            faults.add(where, str(error))
            continue
        file, line = part_place(where)
        if utterance.id in table.seen:
            faults.add(where, _twice(utterance, row, table))
            continue
        reason = _reason_to_leave_out(utterance, options, exists)
        if reason:
            table.seen[utterance.id] = ~len(table.left_out)
            table.left_out.append(LeftOut(utterance.id, reason, where, utterance))
            continue
        if options.attribute_scale is None and not is_bare(utterance):
            known = [v for v in utterance.attributes if not math.isnan(v)]
            unscaled = _range(unscaled, known, where)
        if utterance.split == UNKNOWN:
            unsplit = unsplit or (file, line)
        else:
            split = True
        table.seen[utterance.id] = len(table.records)
        table.records[utterance.id] = utterance
        table.lines.append(line)
        table.files.append(file)
        table.sessions.append(sys.intern(as_word(row.get("session", ""))))
    table.seen.clear()
    if split and unsplit:
        faults.add(join_place(*unsplit), "no split or fold, where other rows have one")
    if unscaled:
        (low, _), (high, place) = unscaled
        faults.add(
            place,
            f"attributes from {low:g} to {high:g} without their scale; give it, for "
            "example --attribute_scale 1 7",
        )
    return split, table


def _record(row: Row, corpus: str, options: ManifestOptions) -> Utterance:
    """Make the record of a row.

    Raises:
        ValueError: Says what is wrong with the row.
    """
    path = row.get("path", "").strip()
    if not path:
        raise ValueError("no path")
    start, end = read_times(row)
    numbers = {name: _number(row, name) for name in ATTRIBUTES}
    if options.attribute_scale is not None:
        low, high = options.attribute_scale
        for name, value in numbers.items():
            if value < low or value > high:
                raise ValueError(f"{name} {value:g} is outside of {low:g} to {high:g}")
    wav = os.path.join(str(options.root), path)
    id_ = row.get("id", "")
    if is_missing(id_):
        id_ = _default_id(wav, str(options.root), start, end)
    return Utterance(
        id=_BLANKS.sub("_", id_.strip()),
        wav=piece_path(wav, start, end),
        corpus=corpus,
        speaker=sys.intern(as_word(row.get("speaker", ""))),
        gender=as_gender(row.get("gender", "")),
        split=sys.intern(_part_of(row)),
        emotion=sys.intern(as_word(row.get("emotion", ""))),
        language=sys.intern(as_word(row.get("language", ""))),
        **{n: math.nan if math.isnan(v) else v for n, v in numbers.items()},
    )


def read_times(row: Row) -> tuple[float, float]:
    """Return start and end of a row's piece in seconds; nan where it has none.

    Raises:
        ValueError: One is no number, or nothing lies between them.
    """
    start, end = _number(row, "start"), _number(row, "end")
    if start < 0 or end <= (0 if math.isnan(start) else start):
        raise ValueError(f"start {start:g} and end {end:g}: nothing lies between them")
    return start, end


def _number(row: Row, name: str) -> float:
    text = row.get(name, "")
    if not text:
        return math.nan
    try:
        return parse_number(text)
    except ValueError:
        raise ValueError(f"{name} {text.strip()!r} is no number") from None


def _part_of(row: Row) -> str:
    """Return the part or the fold (as ``fold NAME``) of a row."""
    text = row.get("split", "")
    if not is_missing(text):
        if not is_part(text):
            raise ValueError(f"split {text.strip()!r} is not train, valid or test")
        part = text.strip().lower()
        return PARTS.get(part, part)
    fold = as_word(row.get("fold", ""))
    return UNKNOWN if fold == UNKNOWN else f"fold {fold}"


def _default_id(wav: str, root: str, start: float, end: float) -> str:
    """Make an id of the path below the root, and of the times of a piece in ms."""
    name = os.path.splitext(wav.removeprefix(root).lstrip("/"))[0]
    name = re.sub(r"[\s/]+", "_", name)
    if math.isnan(start) and math.isnan(end):
        return name
    times = (0.0 if math.isnan(start) else start, end)
    ends = ("end" if math.isnan(t) else f"{round(1000 * t):08d}" for t in times)
    return f"{name}-{'-'.join(ends)}"


class _FileCheck:
    """Looks whether recordings are there; several pieces of one in a row ask once."""

    def __init__(self) -> None:
        self.path, self.found = "", False

    def __call__(self, path: str) -> bool:
        path = path.partition("#t=")[0]
        if path != self.path:
            self.path, self.found = path, os.path.exists(path)
        return self.found


def _reason_to_leave_out(
    utterance: Utterance, options: ManifestOptions, exists: Callable[[str], bool]
) -> str:
    """Say why a row that is well formed is not used, if it is not."""
    if utterance.split in UNUSED_PARTS:
        return f"split {utterance.split}"
    if utterance.emotion == UNKNOWN and is_bare(utterance):
        return "neither emotion nor attributes"
    if options.check_files and not exists(utterance.wav):
        return "missing file"
    return ""


def _twice(utterance: Utterance, row: Row, table: Table) -> str:
    """Name the row that has the id already, and what to do."""
    id_, index = utterance.id, table.seen[utterance.id]
    other: Utterance | None
    if index >= 0:
        place, other = table.where(index), table.records[id_]
    else:
        place, other = table.left_out[~index].where, table.left_out[~index].utterance
    text = f"duplicate id {id_}, as in {place}; "
    if is_missing(row.get("id", "")) and other and other.wav != utterance.wav:
        return (
            f"{text}{other.wav} and {utterance.wav} make the same one: add a column id "
            "that tells them apart"
        )
    return f"{text}ids (or, without that column, paths and times) must differ"


def _range(
    known: list[tuple[float, str]], values: Iterable[float], where: str
) -> list[tuple[float, str]]:
    """Widen (lowest, highest) with where each was found."""
    found = [*known, *((value, where) for value in values)]
    return [min(found), max(found)]


def _raise_empty(path: Path, table: Table, options: ManifestOptions) -> None:
    if not table.left_out:
        raise UserError(f"{path}: there are no rows under the header")
    first = table.left_out[0]
    wav = first.utterance.wav if first.utterance else ""
    hint = "add a column emotion, or valence, arousal and dominance"
    if first.reason == "missing file":
        hint = (
            f"there is no {wav}; say with --corpus_root (ser_prepare: --root) what "
            "paths are relative to"
        )
    raise UserError(f"{first.where}: no row can be used ({first.reason}): {hint}")


def _check_classes(
    labels: Iterable[str],
    table: Table,
    class_of: Callable[[str], object],
    faults: Faults,
) -> None:
    """Note each emotion that the class map does not name, where it occurs first."""
    for label in sorted(labels):
        try:
            class_of(label)
        except UserError as error:
            records = enumerate(table.records.values())
            place = table.where(next(i for i, u in records if u.emotion == label))
            faults.add(place, f"emotion {label}: {error}")
    faults.check()


def _check_spellings(labels: Iterable[str], table: Table) -> None:
    """Raise UserError for emotions that differ in capitals only."""
    by_plain: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        by_plain[label.lower()].append(label)
    for same in by_plain.values():
        if len(same) > 1:
            places = {
                u.emotion: table.where(i) for i, u in enumerate(table.records.values())
            }
            spellings = " and ".join(f"{n} ({places[n]})" for n in same)
            raise UserError(f"one emotion in several spellings: {spellings}; use one")

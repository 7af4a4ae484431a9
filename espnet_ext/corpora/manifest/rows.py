"""From the file of a manifest to its rows: csv, tsv and JSON lines."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from espnet_ext.corpora.manifest.columns import (
    COLUMNS,
    largest_share,
    match_columns,
    share_columns,
)
from espnet_ext.corpora.textio import read_lines
from espnet_ext.errors import UserError

Row = Mapping[str, str]
"""Our name of a column to the text of its cell; a missing column has no entry."""


@dataclass(slots=True)
class Rows:
    """The rows of a manifest."""

    rows: Iterator[tuple[str, Row]]  # where each one stands (speech.csv:3), and the row
    root: Path  # what relative paths are relative to
    notes: list[str] = field(default_factory=list)  # what a user should know
    # Whether the makers' own split shares speakers between parts, which is no error.
    shared_speakers: bool = False
    scale: tuple[float, float] | None = None  # of attributes, where the format tells it


def read_rows(path: Path, renamed: Mapping[str, str]) -> Rows:
    """Open a csv, tsv or jsonl file; its first line tells what it is.

    Raises:
        UserError: The file cannot be read, or its columns are not clear; while rows
            are read, for a row that is malformed.
    """
    lines = read_lines(path)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        raise UserError(f"{path}:1: the file is empty")
    lines = chain((first,), lines)
    if first[1].lstrip().startswith("{"):
        return Rows(_json_rows(path, lines, renamed), path.absolute().parent)
    return _table_rows(path, lines, renamed)


def _table_rows(
    path: Path, lines: Iterator[tuple[int, str]], renamed: Mapping[str, str]
) -> Rows:
    number, header = next(lines)
    # The one of the usual separators that the header has most of.
    separator = max(",;\t", key=header.count)
    # A line end inside of quotes is part of the cell.
    texts = (f"{text}\n" for _, text in chain(((number, header),), lines))
    table = csv.reader(texts, delimiter=separator, strict=True)
    where = f"{path}:{number}"
    try:
        names = [name.strip() for name in next(table)]
    except csv.Error as error:
        raise UserError(f"{where}: {error}") from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(f"{where}: the column {twice[0]} is there twice; rename one")
    ours = match_columns(names, renamed, where)
    shares = share_columns(names, ours)
    unread = [n for n in names if n and n not in ours.values() and n not in shares]
    rows = _cells(path, table, names, number - 1)
    return Rows(
        _renamed(rows, ours, shares),
        path.absolute().parent,
        [f"columns that are not read: {', '.join(unread)}"] if unread else [],
    )


def _cells(
    path: Path, table: Any, names: Sequence[str], before: int
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a table under the names of its columns."""
    while True:
        try:
            cells = next(table, None)
        except csv.Error as error:
            where = f"{path}:{before + table.line_num}"
            raise UserError(f"{where}: {error} (is a quote not closed?)") from error
        if cells is None:
            return
        where = f"{path}:{before + table.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            # Spreadsheets leave empty cells out at the end, or add some.
            extra = [cell for cell in cells[len(names) :] if cell.strip()]
            if extra or len(cells) < len(names) - 1:
                raise UserError(
                    f"{where}: {len(cells)} cells under {len(names)} columns; a cell "
                    "that holds the separator must be in quotes"
                )
            cells += [""] * (len(names) - len(cells))
        yield where, dict(zip(names, cells, strict=False))


def _json_rows(
    path: Path, lines: Iterator[tuple[int, str]], renamed: Mapping[str, str]
) -> Iterator[tuple[str, Row]]:
    matched: dict[tuple[str, ...], dict[str, str]] = {}
    for number, text in lines:
        if not text.strip():
            continue
        where = f"{path}:{number}"
        row = read_json_line(text, where)
        names = tuple(row)
        if names not in matched:
            # A column may be left out of some lines.
            there = {t: o for t, o in renamed.items() if t in row or o == "path"}
            matched[names] = match_columns(names, there, where)
        ours = matched[names]
        yield from _renamed(iter([(where, row)]), ours, share_columns(names, ours))


def read_json_line(text: str, where: str) -> dict[str, str]:
    """Read one object of names and plain values.

    Raises:
        UserError: The line is no such object.
    """
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: not an object of names and values")
    return {name: "" if value is None else str(value) for name, value in row.items()}


def _renamed(
    rows: Iterator[tuple[str, Row]], ours: Mapping[str, str], shares: Sequence[str]
) -> Iterator[tuple[str, Row]]:
    for where, row in rows:
        found = {name: row[theirs] for name, theirs in ours.items()}
        if shares:
            try:
                found["emotion"] = largest_share(row, shares)
            except ValueError as error:
                raise UserError(f"{where}: {error} in the raters' shares") from error
        yield where, found


def parse_columns(items: Sequence[str]) -> dict[str, str]:
    """Read ``THEIRS=OURS`` of ``--columns``.

    Raises:
        UserError: An item has not that form.
    """
    renamed = {}
    for item in items:
        theirs, _, ours = item.rpartition("=")
        if not theirs or ours not in COLUMNS:
            raise UserError(
                f"--columns {item}: write THEIRS=OURS, OURS one of {', '.join(COLUMNS)}"
            )
        renamed[theirs] = ours
    return renamed

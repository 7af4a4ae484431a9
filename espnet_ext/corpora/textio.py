"""Read label files so that every fault is named with its file and line.

Spreadsheets export tables with a byte order mark, with commas, semicolons or tabs
between the cells, and with any kind of line end: all are read. UTF-16 is an error.
"""

import codecs
import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from espnet_ext.errors import UserError

# A tab is part of the formats; other control characters mean binary data.
_CONTROL = frozenset(map(chr, range(32))) - {"\t"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path | str, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield (line number, text without line end) of a text file.

    A byte order mark is removed; lines end with LF, CR LF or CR. `errors` is Python's
    decoding mode: ``replace`` for files whose free comments may be in any encoding.

    Raises:
        UserError: The file cannot be opened, is empty, has binary content, or (with
            ``strict``) is not UTF-8; with file and line.
    """
    path = Path(path)
    empty = True
    with _open(path) as stream:
        start = stream.read(4)
        if start.startswith(_UTF16) or b"\0" in start[:2]:
            raise UserError(
                f"{path}:1: UTF-16 text (or binary data); save the file as UTF-8 (in a "
                "spreadsheet: 'CSV UTF-8'), or unpack the corpus again"
            )
        stream.seek(0)
        # Old Macs end lines with CR alone.
        lines = (line for raw in stream for line in raw.rstrip(b"\r\n").split(b"\r"))
        for number, raw in enumerate(lines, start=1):
            try:
                text = raw.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not UTF-8 text ({error.reason} at byte "
                    f"{error.start} of the line); convert the file to UTF-8"
                ) from error
            if number == 1:
                text = text.removeprefix("\ufeff")
            if not text.isprintable() and not _CONTROL.isdisjoint(text):
                raise UserError(
                    f"{path}:{number}: binary data in a text file; save it as UTF-8 "
                    "(in a spreadsheet: 'CSV UTF-8'), or unpack the corpus again"
                )
            empty = empty and not text.strip()
            yield number, text
    if empty:
        raise UserError(
            f"{path}:1: the file is empty; write it, or unpack the corpus again"
        )


def table_rows(
    path: Path, columns: Iterable[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``file:line`` and the cells by column of each row of a table.

    The first line names the columns; blanks around names and cells are removed.

    Raises:
        UserError: See `read_lines`; or one of `columns` is not there, or a row has
            more or fewer cells than the first line.
    """
    lines = read_lines(path)
    header = next(lines)
    # The one of the usual separators that the header has most of.
    separator = max(",;\t", key=header[1].count)
    texts = (text for _, text in chain((header,), lines))
    reader = csv.reader(texts, delimiter=separator, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
        missing = [name for name in columns if name not in names]
        if missing:
            raise UserError(f"{path}:1: no column {', '.join(missing)} in {names}")
        for cells in filter(None, reader):
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(names):
                raise UserError(
                    f"{where}: {len(cells)} columns where the first line has "
                    f"{len(names)}; is the file cut off? unpack the corpus again"
                )
            yield where, dict(zip(names, map(str.strip, cells), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from error


def ends_with_newline(path: Path) -> bool:
    """Tell whether the last line is finished; a cut-off file mostly ends inside one."""
    with _open(path) as stream:
        stream.seek(max(0, stream.seek(0, 2) - 1))
        return stream.read(1) in (b"\r", b"\n")


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from error


def write_text(path: Path, text: str) -> None:
    """Write a text with Unix line ends; paths in it keep bytes that are no UTF-8."""
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")

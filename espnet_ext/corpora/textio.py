"""Read label files so that every fault is told with its file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from espnet_ext.errors import UserError

# A tab is part of the formats; other control characters mean binary data (or UTF-16).
_CONTROL = frozenset(map(chr, range(32))) - {"\t"}


def read_lines(path: Path | str, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield (line number, text without line end) of a UTF-8 text file.

    A byte order mark and CR line ends are removed. `errors` is Python's decoding mode:
    ``replace`` for files whose free comments may be in any encoding.

    Raises:
        UserError: The file cannot be opened, is empty, has binary content, or (with
            ``strict``) is not UTF-8; with file and line.
    """
    path = Path(path)
    empty = True
    with _open(path) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                text = raw.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not UTF-8 text ({error.reason} at byte "
                    f"{error.start} of the line); convert the file to UTF-8"
                ) from error
            text = text.rstrip("\r\n")
            if number == 1:
                text = text.removeprefix("\ufeff")
            if not text.isprintable() and not _CONTROL.isdisjoint(text):
                raise UserError(
                    f"{path}:{number}: binary data in a text file (or UTF-16 text); "
                    "unpack the corpus again"
                )
            empty = empty and not text.strip()
            yield number, text
    if empty:
        raise UserError(f"{path}:1: the file is empty; unpack the corpus again")


def ends_with_newline(path: Path) -> bool:
    """Tell whether the last line is finished; a cut-off file mostly ends inside one."""
    with _open(path) as stream:
        stream.seek(0, 2)
        if stream.tell() == 0:
            return False
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from error

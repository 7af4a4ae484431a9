"""Which recordings a command line names: files, folders, lists, standard input."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import UserError

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in ("wav", "flac", "ogg", "opus", "mp3", "aif", "aiff", "au", "w64")
) | {".caf", ".rf64", ".sph", ".gsm"}
STDIN = "-"
_COLUMNS = ("path", "audio", "file", "wav", "audio_filepath", "audio_path")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to be predicted.

    Attributes:
        id: By which the output names it: an id of a list, or its path.
        path: Its file, or ``-``.
    """

    id: str
    path: str

    def audio(self) -> str | bytes:
        """Return the path, or the bytes of standard input."""
        return sys.stdin.buffer.read() if self.path == STDIN else self.path


def find_recordings(inputs: Sequence[str]) -> list[Recording]:
    """List the recordings that are named.

    Args:
        inputs: Files, folders (searched with all folders in them), ``-``, and lists:
            ``wav.scp`` (``id path``), ``.txt`` (a path a line), ``.csv``, ``.tsv`` or
            ``.jsonl`` (a column or key ``path``, ``audio`` or ``file``; ``id``).
            Paths in a list are relative to where you stand, or to the list.

    Raises:
        UserError: A folder or list holds no recording, a list is malformed, or an id
            is given twice.
    """
    found: list[Recording] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found += _in_folder(path)
        elif path.suffix in _READERS and path.is_file():
            listed = [
                Recording(id_ or file, _near(file, path)) for id_, file in _read(path)
            ]
            if not listed:
                raise UserError(f"{path}: lists no recording")
            found += listed
        else:
            found.append(Recording(name, name))
    known: dict[str, Recording] = {}
    for recording in found:
        other = known.setdefault(recording.id, recording)
        if other.path != recording.path:
            raise UserError(
                f"{recording.id} names two files, {other.path} and {recording.path}"
            )
    return list(known.values())


def _in_folder(folder: Path) -> list[Recording]:
    paths = sorted(
        path
        for path in folder.rglob("*")
        # "._a.wav" is what macOS leaves beside "a.wav".
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )
    if not paths:
        raise UserError(
            f"{folder}: no recording in this folder (looked for "
            f"{', '.join(sorted(SUFFIXES))})"
        )
    return [Recording(str(path), str(path)) for path in paths]


def _near(file: str, listing: Path) -> str:
    beside = listing.parent / file
    return str(beside) if not Path(file).exists() and beside.exists() else file


def _read(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; is it a list?") from None
    if "\0" in text:
        raise UserError(f"{path}: has zero bytes; is it a list?")
    yield from _READERS[path.suffix](path, text)


def _read_scp(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        id_, *rest = line.split(maxsplit=1) or [""]
        if not id_:
            continue
        if not rest or rest[0].rstrip().endswith("|"):
            raise UserError(
                f"{path}:{number}: expected 'id path'; commands ('... |') are not run"
            )
        yield id_, rest[0].strip()


def _read_lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line.strip():
            yield "", line.strip()


def _read_table(path: Path, text: str) -> Iterator[tuple[str, str]]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    lines = io.StringIO(text, newline="")
    # Strict, or an open quote would swallow all rows behind it.
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield _from_row(row, path)
    except csv.Error as error:
        raise UserError(
            f"{path}:{reader.reader.line_num}: no table ({error})"
        ) from None


def _read_json_lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected an object with a path")
        yield _from_row(row, path)


def _from_row(row: dict, path: Path) -> tuple[str, str]:
    for column in _COLUMNS:
        if row.get(column):
            return str(row.get("id") or ""), str(row[column])
    raise UserError(f"{path}: no column or key {', '.join(_COLUMNS)}")


_READERS = {
    ".scp": _read_scp,
    ".txt": _read_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".jsonl": _read_json_lines,
}

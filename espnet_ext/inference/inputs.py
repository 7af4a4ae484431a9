"""Which recordings a command line names: files, folders, lists, standard input."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.corpora.manifest.formats.kaldi import read_recordings
from espnet_ext.corpora.manifest.reader import read_times
from espnet_ext.corpora.manifest.rows import read_rows
from espnet_ext.corpora.pieces import part_piece, piece_path
from espnet_ext.corpora.textio import read_lines
from espnet_ext.errors import UserError

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in ("wav", "flac", "ogg", "opus", "mp3", "aif", "aiff", "au", "w64")
) | {".caf", ".rf64", ".sph", ".gsm"}
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to be predicted.

    Attributes:
        id: By which the output names it: an id of a list, or its path.
        path: Its file, a piece of one (`corpora.pieces`), or ``-``.
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
            ``wav.scp`` (``id path``), ``.txt`` (a path a line), and manifests
            (``.csv``, ``.tsv``, ``.jsonl``; of them ``path``, ``id``, ``start`` and
            ``end`` are read).
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
                Recording(id_ or file, _near(file, path))
                for id_, file in _READERS[path.suffix](path)
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
    whole = part_piece(file)[0]
    is_beside = not Path(whole).exists() and (listing.parent / whole).exists()
    return str(listing.parent / file) if is_beside else file


def _read_scp(path: Path) -> Iterator[tuple[str, str]]:
    for id_, (_, file) in read_recordings(path).items():
        yield id_, file


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    for _, line in read_lines(path):
        if line.strip():
            yield "", line.strip()


def _read_manifest(path: Path) -> Iterator[tuple[str, str]]:
    for where, row in read_rows(path, {}).rows:
        try:
            yield row.get("id", ""), piece_path(row["path"], *read_times(row))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


_READERS = {
    ".scp": _read_scp,
    ".txt": _read_lines,
    ".csv": _read_manifest,
    ".tsv": _read_manifest,
    ".jsonl": _read_manifest,
}

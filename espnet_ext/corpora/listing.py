"""Find the files of a corpus among what file systems and archivers leave beside them.

Copies pass through macOS, Windows and network storage: names come back in another
letter case or with a blank at the end, folders are links, the audio has become flac,
and beside it lie ``@eaDir``, ``__MACOSX``, ``.AppleDouble``, ``#recycle``,
``._x.wav``, ``Thumbs.db``, and ``x (1).wav`` of a second download.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

AUDIO = (".wav", ".flac", ".aiff", ".aif", ".sph", ".w64", ".ogg", ".opus", ".mp3")
"""Suffixes of audio; of two files of one name the earlier suffix is taken."""

_JUNK_STARTS = (".", "@", "#", "$", "~", "__macosx", "lost+found", "system volume")
_DOWNLOADED_AGAIN = re.compile(r" \(\d+\)$")


def is_junk(name: str) -> bool:
    """Whether a file or folder is none of a corpus' own, by its name."""
    return name.lower().startswith(_JUNK_STARTS)


def find_child(folder: Path, *names: str) -> Path | None:
    """Find the first of `names`, with its own spelling first, then in any case.

    Blanks at the ends of names do not count, and the folder may be missing.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    if not folder.is_dir():
        return None
    children = {path.name.strip().lower(): path for path in sorted(folder.iterdir())}
    return next((children[n.lower()] for n in names if n.lower() in children), None)


def find_folder(folder: Path, *parts: str) -> Path | None:
    """Go down folders as `find_child` does; None where one is not there."""
    for part in parts:
        found = find_child(folder, part)
        if found is None or not found.is_dir():
            return None
        folder = found
    return folder


def list_names(
    folder: Path | None, suffixes: tuple[str, ...] = AUDIO
) -> dict[str, str]:
    """Return the names of the files of these kinds, by name without suffix, sorted.

    Suffixes are compared without regard to case, and ``x (1).wav`` is taken for ``x``
    where there is no ``x.wav``. A link to a file that is missing counts as a file, for
    the audio check names it.
    """
    if folder is None or not folder.is_dir():
        return {}
    found: dict[str, tuple[bool, int, str]] = {}  # the best is the smallest
    with os.scandir(folder) as entries:
        for entry in entries:
            name, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in suffixes or is_junk(entry.name) or entry.is_dir():
                continue
            stem = _DOWNLOADED_AGAIN.sub("", name)
            rank = (stem != name, suffixes.index(suffix.lower()), entry.name)
            found[stem] = min(rank, found.get(stem, rank))
    return {stem: found[stem][2] for stem in sorted(found)}


def list_files(
    folder: Path | None, suffixes: tuple[str, ...] = AUDIO
) -> dict[str, Path]:
    """Return what `list_names` does, as paths."""
    names = list_names(folder, suffixes)
    return {} if folder is None else {s: folder / name for s, name in names.items()}


def walk_folders(root: Path, depth: int = 3) -> Iterator[Path]:
    """Yield a folder and those up to `depth` below it, through links, but no junk.

    A folder that several links lead to comes once.
    """
    seen: set[str] = set()
    level = [root]
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            yield folder
            children = sorted(p for p in folder.iterdir() if p.is_dir())
            below += [path for path in children if not is_junk(path.name)]
        level = below

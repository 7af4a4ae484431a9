"""Write to a temporary name, then rename: a reader never sees half a file.

The temporary name is beside the target (a rename works only within one file system)
and starts with ``.tmp-``, so that a listing shows what a killed job left behind.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _temporary_sibling(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f".tmp-{path.name}-{uuid.uuid4().hex[:8]}"


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well.

    The data reaches the disk before the rename, so that a power cut leaves the old
    file or the new one. On an exception the temporary file is removed.
    """
    temporary = _temporary_sibling(Path(path))
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8, or a path's own bytes) to `path` in one step."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Yield a new temporary folder that becomes `path` when the block ends well.

    An older folder at `path` is replaced only then. On an exception the temporary
    folder is removed and the older one stays.
    """
    path = Path(path)
    temporary, old = _temporary_sibling(path), _temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

"""Which code made what: a digest of the source that a step's program consists of.

An edit of the code makes nothing again by itself: most edits change no number, and
trainings cost days. But what was made by other code is named, and ``--force`` makes it
again.
"""

import functools
import hashlib
import json
import re
from pathlib import Path

import espnet_ext

ROOT = Path(espnet_ext.__file__).parents[1]

# from espnet_ext.a import b, (c, d); import espnet_ext.a
_IMPORT = re.compile(
    r"^\s*(?:from|import)\s+(espnet_ext[\w.]*)(?:\s+import\s+(\([^)]*\)|[^\n]*))?",
    re.MULTILINE,
)
# Of classes that are imported by name: "espnet_ext.a.b:C"
_NAMED = re.compile(r'"(espnet_ext[\w.]*):\w+"')
# How steps are run decides no number.
_LEFT_OUT = "espnet_ext.jobs"


@functools.cache
def code_digest(module: str, root: Path = ROOT) -> str:
    """Digest a program and all that it imports of this package (12 hex digits).

    A process digests the code once, as it is when it first asks. `root` is the folder
    that holds the package.
    """
    found: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name in found or f"{name}.".startswith(f"{_LEFT_OUT}."):
            continue
        base = root.joinpath(*name.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if not path.is_file():  # a class or function
            continue
        found[name], imported = _read(path)
        todo += imported
    text = json.dumps(sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest a file, and list the modules that it names, in late imports too."""
    text = path.read_text(encoding="utf-8")
    names = _NAMED.findall(text)
    for module, members in _IMPORT.findall(text):
        names.append(module)
        names += [f"{module}.{member}" for member in re.findall(r"\w+", members)]
    return hashlib.sha256(text.encode()).hexdigest(), tuple(names)

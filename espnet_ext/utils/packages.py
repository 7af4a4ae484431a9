"""Which copy of ESPnet, torch and the like Python imports, and which version it is.

A folder in ``PYTHONPATH`` answers before the environment does, and the environment's
metadata know nothing of it: ``espnet2.__version__`` itself then tells the version of
the copy that is *not* imported. Here a version is read where the code lies. Nothing is
imported for it.
"""

import importlib.util
import json
import os
import re
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

# What is imported -> the distribution that brings it.
DISTRIBUTIONS = {
    "espnet2": "espnet",
    "torch": "torch",
    "torchaudio": "torchaudio",
    "transformers": "transformers",
    "s3prl": "espnet-s3prl",
    "espnet_ext": "espnet_ext",
}
_VERSION = re.compile(r"""^(?:__version__|version)[^=\n]*= *["']([^"'\n]+)["']""", re.M)
_FILES = ("version.py", "__init__.py", "../pyproject.toml")
_TEXTS = ("version.txt", "../espnet/version.txt", "../version.txt")


@dataclass(frozen=True, slots=True)
class Package:
    """A package as it is imported."""

    name: str
    version: str  # of the code that is imported
    folder: Path  # where that lies
    installed: str  # version that the environment holds; empty if it holds none
    own: bool  # whether the two are the same

    def record(self) -> dict[str, str | bool]:
        """Return what is written down of it (``hardware.json``)."""
        folder = str(self.folder)
        return {"version": self.version, "folder": folder, "own": self.own}


def in_words(record: Mapping[str, Any]) -> str:
    """Say a version of `Package.record`, and its folder if not in the environment."""
    version = str(record["version"])
    return version if record["own"] else f"{version} from {record['folder']}"


def find_package(name: str) -> Package | None:
    """Say what ``import name`` gives; None if there is no such package."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = metadata.distributions(name=DISTRIBUTIONS[name], path=sorted(places))
    installed = next(iter(found), None)
    own = installed is None or _is_of(installed, name, folder)
    held = installed.version if installed else ""
    if name == "espnet_ext":  # path.sh puts its checkout before the environment's
        root = os.environ.get("SER_ROOT")
        own = own if root is None else _same(folder.parent, Path(root))
        return Package(name, _version_in(folder), folder, held, own)
    return Package(
        name, held if own and held else _version_in(folder), folder, held, own
    )


def find_packages(names: Iterable[str] = DISTRIBUTIONS) -> dict[str, Package]:
    """Say which of these packages there are, by name."""
    found = map(find_package, names)
    return {package.name: package for package in found if package is not None}


def strangers() -> list[str]:
    """Say in a sentence each which packages come from beside the environment."""
    return [
        f"{package.name} is imported from {package.folder} (version "
        f"{package.version}), not from the environment"
        + (f", which holds {package.installed}" if package.installed else "")
        + "; see PYTHONPATH"
        for package in find_packages().values()
        if not package.own
    ]


def _is_of(installed: metadata.Distribution, name: str, folder: Path) -> bool:
    """Tell whether a folder belongs to a distribution, an editable one included."""
    if _same(Path(str(installed.locate_file(name))), folder):
        return True
    url = json.loads(installed.read_text("direct_url.json") or "{}").get("url", "")
    source = Path(url.removeprefix("file://")).resolve()
    return url.startswith("file://") and folder.resolve().is_relative_to(source)


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _version_in(folder: Path) -> str:
    """Read the version beside the code."""
    for name in (*_FILES, *_TEXTS):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        match = _VERSION.search(text)
        version = text.strip() if name in _TEXTS else match[1] if match else ""
        if version and version != "0.0.0":  # espnet2's, before it has asked metadata
            return version
    return "unknown"

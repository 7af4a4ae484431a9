"""Read and write ``hardware.json``: on what a training ran and how long.

It lies beside the training's log; README.md beside this file documents it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_write_text

FILE = "hardware.json"


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Read the starts of the training in `folder`; none where it kept no record."""
    path = folder / FILE
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))["starts"]
        return [dict(start) for start in starts]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise malformed(path, error) from None


def malformed(path: Path, error: Exception) -> UserError:
    """Make the error of a record that cannot be read."""
    return UserError(f"{path} is not the record of a training ({error!r}); remove it")


def write_starts(folder: Path, starts: Sequence[Mapping[str, Any]]) -> None:
    """Write the starts of the training in `folder`, in one step."""
    text = json.dumps({"starts": list(starts)}, indent=1) + "\n"
    atomic_write_text(folder / FILE, text)

"""Read a Hugging Face folder: configuration and weights, in one file or several.

Downloads break in known ways; whatever cannot be read is named, with what to do.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_ext.errors import UserError

# The first one that a model has is read; an index names the files of sharded weights.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_POINTER = b"version https://git-lfs"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with or without a byte order mark.

    Raises:
        UserError: It is something else.
    """
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise unreadable(path, error) from None
    if not isinstance(values, dict):
        raise unreadable(path, f"{type(values).__name__} instead of keys and values")
    return values


def read_weights(name: str, files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Read all tensors of a model.

    Args:
        name: Of the model, for messages.
        files: File name -> path.

    Raises:
        UserError: There are none, or a file cannot be read.
    """
    for file in WEIGHT_FILES:
        if file not in files:
            continue
        if not file.endswith(".json"):
            return _read_tensors(files[file])
        tensors: dict[str, Tensor] = {}
        for shard in list_shards(files[file]):
            if shard not in files:
                raise UserError(
                    f"{files[file]}: names {shard}, which is not there; copy or "
                    "download that file too"
                )
            tensors |= _read_tensors(files[shard])
        return tensors
    raise UserError(
        f"{name}: neither model.safetensors nor pytorch_model.bin is there, nor the "
        "index.json of either; copy or download the weights too"
    )


def list_shards(index: Path) -> Sequence[str]:
    """List the files that an index of sharded weights names.

    Raises:
        UserError: It cannot be read.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise unreadable(index, "it has no weight_map")
    return sorted(set(map(str, shards.values())))


def unreadable(path: Path, reason: BaseException | str) -> UserError:
    """Say what a file that cannot be read seems to be, and what to do."""
    again = "download it again, or copy it once more from where it is whole"
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    try:
        with open(path, "rb") as stream:
            begin = stream.read(100).lstrip()
    except OSError as error:
        # A link into a cache that was not copied along is the usual way to get here.
        link = f" (a link to {path.readlink()})" if path.is_symlink() else ""
        return UserError(f"{path}{link}: {error.strerror}; {again}")
    if not begin:
        what = f"is empty; {again}"
    elif begin.startswith(_POINTER):
        what = (
            "is a git-lfs pointer, not the file itself; run 'git lfs pull' in that "
            "folder, or download the file"
        )
    elif begin.startswith(b"<"):
        what = f"is a web page, not what its name says; {again}"
    else:
        what = f"is damaged or incomplete ({lines[0]}); {again}"
    return UserError(f"{path}: {what}")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # their errors share no base class
        raise unreadable(path, error) from error
    if not isinstance(loaded, Mapping):
        raise unreadable(path, f"{type(loaded).__name__} instead of tensors")
    return {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}

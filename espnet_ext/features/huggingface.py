"""Hugging Face models: a folder, or a name in the local cache or on the Hub.

Downloads break in known ways; whatever cannot be read is named, with what to do.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_ext.errors import UserError
from espnet_ext.features.canonical_weights import (
    Checkpoint,
    from_huggingface,
    to_huggingface_config,
)
from espnet_ext.utils.atomic import atomic_dir

# The first one that a model has is read; an index names the files of sharded weights.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_POINTER = b"version https://git-lfs"


def load_folder_or_name(name: str) -> Checkpoint:
    """Load a folder's weights, or those of a name ``owner/model``."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        files = {path.name: path for path in folder.iterdir()}
    elif name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"{name}: no such folder (and not a Hugging Face name, which has the form "
            "owner/model)"
        )
    else:
        files = _fetch(name)
    if "config.json" not in files:
        raise UserError(f"{name}: no config.json there; is it a Hugging Face folder?")
    config = _read_json(files["config.json"])
    architecture, weights = from_huggingface(config, _read_weights(name, files), name)
    path = files.get("preprocessor_config.json")
    normalize = True if path is None else _read_json(path).get("do_normalize", True)
    # Published group-norm models were trained on plain audio, whatever their
    # preprocessor_config.json says; s3prl, the reference, treats them so.
    layer = architecture.feat_extract_norm == "layer"
    return Checkpoint(architecture, weights, layer and normalize)


def save_folder(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a Hugging Face folder; the weights' hash stays the same."""
    from safetensors.torch import save_file

    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": checkpoint.normalize,
        "sampling_rate": 16000,
    }
    config = to_huggingface_config(checkpoint.architecture)
    with atomic_dir(folder) as new:
        (new / "config.json").write_text(json.dumps(config, indent=2))
        (new / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        path = new / "model.safetensors"
        save_file(dict(checkpoint.weights), path, metadata={"format": "pt"})


def _fetch(name: str) -> dict[str, Path]:
    """Find a model's files (name -> path) in the local cache, or download them."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    files: dict[str, Path] = {}
    reason = "it has no weights that we know"
    try:
        for file in ("config.json", "preprocessor_config.json", *WEIGHT_FILES):
            try:
                files[file] = Path(hf_hub_download(name, file))
            except EntryNotFoundError as error:
                # Not there, or (without a network) not in the cache.
                if file == "config.json":
                    raise
                reason = first_line(error)
                continue
            if file in WEIGHT_FILES:
                for part in set(_list_parts(file, files)) - files.keys():
                    files[part] = Path(hf_hub_download(name, part))
                return files
    except UserError:
        raise
    except Exception as error:  # its errors share no base class
        reason = first_line(error)
    raise UserError(
        f"Hugging Face model {name!r} is not in the local cache and could not be "
        f"downloaded ({reason}). On a machine with a network run ser_fetch_weights "
        f"with this config (or 'hf download {name}'), copy the folder with "
        "config.json, preprocessor_config.json and the weights here and pass it with "
        "--upstream FOLDER"
    )


def _read_weights(name: str, files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Read all tensors of a model from its files (name -> path)."""
    file = next((file for file in WEIGHT_FILES if file in files), None)
    if file is None:
        raise UserError(
            f"{name}: neither model.safetensors nor pytorch_model.bin is there, nor "
            "the index.json of either; copy or download the weights too"
        )
    tensors: dict[str, Tensor] = {}
    for part in _list_parts(file, files):
        if part not in files:
            raise UserError(
                f"{files[file]}: names {part}, which is not there; copy or download "
                "that file too"
            )
        tensors |= _read_tensors(files[part])
    return tensors


def _list_parts(file: str, files: Mapping[str, Path]) -> Sequence[str]:
    """List the files that hold the weights: this one, or those that an index names."""
    if not file.endswith(".json"):
        return [file]
    parts = _read_json(files[file]).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise unreadable(files[file], "it has no weight_map")
    return sorted(set(map(str, parts.values())))


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with or without a byte order mark."""
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise unreadable(path, error) from None
    if not isinstance(values, dict):
        raise unreadable(path, f"{type(values).__name__} instead of keys and values")
    return values


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


def unreadable(path: Path, reason: BaseException | str) -> UserError:
    """Make the error of a file that cannot be read: what it seems to be, what to do."""
    again = "download it again, or copy it once more from where it is whole"
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
        what = f"is damaged or incomplete ({first_line(reason)}); {again}"
    return UserError(f"{path}: {what}")


def first_line(error: BaseException | str) -> str:
    """First line of an error's text, or its kind if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""From what a user names (package, folder of a training, tag) to the files of a model.

A package is a zip, or the same unpacked: ``meta.yaml`` names the files by the arguments
of `SpeechEmotion`, as ESPnet's packages do. Nothing in it is trusted: names that lead
out of it, links and unknown keys are refused, and parameters are read as plain tensors.
"""

import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from espnet_ext.errors import UserError
from espnet_ext.jobs.recipe import selected_model
from espnet_ext.utils.yaml_files import read_yaml, unknown_key

META = "meta.yaml"
# Arguments of `SpeechEmotion` that are files of a package.
KEYS = ("ser_train_config", "ser_model_file", "ser_info", "upstream", "ser_onnx_file")
_NEEDED = KEYS[:3]
_NEEDED_EXPORTED = ("ser_info", "ser_onnx_file")  # and nothing else
_META_KEYS = ("files", "yaml_files", "timestamp", "python", "torch", "espnet")
_MOST_BYTES = 20 << 30  # an unpacked package; HuBERT-xlarge has 4 GB
_MOST_RATIO = 200  # unpacked to packed: a trained model hardly shrinks
# What zipfile raises for a damaged archive; zlib's and struct's own among them.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, NotADirectoryError),
)

type Files = dict[str, str]


@contextmanager
def model_files(
    model: Path | str, revision: str | None = None, *, local_files_only: bool = False
) -> Iterator[Files]:
    """Find the files of a model, as arguments of `SpeechEmotion`.

    What a zip holds lies in a temporary folder until the block ends.

    Args:
        model: Folder of a training, package (zip or folder), or Hugging Face tag.
        revision: Of the tag.
        local_files_only: Never ask the network.

    Raises:
        UserError: It is none of these, or damaged.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        yield _in_folder(path)
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="ser-") as folder:
            unpack(path, Path(folder))
            try:
                yield read_meta(Path(folder))
            except UserError as error:  # name the zip, not what is gone by then
                text = str(error).replace(folder, str(path))
                raise UserError(text) from error
    elif str(model).startswith((".", "/", "~")) or str(model).count("/") != 1:
        raise UserError(
            f"{model}: no such folder or package (nor a tag, which is OWNER/NAME)"
        )
    else:
        yield read_meta(
            _download(str(model), revision, local_files_only=local_files_only)
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a package, or nothing of it if any member is not to be trusted.

    Raises:
        UserError: It is no whole zip, or a member would leave the folder.
    """
    try:
        with zipfile.ZipFile(archive) as stream:
            members = stream.infolist()
            for member in members:
                _check_member(archive, member)
            if sum(m.file_size for m in members) > _MOST_BYTES:
                raise UserError(f"{archive}: unpacks to more than 20 GB")
            stream.extractall(folder)  # compares checksums
    except _DAMAGED as error:
        raise UserError(
            f"{archive}: no package, or a cut one ({error}); copy it again"
        ) from None


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename.replace("\\", "/"))
    # "./" has no parts; zipfile refuses it itself.
    if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
        raise UserError(
            f"{archive}: member {member.filename!r} would be written outside of its "
            "folder; do not use this package"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"{archive}: member {member.filename!r} is a link; refused")
    if member.file_size > max(1 << 20, _MOST_RATIO * member.compress_size):
        raise UserError(f"{archive}: member {member.filename!r} unpacks to too much")


def _in_folder(folder: Path) -> Files:
    if (folder / META).is_file():
        return read_meta(folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder}: neither a package ({META}) nor the folder of a training "
            "(config.yaml), such as exp/FEATURES_LABELS/SPLIT/MODEL_seed0"
        )
    model = folder / selected_model(read_yaml(folder / "config.yaml"))
    if not model.is_file():
        raise UserError(f"{folder}: {model.name} is missing; the training must finish")
    return {
        "ser_train_config": str(folder / "config.yaml"),
        "ser_model_file": str(model),
    }


def read_meta(folder: Path) -> Files:
    """Find the files that an unpacked package names.

    Raises:
        UserError: One is missing, unknown or outside of the folder.
    """
    path = folder / META
    if not path.is_file():
        raise UserError(f"{folder}: no {META}; is it a package made by ser pack?")
    meta = read_yaml(path)
    for key in meta:
        if key not in _META_KEYS:
            raise unknown_key(key, _META_KEYS, path)
    files: Files = {}
    for group in ("yaml_files", "files"):
        named = meta.get(group) or {}
        if not isinstance(named, dict):
            raise UserError(f"{path}: {group} must be a mapping of names to files")
        for key, name in named.items():
            if key not in KEYS:
                raise unknown_key(key, KEYS, f"{path}: {group}")
            # Not resolved: a downloaded snapshot is made of links.
            parts = PurePosixPath(str(name)).parts
            if str(name).startswith("/") or ".." in parts:
                raise UserError(f"{path}: {key} leads out of the package: {name}")
            if not (folder / str(name)).exists():
                raise UserError(f"{path}: {key} names {name}, which is missing")
            files[key] = str(folder / str(name))
    exported = "ser_onnx_file" in files
    for key in _NEEDED_EXPORTED if exported else _NEEDED:
        if key not in files:
            raise UserError(f"{path}: {key} is missing")
    if exported and len(files) > len(_NEEDED_EXPORTED):
        raise UserError(
            f"{path}: an exported model has {' and '.join(_NEEDED_EXPORTED)} alone"
        )
    return files


def _download(tag: str, revision: str | None, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(tag, revision=revision, local_files_only=local_files_only)
        )
    except Exception as error:  # its errors share no base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{tag}: no such folder or package here, and not to be had from the "
            f"Hugging Face Hub ({reason})"
        ) from error

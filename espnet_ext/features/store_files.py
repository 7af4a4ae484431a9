"""The files of a feature store: shards and index, both plain safetensors.

A shard has a tensor (L, T, D) for each utterance, so that one layer is one contiguous
piece, and with int8 a second one ``<utterance>/scale``, fp32 (L, D), right behind it.
Its metadata holds for each utterance the audio it was made from and a CRC-32 of every
layer. It is never changed once it has its name.

The first metadata of every header, at a fixed place, is a CRC-32: of the header (with
zeros in that place), and in the index of all that follows too.

Any safetensors library reads these files, but writes neither in pieces nor metadata at
a fixed place: headers (8 bytes of length, JSON) are made here.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy

from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file

FORMAT = 2
INDEX_NAME = "index.safetensors"
STORE_NAME = "store.json"
PLAN_NAME = "plan.json"
SHARDS_NAME = "shards"
# Keys of the description that say which features these are.
IDENTITY = ("weights", "layers", "dim", "dtype", "compute", "normalize")

_ALIGNMENT = 64
_PREFIX = b'{"__metadata__":{"crc32":"'
_BLANK = b"0" * 8
_SEAL = slice(8 + len(_PREFIX), 8 + len(_PREFIX) + len(_BLANK))
_AGAIN = "remove this file and run ser_extract again, which makes only what is missing"
_REASON_LENGTH = 300


@dataclass(frozen=True)
class Audio:
    """The file that an utterance's features were made from."""

    samples: int  # at 16 kHz
    size: int  # bytes of the file
    mtime: int  # its time of change in nanoseconds
    digest: str  # BLAKE2b of its bytes, 32 hexadecimal digits


@dataclass(frozen=True)
class Entry:
    """Where an utterance lies in a shard, and its checks."""

    offset: int
    frames: int
    audio: Audio
    checksums: tuple[int, ...]


def shard_path(store: Path, number: int) -> Path:
    """File of a store's shard."""
    return store / SHARDS_NAME / f"{number:05d}.safetensors"


class ShardWriter:
    """Write a shard utterance by utterance, in constant memory.

    A context manager: the shard appears under its name only if the block ends well.
    Room for the header is kept for `ids`, the utterances that may be added.
    """

    def __init__(
        self, path: Path, ids: Sequence[str], num_layers: int, dtype: str
    ) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        # The header is written last but stands first: room that surely suffices. An id
        # is in up to two tensors' names and, escaped twice, in the metadata.
        room = sum(5 * len(json.dumps(utterance)) for utterance in ids) + 1000
        room += len(ids) * (500 + 2 * _REASON_LENGTH + 12 * num_layers)
        self._room = _aligned(room)
        self._header: dict[str, Any] = {}
        self._records: dict[str, tuple] = {}
        self._unusable: dict[str, str] = {}
        self._position = 0
        self._context = self._open()

    @contextmanager
    def _open(self) -> Iterator[None]:
        with atomic_file(self.path) as temporary, open(temporary, "wb") as self._stream:
            self._stream.seek(8 + self._room)
            yield
            parts = {"utterances": self._records, "unusable": self._unusable}
            metadata = {name: _compact(part) for name, part in parts.items()}
            head = _make_head(metadata, self._header, self._room)
            self._stream.seek(0)
            self._stream.write(_seal(head, zlib.crc32(head)))

    def __enter__(self) -> Self:
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def add(
        self, utterance: str, states: np.ndarray, scale: np.ndarray | None, audio: Audio
    ) -> None:
        """Append states (L, T, D), with int8 and their scale (L, D), fp32."""
        states = np.ascontiguousarray(states, dtype=self.dtype)
        checksums = [zlib.crc32(layer) for layer in states]
        self._append(utterance, states)
        if scale is not None:
            scale = np.ascontiguousarray(scale, dtype=np.float32)
            rows = zip(scale, checksums, strict=True)
            checksums = [zlib.crc32(row, checksum) for row, checksum in rows]
            self._append(f"{utterance}/scale", scale)
        self._records[utterance] = (*astuple(audio), checksums)

    def refuse(self, utterance: str, reason: str) -> None:
        """Note that an utterance cannot be used."""
        self._unusable[utterance] = reason[:_REASON_LENGTH]

    def _append(self, name: str, array: np.ndarray) -> None:
        self._stream.write(array.data)
        self._header[name] = _describe(array, self._position)
        self._position += array.nbytes


def read_shard(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Read what a shard holds, and why it lacks what else was planned for it.

    A UserError says that its header is damaged or it is not whole.
    """
    header, data = _read_sealed(path, header_only=True)
    metadata, start = header.pop("__metadata__"), len(data)
    entries = {}
    for utterance, (*audio, checksums) in json.loads(metadata["utterances"]).items():
        tensor = header[utterance]
        offset, frames = start + tensor["data_offsets"][0], tensor["shape"][1]
        entries[utterance] = Entry(offset, frames, Audio(*audio), tuple(checksums))
    due = start + max((x["data_offsets"][1] for x in header.values()), default=0)
    if path.stat().st_size != due:
        raise UserError(
            f"{path}: {path.stat().st_size} bytes where {due} are due; {_AGAIN}"
        )
    return entries, json.loads(metadata["unusable"])


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a small safetensors file in one step."""
    header: dict[str, Any] = {}
    body = b""
    # Wide types first, so that all are aligned.
    for name, array in sorted(arrays.items(), key=lambda x: -x[1].dtype.itemsize):
        header[name] = _describe(array, len(body))
        body += array.tobytes()
    head = _make_head(metadata, header)
    with atomic_file(path) as temporary:
        sealed = _seal(head, zlib.crc32(body, zlib.crc32(head)))
        temporary.write_bytes(sealed + body)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a small safetensors file: its arrays and its metadata.

    Raises:
        UserError: It does not have its checksum, or is of another format.
    """
    header, data = _read_sealed(path, header_only=False)
    return safetensors.numpy.load(data), header["__metadata__"]


def _compact(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


def _describe(array: np.ndarray, position: int) -> dict[str, Any]:
    return {
        "dtype": f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}",  # as "F16"
        "shape": array.shape,
        "data_offsets": [position, position + array.nbytes],
    }


def _aligned(room: int) -> int:
    """Room of a header with which the data begins at a round place."""
    return (room + 8 + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT - 8


def _make_head(
    metadata: Mapping[str, str], header: Mapping[str, Any], room: int | None = None
) -> bytes:
    """Make a head, length included, with a blank checksum; `room` None: as needed."""
    first = {"crc32": _BLANK.decode(), "format": str(FORMAT)}
    content = {"__metadata__": {**first, **metadata}, **header}
    text = _compact(content).encode()
    room = _aligned(len(text)) if room is None else room
    assert len(text) <= room, (len(text), room)
    return room.to_bytes(8, "little") + text.ljust(room)


def _seal(head: bytes, checksum: int) -> bytes:
    """Put the checksum where it belongs."""
    return b"%b%08x%b" % (head[: _SEAL.start], checksum, head[_SEAL.stop :])


def _read_sealed(path: Path, header_only: bool) -> tuple[dict[str, Any], bytes]:
    """Return a file's header, and the bytes that its checksum is of."""
    with open(path, "rb") as stream:
        data = stream.read(8)
        length = int.from_bytes(data, "little")
        size = os.fstat(stream.fileno()).st_size
        data += stream.read(min(length, size) if header_only else size)
    checksum = zlib.crc32(
        memoryview(data)[_SEAL.stop :], zlib.crc32(data[: _SEAL.start] + _BLANK)
    )
    if data[8 : _SEAL.start] != _PREFIX or data[_SEAL] != b"%08x" % checksum:
        raise UserError(f"{path}: damaged, or not of a feature store; {_AGAIN}")
    header = json.loads(data[8 : 8 + length])
    found = header["__metadata__"]["format"]
    if found != str(FORMAT):
        raise UserError(
            f"{path}: of store format {found}, and this version reads {FORMAT}. "
            "Extract into another folder, or remove this one"
        )
    return header, data

"""The files of a feature store: shards and index, both plain safetensors.

    STORE/store.json          what the store holds and where it comes from
    STORE/plan.json           which utterances go into which shard
    STORE/shards/00000.safetensors, 00001.safetensors, ...
    STORE/index.safetensors   utterance id -> shard and offset; written last

A shard has a tensor (L, T, D) for each utterance, so that one layer is one contiguous
piece, and with int8 a second one ``<utterance>/scale``, fp32 (L, D), right behind it.
Its metadata holds for each utterance the audio it was made from and a CRC-32 of every
layer. A shard is written under another name and renamed when it is complete; it is
never changed afterwards.

The first metadata of every header, at a fixed place, is a CRC-32: of the header (with
zeros in that place), and in the index of all that follows too.

Any safetensors library can read these files. Ours does it itself, since the format is
short (8 bytes of header length, a JSON header, the bytes) and torch need not be there.
"""

import json
import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file

FORMAT = 2
INDEX_NAME = "index.safetensors"
STORE_NAME = "store.json"
PLAN_NAME = "plan.json"
SHARDS_NAME = "shards"
# Keys of the description that say which features these are.
IDENTITY = ("weights", "layers", "dim", "dtype", "compute", "normalize")

_CODES = {
    "float16": "F16",
    "float32": "F32",
    "int8": "I8",
    "uint8": "U8",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
}
_DTYPES = {code: np.dtype(name) for name, code in _CODES.items()}
_ALIGNMENT = 64
_PREFIX = b'{"__metadata__":{"crc32":"'
_BLANK = b"0" * 8
_AGAIN = "remove this file and run ser_extract again, which makes only what is missing"
_REASON_LENGTH = 300


@dataclass(frozen=True)
class Audio:
    """The file that an utterance's features were made from.

    Attributes:
        samples: Samples at 16 kHz.
        size: Bytes of the file.
        mtime: Its time of change in nanoseconds.
        digest: BLAKE2b of its bytes, 32 hexadecimal digits.
    """

    samples: int
    size: int
    mtime: int
    digest: str


@dataclass(frozen=True)
class Entry:
    """Where an utterance lies in a shard, and its checks."""

    offset: int
    frames: int
    audio: Audio
    checksums: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """What a complete shard says about itself."""

    entries: Mapping[str, Entry]
    unusable: Mapping[str, str]


class ShardWriter:
    """Write a shard utterance by utterance, in constant memory.

    A context manager: the shard appears under its name only if the block ends well.

    Args:
        path: Name of the finished shard.
        ids: Utterances that may be added; room for the header is kept for them.
        num_layers: L of every array.
        dtype: ``float16``, ``float32`` or ``int8``.
    """

    def __init__(
        self, path: Path, ids: Sequence[str], num_layers: int, dtype: str
    ) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self._room = _header_room(ids, num_layers)
        self._header: dict[str, Any] = {}
        self._records: dict[str, list[Any]] = {}
        self._unusable: dict[str, str] = {}
        self._position = 0
        self._context = atomic_file(path)

    def __enter__(self) -> Self:
        temporary = self._context.__enter__()
        try:
            self._stream = open(temporary, "wb")
            self._stream.seek(8 + self._room)
        except BaseException as error:
            self._context.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def add(
        self, utterance: str, states: np.ndarray, scale: np.ndarray | None, audio: Audio
    ) -> None:
        """Append one utterance.

        Args:
            utterance: Its id, one of `ids`.
            states: (L, T, D), of the shard's dtype.
            scale: (L, D) fp32 with int8, else None.
            audio: What it was made from.
        """
        states = np.ascontiguousarray(states, dtype=self.dtype)
        checksums = [zlib.crc32(layer) for layer in states]
        self._append(utterance, states)
        if scale is not None:
            scale = np.ascontiguousarray(scale, dtype=np.float32)
            checksums = [
                zlib.crc32(row, crc) for row, crc in zip(scale, checksums, strict=True)
            ]
            self._append(f"{utterance}/scale", scale)
        self._records[utterance] = [
            audio.samples,
            audio.size,
            audio.mtime,
            audio.digest,
            checksums,
        ]

    def refuse(self, utterance: str, reason: str) -> None:
        """Note that an utterance cannot be used."""
        self._unusable[utterance] = reason[:_REASON_LENGTH]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._write_header()
            self._stream.close()
        except BaseException as late:
            self._context.__exit__(type(late), late, late.__traceback__)
            raise
        self._context.__exit__(kind, error, trace)

    def _append(self, name: str, array: np.ndarray) -> None:
        self._stream.write(array.data)
        end = self._position + array.nbytes
        self._header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [self._position, end],
        }
        self._position = end

    def _write_header(self) -> None:
        metadata = {
            "utterances": json.dumps(self._records, separators=(",", ":")),
            "unusable": json.dumps(self._unusable, separators=(",", ":")),
        }
        head = _make_head(metadata, self._header, self._room)
        self._stream.seek(0)
        self._stream.write(_seal(head, zlib.crc32(head)))


def _header_room(ids: Sequence[str], num_layers: int) -> int:
    """Bytes that surely hold the header: it is written last but stands first."""
    room = 1000
    for utterance in ids:
        # The id occurs in up to two tensor names and, escaped twice, in the metadata.
        room += 5 * len(json.dumps(utterance)) + 500 + 2 * _REASON_LENGTH
        room += 12 * num_layers
    return (room + 8 + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT - 8


def read_shard(path: Path) -> Shard:
    """Read a shard's header.

    Raises:
        UserError: The file is not a whole shard, or its header is damaged.
    """
    header, start, size = _read_header(path)
    metadata = header.pop("__metadata__")
    entries = {}
    for utterance, record in json.loads(metadata["utterances"]).items():
        tensor = header[utterance]
        samples, length, mtime, digest, checksums = record
        entries[utterance] = Entry(
            offset=start + tensor["data_offsets"][0],
            frames=tensor["shape"][1],
            audio=Audio(samples, length, mtime, digest),
            checksums=tuple(checksums),
        )
    end = max((item["data_offsets"][1] for item in header.values()), default=0)
    if size != start + end:
        raise UserError(f"{path}: {size} bytes where {start + end} are due; {_AGAIN}")
    return Shard(entries, json.loads(metadata["unusable"]))


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a small safetensors file in one step."""
    header: dict[str, Any] = {}
    position = 0
    # Wide types first, so that all are aligned.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    for name, array in ordered:
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
    head = _make_head(metadata, header)
    parts = [np.ascontiguousarray(array).reshape(-1) for _, array in ordered]
    checksum = zlib.crc32(head)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    with atomic_file(path) as temporary, open(temporary, "wb") as stream:
        stream.write(_seal(head, checksum))
        for part in parts:
            stream.write(part.data)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Map a safetensors file: its arrays (read-only) and its metadata.

    Raises:
        UserError: The file is not whole, does not have its checksum, or is of another
            format.
    """
    data = map_file(path) if path.stat().st_size else b""
    header, start, _ = _read_header(path, memoryview(data))
    metadata = header.pop("__metadata__")
    arrays = {}
    for name, item in header.items():
        dtype = _DTYPES[item["dtype"]]
        begin, stop = item["data_offsets"]
        count = (stop - begin) // dtype.itemsize
        array = np.frombuffer(data, dtype, count, start + begin)
        arrays[name] = array.reshape(item["shape"])
    return arrays, metadata


def map_file(path: Path) -> mmap.mmap:
    """Map a file for reading. The map stays valid after the file is closed."""
    with open(path, "rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _make_head(
    metadata: Mapping[str, str], header: Mapping[str, Any], room: int | None = None
) -> bytes:
    """Make a file's head, length included, with the checksum still blank.

    Args:
        metadata: Texts.
        header: Tensors.
        room: Bytes of the header; None takes as many as it needs.
    """
    first = {"crc32": _BLANK.decode(), "format": str(FORMAT)}
    content = {"__metadata__": {**first, **metadata}, **header}
    text = json.dumps(content, separators=(",", ":")).encode()
    if room is None:
        room = (len(text) + 8 + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT - 8
    assert len(text) <= room, (len(text), room)
    return room.to_bytes(8, "little") + text.ljust(room)


def _seal(head: bytes, checksum: int) -> bytes:
    """Put the checksum where it belongs."""
    place = 8 + len(_PREFIX)
    return b"%b%08x%b" % (head[:place], checksum, head[place + len(_BLANK) :])


def _read_header(
    path: Path, data: memoryview | None = None
) -> tuple[dict[str, Any], int, int]:
    """Return the header, where the data starts, and the size of the file.

    Args:
        path: The file.
        data: All of it, where its checksum is of all of it.

    Raises:
        UserError: It does not have its checksum, or is of another format.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= size - 8 else b""
    if text.startswith(b'{"__metadata__":{"format":"1"'):
        raise UserError(_other_format(path, "1"))
    place = len(_PREFIX)
    seal = text[place : place + len(_BLANK)]
    head = length.to_bytes(8, "little") + text[:place] + _BLANK + text[place + 8 :]
    checksum = zlib.crc32(head)
    if data is not None:
        checksum = zlib.crc32(data[len(head) :], checksum)
    if not text.startswith(_PREFIX) or seal != b"%08x" % checksum:
        raise UserError(f"{path}: damaged, or not of a feature store; {_AGAIN}")
    header = json.loads(text)
    if header["__metadata__"]["format"] != str(FORMAT):
        raise UserError(_other_format(path, header["__metadata__"]["format"]))
    return header, len(head), size


def _other_format(path: Path, found: str) -> str:
    return (
        f"{path}: of store format {found}, and this version reads {FORMAT}. Extract "
        "into another folder, or remove this one"
    )

"""Read a feature store: memory-mapped hidden states by utterance id.

A store is opened from its index alone, in milliseconds; shards are mapped when they are
first touched. Nothing is ever written, so that many processes and users can share one.
"""

import hashlib
import json
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.features.architecture import measure_frame_shift
from espnet_ext.features.store_files import (
    IDENTITY,
    INDEX_NAME,
    STORE_NAME,
    Audio,
    read_arrays,
    shard_path,
)
from espnet_ext.utils.atomic import atomic_file

if TYPE_CHECKING:
    from espnet_ext.features.joint_store import AnyStore


class FeatureStore(Mapping[str, np.ndarray]):
    """Hidden states of many utterances.

    ``store[utterance]`` is (T, D) where the store holds one layer and (T, L, D) where
    it holds several, in the stored precision (fp16 from an int8 store). Arrays are
    read-only views of the mapped file; copy what you want to change. The object can be
    pickled; workers map the files again.

    `ids` are sorted, `layers` are the numbers of the hidden states, `unusable` has the
    reason for each utterance that could not be used. With `verify` ``first`` a layer is
    compared with its checksum when it is first read; ``never`` trusts the disk.
    """

    def __init__(
        self, path: Path | str, verify: Literal["first", "never"] = "first"
    ) -> None:
        self.path = Path(path)
        self.verify = verify
        index = self.path / INDEX_NAME
        if not index.is_file():
            begun = (self.path / STORE_NAME).is_file()
            raise UserError(
                f"{self.path}: the extraction is not finished; run ser_extract again "
                "to go on with it"
                if begun
                else f"{self.path}: no feature store there; make it with ser_extract"
            )
        self._arrays, metadata = read_arrays(index)
        self.description: dict[str, Any] = json.loads(metadata["store"])
        self.unusable: dict[str, str] = json.loads(metadata["unusable"])
        text = self._arrays["ids"].tobytes().decode()
        self.ids: tuple[str, ...] = tuple(text.split("\n")) if text else ()
        self._rows = {utterance: row for row, utterance in enumerate(self.ids)}
        self.layers: tuple[int, ...] = tuple(self.description["layers"])
        self.num_layers = len(self.layers)
        self.dim = int(self.description["dim"])
        self.dtype = np.dtype(self.description["dtype"])
        self._maps: dict[int, mmap.mmap] = {}
        self._verified = np.zeros((len(self.ids), self.num_layers), dtype=bool)

    def __reduce__(self) -> tuple:
        return FeatureStore, (self.path, self.verify)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._rows

    def __getitem__(self, utterance: str) -> np.ndarray:
        states = self._read(self._row(utterance), 0, self.num_layers)  # (L, T, D)
        return states[0] if self.num_layers == 1 else states.transpose(1, 0, 2)

    def layer(self, utterance: str, number: int) -> np.ndarray:
        """Read one hidden state (T, D), by its number in `layers`, and no other."""
        if number not in self.layers:
            raise UserError(
                f"{self.path}: holds the hidden states {list(self.layers)}, not "
                f"{number}; extract again with a config that lists it"
            )
        place = self.layers.index(number)
        return self._read(self._row(utterance), place, place + 1)[0]

    def num_frames(self, utterance: str) -> int:
        """Frames T of an utterance."""
        return self._value("frames", utterance)

    @property
    def frame_shift(self) -> int:
        """Samples at 16 kHz from a frame to the next, by the longest utterance."""
        longest = self.ids[self._arrays["frames"].argmax()]
        samples = self._value("samples", longest)
        return measure_frame_shift(samples, self.num_frames(longest))

    def audio(self, utterance: str) -> Audio:
        """What an utterance's features were made from."""
        return Audio(
            self._value("samples", utterance),
            self._value("audio_size", utterance),
            self._value("audio_mtime", utterance),
            self._arrays["audio_digest"][self._row(utterance)].tobytes().hex(),
        )

    def digest(self, utterances: Iterable[str]) -> str:
        """Digest these utterances' features (BLAKE2b, 32 hexadecimal digits).

        Neither their order nor their shards count, nor what else the store holds.
        """
        kind = {key: self.description.get(key) for key in IDENTITY}
        text = json.dumps(kind, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16)
        for utterance in sorted(set(utterances)):
            row = self._row(utterance)
            frames = int(self._arrays["frames"][row])
            checksums = self._arrays["crc"][row].tolist()
            digest.update(json.dumps([utterance, frames, checksums]).encode())
        return digest.hexdigest()

    def check(self, utterance: str) -> None:
        """Compare an utterance with its checksums; a UserError says it is damaged."""
        row = self._row(utterance)
        self._compare(row, 0, *self._raw(row, 0, self.num_layers))

    def is_whole(self) -> bool:
        """Tell whether every shard is there, in its full size."""
        sizes = self._arrays["shard_size"].tolist()
        numbers = np.unique(self._arrays["shard"]).tolist()
        paths = {shard_path(self.path, n): sizes[n] for n in numbers}
        return all(p.is_file() and p.stat().st_size == n for p, n in paths.items())

    def shard_path(self, utterance: str) -> Path:
        """File that holds an utterance."""
        return shard_path(self.path, self._value("shard", utterance))

    def _value(self, name: str, utterance: str) -> int:
        return int(self._arrays[name][self._row(utterance)])

    def _row(self, utterance: str) -> int:
        try:
            return self._rows[utterance]
        except KeyError:
            raise UserError(
                f"{self.path}: has no utterance {utterance!r}. It was made from other "
                "data or with a class map that drops it; run ser_extract with your "
                "data directory and this store (only what is missing is computed)"
            ) from None

    def _read(self, row: int, begin: int, end: int) -> np.ndarray:
        """Read the layers at places begin to end: (end - begin, T, D)."""
        states, scale = self._raw(row, begin, end)
        if self.verify == "first" and not self._verified[row, begin:end].all():
            self._compare(row, begin, states, scale)
            self._verified[row, begin:end] = True
        if scale is None:
            return states
        return (states * scale[:, None]).astype(np.float16)  # the product is fp32

    def _raw(
        self, row: int, begin: int, end: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Map layers as they are stored, and the scales (end - begin, D) of int8."""
        shard, frames, offset = (
            int(self._arrays[name][row]) for name in ("shard", "frames", "offset")
        )
        data = self._map(shard)
        layer = frames * self.dim * self.dtype.itemsize
        start, stop = offset + begin * layer, offset + end * layer
        # Ask for the pages at once; faults would come one small piece at a time.
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        data.madvise(mmap.MADV_WILLNEED, page, stop - page)
        shape = end - begin, frames, self.dim
        states = np.ndarray(shape, self.dtype, data, start)
        if self.dtype != np.int8:
            return states, None
        start = offset + self.num_layers * layer + begin * self.dim * 4
        return states, np.ndarray((end - begin, self.dim), np.float32, data, start)

    def _map(self, number: int) -> mmap.mmap:
        if number in self._maps:
            return self._maps[number]
        path = shard_path(self.path, number)
        try:
            with open(path, "rb") as stream:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # missing; empty
            raise UserError(
                f"{path}: missing or empty; run ser_extract again"
            ) from None
        due = int(self._arrays["shard_size"][number])
        if len(data) != due:
            raise UserError(
                f"{path}: {len(data)} bytes where {due} are due; remove this shard "
                "and run ser_extract again"
            )
        self._maps[number] = data
        return data

    def _compare(
        self, row: int, begin: int, states: np.ndarray, scale: np.ndarray | None
    ) -> None:
        """Compare layers from place `begin` on with their checksums."""
        for place, layer in enumerate(states):
            checksum = zlib.crc32(layer)
            if scale is not None:
                checksum = zlib.crc32(scale[place], checksum)
            if checksum != int(self._arrays["crc"][row, begin + place]):
                utterance = self.ids[row]
                raise UserError(
                    f"{self.shard_path(utterance)}: utterance {utterance!r}, hidden "
                    f"state {self.layers[begin + place]}, does not have its checksum: "
                    "the file is damaged. Remove this shard and run ser_extract again"
                )


def write_shape_file(store: "AnyStore", ids: Iterable[str], path: Path | str) -> None:
    """Write ESPnet's shape file of `ids`: lines ``utt T,D``, or ``utt T,L,D``."""
    layers = f"{store.num_layers}," if store.num_layers > 1 else ""
    with atomic_file(path) as temporary, open(temporary, "w") as stream:
        for utterance in ids:
            frames = store.num_frames(utterance)
            stream.write(f"{utterance} {frames},{layers}{store.dim}\n")

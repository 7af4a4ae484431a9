"""Anything that holds a recording, as 16 kHz mono: whole, or block by block.

A path is read as training reads it (`corpora.audio.load_waveform`), bytes and file
objects likewise, from memory: nothing is written to a disk.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr

from espnet_ext.corpora.audio import RATE, load_waveform, measure_seconds
from espnet_ext.corpora.pieces import part_piece
from espnet_ext.errors import UserError

_BLOCK = 1 << 20  # samples read at a time, of all channels together
_RATES = (1000, 768_000)
_MOST_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class Source:
    """A recording that is at hand.

    Attributes:
        name: For messages and results.
        path: Of the file, or of its bytes in memory; None if it is an array.
        wave: (n,) at 16 kHz, if it is an array.
    """

    name: str
    path: str | None = None
    wave: np.ndarray | None = None

    def seconds(self) -> float:
        """Length, from the header where that tells it."""
        if self.wave is not None:
            return len(self.wave) / RATE
        with self._named_errors():
            return measure_seconds(str(self.path))

    def load(self, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Read the recording, or the part from `start` to `end` (seconds).

        Raises:
            UserError: It cannot be used; as `load_waveform`.
        """
        if start is None and end is None:
            if self.wave is not None:
                return self.wave
            with self._named_errors():
                return load_waveform(str(self.path))
        first, last = 0 if start is None else start, math.inf if end is None else end
        # Infinity and NaN, which have no whole number, are refused with the rest.
        if not (0 <= first < last and (end is None or last < math.inf)):
            raise UserError(
                f"{self.name}: start {start} and end {end} hold no time; give seconds "
                "with 0 <= start < end"
            )
        begin = round(first * RATE)
        stop = None if end is None else round(last * RATE)
        with self._named_errors():
            blocks = _between(self.blocks(), begin, stop)
            return np.concatenate([block.copy() for block in blocks])

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the recording in blocks (n,) at 16 kHz, in little memory.

        Raises:
            UserError: It cannot be read to its end.
        """
        if self.wave is not None:
            for start in range(0, len(self.wave), _BLOCK):
                yield self.wave[start : start + _BLOCK]
            return
        whole, first, last = part_piece(str(self.path))
        with self._named_errors():
            if whole == self.path:
                yield from _read_blocks(whole)
            else:
                stop = None if math.isinf(last) else round(last * RATE)
                yield from _between(_read_blocks(whole), round(first * RATE), stop)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let messages have the recording's name instead of a file's in memory."""
        try:
            yield
        except UserError as error:
            text = str(error).replace(str(self.path), self.name)
            if part_piece(self.name)[0] not in text:
                text = f"{self.name}: {text}"
            raise UserError(text.replace(" or leave the utterance out", "")) from error


@contextmanager
def open_source(audio: Any, sampling_rate: int | None = None) -> Iterator[Source]:
    """Take a recording in any form.

    Args:
        audio: A path; bytes or a binary file object of an audio file; an array or
            tensor (n,), (channels, n) or (n, channels) with `sampling_rate`; or a
            mapping with ``array`` and ``sampling_rate``, or ``path`` or ``bytes``.
        sampling_rate: Samples a second of an array.

    Raises:
        UserError: It is none of these, or has no usable samples.
    """
    if isinstance(audio, Source):
        yield audio
    elif isinstance(audio, Mapping):
        with open_source(*_from_mapping(audio, sampling_rate)) as source:
            yield source
    elif isinstance(audio, str | os.PathLike):
        path = os.fspath(audio)
        if Path(path).is_dir():
            raise UserError(f"{path}: a folder, not a recording; name its files")
        yield Source(name=path, path=path)
    elif isinstance(audio, bytes | bytearray | memoryview) or hasattr(audio, "read"):
        with _in_memory(audio) as source:
            yield source
    else:
        yield Source(name="array", wave=_from_array(audio, sampling_rate))


def _between(
    blocks: Iterable[np.ndarray], begin: int, stop: int | None
) -> Iterator[np.ndarray]:
    """Cut what lies between two samples out of a stream of blocks (n,).

    Raises:
        UserError: The stream ends before.
    """
    at = 0
    for block in blocks:
        last = len(block) if stop is None else stop - at
        if len(part := block[max(0, begin - at) : max(0, last)]):
            yield part
        at += len(block)
        if stop is not None and at >= stop:
            break
    if at <= begin:
        raise UserError(
            f"nothing from {begin / RATE:g} s on; the recording ends at "
            f"{at / RATE:.3f} s"
        )


def name_of(audio: Any) -> str:
    """Name a recording that could not even be opened."""
    if isinstance(audio, Source):
        return audio.name
    if isinstance(audio, str | os.PathLike):
        return os.fspath(audio)
    if isinstance(audio, Mapping) and isinstance(audio.get("path"), str):
        return audio["path"]
    return str(getattr(audio, "name", type(audio).__name__))


def _from_mapping(values: Mapping[str, Any], rate: int | None) -> tuple[Any, Any]:
    for key in ("array", "raw"):
        if values.get(key) is not None:
            return values[key], values.get("sampling_rate", rate)
    for key in ("bytes", "path"):
        if values.get(key) is not None:
            return values[key], None
    raise UserError(
        f"a mapping with {', '.join(map(str, values)) or 'no keys'}: expected array "
        "and sampling_rate, or bytes, or path"
    )


@contextmanager
def _in_memory(audio: Any) -> Iterator[Source]:
    """Give the bytes of a file a path that lies in memory."""
    name = getattr(audio, "name", None)
    content = audio.read() if hasattr(audio, "read") else audio
    if isinstance(content, str):
        raise UserError(
            f"{name or 'file'}: open it in binary mode, as open(path, 'rb')"
        )
    if not len(content):
        raise UserError(f"{name or 'bytes'}: no bytes")
    file = os.memfd_create("audio")
    try:
        with os.fdopen(file, "wb", closefd=False) as stream:
            stream.write(content)
        yield Source(str(name or "bytes"), path=f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _from_array(audio: Any, rate: Any) -> np.ndarray:
    if hasattr(audio, "detach"):  # a torch tensor
        audio = audio.detach().cpu().float().numpy()
    try:
        samples = np.asarray(audio)
    except ValueError:  # rows of different lengths
        samples = np.empty(0, dtype=object)
    if samples.dtype.kind not in "fiu":
        raise UserError(
            f"{type(audio).__name__} is no recording; give a path, bytes, a file "
            "object, or numbers with sampling_rate"
        )
    if rate is None:
        raise UserError("an array has no sampling rate; give sampling_rate=16000, say")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(f"sampling_rate is {rate}; from {_RATES[0]} to {_RATES[1]}")
    if samples.dtype.kind == "u":
        raise UserError(
            f"samples of type {samples.dtype}: their zero is not known; give floats "
            "in [-1, 1] or signed integers"
        )
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    return _to_mono_16k(samples, int(rate))


def _to_mono_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    if samples.ndim == 2:
        channels = 0 if samples.shape[0] < samples.shape[1] else 1
        if samples.shape[channels] > _MOST_CHANNELS:
            raise UserError(f"an array {samples.shape}: which axis is the time?")
        samples = samples.mean(axis=channels, dtype=np.float32)
    if samples.ndim != 1:
        raise UserError(f"an array {samples.shape}: expected (n,) or (channels, n)")
    if not len(samples):
        raise UserError("an array without samples")
    mono = np.ascontiguousarray(samples, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise UserError("samples that are no numbers (NaN or infinite)")
    return mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")


def _read_blocks(path: str) -> Iterator[np.ndarray]:
    try:
        with sf.SoundFile(os.fsencode(path)) as stream:
            resampler = None
            if stream.samplerate != RATE:
                resampler = soxr.ResampleStream(
                    stream.samplerate, RATE, 1, dtype="float32", quality="HQ"
                )
            size = max(1, _BLOCK // stream.channels)
            found = False
            while len(samples := stream.read(size, dtype="float32", always_2d=True)):
                mono = np.ascontiguousarray(samples.mean(axis=1))  # (n,)
                if not np.isfinite(mono).all():
                    raise UserError(
                        f"{path}: samples that are no numbers (NaN or infinite)"
                    )
                found = True
                yield mono if resampler is None else resampler.resample_chunk(mono)
            if not found:
                raise UserError(f"{path}: no samples")
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    except sf.LibsndfileError:
        measure_seconds(path)  # says what is wrong, if it is wrong from the start
        raise UserError(f"{path}: cut off or damaged; copy it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None

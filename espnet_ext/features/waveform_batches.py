"""Recordings and their waveforms, read a batch ahead of the computation."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from espnet_ext.corpora.audio import load_waveform
from espnet_ext.errors import UserError
from espnet_ext.features.store_files import Audio

RATE = 16000


@dataclass(frozen=True)
class Recording:
    """An utterance's file and its duration in seconds (0 if not known)."""

    path: str
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """A waveform (n,) and its file, or the reason why it cannot be used."""

    utterance: str
    wave: np.ndarray | None = None
    audio: Audio | None = None
    fault: str = ""


def read_ahead(
    batches: Iterable[Sequence[str]],
    recordings: Mapping[str, Recording],
    pool: ThreadPoolExecutor,
) -> Iterator[list[Loaded]]:
    """Read waveforms, one batch ahead of the one that is being computed."""
    waiting: deque[list[Future[Loaded]]] = deque()
    for batch in batches:
        waiting.append([pool.submit(_load, u, recordings[u].path) for u in batch])
        if len(waiting) > 1:
            yield [future.result() for future in waiting.popleft()]
    while waiting:
        yield [future.result() for future in waiting.popleft()]


def digest_file(path: str) -> str:
    """BLAKE2b of a file's bytes, as `Audio` holds it."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(
            stream, lambda: hashlib.blake2b(digest_size=16)
        ).hexdigest()


def _load(utterance: str, path: str) -> Loaded:
    try:
        wave = load_waveform(path, RATE)
        status = os.stat(path)
        audio = Audio(len(wave), status.st_size, status.st_mtime_ns, digest_file(path))
    except UserError as error:
        return Loaded(utterance, fault=str(error))
    except OSError as error:
        return Loaded(utterance, fault=f"{path}: {error.strerror}")
    return Loaded(utterance, wave, audio)

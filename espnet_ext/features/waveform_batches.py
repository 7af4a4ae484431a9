"""Waveforms in batches of similar lengths, read ahead of the computation."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from espnet_ext.corpora.audio import load_waveform
from espnet_ext.corpora.pieces import part_piece
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


def group_batches(
    ids: Iterable[str], recordings: Mapping[str, Recording], batch_seconds: float
) -> Iterator[list[str]]:
    """Cut utterances, in their order, into batches of at most `batch_seconds`.

    A longer recording is a batch of its own.
    """
    group: list[str] = []
    total = 0.0
    for utterance in ids:
        seconds = recordings[utterance].seconds
        if group and total + seconds > batch_seconds:
            yield group
            group, total = [], 0.0
        group.append(utterance)
        total += seconds
    if group:
        yield group


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
    """BLAKE2b of a file's bytes (and of which piece of it), as `Audio` holds it."""
    recording = part_piece(path)[0]
    with open(recording, "rb") as stream:
        total = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
    total.update(path[len(recording) :].encode())
    return total.hexdigest()


def size_and_time(path: str) -> tuple[int, int]:
    """Return a file's size and time, as `Audio` holds them.

    Another piece of the same file has another time, so that its digest is compared.
    """
    recording = part_piece(path)[0]
    status = os.stat(recording)
    return status.st_size, status.st_mtime_ns + crc32(path[len(recording) :].encode())


def _load(utterance: str, path: str) -> Loaded:
    try:
        wave = load_waveform(path, RATE)
        audio = Audio(len(wave), *size_and_time(path), digest_file(path))
    except UserError as error:
        return Loaded(utterance, fault=str(error))
    except OSError as error:
        return Loaded(utterance, fault=f"{path}: {error.strerror}")
    return Loaded(utterance, wave, audio)

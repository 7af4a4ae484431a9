"""Reading audio: soundfile's samples as float32 in [-1, 1].

Several channels are averaged and another rate is resampled by soxr (HQ), in memory: no
copies are made. `audio_check` reads every file of a corpus this way once. A path may
name a piece of a recording (`pieces`).
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from espnet_ext.corpora.container import (
    PLACEHOLDER,
    STREAMED,
    UNFINISHED,
    Header,
    lacks_end,
    read_header,
    rebuilt,
)
from espnet_ext.corpora.pieces import part_piece
from espnet_ext.errors import UserError

RATE = 16000
FLOATS = ("FLOAT", "DOUBLE")
"""Encodings of float samples, the only ones that hold NaN."""

_CUT = "cut off or damaged"
_ENDLESS = 2**63 - 1  # libsndfile's length of a FLAC stream
_BLOCK = 2**24  # samples read at once: 17 minutes
_MP3_FRAME = 1152  # an mp3's header and its decoder may differ by as much
# What libsndfile's log says of au, w64 and aiff files, promised and real.
_LOGGED_LENGTH = re.compile(r"(?:Data Size|riff|SSND)\s*: (\d+) \(should be (\d+)\)")


class _Forward(sf.SoundFile):
    """Reads without seeking: some encodings (GSM 6.10, G.721) and streams cannot."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording as it was read."""

    samples: np.ndarray  # (n, channels), float32 or int16
    rate: int  # samples a second
    subtype: str  # libsndfile's name of the encoding
    fault: str = ""  # why it cannot be used
    detail: str = ""  # the two lengths of a file that is cut
    remark: str = ""  # what is odd about its header


def load_waveform(path: Path | str, rate: int = RATE) -> np.ndarray:
    """Read a recording as mono float32 (n,) at `rate` samples a second.

    Raises:
        UserError: The file is missing, cannot be read, is cut off, has no samples, or
            samples that are no numbers.
    """
    sound = read_sound(path, "float32")
    if sound.fault:
        reason = "no samples" if sound.fault == "empty" else sound.fault
        reason = with_detail(reason, sound.detail)
        raise UserError(f"{path}: {reason}; copy it again or leave the utterance out")
    samples = sound.samples  # (n, channels)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]  # (n,)
    if sound.rate != rate:
        mono = soxr.resample(mono, sound.rate, rate, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def measure_seconds(path: Path | str) -> float:
    """Return a recording's duration, from its header where that tells it.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    whole, start, end = part_piece(path)
    with _open(whole) as (stream, header):
        frames, rate = stream.frames, stream.samplerate
    seconds = frames / rate
    if frames == _ENDLESS or (header and header.remark):
        seconds = len(read_sound(whole, "float32").samples) / rate
    return max(0.0, min(end, seconds) - start)


class Waveforms(Mapping[str, np.ndarray]):
    """Audio (n,) of each utterance, read from its file when it is asked for."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths

    def __getitem__(self, utterance: str) -> np.ndarray:
        return load_waveform(self.paths[utterance])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def read_sound(path: Path | str, dtype: str) -> Sound:
    """Read a whole recording, and find out whether it is all there.

    `dtype` is ``float32``, or ``int16`` for the integers of a 16-bit file.

    Raises:
        UserError: The file cannot be opened or is no audio.
    """
    path, start, end = part_piece(path)
    if start > 0 or end < math.inf:
        return _read_piece(path, start, end, dtype)
    with _open(path) as (stream, header):
        if stream.subtype != "PCM_16":
            dtype = "float32"
        samples = _decode(stream, dtype)  # (n, channels)
        log = "" if header else stream.extra_info
    rate, frames, subtype = stream.samplerate, stream.frames, stream.subtype
    remark = header.remark if header else ""
    if frames == _ENDLESS:
        frames, remark = 0, STREAMED
    held = _count_frames(path) if samples is None else len(samples)
    slack = _MP3_FRAME if subtype.startswith("MPEG_LAYER") else 0
    promised = None  # seconds that a cut-off file should have
    if header and header.is_cut:
        promised = header.promised_seconds
    elif samples is None or frames - held > slack:
        promised = frames / rate
    elif (logged := _LOGGED_LENGTH.search(log)) and int(logged[1]) < PLACEHOLDER:
        promised = int(logged[1]) / max(1, int(logged[2])) * held / rate
    elif header is None and lacks_end(path):
        promised = 0.0
    if samples is None:
        samples = np.zeros((held, stream.channels), dtype)
    fault = detail = ""
    if promised is not None:
        fault, detail = _CUT, _lengths(promised, held / rate)
    else:
        fault = _fault_of(samples, subtype)
    return Sound(samples, rate, subtype, fault, detail, remark)


def _fault_of(samples: np.ndarray, subtype: str) -> str:
    """Say why samples (n, channels) of a file that is whole cannot be used."""
    if len(samples) == 0:
        return "empty"
    if subtype in FLOATS and not np.isfinite((samples.min(), samples.max())).all():
        return "samples that are no numbers (NaN or infinite)"
    return ""


def _read_piece(path: str, start: float, end: float, dtype: str) -> Sound:
    """Read what lies between two seconds; a piece must lie inside of its recording."""
    with _open(path) as (stream, _):
        rate, subtype = stream.samplerate, stream.subtype
        if subtype != "PCM_16":
            dtype = "float32"
        first = round(start * rate)
        if end <= start:
            none = np.zeros((0, stream.channels), dtype)
            return Sound(none, rate, subtype, "the piece ends before it begins")
        _skip(stream, first)
        wanted = _BLOCK if math.isinf(end) else round(end * rate) - first
        blocks: list[np.ndarray] = []
        try:
            while not blocks or (math.isinf(end) and len(blocks[-1]) == wanted):
                blocks.append(stream.read(wanted, dtype=dtype, always_2d=True))
        except sf.LibsndfileError:
            blocks.append(np.zeros((0, stream.channels), dtype))
    samples = np.concatenate(blocks)  # (n, channels)
    fault = detail = ""
    # Times of labels are rounded: a hundredth of a second may be missing.
    if math.isfinite(end) and wanted - len(samples) > max(1, rate // 100):
        fault = "the piece ends after its recording"
        detail = f"{start:g} to {end:g} s of {start + len(samples) / rate:.3f} s"
        if len(samples) == 0:
            detail = f"nothing is there from {start:g} s on"
    else:
        fault = _fault_of(samples, subtype)
    return Sound(samples, rate, subtype, fault, detail)


def _skip(stream: sf.SoundFile, count: int) -> None:
    """Go to a sample, by reading where the encoding cannot seek."""
    if count == 0:
        return
    try:
        stream.seek(count)
    except sf.LibsndfileError:
        with suppress(sf.LibsndfileError):
            while count > 0 and (got := len(stream.read(min(count, _BLOCK)))):
                count -= got


def with_detail(fault: str, detail: str) -> str:
    """Put a fault's detail in brackets behind it."""
    return f"{fault} ({detail})" if detail else fault


@contextmanager
def _open(path: Path | str) -> Iterator[tuple[sf.SoundFile, Header | None]]:
    """Open a recording and read its header, which is None for all but wav files."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    header = None
    try:
        header = read_header(file)
        with _decoder(file, header) as stream:
            yield stream, header
    except (sf.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: {_why_unreadable(path, header, error)}") from error
    finally:
        os.close(file)


def _decoder(file: int, header: Header | None) -> sf.SoundFile:
    if header is None or header.remark != UNFINISHED:
        try:
            return _Forward(file, closefd=False)
        except sf.LibsndfileError:
            if header is None or not header.held:
                raise
    return _Forward(rebuilt(file, header))


def _decode(stream: sf.SoundFile, dtype: str) -> np.ndarray | None:
    """Read to the end: (n, channels), or None where the decoder fails on the way."""
    size = min(stream.frames, _BLOCK)
    blocks: list[np.ndarray] = []
    try:
        # A read beyond the end costs as much as the first: libsndfile fills it up.
        while not blocks or len(blocks[-1]) == _BLOCK:
            blocks.append(stream.read(size, dtype=dtype, always_2d=True))
    except sf.LibsndfileError:
        return None
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def _count_frames(path: Path | str) -> int:
    """Count what can be read before the decoder fails."""
    count = 0
    with suppress(UserError), _open(path) as (stream, _):
        while block := len(stream.read(1024, dtype="int16")):
            count += block
    return count


def _lengths(promised: float, held: float) -> str:
    what = f"its header tells {promised:.3f} s" if promised else "its end is missing"
    return f"{what}, {held:.3f} s can be read"


def _why_unreadable(path: Path | str, header: Header | None, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    with open(path, "rb") as stream:
        head = stream.read(24)
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer instead of audio; run 'git lfs pull' in the corpus"
    if not head:
        return "the file has no bytes"
    if header.is_cut if header else lacks_end(path):
        return with_detail(_CUT, _lengths(header.promised_seconds if header else 0, 0))
    return "no audio that soundfile can read"

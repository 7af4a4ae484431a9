"""Audio: how it is read everywhere, and the one check of all files.

Reading (`load_waveform`) is soundfile's, as float32 in [-1, 1]; several channels are
averaged and another rate is resampled by soxr (HQ), in memory: no copies are made.
"""

import math
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from tqdm import tqdm

from espnet_ext.corpora.container import (
    PLACEHOLDER,
    STREAMED,
    UNFINISHED,
    Header,
    read_header,
    rebuilt,
)
from espnet_ext.corpora.corpus import LeftOut
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file

RATE = 16000
MIN_SECONDS = 0.1

_FULL_SCALE = 0.9999  # int16's largest value is 0.99997
_CLIPPED_RUN = 3  # a lone sample at full scale may be honest
_VIDEO = (".mp4", ".mkv", ".avi")
_CUT = "cut off or damaged"
_FLOATS = ("FLOAT", "DOUBLE")  # only these hold NaN
_ENDLESS = 2**63 - 1  # libsndfile's length of a FLAC stream
_BLOCK = 2**24  # samples read at once: 17 minutes
# A frame: an mp3's header and its decoder may differ by as much.
_SLACK = {"MPEG_LAYER_I": 1152, "MPEG_LAYER_II": 1152, "MPEG_LAYER_III": 1152}
# What libsndfile says of au and w64 files, promised and real.
_LOGGED_LENGTH = re.compile(r"(?:Data Size|riff)\s*: (\d+) \(should be (\d+)\)")


class _Forward(sf.SoundFile):
    """Reads without seeking: some encodings (GSM 6.10, G.721) and streams cannot."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Sound:
    """A recording as it was read.

    Attributes:
        samples: (n, channels); int16 where the file has it and it was asked for.
        rate: Samples a second.
        subtype: libsndfile's name of the encoding.
        fault: Why it cannot be used, or an empty string.
        detail: What the fault is in this file.
        remark: What is odd about its header.
    """

    samples: np.ndarray
    rate: int
    subtype: str
    fault: str = ""
    detail: str = ""
    remark: str = ""


def load_waveform(path: Path | str, rate: int = RATE) -> np.ndarray:
    """Read a recording as mono float32 at `rate`.

    Args:
        path: Anything that soundfile reads.
        rate: Samples a second.

    Returns:
        Samples, shape (n,); channels averaged, another rate resampled by soxr.

    Raises:
        UserError: The file is missing, cannot be read, is cut off, has no samples, or
            samples that are no numbers.
    """
    sound = _read(path, "float32")
    if sound.fault:
        reason = "no samples" if sound.fault == "empty" else sound.fault
        reason = _with_detail(reason, sound.detail)
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
    with _open(path) as (stream, header):
        frames, rate = stream.frames, stream.samplerate
    if frames < _ENDLESS and not (header and header.remark):
        return frames / rate
    return len(_read(path, "float32").samples) / rate


@contextmanager
def _open(path: Path | str) -> Iterator[tuple[sf.SoundFile, Header | None]]:
    """Open a recording, with what its container tells."""
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
        raise UserError(f"{path}: {_why_unreadable(file, header, error)}") from error
    finally:
        os.close(file)


def _decoder(file: int, header: Header | None) -> sf.SoundFile:
    if header is None or not header.format or header.remark != UNFINISHED:
        try:
            return _Forward(file, closefd=False)
        except sf.LibsndfileError:
            if header is None or not header.format or not header.held:
                raise
    return _Forward(rebuilt(file, header))


def _read(path: Path | str, dtype: str) -> _Sound:
    """Read a whole recording.

    Args:
        path: The file.
        dtype: ``float32``, or ``int16`` for the integers of a 16-bit file.

    Raises:
        UserError: The file cannot be opened or is no audio.
    """
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
    fault = detail = ""
    if header and header.is_cut:
        fault, detail = (
            _CUT,
            _lengths(header.promised_seconds(held / rate), held / rate),
        )
    elif samples is None or frames - held > _SLACK.get(subtype, 0):
        fault, detail = _CUT, _lengths(frames / rate, held / rate)
    elif (times := _times_too_short(log)) > 1:
        fault, detail = _CUT, _lengths(times * held / rate, held / rate)
    elif held == 0:
        fault = "empty"
    elif subtype in _FLOATS and not np.isfinite((samples.min(), samples.max())).all():
        fault = "samples that are no numbers (NaN or infinite)"
    if samples is None:
        samples = np.zeros((held, stream.channels), dtype)
    return _Sound(samples, rate, subtype, fault, detail, remark)


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


def _times_too_short(log: str) -> float:
    """Take from libsndfile's log how often a file would make up its header's length."""
    match = _LOGGED_LENGTH.search(log)
    if match is None or int(match[1]) >= PLACEHOLDER:
        return 1.0
    return int(match[1]) / max(1, int(match[2]))


def _lengths(promised: float, held: float) -> str:
    told = f"its header tells {promised:.3f} s" if promised else "its end is missing"
    return f"{told}, {held:.3f} s can be read"


def _with_detail(fault: str, detail: str) -> str:
    return f"{fault} ({detail})" if detail else fault


def _why_unreadable(file: int, header: Header | None, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    head = os.pread(file, 24, 0)
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer instead of audio; run 'git lfs pull' in the corpus"
    if not head:
        return "the file has no bytes"
    if header and header.is_cut:
        return _with_detail(_CUT, _lengths(header.promised_seconds(0.0), 0.0))
    return "no audio that soundfile can read"


@dataclass(frozen=True, slots=True)
class AudioReport:
    """What the check found in one file.

    Attributes:
        id: The utterance.
        path: Its file.
        seconds: Duration, 0 where there is none.
        fault: Why the utterance cannot be used, or an empty string.
        remarks: What is unusual but usable: another rate or several channels (converted
            on reading), float samples, clipping, silence, a header without a length.
        detail: What the fault is in this file, as the two lengths of one that is cut.
    """

    id: str
    path: str
    seconds: float
    fault: str
    remarks: tuple[str, ...]
    detail: str = ""


def check_file(id_: str, path: str, min_seconds: float = MIN_SECONDS) -> AudioReport:
    """Read one file and report on it; never raises for a bad file."""
    try:
        sound = _read(path, "int16")  # no conversion: twice as fast as float32
    except UserError as error:
        reason = f"unreadable: {str(error).removeprefix(f'{path}: ')}"
        if isinstance(error.__cause__, FileNotFoundError):
            reason = "missing file"
        return AudioReport(id_, path, 0.0, reason, ())
    samples, rate = sound.samples, sound.rate  # samples (n, channels)
    seconds = len(samples) / rate
    if sound.fault:
        return AudioReport(id_, path, seconds, sound.fault, (), sound.detail)
    fault = f"under {min_seconds:g} s" if seconds < min_seconds else ""
    remarks = [sound.remark] if sound.remark else []
    if rate != RATE:
        remarks.append(f"rate {rate} (resampled on reading)")
    if samples.shape[1] != 1:
        remarks.append(f"{samples.shape[1]} channels (averaged on reading)")
    if sound.subtype in _FLOATS:
        remarks.append("float samples")
    full_scale = _FULL_SCALE * (32768 if samples.dtype == np.int16 else 1)
    remarks += _level_remarks(samples, full_scale)
    return AudioReport(id_, path, seconds, fault, tuple(remarks))


def _level_remarks(samples: np.ndarray, full_scale: float) -> list[str]:
    """Find silence and clipping: `_CLIPPED_RUN` samples in a row at full scale."""
    low, high = float(samples.min()), float(samples.max())
    if low == high == 0:
        return ["silent"]
    if high < full_scale and low > -full_scale:
        return []
    at_limit = (samples >= full_scale) | (samples <= -full_scale)  # (n, channels)
    runs = at_limit[2:] & at_limit[1:-1] & at_limit[:-2]  # (n - 2, channels)
    return ["clipped"] if runs.any() else []


def check_audio(
    utterances: Mapping[str, Utterance],
    workers: int = 2,
    min_seconds: float = MIN_SECONDS,
) -> dict[str, AudioReport]:
    """Check the file of every utterance.

    Threads are enough: reading and numpy release the interpreter's lock.

    Args:
        utterances: By id.
        workers: Files that are read at once.
        min_seconds: Shorter recordings are a fault.

    Returns:
        A report for each id, in the order of `utterances`.
    """

    def check(utterance: Utterance) -> AudioReport:
        return check_file(utterance.id, utterance.wav, min_seconds)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        reports = list(
            tqdm(
                pool.map(check, utterances.values()),
                total=len(utterances),
                desc="check audio",
                unit="file",
                mininterval=1,
            )
        )
    return {report.id: report for report in reports}


def faults(
    reports: Mapping[str, AudioReport], utterances: Mapping[str, Utterance]
) -> list[LeftOut]:
    """Return the utterances whose audio cannot be used."""
    return [
        LeftOut(
            report.id,
            f"audio: {report.fault}",
            _with_detail(report.path, report.detail),
            utterances[report.id],
        )
        for report in reports.values()
        if report.fault
    ]


def audio_check_table(reports: Mapping[str, AudioReport]) -> str:
    """Return ``audio_check.tsv``: the files with a fault or a remark."""
    lines = ["utterance\tseconds\tfault\tremarks\tpath"]
    for report in reports.values():
        if report.fault or report.remarks:
            remarks = "; ".join(report.remarks)
            lines.append(
                f"{report.id}\t{report.seconds:.6f}"
                f"\t{_with_detail(report.fault, report.detail)}\t{remarks}"
                f"\t{report.path}"
            )
    return "\n".join(lines) + "\n"


def write_audio_check(path: Path, reports: Mapping[str, AudioReport]) -> None:
    """Write ``audio_check.tsv``; paths keep bytes that are no UTF-8."""
    path.write_text(
        audio_check_table(reports), encoding="utf-8", errors="surrogateescape"
    )


def remarks_text(reports: Mapping[str, AudioReport]) -> str:
    """Count the remarks for people; their utterances are in ``audio_check.tsv``."""
    remarks = Counter(r for report in reports.values() for r in report.remarks)
    if not remarks:
        return "audio: all files are 16 kHz mono without remarks\n"
    return "".join(
        f"audio: {number} files with {remark} (audio_check.tsv)\n"
        for remark, number in remarks.most_common()
    )


def shorter_than_labels(
    reports: Mapping[str, AudioReport], utterances: Mapping[str, Utterance]
) -> str:
    """Warn of recordings that end before their labels say that they do.

    A copy that was cut off and got a new header shows in nothing else. That labels tell
    the length of a file is from no documentation, so nothing is left out for it.

    Returns:
        The warning, empty where there is none.
    """
    short = [
        f"!!!   {id_}: {report.seconds:.3f} s, its label tells {told:.3f} s"
        for id_, report in reports.items()
        for told in (utterances[id_].labelled_seconds,)
        if not report.fault and report.seconds < told - max(0.25, 0.05 * told)
    ]
    if not short:
        return ""
    known = sum(not math.isnan(utterances[id_].labelled_seconds) for id_ in reports)
    lines = [
        f"!!! WARNING: {len(short)} of {known} recordings are shorter than the "
        "times of their labels by a quarter of a second and 5 %; were they cut off?",
        *short[:10],
    ]
    if len(short) > 10:
        lines.append(
            f"!!!   and {len(short) - 10} more (compare utt2dur and label_dur)"
        )
    return "\n".join(lines) + "\n"


def extract_from_videos(
    utterances: Iterable[Utterance], folder: Path
) -> tuple[list[Utterance], list[LeftOut]]:
    """Convert the audio of videos to 16 kHz mono wav files with ffmpeg.

    Args:
        utterances: Records; those whose file is no video are passed through.
        folder: For ``<id>.wav``; a file that is there already is kept.

    Returns:
        The records with the paths of the wav files, and those that ffmpeg failed on.

    Raises:
        UserError: There are videos to convert and ffmpeg is not installed.
    """
    utterances = list(utterances)
    videos = [u for u in utterances if u.wav.lower().endswith(_VIDEO)]
    todo = [u for u in videos if not (folder / f"{u.id}.wav").exists()]
    if todo and shutil.which("ffmpeg") is None:
        raise UserError(
            f"{todo[0].wav}: reading the audio of videos needs ffmpeg, which is not "
            "installed; install it with your system's package manager, or put a 16 kHz "
            "wav file of the same name beside each video"
        )
    failed = []
    for utterance in tqdm(todo, desc=f"audio to {folder}", disable=not todo):
        reason = _ffmpeg(utterance.wav, folder / f"{utterance.id}.wav")
        if reason:
            failed.append(
                LeftOut(
                    utterance.id,
                    "ffmpeg cannot read the video",
                    f"{utterance.wav}: {reason}",
                    utterance,
                )
            )
    lost = {left_out.name for left_out in failed}
    is_video = {u.id for u in videos}
    kept = [
        replace(u, wav=str(folder.absolute() / f"{u.id}.wav"))
        if u.id in is_video
        else u
        for u in utterances
        if u.id not in lost
    ]
    return kept, failed


class _FfmpegError(Exception):
    """What ffmpeg said."""


def _ffmpeg(video: str, wav: Path) -> str:
    """Convert one file; return what went wrong, or an empty string."""
    try:
        with atomic_file(wav) as temporary:
            command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", video]
            command += [
                "-vn",
                "-ac",
                "1",
                "-ar",
                str(RATE),
                "-f",
                "wav",
                str(temporary),
            ]
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False
            )
            if done.returncode or not temporary.exists():
                lines = done.stderr.strip().splitlines()
                raise _FfmpegError(lines[-1] if lines else "no output")
    except _FfmpegError as error:
        return str(error)
    return ""


class Waveforms(Mapping[str, np.ndarray]):
    """Audio (n,) of each utterance, read when it is asked for.

    Args:
        paths: wav file of each utterance.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths

    def __getitem__(self, utterance: str) -> np.ndarray:
        return load_waveform(self.paths[utterance])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

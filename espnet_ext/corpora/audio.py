"""Audio: how it is read everywhere, and the one check of all files.

Reading (`load_waveform`) is soundfile's, as float32 in [-1, 1]; several channels are
averaged and another rate is resampled by soxr (HQ), in memory: no copies are made.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from tqdm import tqdm

from espnet_ext.corpora.corpus import LeftOut
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError
from espnet_ext.utils.atomic import atomic_file

RATE = 16000
MIN_SECONDS = 0.1

_FULL_SCALE = 0.9999  # int16's largest value is 0.99997
_CLIPPED_RUN = 3  # a lone sample at full scale may be honest
_VIDEO = (".mp4", ".mkv", ".avi")


def load_waveform(path: Path | str, rate: int = RATE) -> np.ndarray:
    """Read a recording as mono float32 at `rate`.

    Args:
        path: Anything that soundfile reads.
        rate: Samples a second.

    Returns:
        Samples, shape (n,); channels averaged, another rate resampled by soxr.

    Raises:
        UserError: The file is missing, cannot be read, or has no samples.
    """
    samples, found_rate = _read(path)  # (n, channels)
    if len(samples) == 0:
        raise UserError(f"{path}: no samples; leave this utterance out")
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]  # (n,)
    if found_rate != rate:
        mono = soxr.resample(mono, found_rate, rate, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _read(path: Path | str) -> tuple[np.ndarray, int]:
    """Return samples (n, channels) in float32 and the rate."""
    try:
        return sf.read(path, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: {_why_unreadable(path)}") from error


def _why_unreadable(path: Path | str) -> str:
    try:
        with open(path, "rb") as stream:
            head = stream.read(24)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer instead of audio; run 'git lfs pull' in the corpus"
    if not head:
        return "the file has no bytes"
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
            on reading), float samples, clipping, silence.
    """

    id: str
    path: str
    seconds: float
    fault: str
    remarks: tuple[str, ...]


def check_file(id_: str, path: str, min_seconds: float = MIN_SECONDS) -> AudioReport:
    """Read one file and report on it; never raises for a bad file."""
    if not os.path.isfile(path):
        return AudioReport(id_, path, 0.0, "missing file", ())
    try:
        with sf.SoundFile(path) as stream:
            rate, subtype = stream.samplerate, stream.subtype
            # Integers need no conversion: twice as fast as float32.
            kind = "int16" if subtype == "PCM_16" else "float32"
            samples = stream.read(dtype=kind, always_2d=True)  # (n, channels)
    except (sf.LibsndfileError, OSError):
        return AudioReport(id_, path, 0.0, f"unreadable: {_why_unreadable(path)}", ())
    count, channels = samples.shape
    seconds = count / rate
    if count == 0:
        return AudioReport(id_, path, 0.0, "empty", ())
    fault = f"under {min_seconds:g} s" if seconds < min_seconds else ""
    remarks = []
    if rate != RATE:
        remarks.append(f"rate {rate} (resampled on reading)")
    if channels != 1:
        remarks.append(f"{channels} channels (averaged on reading)")
    if subtype in ("FLOAT", "DOUBLE"):
        remarks.append("float samples")
    full_scale = _FULL_SCALE * 32768 if kind == "int16" else _FULL_SCALE
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
        LeftOut(report.id, f"audio: {report.fault}", report.path, utterances[report.id])
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
                f"{report.id}\t{report.seconds:.6f}\t{report.fault}\t{remarks}"
                f"\t{report.path}"
            )
    return "\n".join(lines) + "\n"


def remarks_text(reports: Mapping[str, AudioReport]) -> str:
    """Count the remarks for people; their utterances are in ``audio_check.tsv``."""
    remarks = Counter(r for report in reports.values() for r in report.remarks)
    if not remarks:
        return "audio: all files are 16 kHz mono without remarks\n"
    return "".join(
        f"audio: {number} files with {remark} (audio_check.tsv)\n"
        for remark, number in remarks.most_common()
    )


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
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode or not temporary.exists():
                lines = done.stderr.strip().splitlines()
                raise _FfmpegError(lines[-1] if lines else "no output")
    except _FfmpegError as error:
        return str(error)
    return ""

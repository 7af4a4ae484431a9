"""The one check of all audio files of a corpus.

Missing, unreadable, cut off, empty and too short files, and those with samples that are
no numbers, are faults: their utterances are left out. Everything unusual that can be
used is a remark.
"""

import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from espnet_ext.corpora.audio import FLOATS, RATE, read_sound, with_detail
from espnet_ext.corpora.corpus import LeftOut
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError

MIN_SECONDS = 0.1

_FULL_SCALE = 0.9999  # int16's largest value is 0.99997
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class AudioReport:
    """What the check found in one file."""

    id: str  # of the utterance
    path: str
    seconds: float  # 0 where there is none
    fault: str  # why the utterance cannot be used
    remarks: tuple[str, ...] = ()  # what is unusual but usable
    detail: str = ""  # the two lengths of a file that is cut


def check_file(id_: str, path: str, min_seconds: float = MIN_SECONDS) -> AudioReport:
    """Read one file and report on it; never raises for a bad file."""
    try:
        sound = read_sound(path, "int16")  # no conversion: twice as fast as float32
    except UserError as error:
        reason = f"unreadable: {str(error).removeprefix(f'{path}: ')}"
        if isinstance(error.__cause__, FileNotFoundError):
            reason = "missing file"
        return AudioReport(id_, path, 0.0, reason)
    samples, rate = sound.samples, sound.rate  # samples (n, channels)
    seconds = len(samples) / rate
    if sound.fault:
        return AudioReport(id_, path, seconds, sound.fault, detail=sound.detail)
    fault = f"under {min_seconds:g} s" if seconds < min_seconds else ""
    remarks = [sound.remark] if sound.remark else []
    if rate != RATE:
        remarks.append(f"rate {rate} (resampled on reading)")
    if samples.shape[1] != 1:
        remarks.append(f"{samples.shape[1]} channels (averaged on reading)")
    if sound.subtype in FLOATS:
        remarks.append("float samples")
    low, high = float(samples.min()), float(samples.max())
    limit = _FULL_SCALE * (32768 if samples.dtype == np.int16 else 1)
    if low == high == 0:
        remarks.append("silent")
    elif high >= limit or low <= -limit:
        at_limit = (samples >= limit) | (samples <= -limit)  # (n, channels)
        # A lone sample at full scale may be honest; three in a row are not.
        if (at_limit[2:] & at_limit[1:-1] & at_limit[:-2]).any():
            remarks.append("clipped")
    return AudioReport(id_, path, seconds, fault, tuple(remarks))


def check_audio(
    utterances: Mapping[str, Utterance],
    workers: int = 2,
    min_seconds: float = MIN_SECONDS,
) -> dict[str, AudioReport]:
    """Read the file of every utterance, `workers` at once; reports by id, in order."""
    records = utterances.values()
    # Threads are enough: reading and numpy release the interpreter's lock.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        reports = pool.map(lambda u: check_file(u.id, u.wav, min_seconds), records)
        bar = {"desc": "check audio", "unit": "file", "mininterval": 1}
        return {r.id: r for r in tqdm(reports, total=len(utterances), **bar)}


def faults(
    reports: Mapping[str, AudioReport], utterances: Mapping[str, Utterance]
) -> list[LeftOut]:
    """Return the utterances whose audio cannot be used."""
    found = []
    for id_, r in reports.items():
        if r.fault:
            where = with_detail(r.path, r.detail)
            found.append(LeftOut(id_, f"audio: {r.fault}", where, utterances[id_]))
    return found


def audio_check_table(reports: Mapping[str, AudioReport]) -> str:
    """Return ``audio_check.tsv``: the files with a fault or a remark."""
    lines = ["utterance\tseconds\tfault\tremarks\tpath"]
    lines += [
        f"{r.id}\t{r.seconds:.6f}\t{with_detail(r.fault, r.detail)}"
        f"\t{'; '.join(r.remarks)}\t{r.path}"
        for r in reports.values()
        if r.fault or r.remarks
    ]
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


def shorter_than_labels(
    reports: Mapping[str, AudioReport], utterances: Mapping[str, Utterance]
) -> str:
    """Warn of recordings that end before their labels say that they do.

    A copy that was cut off and got a new header shows in nothing else. That labels tell
    the length of a file is from no documentation, so nothing is left out for it.
    """
    labeled = {id_: utterances[id_].labeled_seconds for id_ in reports}
    short = [
        f"!!!   {id_}: {report.seconds:.3f} s, its label tells {labeled[id_]:.3f} s"
        for id_, report in reports.items()
        if not report.fault
        and report.seconds < labeled[id_] - max(0.25, 0.05 * labeled[id_])
    ]
    if not short:
        return ""
    known = sum(not math.isnan(seconds) for seconds in labeled.values())
    lines = [
        f"!!! WARNING: {len(short)} of {known} recordings are shorter than the "
        "times of their labels by a quarter of a second and 5 %; were they cut off?",
        *short[:_SHOWN],
    ]
    if (rest := len(short) - _SHOWN) > 0:
        lines.append(f"!!!   and {rest} more (compare utt2dur and label_dur)")
    return "\n".join(lines) + "\n"

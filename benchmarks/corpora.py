#!/usr/bin/env python3
"""Measure the preparation of corpora at full size: seconds and memory an utterance.

Writes trees of the size of MSP-Podcast 2.0 (labels only) and of IEMOCAP (with tiny
audio, which is checked) to a temporary folder and prepares each in its own process::

    python benchmarks/corpora.py --utterances 265000

The time of the audio check grows with the hours of the real corpus.

Memory is the peak of the process less that of preparing a tree of 1,000 utterances,
divided by the number of utterances.
"""

import argparse
import csv
import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"


def write_msp(root: Path, utterances: int) -> None:
    """Write labels and empty audio files (the audio check is off)."""
    draw = random.Random(0)
    (root / "Labels").mkdir(parents=True)
    (root / "Audios").mkdir()
    with open(root / "Labels" / "labels_consensus.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER.split(","))
        for index in range(utterances):
            name = f"MSP-PODCAST_{index // 100:04d}_{index % 100:04d}.wav"
            values = (f"{draw.uniform(1, 7):.6f}" for _ in range(3))
            speaker = draw.randrange(1, 3000)
            gender = draw.choice(("Male", "Female"))
            split = draw.choice(("Train", "Development", "Test1", "Test2"))
            emotion = draw.choice("ASHUFDCNOX")
            writer.writerow((name, emotion, *values, speaker, gender, split))
            os.close(os.open(root / "Audios" / name, os.O_CREAT))


def prepare(corpus: str, root: Path, output: Path, check: bool) -> tuple[float, int]:
    """Run ser_prepare; return seconds and peak memory in bytes."""
    command = [sys.executable, "-m", "espnet_ext.bin.ser_prepare", "--corpus", corpus]
    command += ["--root", str(root), "--output", str(output)]
    command += ["--check_audio", str(check).lower()]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=265000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sys.path.insert(0, str(ROOT / "tests" / "corpora"))
        importlib.import_module("iemocap_tree").real_size_tree(work / "iemocap")
        seconds, _ = prepare("iemocap", work / "iemocap", work / "data_iemocap", True)
        print(f"iemocap, 10039 utterances, audio check on: {seconds:.1f} s")
        write_msp(work / "few", 1000)
        write_msp(work / "many", args.utterances)
        _, base = prepare("msp_podcast", work / "few", work / "data_few", False)
        seconds, peak = prepare("msp_podcast", work / "many", work / "data", False)
    growth = (peak - base) / (args.utterances - 1000)
    print(
        f"msp_podcast, {args.utterances} utterances, audio check off: {seconds:.1f} s, "
        f"peak {peak / 2**20:.0f} MiB, {growth:.0f} bytes an utterance"
    )


if __name__ == "__main__":
    main()

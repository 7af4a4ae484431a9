"""What a first answer of `ser predict` takes, and what a process for many files saves.

The first line splits the CPU time of a fresh process: starting Python and importing,
loading the model, computing one answer. The second compares many short files in one
process with a process for each (whose number is extrapolated from a few), and tells
how much memory the many took beyond the first hundred.

    python benchmarks/inference_latency.py MODEL [--files 1000] [--single 5]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

FIRST = """
import json, sys, time
from espnet_ext.inference import commands
from espnet_ext.inference.emotion import SpeechEmotion
times = [time.process_time()]
ser = SpeechEmotion.from_pretrained(sys.argv[1], device="cpu")
times.append(time.process_time())
ser(sys.argv[2])
times.append(time.process_time())
print(json.dumps(times))
"""
MANY = """
import resource, sys
from espnet_ext.bin.ser import main
from espnet_ext.inference.outputs import ResultWriter
write, seen = ResultWriter.write, []
def watched(self, *row):
    seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    write(self, *row)
ResultWriter.write = watched
try: main(sys.argv[1:])
finally: print(len(seen), seen[min(99, len(seen) - 1)], seen[-1], file=sys.stderr)
"""


def write_files(folder: Path, count: int) -> list[Path]:
    """Write tones in noise of 1 to 3 s."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        n = round(16000 * rng.uniform(1, 3))
        wave = 0.1 * np.sin(rng.uniform(0.02, 0.2) * np.arange(n))
        paths.append(folder / f"{number:04d}.wav")
        soundfile.write(paths[-1], wave + 0.01 * rng.standard_normal(n), 16000)
    return paths


def split_first_answer(model: str, wav: Path) -> None:
    """Print where the CPU time of a first answer goes; the best of three."""
    best = min(json.loads(run(["-c", FIRST, model, str(wav)]).stdout) for _ in range(3))
    parts = np.diff([0.0, *best])
    names = ("imports", "model loading", "compute")
    split = ", ".join(f"{n} {t:.2f} s" for n, t in zip(names, parts, strict=True))
    print(f"first answer: {sum(parts):.2f} s of CPU ({split})")


def compare(model: str, folder: Path, paths: list[Path], single: int) -> None:
    """Print the ratio of a call for each file to one process for all."""
    options = ["predict", "--device", "cpu", "--model", model, "--format", "jsonl"]
    together, clock, done = measure(["-c", MANY, *options, str(folder)])
    rows, early, late = map(int, done.stderr.split()[-3:])
    assert rows == len(done.stdout.splitlines()) == len(paths)
    module = ["-m", "espnet_ext.bin.ser"]
    alone = [measure([*module, *options, str(p)])[:2] for p in paths[:single]]
    cpu, wall = (np.mean(values) * rows for values in zip(*alone, strict=True))
    print(
        f"{rows} files in one process: {together:.1f} s of CPU, {clock:.1f} s; a call "
        f"each (from {single}): {cpu:.0f} s of CPU, {wall:.0f} s: {cpu / together:.0f} "
        f"and {wall / clock:.0f} times as much; memory {early / 1024:.0f} MiB after "
        f"100 files, {late / 1024:.0f} MiB after all"
    )


def measure(arguments: list[str]) -> tuple[float, float, subprocess.CompletedProcess]:
    """Run Python; return its CPU and wall time in seconds, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = run(arguments)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, done


def run(arguments: list[str]) -> subprocess.CompletedProcess:
    """Run Python on arguments; it must succeed."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="As ser predict takes it")
    parser.add_argument("--files", type=int, default=1000, help="Short files")
    parser.add_argument("--single", type=int, default=5, help="Calls of one file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wavs = write_files(Path(scratch), args.files)
        split_first_answer(args.model, wavs[0])
        compare(args.model, Path(scratch), wavs, args.single)

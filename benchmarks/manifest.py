"""How long a large manifest takes to read, and how memory grows with its rows.

Each row's recording is looked for (empty files stand for them). Time is printed beside
that of Python's csv reader on the same file, memory as growth of the process from a
tenth of the rows to all of them, each in a process of its own.

    python benchmarks/manifest.py --rows 265000
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from espnet_ext.corpora.manifest.reader import ManifestOptions, read_manifest

EMOTIONS = ("neutral", "angry", "happy", "sad", "disgust", "fear", "surprise", "other")
SPEAKERS = 3000


def write_corpus(folder: Path, rows: int) -> None:
    """Write a manifest like MSP-Podcast's, and its recordings as empty files."""
    draw = random.Random(0)
    audio = folder / "Audios"
    audio.mkdir()
    with open(folder / "speech.csv", "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        names = "FileName EmoClass EmoAct EmoVal EmoDom SpkrID Gender"
        table.writerow(names.split())
        for number in range(rows):
            name = f"Audios/MSP-PODCAST_{number // 100:04d}_{number:06d}.wav"
            (folder / name).touch()
            values = [round(draw.uniform(1, 7), 4) for _ in range(3)]
            speaker = draw.randrange(SPEAKERS)
            gender = ("Female", "Male")[speaker % 2]
            table.writerow([name, draw.choice(EMOTIONS), *values, speaker, gender])


def measure(path: Path, check_files: bool) -> dict[str, float]:
    """Read once in this process: seconds, and resident memory after it in bytes."""
    options = ManifestOptions(attribute_scale=(1, 7), check_files=check_files)
    start, start_cpu = time.perf_counter(), time.process_time()
    found = read_manifest(path, "big", options)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    status = Path("/proc/self/status").read_text(encoding="ascii")
    sizes = {
        line.split(":")[0]: line.split()[1]
        for line in status.splitlines()
        if "kB" in line
    }
    return {
        "rows": len(found.reading.utterances),
        "seconds": seconds,
        "cpu": cpu,
        "resident": 1024 * float(sizes["VmRSS"]),
        "peak": 1024 * float(sizes["VmHWM"]),
    }


def in_a_process(path: Path, check_files: bool = True) -> dict[str, float]:
    """Run `measure` in a process of its own."""
    words = [sys.executable, __file__, "--measure", str(path)]
    words += [] if check_files else ["--without_files"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=265_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--without_files", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        print(json.dumps(measure(args.measure, not args.without_files)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, args.rows)
        path = folder / "speech.csv"
        small = folder / "small.csv"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        small.write_text("".join(lines[: args.rows // 10 + 1]), encoding="utf-8")
        start = time.perf_counter()
        with open(path, encoding="utf-8", newline="") as stream:
            count = sum(1 for _ in csv.DictReader(stream))
        bare = time.perf_counter() - start
        few, many = in_a_process(small), in_a_process(path)
        without = in_a_process(path, check_files=False)
    growth = many["rows"] - few["rows"]
    print(f"{count} rows: csv.DictReader alone {bare:.1f} s")
    told = {"every recording looked for": many, "without looking for them": without}
    for how, found in told.items():
        seconds = f"{found['seconds']:.1f} s ({found['cpu']:.1f} s of CPU)"
        print(f"read_manifest {seconds}, {how}")
    for kind in ("resident", "peak"):
        print(f"{kind} memory: {(many[kind] - few[kind]) / growth:.0f} bytes a row")


if __name__ == "__main__":
    main()

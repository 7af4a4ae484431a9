#!/usr/bin/env python3
"""What the plan of Tables 1-3 costs on Slurm, apart from the work itself.

All trainings of the paper's three tables with three seeds, and their inferences and
tables, with a stub in the place of each program, on a real Slurm that is started here.
Printed: the overhead a run (time of the whole plan over the number of trainings), and
what ten kills of the driver at random moments have lost or doubled.

Run: nice python benchmarks/scheduler.py [--kills 10] [--seed 0]
Needs root and Slurm's daemons, as tests/jobs/test_cluster.py does.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "jobs")]

from one_machine_slurm import running_slurm, why_not  # noqa: E402
from toy_plan import calls, options, toy  # noqa: E402

from espnet_ext.jobs.cluster import run_plan  # noqa: E402
from espnet_ext.jobs.step import (  # noqa: E402
    Evidence,
    Input,
    Status,
    Step,
    format_runs,
    status,
)
from espnet_ext.utils.atomic import atomic_write_text  # noqa: E402

SEEDS = 3
CORPORA = ("iemocap", "msp_podcast")
# Corpora, sets and models of each: five folds of IEMOCAP; eight ways to hide labels of
# both corpora; MSP-Podcast.
TABLES = {
    "table1": (("iemocap",), 5, 5),
    "table2": (("iemocap", "msp_podcast"), 8, 1),
    "table3": (("msp_podcast",), 1, 5),
}


def tables(folder: Path) -> list[Step]:
    """Make the plan: features, sets, trainings, inferences, tables."""
    stores = {name: toy(folder, f"{name}/store", stage=3) for name in CORPORA}
    steps = list(stores.values())
    for table, (corpora, sets, models) in TABLES.items():
        runs = {}
        for number in range(sets):
            place = f"{table}/{number}"
            reads = [stores[name] for name in corpora]
            made = toy(folder, f"{place}/sets", stage=4, reads=reads)
            steps.append(made)
            for n in range(models * SEEDS):
                train = toy(folder, f"{place}/train{n}", reads=[made])
                infer = toy(folder, f"{place}/infer{n}", stage=6, reads=[train])
                runs[f"{number} {n}"] = (train, infer)
        steps += [step for run in runs.values() for step in run]
        listed = folder / f"{table}.json"
        atomic_write_text(listed, format_runs(runs))
        last = toy(folder, f"{table}/table", stage=7)
        steps.append(replace(last, inputs=(Input(listed, Evidence.RUNS),)))
    return sorted(steps, key=lambda step: step.stage)


def drive(folder: Path) -> None:
    """Run the plan to its end, without a word."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_plan(lambda: tables(folder), replace(options(folder), poll_seconds=1.0))


def drive_and_die(folder: Path, seconds: float) -> None:
    """Run the plan in a process that is killed after some time."""
    process = multiprocessing.get_context("fork").Process(target=drive, args=(folder,))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()


def count(steps: list[Step]) -> str:
    """Say how many steps are done, were never run, or were run twice."""
    done = sum(status(step) is Status.DONE for step in steps)
    doubled = sum(calls(step) > 1 for step in steps if status(step) is Status.DONE)
    return f"{done} of {len(steps)} done, {len(steps) - done} lost, {doubled} doubled"


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="[10]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [0]")
    args = parser.parse_args()
    if reason := why_not():
        sys.exit(f"error: {reason}")
    root = Path(tempfile.mkdtemp(prefix="scheduler-"))
    python_path = [str(ROOT / "tests" / "jobs"), str(ROOT)]
    try:
        with running_slurm(cpus=8) as environment:
            os.environ.update(environment, PYTHONPATH=os.pathsep.join(python_path))
            measure(root, args.kills, random.Random(args.seed))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def measure(root: Path, kills: int, draw: random.Random) -> None:
    """Run the plan undisturbed, then with kills."""
    steps = tables(root / "whole")
    runs = sum(step.stage == 5 for step in steps)
    start = time.monotonic()
    drive(root / "whole")
    seconds = time.monotonic() - start
    print(
        f"undisturbed: {len(steps)} jobs, {runs} of them trainings, in {seconds:.0f} s:"
        f" {seconds / runs:.2f} s a training, {seconds / len(steps):.2f} s a job;"
        f" {count(steps)}",
        flush=True,
    )
    moments = sorted(draw.uniform(0, seconds) for _ in range(kills))
    before = 0.0
    for moment in moments:
        drive_and_die(root / "killed", moment - before)
        before = moment
    drive(root / "killed")
    shown = ", ".join(f"{moment:.1f}" for moment in moments)
    print(f"killed after {shown} s: {count(tables(root / 'killed'))}")


if __name__ == "__main__":
    main()

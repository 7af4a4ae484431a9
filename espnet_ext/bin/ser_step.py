#!/usr/bin/env python3
"""Run one task of a batch: what a cluster's job starts, never typed by hand.

The steps run through the same code as on this machine. What had been finished before
the job began is left alone; what was cut off goes on.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.jobs.batch import (
    Batch,
    TaskRecord,
    read_batch,
    write_record,
)
from espnet_ext.jobs.local import run_steps

# A node that has died holds its locks until the file server gives it up.
LOCK_PATIENCE = 180.0


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("batch", type=Path, help="the batch's folder")
    parser.add_argument("task", type=int, help="number of the task in it")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the steps of a task and leave word of how they ended."""
    args = get_parser().parse_args(cmd)
    batch = read_batch(args.batch)
    if args.task not in batch.tasks:
        raise UserError(f"{batch.folder}: has no task {args.task}")
    record = begin(os.environ)
    write_record(batch, args.task, record)
    try:
        run_task(batch, args.task, record)
    except UserError as error:
        finish(batch, args.task, record, str(error))
        raise
    except Exception as error:
        finish(batch, args.task, record, f"{type(error).__name__}: {error}")
        raise
    finish(batch, args.task, record, "")


def begin(environment: Mapping[str, str]) -> TaskRecord:
    """Say which job this is, as Slurm tells it."""
    job = environment.get("SLURM_ARRAY_JOB_ID")
    task = environment.get("SLURM_ARRAY_TASK_ID")
    return TaskRecord(
        state="running",
        host=environment.get("SLURMD_NODENAME") or os.uname().nodename,
        job=f"{job}_{task}" if job else "",
        restarts=int(environment.get("SLURM_RESTART_COUNT", "0")),
        started=time.time(),
    )


def finish(batch: Batch, task: int, record: TaskRecord, fault: str) -> None:
    """Leave the last word."""
    state = "failed" if fault else "done"
    write_record(
        batch, task, replace(record, state=state, ended=time.time(), note=fault)
    )


def run_task(batch: Batch, task: int, record: TaskRecord) -> None:
    """Run the steps side by side.

    Raises:
        UserError: If one fails, or if the cluster has started the task too often.
    """
    if record.restarts > batch.max_restarts:
        raise UserError(
            f"started again {record.restarts} times, which is more than --max_restarts "
            f"{batch.max_restarts}: a longer --time, or less preemption, is needed. "
            "Start ./run.sh again to go on from where it is"
        )
    if record.restarts:
        print(f"Started again for the {record.restarts}. time.", flush=True)
    if record.job:
        # Sent some time before the time limit (--signal in conf/slurm.conf).
        signal.signal(signal.SIGUSR1, lambda *args: requeue(record.job, *args))
    steps = batch.tasks[task]
    run_steps(steps, jobs=len(steps), patience=LOCK_PATIENCE)


def requeue(job: str, number: int, frame: FrameType | None) -> None:
    """Give the node back before the time is over, and queue for another turn."""
    print("The time limit is near: back into the queue.", file=sys.stderr, flush=True)
    subprocess.run(["scontrol", "requeue", job], check=False)


if __name__ == "__main__":
    main()

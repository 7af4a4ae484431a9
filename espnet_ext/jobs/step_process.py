"""Run one task of a batch: what a cluster's job starts, never typed by hand.

The steps run through the same code as on this machine. What had been finished before
the job began is left alone; what was cut off goes on.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.jobs.batch import Batch, TaskRecord, read_batch, step_key, write_record
from espnet_ext.jobs.local import append_to_log, run_steps
from espnet_ext.jobs.step import is_done

# A node that has died holds its locks until the file server gives it up.
LOCK_PATIENCE = 180.0


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Run the steps of a task, given by its batch's folder and its number."""
    folder, number = sys.argv[1:] if cmd is None else cmd
    task = int(number)
    batch = read_batch(Path(folder))
    if task not in batch.tasks:
        raise UserError(f"{batch.folder}: has no task {task}")
    job = os.environ.get("SLURM_ARRAY_JOB_ID", "")
    record = TaskRecord(
        state="running",
        host=os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        job=job and f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}",
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        started=time.time(),
    )
    write_record(batch, task, record)
    state, note = "failed", ""
    try:
        if record.restarts > batch.max_restarts:
            note = (
                f"started again {record.restarts} times, which is more than "
                f"--max_restarts {batch.max_restarts}: a longer --time in cmd.sh or "
                "less preemption is needed. Start the same command again to go on "
                "from where it is"
            )
            raise UserError(note)
        run_task(batch, task, record)
        state = "done"
    except Exception as error:
        if not isinstance(error, UserError):  # those are in the step's own log
            note = f"{type(error).__name__}: {error}"
        raise
    finally:
        ended = replace(record, state=state, ended=time.time(), note=note)
        write_record(batch, task, ended)


def run_task(batch: Batch, task: int, record: TaskRecord) -> None:
    """Run the steps side by side; one that lacks what it reads stops no other.

    Raises:
        UserError: If one fails, or was not run.
    """
    if record.restarts:
        print(f"Started again for the {record.restarts}. time.", flush=True)
    if record.job:
        # Sent some time before the time limit (--signal in conf/slurm.conf).
        signal.signal(signal.SIGUSR1, lambda *args: requeue(record.job, *args))
    ready, failures = [], []
    for step in batch.tasks[task]:
        needed = batch.needs.get(step_key(step), ())
        missing = [other for other in needed if not is_done(other)]
        if not missing:
            ready.append(step)
            continue
        names = ", ".join(f"{o.name} (see {os.path.abspath(o.log)})" for o in missing)
        failures.append(f"{step.name} is not run, not finished: {names}")
        append_to_log(step, f"error: {failures[-1]}")
    try:
        if ready:
            run_steps(ready, jobs=len(ready), patience=LOCK_PATIENCE)
    except UserError as error:
        failures.append(str(error))
    if failures:
        raise UserError("\n".join(failures))


def requeue(job: str, number: int, frame: FrameType | None) -> None:
    """Give the node back before the time is over, and queue for another turn."""
    print("The time limit is near: back into the queue.", file=sys.stderr, flush=True)
    command = ["scontrol", "requeue", job]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        print(
            f"error: `scontrol requeue {job}` says: {result.stderr.strip()}. The job "
            "will end at its time limit: start the same command again then to go on",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main()

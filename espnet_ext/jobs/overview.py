"""How each step of a plan stands, at a glance: here and in Slurm's queue."""

import os
import shlex
import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.jobs.again import print_other_code
from espnet_ext.jobs.batch import (
    STEPS_FILE,
    TaskRecord,
    read_batch,
    read_record,
    step_key,
)
from espnet_ext.jobs.lock import holder
from espnet_ext.jobs.progress import read_epochs
from espnet_ext.jobs.slurm import QueuedTask
from espnet_ext.jobs.step import Status, Step, status


@dataclass(frozen=True)
class Standing:
    """How a step stands."""

    word: str  # ``done``, ``running``, ``queued``, ``failed``, ``died`` or ``to do``
    seconds: float | None = None  # it has run, or ran; None if that is not known
    details: str = ""  # where, which job, how far


def standings(
    steps: Sequence[Step], root: Path, queue: Sequence[QueuedTask]
) -> dict[str, Standing]:
    """Find out how each step stands, by its key.

    `root` is the folder of the batches, `queue` what Slurm's queue shows.
    """
    shown: dict[str, QueuedTask] = {}
    # The later ones win: the newest job, and of several workers one that runs.
    for task in sorted(
        queue, key=lambda t: (not t.ended, t.state == "RUNNING", t.id.job)
    ):
        if not task.waited_in_vain:
            shown |= {step_key(step): task for step in task.steps}
    records: dict[str, TaskRecord] = {}  # of the task that ran a step last
    for path in sorted(root.glob(f"*-*/{STEPS_FILE}")):
        batch = read_batch(path.parent)
        for number, members in batch.tasks.items():
            if record := read_record(batch, number):
                records |= {step_key(step): record for step in members}
    by_key = {step_key(step): step for step in steps}
    return {
        key: _standing(step, shown.get(key), records.get(key))
        for key, step in by_key.items()
    }


def _standing(
    step: Step, task: QueuedTask | None, record: TaskRecord | None
) -> Standing:
    state = _status(step)
    spent = record.ended - record.started if record and record.ended else None
    if state is Status.DONE:
        return Standing("done", spent)
    if task is not None and not task.ended:
        record = read_record(task.batch, task.id.task)
        restarts = record.restarts if record else 0
        again = f"started again {restarts}x" if restarts else ""
        if task.state != "RUNNING":
            return Standing("queued", None, _join(f"job {task.id}", task.reason, again))
        where = f"job {task.id} on {task.node}"
        seconds = time.time() - record.started if record else None
        return Standing("running", seconds, _join(where, _progress(step), again))
    owner = holder(step)
    if owner is not None:
        return Standing("running", None, _join(owner, _progress(step)))
    if record is None and task is not None:
        return Standing("failed", None, f"job {task.id}: {task.verdict}")
    if record is None or record.state == "done":
        return Standing("to do", None, "cut off" if state is Status.STARTED else "")
    where = f"job {record.job} on {record.host}"
    if record.state == "failed":
        return Standing("failed", spent, where)
    return Standing("died", None, f"{where}: killed hard")


def _status(step: Step) -> Status:
    try:
        return status(step)
    except OSError:
        return Status.NEW


def _progress(step: Step) -> str:
    if not step.epochs:
        return ""
    done, epochs = read_epochs(step.log)
    return f"epoch {done} of {epochs or step.epochs}"


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def print_plan(steps: Sequence[Step], forced: Container[int] = ()) -> None:
    """Print what is done and what is to do, with each step's command."""
    for step in steps:
        word = "forced" if step.stage in forced else _status(step).value
        print(f"stage {step.stage}  {word:8} {step.name}")
        print(f"    {shlex.join(step.command())}")
    print_other_code(step for step in steps if step.stage not in forced)


def print_overview(steps: Sequence[Step], found: Mapping[str, Standing]) -> None:
    """Print a line a step, with its log, and how many are in which state."""
    for step in steps:
        standing = found[step_key(step)]
        spent = "" if standing.seconds is None else _clock(standing.seconds)
        line = f"{step.stage}  {standing.word:8}{spent:>9}  {step.name}"
        print(f"{line}  ({standing.details})" if standing.details else line)
        if standing.word in ("running", "failed", "died"):
            print(f"{'':23}{os.path.abspath(step.log)}")
    print_other_code(step for step in steps if found[step_key(step)].word == "done")
    words = Counter(standing.word for standing in found.values())
    print(", ".join(f"{count} {word}" for word, count in words.most_common()))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"

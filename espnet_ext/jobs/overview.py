"""How each step of a plan stands, at a glance: here and in Slurm's queue."""

import os
import shlex
import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.jobs.again import print_other_code
from espnet_ext.jobs.batch import Batch, TaskRecord, read_batch, read_record, step_key
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
    """Find out how each step stands.

    Args:
        steps: The plan.
        root: Folder of the batches.
        queue: What Slurm's queue shows; empty where there is none.

    Returns:
        By the step's key.
    """
    shown: dict[str, tuple[QueuedTask, Batch]] = {}
    batches: dict[Path, Batch] = {}
    # The later ones win: the newest job, and of several workers one that runs.
    for task in sorted(
        queue, key=lambda t: (not t.ended, t.state == "RUNNING", t.id.job)
    ):
        if task.waited_in_vain:
            continue
        batch = batches.setdefault(task.folder, read_batch(task.folder))
        for step in batch.tasks[task.id.task]:
            shown[step_key(step)] = (task, batch)
    before = last_records(root)
    return {
        key: _standing(step, shown.get(key), before.get(key))
        for key, step in ((step_key(step), step) for step in steps)
    }


def last_records(root: Path) -> dict[str, TaskRecord]:
    """Return what the task that ran a step last has said, by the step's key."""
    records = {}
    for folder in sorted(root.glob("*-*")):
        if not (folder / "steps.json").is_file():
            continue
        batch = read_batch(folder)
        for number, members in batch.tasks.items():
            record = read_record(batch, number)
            if record is not None:
                records.update({step_key(step): record for step in members})
    return records


def _standing(
    step: Step,
    queued: tuple[QueuedTask, Batch] | None,
    record: TaskRecord | None,
) -> Standing:
    try:
        state = status(step)
    except OSError:
        state = Status.NEW
    if state is Status.DONE:
        if record is None or not record.ended:
            return Standing("done")
        return Standing("done", record.ended - record.started)
    if queued is not None and not queued[0].ended:
        return _queued(step, *queued)
    owner = holder(step)
    if owner is not None:
        return Standing("running", None, _join(owner, _progress(step)))
    if record is None and queued is not None:
        return Standing("failed", None, f"job {queued[0].id}: {queued[0].verdict}")
    if record is None or record.state == "done":
        return Standing("to do", None, "cut off" if state is Status.STARTED else "")
    where = f"job {record.job} on {record.host}"
    if record.state == "failed":
        return Standing("failed", record.ended - record.started, where)
    return Standing("died", None, f"{where}: killed hard")


def _queued(step: Step, task: QueuedTask, batch: Batch) -> Standing:
    record = read_record(batch, task.id.task)
    again = f"started again {record.restarts}x" if record and record.restarts else ""
    if task.state == "RUNNING":
        seconds = time.time() - record.started if record is not None else None
        where = f"job {task.id} on {task.node}"
        return Standing("running", seconds, _join(where, _progress(step), again))
    return Standing("queued", None, _join(f"job {task.id}, {task.reason}", again))


def _progress(step: Step) -> str:
    if not step.epochs:
        return ""
    done, epochs = read_epochs(step.log)
    return f"epoch {done} of {epochs or step.epochs}"


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def print_plan(steps: Sequence[Step], forced: Container[int] = ()) -> None:
    """Print what is done and what is to do, with each step's command.

    Args:
        steps: The plan.
        forced: Stages that are to be made again.
    """
    for step in steps:
        try:
            state = status(step)
        except OSError:
            state = Status.NEW
        word = "forced" if step.stage in forced else state.value
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

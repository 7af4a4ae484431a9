"""Run a plan on Slurm: one job array after the other, each waiting for what it reads.

Everything that is to do is submitted at once, so that the cluster goes on when the
terminal is closed. This process then only watches. Started again, it finds in Slurm's
queue what is under way and submits the rest.

Why not submitit or a daemon of our own: Slurm's queue itself remembers (`jobs.batch`),
and its arrays, dependencies and requeueing do the work; see README.md beside this file.
"""

import fcntl
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs import slurm
from espnet_ext.jobs.arrays import ClusterOptions, Needs, UnderWay, submit_all
from espnet_ext.jobs.batch import (
    Batch,
    TaskRecord,
    read_batch,
    read_record,
    step_key,
    unique,
)
from espnet_ext.jobs.graph import prerequisites, unfinished
from espnet_ext.jobs.local import LOG_TAIL
from espnet_ext.jobs.slurm import QueuedTask, TaskId
from espnet_ext.jobs.step import Step, is_done

# A step is submitted again when what it waits for had failed in one of several workers,
# or when its inputs have changed meanwhile.
MAX_ATTEMPTS = 3


@dataclass
class Watch:
    """What one call of `run_plan` has seen; steps are known by their keys."""

    batches: dict[Path, Batch] = field(default_factory=dict)  # by folder
    failed: dict[str, str] = field(default_factory=dict)  # why; not submitted again
    gone: dict[TaskId, float] = field(default_factory=dict)  # when first out of sight
    shown: set[tuple[str, str]] = field(default_factory=set)  # step and text printed
    attempts: Counter[str] = field(default_factory=Counter)  # how often submitted
    full: bool = False  # whether Slurm has not taken all jobs, for their number

    def batch(self, folder: Path) -> Batch:
        """Read a batch once."""
        if folder not in self.batches:
            self.batches[folder] = read_batch(folder)
        return self.batches[folder]

    def show(self, steps: Sequence[Step], text: str) -> None:
        """Print in one line how steps stand, if that is news."""
        news = {(step_key(step), text) for step in steps}
        if not news <= self.shown:
            self.shown |= news
            more = f" and {len(steps) - 1} more" if len(steps) > 1 else ""
            print(f"  {steps[0].name}{more}: {text}", flush=True)


@dataclass(frozen=True)
class Flight:
    """A task of this project that is in the queue, or was at the last look."""

    task: QueuedTask  # as the queue showed it
    batch: Batch  # where it comes from

    @property
    def steps(self) -> tuple[Step, ...]:
        """What it runs."""
        return self.batch.tasks[self.task.id.task]


def run_plan(
    plan: Callable[[], Sequence[Step]],
    options: ClusterOptions,
    show: Callable[[Sequence[Step]], None] = lambda steps: None,
) -> list[Step]:
    """Submit what is to do and is not in the queue yet; watch until all has ended.

    Args:
        plan: Makes the plan. It is called again when all jobs have ended: the plan of
            later steps may depend on what earlier ones have written.
        options: How.
        show: Called with the plan when all jobs have ended, before failures are named.

    Returns:
        The plan as it was in the end.

    Raises:
        UserError: After all have ended, if some failed; names each with its log.
    """
    watch = Watch()
    steps = plan()
    done = sum(is_done(step) for step in steps)
    print(f"  {done} of {len(steps)} steps finished before", flush=True)
    flights: dict[TaskId, Flight] = {}
    while True:
        steps = plan()
        flights = bring_up(steps, options, watch, flights)
        if not flights:
            break
        if not options.wait:
            print(
                "Not all is submitted yet: start the same command again later."
                if watch.full
                else "Submitted. The same command with --status shows how it goes."
            )
            return list(steps)
        flights = wait_for(flights, options, watch)
    show(steps)
    left = {
        key: step
        for key, step in unfinished(steps, prerequisites(steps)).items()
        if not (step.reports and is_done(step))  # it names the others' failures
    }
    if left:
        raise UserError(describe_failures(left, watch))
    return list(steps)


# ---- Submitting


def bring_up(
    steps: Sequence[Step],
    options: ClusterOptions,
    watch: Watch,
    unsettled: Mapping[TaskId, Flight],
) -> dict[TaskId, Flight]:
    """Submit what is to do and not in the queue; return all that is under way.

    Args:
        steps: The plan.
        options: How.
        watch: What has been seen before.
        unsettled: Tasks that may have left the queue without having been looked at.
    """
    needs = prerequisites(steps)
    watch.full = False
    # Where nothing else can submit, what squeue says stays true until we are through.
    with submitting(options.root) as lock:
        flights = {**unsettled, **find_flights(slurm.queue(), watch)}
        todo = unfinished(steps, needs)
        under_way = tasks_of_steps(flights)
        refuse_other_settings(todo.values(), flights)
        by_job = defaultdict(list)
        for key, step in todo.items():
            if key in under_way:
                by_job[under_way[key][0].job].append(step)
        for job, members in by_job.items():
            watch.show(members, f"in Slurm's queue (job {job})")
        new = choose_new(todo, needs, under_way, watch)
        try:
            for batch, job in submit_all(new, needs, under_way, options, lock):
                enter(batch, job, flights, under_way, watch)
        except UserError as error:
            mine = of_plan(flights, steps)
            if not mine:
                raise
            if not isinstance(error, slurm.TooManyJobsError):
                raise UserError(
                    f"{error}\nWhat is in the queue already goes on (`scancel "
                    f"{_jobs(mine)}` stops it); put it right and start the same "
                    "command again"
                ) from None
            watch.full = True
            print(f"Slurm takes no more jobs until some have ended: {error}")
    return of_plan(flights, steps)


def enter(
    batch: Batch,
    job: int,
    flights: dict[TaskId, Flight],
    under_way: dict[str, list[TaskId]],
    watch: Watch,
) -> None:
    """Note what has been submitted."""
    watch.batches[batch.folder] = batch
    for number, members in batch.tasks.items():
        task = TaskId(job, number)
        queued = QueuedTask(task, "PENDING", "0:00", "", "", batch.folder)
        flights[task] = Flight(queued, batch)
        for step in members:
            watch.attempts[step_key(step)] += 1
            under_way.setdefault(step_key(step), []).append(task)
    steps = unique(step for members in batch.tasks.values() for step in members)
    watch.show(steps, f"submitted (job {job})")
    watch.shown |= {(step_key(s), f"in Slurm's queue (job {job})") for s in steps}


def of_plan(
    flights: Mapping[TaskId, Flight], steps: Iterable[Step]
) -> dict[TaskId, Flight]:
    """Keep the tasks that run steps of this plan."""
    keys = {step_key(step) for step in steps}
    return {
        task: flight
        for task, flight in flights.items()
        if any(step_key(step) in keys for step in flight.steps)
    }


def _jobs(flights: Iterable[TaskId]) -> str:
    return " ".join(sorted({str(task.job) for task in flights}))


@contextmanager
def submitting(root: Path) -> Iterator[int]:
    """Hold the right to look into the queue and submit; yield its descriptor."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


def find_flights(
    queue: Mapping[TaskId, QueuedTask], watch: Watch
) -> dict[TaskId, Flight]:
    """Keep the queue's tasks that have not ended, with their steps."""
    return {
        task: Flight(entry, watch.batch(entry.folder))
        for task, entry in queue.items()
        if not entry.ended
    }


def tasks_of_steps(flights: Mapping[TaskId, Flight]) -> dict[str, list[TaskId]]:
    """Tasks under way by the key of the step that they run."""
    tasks = defaultdict(list)
    for task, flight in flights.items():
        for step in flight.steps:
            tasks[step_key(step)].append(task)
    return dict(tasks)


def steps_under_way(queue: Mapping[TaskId, QueuedTask]) -> set[str]:
    """Keys of the steps that are in the queue."""
    return set(tasks_of_steps(find_flights(queue, Watch())))


def refuse_other_settings(
    steps: Iterable[Step], flights: Mapping[TaskId, Flight]
) -> None:
    """See that nothing under way writes the same folder with other settings.

    Raises:
        UserError: Names the job.
    """
    mine = {os.path.abspath(s.output): step_key(s) for s in steps}
    for task, flight in flights.items():
        for other in flight.steps:
            key = mine.get(os.path.abspath(other.output))
            if key is not None and key != step_key(other):
                raise UserError(
                    f"job {task} in Slurm's queue is to write {other.output} with "
                    f"other settings: wait for it, or stop it with `scancel {task}`"
                )


def choose_new(
    todo: Mapping[str, Step], needs: Needs, under_way: UnderWay, watch: Watch
) -> dict[str, Step]:
    """Choose from what is to do what can be submitted now, by key."""
    new: dict[str, Step] = {}
    for key, step in todo.items():
        if key in under_way or not can_run(step, needs, todo, watch):
            continue
        coming = any(
            step_key(other) in new or step_key(other) in under_way
            for other in needs[key]
        )
        if step.reports and not coming and is_done(step):
            continue  # it has named what failed
        new[key] = step
    return new


def can_run(step: Step, needs: Needs, todo: Mapping[str, Step], watch: Watch) -> bool:
    """Whether neither the step nor what it reads has failed."""
    key = step_key(step)
    if watch.attempts[key] >= MAX_ATTEMPTS:
        watch.failed.setdefault(
            key,
            f"was submitted {MAX_ATTEMPTS} times and is not finished: do its inputs "
            "change all the time?",
        )
    if key in watch.failed:
        return False
    return step.reports or all(
        can_run(other, needs, todo, watch)
        for other in needs[key]
        if step_key(other) in todo
    )


# ---- Watching


def wait_for(
    flights: Mapping[TaskId, Flight], options: ClusterOptions, watch: Watch
) -> dict[TaskId, Flight]:
    """Look into the queue until all tasks have ended; print what changes.

    Returns:
        What is left: something where there is more to submit and now room for it.
    """
    left = dict(flights)
    try:
        while left:
            time.sleep(options.poll_seconds)
            queue = slurm.queue(options.outage_seconds)
            for task, flight in list(left.items()):
                entry = queue.get(task)
                if entry is None or entry.ended:
                    if _settle(flight, entry, options, watch):
                        del left[task]
                    continue
                watch.gone.pop(task, None)
                for step in flight.steps if entry.state == "RUNNING" else ():
                    where = f"job {entry.id}, log {os.path.abspath(step.log)}"
                    watch.show([step], f"running on {entry.node} ({where})")
            if watch.full and len(left) < len(flights):
                break
    except KeyboardInterrupt:
        raise UserError(
            "stopped watching; the jobs go on. The same command attaches to them "
            f"again, `scancel {_jobs(left)}` stops them"
        ) from None
    return left


def _settle(
    flight: Flight, entry: QueuedTask | None, options: ClusterOptions, watch: Watch
) -> bool:
    """Find out how a task ended that has left the queue; False if that is not clear.

    The step's own record decides. Where there is none, the task's record and Slurm's
    state tell why; without either it was killed hard.
    """
    task = flight.task.id
    since = watch.gone.setdefault(task, time.monotonic())
    record = read_record(flight.batch, task.task)
    missing = [step for step in flight.steps if not is_done(step)]
    sure = record is not None and record.state == "failed"
    sure = sure or (entry is not None and entry.state != "COMPLETED")
    if missing and not sure and time.monotonic() - since < options.grace_seconds:
        return False  # its record may be on its way through the file system
    for step in flight.steps:
        if step not in missing:
            watch.show([step], "done")
        elif why := describe_end(flight, record, entry):
            watch.failed[step_key(step)] = why
            watch.show([step], why)
    return True


def describe_end(
    flight: Flight, record: TaskRecord | None, entry: QueuedTask | None
) -> str:
    """Say how a task ended that did not do its work.

    Args:
        flight: The task.
        record: Its record; None if it has not begun.
        entry: What Slurm's queue still shows of it.

    Returns:
        Empty where the task is not to blame: it was never begun, because what it waits
        for has failed, it ended well but its inputs have changed meanwhile, or nothing
        is known about it any more.
    """
    task = flight.task.id
    if record is not None and record.state == "failed":
        note = f": {record.note}" if record.note else ""
        return f"failed (job {task} on {record.host}){note}"
    if record is not None and record.state == "done":
        return ""
    state = entry.verdict if entry is not None else slurm.last_state(task)
    log = flight.batch.log(task.task)
    if record is not None:
        slurm_says = f", Slurm says {state}" if state else ""
        return (
            f"died without a word (job {task} on {record.host}{slurm_says}): killed, "
            f"cancelled, out of memory, or a node that failed; see {log}"
        )
    if entry is None or entry.waited_in_vain:
        return ""
    text = f"did not begin (job {task}, Slurm says {state})"
    if entry.node and not log.exists():
        return (
            f"{text} and left no log: does {entry.node} see {log.parent}? All nodes "
            "must share the folder, under the same path"
        )
    return f"{text}; see {log}"


def describe_failures(left: Mapping[str, Step], watch: Watch) -> str:
    """Name each step that failed, the end of its log, and what was not run for it."""
    parts = []
    waiting = []
    for key, step in left.items():
        if key not in watch.failed:
            waiting.append(f"    {step.name}")
            continue
        parts.append(f"{step.name} {watch.failed[key]}")
        try:
            lines = step.log.read_text(errors="replace").splitlines()
        except OSError:
            continue
        parts.append(f"  the end of {os.path.abspath(step.log)}:")
        parts += [f"    {line}" for line in lines[-LOG_TAIL:]]
    if waiting:
        parts += ["Not run, because something that they read is missing:", *waiting]
    parts.append(
        "What was finished is kept: put it right and start the same command again."
    )
    return "\n".join(parts)

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
from espnet_ext.jobs.batch import TaskRecord, read_record, step_key, unique
from espnet_ext.jobs.graph import prerequisites, unfinished
from espnet_ext.jobs.local import KEPT, describe_failure
from espnet_ext.jobs.slurm import QueuedTask, TaskId
from espnet_ext.jobs.step import Step, is_done

# A step is submitted again when what it waits for had failed in one of several workers,
# or when its inputs have changed meanwhile.
MAX_ATTEMPTS = 3

# Tasks that are in the queue, or were at the last look.
type Flights = dict[TaskId, QueuedTask]


@dataclass
class Watch:
    """What one call of `run_plan` has seen; steps are known by their keys."""

    failed: dict[str, str] = field(default_factory=dict)  # why; not submitted again
    gone: dict[TaskId, float] = field(default_factory=dict)  # when first out of sight
    shown: set[tuple[str, str]] = field(default_factory=set)  # step and text printed
    attempts: Counter[str] = field(default_factory=Counter)  # how often submitted
    full: bool = False  # whether Slurm has not taken all jobs, for their number

    def show(self, steps: Sequence[Step], text: str) -> None:
        """Print in one line how steps stand, if that is news."""
        news = {(step_key(step), text) for step in steps}
        if not news <= self.shown:
            self.shown |= news
            more = f" and {len(steps) - 1} more" if len(steps) > 1 else ""
            print(f"  {steps[0].name}{more}: {text}", flush=True)


def run_plan(
    plan: Callable[[], Sequence[Step]],
    options: ClusterOptions,
    show: Callable[[Sequence[Step]], None] = lambda steps: None,
) -> None:
    """Submit what is to do and is not in the queue yet; watch until all has ended.

    Args:
        plan: Makes the plan. It is called again when all jobs have ended: the plan of
            later steps may depend on what earlier ones have written.
        options: How.
        show: Called with the plan when all jobs have ended, before failures are named.

    Raises:
        UserError: After all have ended, if some failed; names each with its log.
    """
    watch = Watch()
    steps = plan()
    done = sum(is_done(step) for step in steps)
    print(f"  {done} of {len(steps)} steps finished before", flush=True)
    flights: Flights = {}
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
            return
        flights = wait_for(flights, options, watch)
    show(steps)
    left = {
        key: step
        for key, step in unfinished(steps, prerequisites(steps)).items()
        if not (step.reports and is_done(step))  # it names the others' failures
    }
    if left:
        raise UserError(describe_failures(left, watch))


# ---- Submitting


def bring_up(
    steps: Sequence[Step],
    options: ClusterOptions,
    watch: Watch,
    unsettled: Mapping[TaskId, QueuedTask],
) -> Flights:
    """Submit what is to do and not in the queue; return all that is under way.

    `unsettled` may have left the queue without having been looked at.
    """
    needs = prerequisites(steps)
    mine = {step_key(step) for step in steps}
    watch.full = False
    # Where nothing else can submit, what squeue says stays true until we are through.
    with submitting(options.root) as lock:
        flights = {**unsettled, **not_ended(slurm.queue())}
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
        refusal: UserError | None = None
        try:
            for batch, job in submit_all(new, needs, under_way, options, lock):
                members = unique(s for task in batch.tasks.values() for s in task)
                watch.show(members, f"submitted (job {job})")
                keys = set(map(step_key, members))
                watch.shown |= {(key, f"in Slurm's queue (job {job})") for key in keys}
                watch.attempts.update(keys)
                tasks = [TaskId(job, number) for number in batch.tasks]
                for task in tasks:
                    flights[task] = QueuedTask(task, "PENDING", "", "", batch.folder)
                    for step in flights[task].steps:
                        under_way.setdefault(step_key(step), []).append(task)
        except UserError as error:
            refusal = error
    flights = {
        task: entry
        for task, entry in flights.items()
        if not mine.isdisjoint(map(step_key, entry.steps))
    }
    if refusal is None:
        return flights
    if not flights:
        raise refusal
    if not isinstance(refusal, slurm.TooManyJobsError):
        raise UserError(
            f"{refusal}\nWhat is in the queue already goes on (`scancel "
            f"{_jobs(flights)}` stops it); put it right and start the same command "
            "again"
        )
    watch.full = True
    print(f"Slurm takes no more jobs until some have ended: {refusal}")
    return flights


def _jobs(flights: Iterable[TaskId]) -> str:
    return " ".join(sorted({str(task.job) for task in flights}))


@contextmanager
def submitting(root: Path) -> Iterator[int]:
    """Hold the right to look into the queue and submit; yield its descriptor."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


def not_ended(queue: Mapping[TaskId, QueuedTask]) -> Flights:
    """Keep the queue's tasks that have not ended."""
    return {task: entry for task, entry in queue.items() if not entry.ended}


def tasks_of_steps(flights: Mapping[TaskId, QueuedTask]) -> dict[str, list[TaskId]]:
    """Tasks under way by the key of the step that they run."""
    tasks = defaultdict(list)
    for task, entry in flights.items():
        for step in entry.steps:
            tasks[step_key(step)].append(task)
    return dict(tasks)


def steps_under_way() -> set[str]:
    """Keys of the steps that are in the queue."""
    return set(tasks_of_steps(not_ended(slurm.queue())))


def refuse_other_settings(
    steps: Iterable[Step], flights: Mapping[TaskId, QueuedTask]
) -> None:
    """See that nothing under way writes the same folder with other settings.

    Raises:
        UserError: Names the job.
    """
    mine = {os.path.abspath(s.output): step_key(s) for s in steps}
    for task, entry in flights.items():
        for other in entry.steps:
            key = mine.get(os.path.abspath(other.output))
            if key is not None and key != step_key(other):
                raise UserError(
                    f"job {task} in Slurm's queue is to write {other.output} with "
                    f"other settings: wait for it, or stop it with `scancel {task}`"
                )


def choose_new(
    todo: Mapping[str, Step], needs: Needs, under_way: UnderWay, watch: Watch
) -> dict[str, Step]:
    """Choose from what is to do what can be submitted now, by key.

    The inputs of a step stand before it in `todo`, and so does what has failed.
    """
    new: dict[str, Step] = {}
    blocked: set[str] = set()  # they, or what they read, have failed
    for key, step in todo.items():
        before = [step_key(other) for other in needs[key]]
        if watch.attempts[key] >= MAX_ATTEMPTS and key not in under_way:
            watch.failed.setdefault(
                key,
                f"was submitted {MAX_ATTEMPTS} times and is not finished: do its "
                "inputs change all the time?",
            )
        if key in watch.failed or not (step.reports or blocked.isdisjoint(before)):
            blocked.add(key)
            continue
        coming = any(other in new or other in under_way for other in before)
        if key in under_way or (step.reports and not coming and is_done(step)):
            continue  # the latter has named what failed
        new[key] = step
    return new


# ---- Watching


def wait_for(
    flights: Mapping[TaskId, QueuedTask], options: ClusterOptions, watch: Watch
) -> Flights:
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
    flight: QueuedTask,
    entry: QueuedTask | None,
    options: ClusterOptions,
    watch: Watch,
) -> bool:
    """Find out how a task ended that has left the queue; False if that is not clear.

    The step's own record decides. Where there is none, the task's record and Slurm's
    state tell why; without either it was killed hard.
    """
    waited = time.monotonic() - watch.gone.setdefault(flight.id, time.monotonic())
    record = read_record(flight.batch, flight.id.task)
    missing = [step for step in flight.steps if not is_done(step)]
    sure = record is not None and record.state == "failed"
    sure = sure or (entry is not None and entry.state != "COMPLETED")
    if missing and not sure and waited < options.grace_seconds:
        return False  # its record may be on its way through the file system
    for step in flight.steps:
        if step not in missing:
            watch.show([step], "done")
        elif why := describe_end(flight, record, entry):
            watch.failed[step_key(step)] = why
            watch.show([step], why)
    return True


def describe_end(
    flight: QueuedTask, record: TaskRecord | None, entry: QueuedTask | None
) -> str:
    """Say how a task ended that did not do its work.

    `record` is None if it has not begun, `entry` what the queue still shows of it.

    Returns:
        Empty where the task is not to blame: it was never begun, because what it waits
        for has failed, it ended well but its inputs have changed meanwhile, or nothing
        is known about it any more.
    """
    task, log = flight.id, flight.batch.log(flight.id.task)
    verdict = f", Slurm says {entry.verdict}" if entry is not None else ""
    if record is None:
        if entry is None or entry.waited_in_vain:
            return ""
        return (
            f"did not begin (job {task}{verdict}); see {log}. If there is none: all "
            "nodes must share that folder, under the same path"
        )
    where = f"job {task} on {record.host}"
    if record.state == "failed":
        return f"failed ({where})" + (f": {record.note}" if record.note else "")
    if record.state == "done":
        return ""
    return (
        f"died without a word ({where}{verdict}): killed, cancelled, out of memory, or "
        f"a node that failed; see {log}"
    )


def describe_failures(left: Mapping[str, Step], watch: Watch) -> str:
    """Name each step that failed, the end of its log, and what was not run for it."""
    parts = [
        describe_failure(step, watch.failed[key])
        for key, step in left.items()
        if key in watch.failed
    ]
    waiting = [f"    {s.name}" for key, s in left.items() if key not in watch.failed]
    if waiting:
        parts += ["Not run, because something that they read is missing:", *waiting]
    return "\n".join([*parts, KEPT])

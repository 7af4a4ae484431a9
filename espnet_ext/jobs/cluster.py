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
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs import slurm
from espnet_ext.jobs.batch import (
    Batch,
    TaskRecord,
    read_batch,
    read_record,
    step_key,
    unique,
    write_batch,
)
from espnet_ext.jobs.graph import prerequisites, unfinished
from espnet_ext.jobs.local import LOG_TAIL
from espnet_ext.jobs.slurm import QueuedTask, TaskId
from espnet_ext.jobs.slurm_conf import SlurmConf, sbatch_options
from espnet_ext.jobs.step import Status, Step, is_done, status

# Slurm's default MaxArraySize is 1001.
LARGEST_ARRAY = 1000
# A step is submitted again when what it waits for had failed in one of several workers,
# or when its inputs have changed meanwhile.
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class ClusterOptions:
    """How a plan is run on Slurm.

    Attributes:
        root: Folder of the batches.
        conf: The cluster's ``slurm.conf``.
        commands: Options of cmd.sh by kind of work: ``train``, ``cuda``, ``decode``.
        runs_per_job: Trainings (and inferences) that share one job and its GPU.
        max_restarts: How often Slurm may start a job again.
        wait: Whether to watch until all has ended.
        poll_seconds: Time between two looks into the queue.
        outage_seconds: How long Slurm's controller may be away meanwhile.
        grace_seconds: How long the news of a job's end may take through the file
            system.
    """

    root: Path
    conf: SlurmConf
    commands: Mapping[str, Mapping[str, str]]
    runs_per_job: int = 1
    max_restarts: int = 20
    wait: bool = True
    poll_seconds: float = 5.0
    outage_seconds: float = 3600.0
    grace_seconds: float = 30.0


# Which of cmd.sh's commands a stage uses.
KIND_OF_STAGE = {3: "cuda", 5: "cuda", 6: "decode"}
PACKED_STAGES = (5, 6)
JOB_NAMES = {
    **{1: "prepare", 2: "audio", 3: "extract", 4: "sets"},
    **{5: "train", 6: "infer", 7: "score"},
}


@dataclass
class Watch:
    """What one call of `run_plan` has seen.

    Attributes:
        batches: Batches by folder, as they are needed.
        failed: Why a step failed, by key; it is not submitted again.
        gone: When a task was first missing from the queue.
        shown: What was printed, with the step's key.
        attempts: How often a step was submitted, by key.
        full: Whether Slurm has not taken all jobs, for their number.
    """

    batches: dict[Path, Batch] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    gone: dict[TaskId, float] = field(default_factory=dict)
    shown: set[tuple[str, str]] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    full: bool = False

    def batch(self, folder: Path) -> Batch:
        """Read a batch once."""
        if folder not in self.batches:
            self.batches[folder] = read_batch(folder)
        return self.batches[folder]

    def tell(self, step: Step, text: str) -> None:
        """Print how a step stands, if that is news."""
        news = (step_key(step), text)
        if news not in self.shown:
            self.shown.add(news)
            print(f"  {step.name}: {text}", flush=True)

    def tell_all(self, steps: Sequence[Step], text: str) -> None:
        """Print in one line how several steps stand, if that is news."""
        news = {(step_key(step), text) for step in steps}
        if not news <= self.shown:
            self.shown |= news
            more = f" and {len(steps) - 1} more" if len(steps) > 1 else ""
            print(f"  {steps[0].name}{more}: {text}", flush=True)


@dataclass(frozen=True)
class Flight:
    """A task of ours that is in the queue, or was when we looked last.

    Attributes:
        task: As the queue showed it.
        batch: Where it comes from.
    """

    task: QueuedTask
    batch: Batch

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
        show: Called with the plan when all jobs have ended, before failures are told.

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
    needs = prerequisites(steps)
    left = {
        key: step
        for key, step in unfinished(steps, needs).items()
        if not (step.reports and is_done(step))  # it tells of the others' failures
    }
    if left:
        raise UserError(describe_failures(left, watch))
    return list(steps)


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
        tell_queued([s for k, s in todo.items() if k in under_way], under_way, watch)
        new = choose_new(todo, needs, under_way, watch)
        try:
            for batch, job in submit_all(new, needs, under_way, options, lock):
                watch.batches[batch.folder] = batch
                for number, members in batch.tasks.items():
                    task = TaskId(job, number)
                    flights[task] = Flight(_as_queued(task, batch), batch)
                    for step in members:
                        watch.attempts[step_key(step)] += 1
                        under_way.setdefault(step_key(step), []).append(task)
                steps_of = unique(
                    s for members in batch.tasks.values() for s in members
                )
                watch.tell_all(steps_of, f"submitted (job {job})")
                queued = f"in Slurm's queue (job {job})"
                watch.shown |= {(step_key(step), queued) for step in steps_of}
        except slurm.TooManyJobsError as error:
            if not ours(flights, steps):
                raise
            watch.full = True
            print(f"Slurm takes no more jobs until some have ended: {error}")
        except UserError as error:
            if not ours(flights, steps):
                raise
            jobs = " ".join(sorted({str(t.job) for t in ours(flights, steps)}))
            raise UserError(
                f"{error}\nWhat is in the queue already goes on (`scancel {jobs}` "
                "stops it); put it right and start the same command again"
            ) from None
    return ours(flights, steps)


def ours(
    flights: Mapping[TaskId, Flight], steps: Iterable[Step]
) -> dict[TaskId, Flight]:
    """Keep the tasks that run steps of this plan."""
    keys = {step_key(step) for step in steps}
    return {
        task: flight
        for task, flight in flights.items()
        if any(step_key(step) in keys for step in flight.steps)
    }


def tell_queued(
    steps: Iterable[Step], under_way: Mapping[str, Sequence[TaskId]], watch: Watch
) -> None:
    """Say what was found in the queue, job by job."""
    by_job = defaultdict(list)
    for step in steps:
        by_job[under_way[step_key(step)][0].job].append(step)
    for job, members in by_job.items():
        watch.tell_all(members, f"in Slurm's queue (job {job})")


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
    todo: Mapping[str, Step],
    needs: Mapping[str, Sequence[Step]],
    under_way: Mapping[str, Sequence[TaskId]],
    watch: Watch,
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
            continue  # it has told of what failed
        new[key] = step
    return new


def can_run(
    step: Step,
    needs: Mapping[str, Sequence[Step]],
    todo: Mapping[str, Step],
    watch: Watch,
) -> bool:
    """Say whether neither the step nor what it reads has failed."""
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


def _as_queued(task: TaskId, batch: Batch) -> QueuedTask:
    return QueuedTask(task, "PENDING", "0:00", "", "", batch.folder)


# ---- How steps become arrays


@dataclass(frozen=True)
class Group:
    """Steps that become one job array.

    Attributes:
        tasks: The steps of each task.
        dependency: What sbatch is told.
        needs: What a job must see itself (`Batch`).
    """

    tasks: Mapping[int, tuple[Step, ...]]
    dependency: str
    needs: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)

    @property
    def first(self) -> Step:
        """One of them; they all ask for the same."""
        return next(iter(self.tasks.values()))[0]

    def halves(self) -> Iterator["Group"]:
        """Yield it as two arrays; those that wait task for task keep their numbers."""
        items = list(self.tasks.items())
        middle = (len(items) + 1) // 2
        for part in (items[:middle], items[middle:]):
            tasks = dict(part)
            if not self.dependency.startswith("aftercorr"):
                tasks = dict(enumerate(tasks.values()))
            yield replace(self, tasks=tasks)


def levels(
    steps: Mapping[str, Step], needs: Mapping[str, Sequence[Step]]
) -> Iterator[list[Step]]:
    """Yield steps of one stage that do not wait for each other, in order.

    Args:
        steps: What is to be submitted, by key.
        needs: What a step waits for, by key.
    """
    left = dict(steps)
    while left:
        ready = [
            step
            for key, step in left.items()
            if not any(step_key(other) in left for other in needs[key])
        ]
        stage = min(step.stage for step in ready)
        level = [step for step in ready if step.stage == stage]
        for step in level:
            del left[step_key(step)]
        yield level


def group_steps(
    steps: Sequence[Step],
    needs: Mapping[str, Sequence[Step]],
    under_way: Mapping[str, Sequence[TaskId]],
    options: ClusterOptions,
) -> list[Group]:
    """Make arrays of steps of one stage that ask for the same and wait for the same.

    Steps each of which waits for one task of the same array (the inference of one of
    its trainings) become an array too, task for task.

    A task of several steps fails with any of them. What waits for one of these waits
    for the task to end, however it ends, and its own job sees whether what it reads is
    finished.

    Args:
        steps: Steps of one stage that do not wait for each other.
        needs: What a step waits for, by key.
        under_way: Tasks of what is in the queue, by key.
        options: How many share a job.
    """
    packed = packed_tasks(under_way)
    together: dict[tuple[TaskId, ...], list[Step]] = defaultdict(list)
    for step in steps:
        before = [step_key(other) for other in needs[step_key(step)]]
        tasks_before = {task for key in before for task in under_way.get(key, ())}
        together[tuple(sorted(tasks_before))].append(step)
    pairs: dict[tuple, dict[int, tuple[Step, ...]]] = defaultdict(dict)
    groups = []
    for waits, members in together.items():
        for alike in _split_by_needs(members):
            size = options.runs_per_job if alike[0].stage in PACKED_STAGES else 1
            tasks = _pack(alike, size)
            loose = alike[0].reports or not packed.isdisjoint(waits)
            if len(waits) == 1 and len(tasks) == 1 and not loose:
                pairs[waits[0].job, _asks(alike[0])][waits[0].task] = tasks[0]
                continue
            after = _after(alike[0], waits, packed)
            to_see = _to_see(alike, needs, under_way, packed)
            for start in range(0, len(tasks), LARGEST_ARRAY):
                part = tasks[start : start + LARGEST_ARRAY]
                groups.append(Group(dict(enumerate(part)), after, to_see))
    for (job, _), by_task in pairs.items():
        after = f"aftercorr:{job}"
        if len(by_task) == 1:
            after = f"afterok:{TaskId(job, next(iter(by_task)))}"
        groups.append(Group(by_task, after))
    return groups


def packed_tasks(under_way: Mapping[str, Sequence[TaskId]]) -> set[TaskId]:
    """Tasks of several steps."""
    steps = Counter(task for tasks in under_way.values() for task in tasks)
    return {task for task, count in steps.items() if count > 1}


def _after(step: Step, tasks: Sequence[TaskId], packed: Container[TaskId]) -> str:
    """Say in sbatch's words what to wait for: all to end well, or just to end."""
    words = defaultdict(list)
    for task in tasks:
        just_ends = step.reports or task in packed
        words["afterany" if just_ends else "afterok"].append(str(task))
    return ",".join(":".join([word, *found]) for word, found in words.items())


def _to_see(
    steps: Sequence[Step],
    needs: Mapping[str, Sequence[Step]],
    under_way: Mapping[str, Sequence[TaskId]],
    packed: Set[TaskId],
) -> dict[str, tuple[Step, ...]]:
    """List what steps read from tasks of several, by their keys."""
    found = {
        step_key(step): tuple(
            other
            for other in needs[step_key(step)]
            if not packed.isdisjoint(under_way.get(step_key(other), ()))
        )
        for step in steps
        if not step.reports
    }
    return {key: others for key, others in found.items() if others}


def _kind(step: Step) -> str:
    return KIND_OF_STAGE.get(step.stage, "train")


def _asks(step: Step) -> tuple[str, int, int, bool]:
    return _kind(step), step.gpus, step.nodes, step.reports


def _split_by_needs(steps: Sequence[Step]) -> list[list[Step]]:
    """Separate steps that ask for different nodes or GPUs."""
    alike = defaultdict(list)
    for step in steps:
        alike[_asks(step)].append(step)
    return list(alike.values())


def _pack(steps: Sequence[Step], size: int) -> list[tuple[Step, ...]]:
    """Make tasks: several steps one task, or one step several tasks (its workers)."""
    tasks: list[tuple[Step, ...]] = []
    alone = [step for step in steps if step.workers > 1 or step.nodes > 1]
    shared = [step for step in steps if step not in alone]
    for step in alone:
        tasks += [(step,)] * step.workers
    for start in range(0, len(shared), size):
        tasks.append(tuple(shared[start : start + size]))
    return tasks


def submit_all(
    new: Mapping[str, Step],
    needs: Mapping[str, Sequence[Step]],
    under_way: Mapping[str, Sequence[TaskId]],
    options: ClusterOptions,
    lock: int,
) -> Iterator[tuple[Batch, int]]:
    """Submit steps as arrays; yield each, to be entered into `under_way` at once.

    Raises:
        slurm.TooManyJobsError: If Slurm takes no more.
        UserError: If it refuses one for another reason.
    """
    for level in levels(new, needs):
        for group in group_steps(level, needs, under_way, options):
            yield from submit_parts(group, options, lock)


def submit_parts(
    group: Group, options: ClusterOptions, lock: int
) -> Iterator[tuple[Batch, int]]:
    """Submit a group as one array, or as several where Slurm finds it too large."""
    try:
        yield submit_group(group, options, lock)
        return
    except slurm.TooManyJobsError:
        if len(group.tasks) == 1:
            raise
    for half in group.halves():
        yield from submit_parts(half, options, lock)


def submit_group(group: Group, options: ClusterOptions, lock: int) -> tuple[Batch, int]:
    """Write the batch of a group and hand it to Slurm."""
    first = group.first
    wanted = dict(options.commands.get(_kind(first), {}))
    wanted |= {"gpu": str(first.gpus), "num_nodes": str(first.nodes)}
    words = [*options.conf.command, *sbatch_options(options.conf, wanted)]
    batch = write_batch(options.root, group.tasks, options.max_restarts, group.needs)
    job = slurm.submit(
        batch,
        words,
        label=JOB_NAMES.get(first.stage, str(first.stage)),
        dependency=group.dependency,
        at_once=int(wanted.get("max_jobs_run", 0)),
        keep_open=[lock],
    )
    return batch, job


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
                if entry is not None and not entry.ended:
                    watch.gone.pop(task, None)
                    _tell_running(flight, entry, watch)
                elif _settle(flight, entry, options, watch):
                    del left[task]
            if watch.full and len(left) < len(flights):
                break
    except KeyboardInterrupt:
        jobs = " ".join(sorted({str(task.job) for task in left}))
        raise UserError(
            "stopped watching; the jobs go on. The same command attaches to them "
            f"again, `scancel {jobs}` stops them"
        ) from None
    return left


def _tell_running(flight: Flight, entry: QueuedTask, watch: Watch) -> None:
    if entry.state != "RUNNING":
        return
    for step in flight.steps:
        log = os.path.abspath(step.log)
        watch.tell(step, f"running on {entry.node} (job {entry.id}, log {log})")


def _settle(
    flight: Flight, entry: QueuedTask | None, options: ClusterOptions, watch: Watch
) -> bool:
    """Find out how a task ended that has left the queue; False if that is not clear.

    The step's own record decides. Where there is none, the task's last word and Slurm's
    tell why; their absence tells that it was killed hard.
    """
    task = flight.task.id
    since = watch.gone.setdefault(task, time.monotonic())
    record = read_record(flight.batch, task.task)
    missing = [step for step in flight.steps if status(step) is not Status.DONE]
    sure = record is not None and record.state == "failed"
    sure = sure or (entry is not None and entry.state != "COMPLETED")
    if missing and not sure and time.monotonic() - since < options.grace_seconds:
        return False  # its last word may be on its way through the file system
    for step in flight.steps:
        if step not in missing:
            watch.tell(step, "done")
        elif why := describe_end(flight, record, entry):
            watch.failed[step_key(step)] = why
            watch.tell(step, why)
    return True


def describe_end(
    flight: Flight, record: TaskRecord | None, entry: QueuedTask | None
) -> str:
    """Say how a task ended that did not do its work.

    Args:
        flight: The task.
        record: Its last word; None if it has not begun.
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
    said = entry.verdict if entry is not None else slurm.last_state(task)
    log = flight.batch.log(task.task)
    if record is not None:
        slurm_says = f", Slurm says {said}" if said else ""
        return (
            f"died without a word (job {task} on {record.host}{slurm_says}): killed, "
            f"cancelled, out of memory, or a node that failed; see {log}"
        )
    if entry is None or entry.waited_in_vain:
        return ""
    text = f"did not begin (job {task}, Slurm says {said})"
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
            waiting.append(step.name)
            continue
        parts.append(f"{step.name} {watch.failed[key]}")
        try:
            lines = step.log.read_text(errors="replace").splitlines()
        except OSError:
            continue
        tail = [f"    {line}" for line in lines[-LOG_TAIL:]]
        log = os.path.abspath(step.log)
        parts.append("\n".join([f"  the end of {log}:", *tail]))
    if waiting:
        parts.append("Not run, because something that they read is missing:")
        parts += [f"    {name}" for name in waiting]
    parts.append(
        "What was finished is kept: put it right and start the same command again."
    )
    return "\n".join(parts)

"""How steps become Slurm's job arrays, each waiting for what its tasks read."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_ext.jobs import slurm
from espnet_ext.jobs.batch import Batch, step_key, write_batch
from espnet_ext.jobs.slurm import TaskId
from espnet_ext.jobs.slurm_conf import SlurmConf, sbatch_options
from espnet_ext.jobs.step import Step

# Which of cmd.sh's commands a stage uses, if not `train`.
KIND_OF_STAGE = {3: "cuda", 5: "cuda", 6: "decode"}
PACKED_STAGES = (5, 6)
JOB_NAMES = {
    **{1: "prepare", 3: "extract", 4: "sets"},
    **{5: "train", 6: "infer", 7: "score", 8: "pack"},
}

# Tasks in the queue by the key of the step that they run.
type UnderWay = Mapping[str, Sequence[TaskId]]
# Steps that a step waits for, by its key.
type Needs = Mapping[str, Sequence[Step]]


@dataclass(frozen=True)
class ClusterOptions:
    """How a plan is run on Slurm."""

    root: Path  # folder of the batches
    conf: SlurmConf
    commands: Mapping[str, Mapping[str, str]]  # cmd.sh's options by kind of work
    runs_per_job: int = 1  # trainings (and inferences) that share one job and its GPU
    max_restarts: int = 20  # how often Slurm may start a job again
    wait: bool = True  # whether to watch until all has ended
    poll_seconds: float = 5.0  # between two looks into the queue
    outage_seconds: float = 3600.0  # how long Slurm's controller may be away meanwhile
    grace_seconds: float = 30.0  # for news of a job's end to pass the file system


@dataclass(frozen=True)
class Group:
    """Steps that become one job array."""

    tasks: Mapping[int, tuple[Step, ...]]  # the steps of each task
    dependency: str  # for sbatch
    needs: Needs = field(default_factory=dict)  # as in `Batch`

    def halves(self) -> Iterator["Group"]:
        """Yield it as two arrays; those that wait task for task keep their numbers."""
        items = list(self.tasks.items())
        middle = (len(items) + 1) // 2
        for part in (items[:middle], items[middle:]):
            tasks = dict(part)
            if not self.dependency.startswith("aftercorr"):
                tasks = dict(enumerate(tasks.values()))
            yield replace(self, tasks=tasks)


def levels(steps: Mapping[str, Step], needs: Needs) -> Iterator[list[Step]]:
    """Part steps, by key, where the stage changes or one waits for another."""
    level: dict[str, Step] = {}
    for key, step in steps.items():
        stage = next(iter(level.values()), step).stage
        if step.stage != stage or any(step_key(other) in level for other in needs[key]):
            yield list(level.values())
            level = {}
        level[key] = step
    if level:
        yield list(level.values())


def group_steps(
    steps: Sequence[Step], needs: Needs, under_way: UnderWay, options: ClusterOptions
) -> list[Group]:
    """Make arrays of steps of one stage that ask for the same and wait for the same.

    Steps each of which waits for one task of the same array (the inference of one of
    its trainings) become an array too, task for task.

    A task of several steps fails with any of them. What waits for one of these waits
    for the task to end, however it ends, and its own job sees whether what it reads is
    finished.
    """
    tasks_with = Counter(task for tasks in under_way.values() for task in tasks)
    packed = {task for task, count in tasks_with.items() if count > 1}
    together: dict[tuple, list[Step]] = defaultdict(list)
    for step in steps:
        before = [step_key(other) for other in needs[step_key(step)]]
        waits = sorted({task for key in before for task in under_way.get(key, ())})
        together[tuple(waits), step.gpus, step.reports].append(step)
    pairs: dict[tuple, dict[int, tuple[Step, ...]]] = defaultdict(dict)
    groups = []
    for (waits, gpus, reports), alike in together.items():
        size = options.runs_per_job if alike[0].stage in PACKED_STAGES else 1
        tasks = _pack(alike, size)
        shared = not packed.isdisjoint(waits)
        if len(waits) == 1 and len(tasks) == 1 and not (reports or shared):
            pairs[waits[0].job, gpus][waits[0].task] = tasks[0]
            continue
        after = "afterany" if reports or shared else "afterok"
        after = ":".join([after, *map(str, waits)]) if waits else ""
        keys = [step_key(step) for step in alike] if shared and not reports else []
        to_see = {key: needs[key] for key in keys}
        groups.append(Group(dict(enumerate(tasks)), after, to_see))
    for (job, _), by_task in pairs.items():
        after = f"aftercorr:{job}"
        if len(by_task) == 1:
            after = f"afterok:{TaskId(job, next(iter(by_task)))}"
        groups.append(Group(by_task, after))
    return groups


def _pack(steps: Sequence[Step], size: int) -> list[tuple[Step, ...]]:
    """Make tasks: several steps one task, or one step several tasks (its workers)."""
    if size > 1:
        return [tuple(steps[n : n + size]) for n in range(0, len(steps), size)]
    return [(step,) for step in steps for _ in range(step.workers)]


def submit_all(
    new: Mapping[str, Step],
    needs: Needs,
    under_way: UnderWay,
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
    first = next(iter(group.tasks.values()))[0]  # all ask for the same resources
    kind = KIND_OF_STAGE.get(first.stage, "train")
    wanted = {**options.commands.get(kind, {}), "gpu": str(first.gpus)}
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

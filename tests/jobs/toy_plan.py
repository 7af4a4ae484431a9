"""A plan of toy steps: trainings, an inference for each, and a table of them all."""

import sys
from dataclasses import replace
from pathlib import Path

from espnet_ext.jobs.arrays import ClusterOptions
from espnet_ext.jobs.batch import read_batch, step_key
from espnet_ext.jobs.cluster import run_plan
from espnet_ext.jobs.slurm import queue
from espnet_ext.jobs.slurm_conf import read_slurm_conf
from espnet_ext.jobs.step import Evidence, Input, Step, format_runs
from espnet_ext.utils.atomic import atomic_write_text

ROOT = Path(__file__).resolve().parents[2]


def toy(folder, name, stage=5, reads=(), **options):
    """A step that runs toy_program; `reads` are steps."""
    output = Path(folder) / name
    settings = {key: str(value) for key, value in options.items()}
    args = ["--output", str(output)]
    for key, value in settings.items():
        args += [f"--{key}", value]
    return Step(
        name=name,
        stage=stage,
        module="toy_program",
        args=tuple(args),
        output=output,
        products=("result",),
        inputs=tuple(Input(step.output / "result") for step in reads),
        settings=settings,
    )


def toy_table(folder, runs, **options):
    """`runs` trainings, an inference for each, one table; options by training.

    The table is made of what there is, as the real ones are.
    """
    sets = toy(folder, "sets", stage=4)
    trained = [
        toy(folder, f"train{i}", reads=[sets], **options.get(f"train{i}", {}))
        for i in range(runs)
    ]
    inferred = [
        toy(folder, f"infer{i}", stage=6, reads=[step])
        for i, step in enumerate(trained)
    ]
    listed = Path(folder) / "runs.json"
    pairs = zip(trained, inferred, strict=True)
    atomic_write_text(listed, format_runs({t.name: [t, i] for t, i in pairs}))
    table = toy(folder, "table", stage=7)
    table = replace(table, inputs=(Input(listed, Evidence.RUNS),))
    return [sets, *trained, *inferred, table]


def options(folder, **changes):
    """How the tests use Slurm."""
    found = ClusterOptions(
        root=Path(folder) / "slurm",
        conf=read_slurm_conf(ROOT / "conf" / "slurm.conf"),
        commands={},
        poll_seconds=0.3,
        grace_seconds=2.0,
    )
    return replace(found, **changes)


def calls(step):
    """How often the step's program has started."""
    return (step.output / "calls").read_text().count("called")


def tasks_of(folder):
    """Slurm's tasks of the batches in a folder."""
    return [t for t in queue().values() if t.folder.is_relative_to(folder)]


def job_of(folder, step):
    """The task that runs a step, and its batch."""
    for task in tasks_of(folder):
        batch = read_batch(task.folder)
        if step_key(step) in map(step_key, batch.tasks[task.id.task]):
            return task, batch
    raise AssertionError(f"{step.name} is not in the queue")


def main():
    """Run a table in a process that can be killed: FOLDER RUNS SECONDS."""
    folder, runs, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    waits = {f"train{i}": {"seconds": seconds} for i in range(runs)}
    steps = toy_table(folder, runs, **waits)
    run_plan(lambda: steps, options(folder))


if __name__ == "__main__":
    main()

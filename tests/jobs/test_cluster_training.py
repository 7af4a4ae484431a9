"""Real trainings on a real Slurm: preempted, out of time."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from one_machine_slurm import wait_until
from toy_plan import job_of, options

from espnet_ext.jobs.batch import read_batch, step_key
from espnet_ext.jobs.cluster import run_plan
from espnet_ext.jobs.progress import read_epochs
from espnet_ext.jobs.step import Status, Step, status

EPOCHS = 40
START = "# Started at"


@pytest.fixture(scope="module")
def trainings(slurm, tmp_path_factory):
    """All of them side by side, to their end: steps by name.

    Two are cut off: by a job that preempts them, and by their time limit. Each is alone
    on a node, and lasts until that has happened (slow_training).
    """
    sys.path.append(str(Path(__file__).parents[1] / "tasks"))
    from tiny_corpus import make_corpus

    folder = tmp_path_factory.mktemp("trainings")
    corpus = make_corpus(folder / "corpus", count=33, layers=1)
    steps = {
        "whole": training(corpus, folder / "whole", EPOCHS),
        "preempted": training(corpus, folder / "preempted", EPOCHS),
        "timed": training(corpus, folder / "timed", EPOCHS),
    }
    for name, not_on in (("preempted", "n-02"), ("timed", "n-01")):
        steps[name] = replace(steps[name], module="slow_training")
        cuda = {"exclude": not_on, "time": "10:00"}
        run([steps[name]], folder, wait=False, commands={"cuda": cuda})
    for name in ("preempted", "timed"):
        wait_until(lambda log=steps[name].log: read_epochs(log)[0] >= 3, 90)
    # Slurm looks every 30 s which jobs are near their limit (conf/slurm.conf: 180 s).
    task, _ = job_of(folder, steps["timed"])
    limit = ["scontrol", "update", f"JobId={task.id}", "TimeLimit=1"]
    subprocess.run(limit, check=True, capture_output=True)
    urgent = ["sbatch", "-purgent", "-wn-01", "--exclusive", "-o/dev/null", "--wrap=:"]
    subprocess.run(urgent, check=True, capture_output=True)
    wait_until(lambda: "urgent" not in partitions(), 30)  # it preempts no other
    run(list(steps.values()), folder, runs_per_job=2)
    assert {status(step) for step in steps.values()} == {Status.DONE}
    return steps


def partitions():
    """Of the jobs in the queue."""
    command = ["squeue", "--noheader", "--format=%P"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def training(corpus, output, epochs, **changes):
    """A step that trains in float64, so that rounding does not grow in Adam."""
    from tiny_corpus import small, training_args

    how = small(max_epoch=epochs, train_dtype="float64", conv_norm="layer")
    how |= {"scheduler": "none", "batch_bins": 10, "min_batch_size": 16}
    how |= {"keep_nbest_models": 1, "ngpu": 0}
    return Step(
        name=output.name,
        stage=5,
        module="espnet_ext.bin.ser_train",
        args=tuple(training_args(corpus, output, "hierarchical_dc", **how)),
        output=output,
        products=("config.yaml", f"{epochs}epoch.pth"),
        settings={"name": output.name},
        keeps_partial_work=True,
        preload=("espnet_ext.tasks.ser",),
        epochs=epochs,
        **changes,
    )


def run(steps, folder, **changes):
    return run_plan(lambda: steps, options(folder, **changes))


def parameters(step):
    import torch

    path = step.output / f"{step.epochs}epoch.pth"
    return torch.load(path, map_location="cpu", weights_only=True)


def assert_same_end(step, whole):
    """The parameters bit for bit, and no more epochs run again than restarts."""
    log = step.log.read_text()
    starts = log.count(START)
    assert starts >= 2
    assert EPOCHS <= log.count(f"/{EPOCHS}epoch started") < EPOCHS + starts
    assert "Started again" in "".join(p.read_text() for p in logs_of(step))
    import torch

    found = parameters(step)
    for name, value in parameters(whole).items():
        assert torch.equal(found[name], value), name


def logs_of(step):
    """What the jobs printed that ran this very step."""
    found = []
    for folder in step.output.parent.glob("slurm/*-*"):
        batch = read_batch(folder)
        for number, members in batch.tasks.items():
            if step_key(step) in map(step_key, members):
                found.append(batch.log(number))
    return found


def test_a_preempted_training_ends_as_if_nothing_had_been(trainings):
    assert_same_end(trainings["preempted"], trainings["whole"])


def test_a_training_out_of_time_goes_back_and_ends_as_if_nothing_had_been(trainings):
    said = "".join(path.read_text() for path in logs_of(trainings["timed"]))
    assert "The time limit is near: back into the queue." in said
    assert_same_end(trainings["timed"], trainings["whole"])

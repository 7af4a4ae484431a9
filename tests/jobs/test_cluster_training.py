"""Real trainings on a real Slurm: over two nodes, and preempted in the middle."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from one_machine_slurm import active_jobs, wait_until
from toy_plan import options

from espnet_ext.jobs import nodes
from espnet_ext.jobs.cluster import run_plan
from espnet_ext.jobs.progress import last_epoch
from espnet_ext.jobs.step import Status, Step, status

sys.path.append(str(Path(__file__).parents[1] / "tasks"))
from tiny_corpus import make_corpus, small, training_args

EPOCHS = 60  # long enough to be caught in the middle


def training(corpus, output, epochs, **changes):
    """A step that trains in float64, so that rounding does not grow in Adam."""
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


def parameters(step):
    path = step.output / f"{step.epochs}epoch.pth"
    return torch.load(path, map_location="cpu", weights_only=True)


def run(steps, folder, **changes):
    return run_plan(lambda: steps, options(folder, **changes))


@pytest.mark.slow
def test_two_nodes_and_a_preemption_give_what_one_process_gives(slurm, tmp_path, capfd):
    corpus = make_corpus(tmp_path / "corpus", count=33, layers=1)
    one = training(corpus, tmp_path / "one", 2)
    two = training(corpus, tmp_path / "two", 2, nodes=2)
    whole = training(corpus, tmp_path / "whole", EPOCHS)
    run([one, two, whole], tmp_path, runs_per_job=2)
    assert "two: running on n-[01-02]" in capfd.readouterr().out
    assert ":0/2]" in two.log.read_text()  # ESPnet's rank 0 of 2
    expected, found = parameters(one), parameters(two)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)

    stopped = training(corpus, tmp_path / "stopped", EPOCHS)
    run([stopped], tmp_path, wait=False)
    wait_until(lambda: last_epoch(stopped.log) >= 3, 90)
    urgent = ["sbatch", "-purgent", "-N2", "--exclusive", "-o/dev/null", "--wrap=:"]
    subprocess.run(urgent, check=True, capture_output=True)
    run([stopped], tmp_path)
    assert not active_jobs(None)
    assert status(stopped) is Status.DONE
    log = stopped.log.read_text()
    assert log.count("# Started at") == 2
    assert log.count(f"/{EPOCHS}epoch started") > EPOCHS  # it was cut off within one
    found = parameters(stopped)
    for name, value in parameters(whole).items():
        assert torch.equal(found[name], value), name


def test_srun_is_told_where_to_meet():
    step = Step("run", 5, "espnet_ext.bin.ser_train", (), Path("run"), (), nodes=2)
    command = nodes.srun_command(step, "gpu-01", 4321, {"SLURM_CPUS_PER_TASK": "8"})
    text = " ".join(command)
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1" in text
    assert "--cpus-per-task=8" in text
    assert "--export=ALL" in text
    assert "--dist_master_addr gpu-01 --dist_master_port 4321" in text
    assert text.endswith("--dist_backend gloo")

"""What is handed to a cluster is what the plan said."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from toy_plan import toy

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import (
    TaskRecord,
    read_batch,
    read_record,
    step_key,
    write_batch,
    write_record,
)
from espnet_ext.jobs.step import Evidence, Input, Status, Step, fingerprint, status

HERE = Path(__file__).parent


@pytest.fixture
def step(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "utt2class").write_text("a 1\n")
    return Step(
        name="train",
        stage=5,
        module="espnet_ext.bin.ser_train",
        args=("--seed", "0"),
        output=tmp_path / "run",
        products=("config.yaml",),
        inputs=(Input(tmp_path / "set"), Input(tmp_path / "set", Evidence.LISTING)),
        settings={"config": {"lr": 1e-3, "betas": (0.9, 0.98)}, "fold": None},
        keeps_partial_work=True,
        preload=("json",),
        epochs=7,
        files=((tmp_path / "conf" / "run.yaml", "lr: 0.001\n"),),
        gpus=2,
    )


def test_steps_come_back_as_they_were(tmp_path, step):
    batch = write_batch(tmp_path / "slurm", {0: [step], 3: [step, step]}, 5)
    read = read_batch(batch.folder)
    assert sorted(read.tasks) == [0, 3]
    assert read.max_restarts == 5
    (found,) = read.tasks[0]
    assert fingerprint(found) == fingerprint(step)
    assert step_key(found) == step_key(step)
    assert replace(found, settings=step.settings) == step


def test_the_key_tells_what_is_made_not_how(step):
    assert step_key(replace(step, args=("--nj", "8"), gpus=1)) == step_key(step)
    assert step_key(replace(step, settings={"fold": 1})) != step_key(step)
    elsewhere = replace(step, output=step.output.with_name("other"))
    assert step_key(elsewhere) != step_key(step)


def test_the_key_does_not_need_the_inputs(step):
    key = step_key(step)
    (step.inputs[0].path / "utt2class").unlink()
    assert step_key(step) == key


def test_records(tmp_path, step):
    batch = write_batch(tmp_path / "slurm", {0: [step]}, 5)
    assert read_record(batch, 0) is None
    record = TaskRecord("failed", "n-01", "12_0", 1, 3.5, 4.5, "why")
    write_record(batch, 0, record)
    assert read_record(batch, 0) == record


def test_no_batch_is_named(tmp_path):
    with pytest.raises(UserError, match="no batch of jobs"):
        read_batch(tmp_path)


def test_the_script_runs_the_step_by_itself(tmp_path, monkeypatch):
    """As a job does: with nothing of this process' environment."""
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parents[1]}")
    step = toy(tmp_path / "a b", "run")
    batch = write_batch(tmp_path / "a b" / "slurm", {4: [step]}, 5)
    command = ["bash", str(batch.script), "4"]
    result = subprocess.run(command, env={}, capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stderr
    assert status(step) is Status.DONE
    assert read_record(batch, 4).state == "done"


def test_a_failing_step_leaves_word(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parents[1]}")
    step = toy(tmp_path, "run", fail="bug")
    batch = write_batch(tmp_path / "slurm", {0: [step]}, 5)
    result = subprocess.run(["bash", str(batch.script), "0"], capture_output=True)
    assert result.returncode == 1
    assert read_record(batch, 0).state == "failed"
    other = subprocess.run(
        ["bash", str(batch.script), "9"], capture_output=True, text=True
    )
    assert "has no task 9" in other.stderr

"""Steps with and without GPUs on a machine that has some."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRIVER = """
from pathlib import Path
from espnet_ext.jobs.local import run_steps
from espnet_ext.jobs.step import Step

def step(name, gpus):
    output = Path({folder!r}, name)
    return Step(
        name=name, stage=5, module="look_at_gpus", output=output,
        args=("--output", str(output), "--ngpu", str(gpus)), products=("seen.json",),
        preload=("espnet2.train.trainer",), gpus=gpus,
    )

steps = [step("first", 0), step("second", 0), step("third", 1)]
run_steps(steps, jobs=3, gpus=["0"])
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory, pretended_gpu):
    folder = tmp_path_factory.mktemp("runs")
    result = subprocess.run(
        [sys.executable, "-c", DRIVER.format(folder=str(folder))],
        env=pretended_gpu | {"PYTHONPATH": f"{HERE}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return {p.parent.name: json.loads(p.read_text()) for p in folder.glob("*/*.json")}


def test_a_step_without_gpus_sees_none(seen):
    expected = {"available": False, "visible": "", "amp": "None"}
    assert seen["first"] == seen["second"] == expected


def test_a_step_on_a_gpu_uses_it_with_bfloat16_amp(seen):
    assert seen["third"] == {
        "available": True,
        "visible": "0",
        "amp": "torch.bfloat16",
        "device": "cuda:0",
    }

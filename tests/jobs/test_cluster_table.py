"""A table as a user makes it on a cluster: run.sh and the real programs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from one_machine_slurm import wait_until
from toy_plan import tasks_of

ROOT = Path(__file__).parents[2]
MODELS = (
    "baseline_c",
    "baseline_d",
    "multitask",
    "hierarchical_dc",
    "hierarchical_cd",
)


def command(folder, *options):
    downloads = folder / "downloads"
    return [
        *(str(ROOT / "run.sh"), "--table", "3", "--mini_scale", "0.2"),
        *("--corpus_root", str(downloads / "IEMOCAP_full_release")),
        *("--upstream", str(downloads / "hubert_tiny"), "--resamples", "100"),
        *("--overlay", str(folder.parent / "overlay.yaml")),
        *("--datadir", str(folder / "data"), "--dumpdir", str(folder / "dump")),
        *("--expdir", str(folder / "exp"), *options),
    ]


def environment(backend):
    return {**os.environ, "VIRTUAL_ENV": sys.prefix, "cmd_backend": backend}


def run(folder, backend, *options):
    result = subprocess.run(
        command(folder, *options),
        cwd="/",
        env=environment(backend),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def results(folder):
    """What must not depend on where it was made."""
    runs = folder / "exp" / "mini_paper5" / "msp_podcast"
    paths = [runs / f"{m}_seed0" / "test" / "predictions.csv" for m in MODELS]
    paths.append(folder / "exp" / "tables" / "table3" / "table.csv")
    return [path.read_bytes() for path in paths]


@pytest.mark.slow  # a minute and a half
def test_a_table_on_slurm_is_the_one_made_here(slurm, tmp_path):
    """Submitted by a driver that is killed; nobody is there when it ends."""
    overlay = yaml.safe_load((ROOT / "conf" / "mini.yaml").read_text())
    overlay |= {"max_epoch": 1, "keep_nbest_models": 1}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    folder = tmp_path / "on Slurm"
    packed = ("--extract_jobs", "2", "--runs_per_job", "5")
    slow = tmp_path / "bin" / "sbatch"  # so that the kill falls between two calls
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 0.3\nexec {shutil.which("sbatch")} "$@"\n')
    slow.chmod(0o755)
    path = f"{slow.parent}{os.pathsep}{os.environ['PATH']}"
    driver = subprocess.Popen(
        command(folder, *packed),
        env={**environment("slurm"), "PATH": path},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: tasks_of(folder), 120)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    said = run(folder, "slurm", *packed, "--wait", "false")
    assert "make table3: submitted (job" in said
    shown = run(folder, "slurm", *packed, "--status")
    assert "make table3" in shown
    assert "Dependency" in shown
    here = tmp_path / "here"
    assert "finished before" not in run(here, "local", "--nj", "1")
    wait_until(lambda: all(task.ended for task in tasks_of(folder)), 120)
    assert results(folder) == results(here)
    logs = [p for p in folder.rglob("*.log") if "slurm" not in p.parts]
    starts = {log: log.read_text().count("# Started at") for log in logs}
    store = folder / "dump" / "msp_podcast" / "mini.log"
    assert starts.pop(store) == 2  # two jobs have filled it together
    assert set(starts.values()) == {1}
    attached = run(folder, "slurm", *packed)
    assert "submitted" not in attached
    assert "Hierarchical C-D" in attached
    assert run(folder, "slurm", *packed, "--status").splitlines()[-1] == "16 done"
    again = run(folder, "local")  # knows what Slurm has made
    assert "runs: 5 of 5 finished" in again

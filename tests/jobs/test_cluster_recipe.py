"""The recipe as a user runs it on a cluster: run.sh and the real programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder, backend, *options):
    downloads = folder / "downloads"
    result = subprocess.run(
        [
            *(ROOT / "run.sh", "--stop_stage", "4", "--extract_jobs", "2"),
            *("--corpus_root", downloads / "IEMOCAP_full_release"),
            *("--upstream", downloads / "hubert_tiny", "--mini_scale", "0.2"),
            *("--datadir", folder / "data", "--dumpdir", folder / "dump"),
            *("--expdir", folder / "exp", *options),
        ],
        cwd="/",
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, "cmd_backend": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_what_slurm_has_made_is_finished_for_a_local_run(slurm, tmp_path):
    folder = tmp_path / "a b"
    assert run(folder, "slurm", "--wait", "false").count("submitted (job") == 7
    shown = run(folder, "slurm", "--status")
    assert "queued" in shown or "running" in shown
    attached = run(folder, "slurm")
    assert "submitted" not in attached
    assert run(folder, "local").count("finished before") == 6
    assert run(folder, "slurm", "--status").splitlines()[-1] == "6 done"

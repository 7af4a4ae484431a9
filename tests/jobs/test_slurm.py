"""Slurm's answers, read."""

import pytest
from toy_plan import toy

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import write_batch
from espnet_ext.jobs.slurm import TaskId, parse_queue, queue


def test_the_queue_leads_back_to_the_batch(tmp_path):
    batch = write_batch(tmp_path / "a b|c", {0: [toy(tmp_path, "run")]}, 5)
    foreign = tmp_path / "job.sh"
    text = (
        f"12|3|PENDING|Dependency||{batch.script}\n"
        f"12|0|RUNNING|None|n-[01-02]|{batch.script}\n"
        f"11|0|NODE_FAIL|NodeDown|n-01|{batch.script}\n"
        f"9|N/A|RUNNING|None|n-01|{foreign}\n"  # no array
        f"8|1|RUNNING|None|n-01|{foreign}\n"  # not ours
        "7|1|RUNNING|None|n-01|(null)\n"
    )
    found = parse_queue(text)
    assert sorted(found) == [TaskId(11, 0), TaskId(12, 0), TaskId(12, 3)]
    assert {task.folder for task in found.values()} == {batch.folder}
    running = found[TaskId(12, 0)]
    assert running.node == "n-[01-02]"
    assert [found[t].ended for t in sorted(found)] == [True, False, False]
    assert str(running.id) == "12_0"


def test_where_there_is_no_slurm_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"squeue is not on PATH: .* cmd_backend=local"):
        queue()
    program = tmp_path / "squeue"
    program.write_text("#!/bin/sh\necho slurm_load_jobs error >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match="does not answer: slurm_load_jobs error"):
        queue(patience=0)

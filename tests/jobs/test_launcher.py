"""Launchers that are called like Kaldi's run.pl."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from toy_plan import calls, toy

from espnet_ext.errors import UserError
from espnet_ext.jobs.launcher import run_with_launcher
from espnet_ext.jobs.step import Status, status

HERE = Path(__file__).parent

# What they have in common: options, a log, a command; the command's status.
LAUNCHER = """#!/bin/bash
echo "$@" >> "$(dirname "$0")/given"
while [[ $1 == --* ]]; do shift 2; done
log=$1; shift
exec "$@" > "$log" 2>&1
"""


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parents[1]}")
    path = tmp_path / "queue.pl"
    path.write_text(LAUNCHER)
    path.chmod(0o755)
    return path


def test_steps_run_once(tmp_path, launcher):
    steps = [toy(tmp_path, "one"), replace(toy(tmp_path, "two"), gpus=1)]
    for _ in range(2):
        run_with_launcher(steps, f"{launcher} --mem 4G", 2, tmp_path / "jobs")
    assert [status(step) for step in steps] == [Status.DONE] * 2
    assert [calls(step) for step in steps] == [1, 1]
    given = (tmp_path / "given").read_text()
    assert given.count("--mem 4G") == 2
    assert given.count("--mem 4G --gpu 1") == 1


def test_a_failure_is_named_and_stops_no_other(tmp_path, launcher):
    bad, good = toy(tmp_path, "bad", fail="user"), toy(tmp_path, "good")
    with pytest.raises(UserError, match=r"bad failed; see .*0\.log"):
        run_with_launcher([bad, good], str(launcher), 1, tmp_path / "jobs")
    assert status(good) is Status.DONE


def test_a_missing_launcher_is_named(tmp_path, capsys):
    with pytest.raises(UserError, match="run failed"):
        run_with_launcher([toy(tmp_path, "run")], "nowhere.pl", 1, tmp_path / "jobs")
    assert "nowhere.pl is not on PATH" in capsys.readouterr().err

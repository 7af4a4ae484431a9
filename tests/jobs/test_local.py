"""The executor with real processes: order, failures, kills, locks."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from espnet_ext.errors import UserError
from espnet_ext.jobs.local import last_output, run_steps
from espnet_ext.jobs.step import (
    Evidence,
    Input,
    Status,
    Step,
    format_runs,
    status,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(autouse=True)
def toy_program(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def toy(folder, name="toy", **options):
    output = folder / name
    settings = {key: str(value) for key, value in options.items()}
    args = ["--output", str(output)]
    for key, value in settings.items():
        args += [f"--{key}", value]
    return Step(
        name=name,
        stage=1,
        module="toy_program",
        args=tuple(args),
        output=output,
        products=("result",),
        settings=settings,
    )


def calls(step):
    return (step.output / "calls").read_text().count("called")


def test_runs_and_then_skips(tmp_path, capfd):
    steps = [toy(tmp_path, f"step{i}") for i in range(3)]
    run_steps(steps, jobs=2)
    assert [status(step) for step in steps] == [Status.DONE] * 3
    run_steps(steps, jobs=2)
    assert [calls(step) for step in steps] == [1, 1, 1]
    assert "finished before" in capfd.readouterr().out


def test_a_changed_setting_runs_again(tmp_path):
    run_steps([toy(tmp_path)], jobs=1)
    changed = toy(tmp_path, text="bye")
    run_steps([changed], jobs=1)
    assert (changed.output / "result").read_text() == "bye"


def test_a_run_that_ends_while_its_table_is_made_leaves_the_table_to_do(tmp_path):
    listed = tmp_path / "runs.json"
    table = Step(
        name="table",
        stage=7,
        module="finishing_meanwhile",
        args=("--runs", str(listed), "--output", str(tmp_path / "table")),
        output=tmp_path / "table",
        products=("result",),
        inputs=(Input(listed, Evidence.RUNS),),
        files=((listed, format_runs({"late": [toy(tmp_path, "late")]})),),
    )
    run_steps([table], jobs=1)
    assert status(table) is Status.CHANGED
    assert "what it reads has changed while it ran" in table.log.read_text()
    run_steps([table], jobs=1)  # the run had ended before
    assert status(table) is Status.DONE


def test_partial_work_of_other_settings_is_set_aside(tmp_path, capfd):
    step = replace(toy(tmp_path), keeps_partial_work=True)
    run_steps([step], jobs=1)
    run_steps([replace(toy(tmp_path, text="bye"), keeps_partial_work=True)], jobs=1)
    (aside,) = tmp_path.glob("toy.replaced-*")
    assert (aside / "result").read_text() == "hello"
    assert calls(step) == 1
    assert str(aside) in capfd.readouterr().out


@pytest.mark.parametrize(
    ("fail", "text"),
    [("user", "spk1.wav: unreadable"), ("bug", "RuntimeError: a bug"), ("exit", "")],
)
def test_a_failure_is_named_with_its_log_and_stops_no_other(tmp_path, fail, text):
    bad, good = toy(tmp_path, "bad", fail=fail), toy(tmp_path, "good")
    with pytest.raises(UserError) as error:
        run_steps([bad, good], jobs=1)
    assert str(bad.log) in str(error.value)
    assert text in str(error.value)
    assert text in bad.log.read_text()
    assert status(good) is Status.DONE
    assert status(bad) is not Status.DONE


def test_output_reaches_the_terminal_and_the_log(tmp_path, capfd):
    step = toy(tmp_path)
    run_steps([step], jobs=1)
    assert "epoch started" in capfd.readouterr().out
    assert "epoch started" in step.log.read_text()


def test_steps_really_run_side_by_side(tmp_path):
    start = time.monotonic()
    run_steps([toy(tmp_path, f"s{i}", seconds=3) for i in range(3)], jobs=3)
    assert time.monotonic() - start < 8.5  # one after the other takes 9 s and more


def memory(gigabytes):
    return int(gigabytes * 2**30)


def test_what_does_not_fit_into_memory_waits(tmp_path, capfd):
    """Three of 2 GB where 5 GB are to be had: two at a time, the third after one."""
    steps = [
        replace(toy(tmp_path, f"s{i}", seconds=1), memory=memory(2)) for i in range(3)
    ]
    run_steps(steps, jobs=3, memory=memory(5))
    started, ended = zip(*(times(step) for step in steps), strict=True)
    assert started[1] < ended[0]
    assert started[2] >= min(ended[:2])
    assert "runs alone" not in capfd.readouterr().out


def test_what_needs_more_than_there_is_runs_alone(tmp_path, capfd):
    steps = [
        replace(toy(tmp_path, f"s{i}", seconds=0.5), memory=memory(need))
        for i, need in enumerate((1, 9, 1))
    ]
    run_steps(steps, jobs=3, memory=memory(4))
    started, ended = zip(*(times(step) for step in steps), strict=True)
    assert ended[0] <= started[1]
    assert ended[1] <= started[2]
    said = capfd.readouterr().out
    assert "s1: needs 9.0 GB of memory" in said
    assert "4.0 GB are to be had; it runs alone" in said


def test_gpus_are_dealt_out_and_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{ROOT}")
    steps = [replace(toy(tmp_path, f"s{i}", seconds=1), gpus=2) for i in range(4)]
    run_steps(steps, jobs=4, gpus=["0,1", "2,3"])
    said = sorted(last_output(step).splitlines()[1] for step in steps)
    assert said == ["GPUs: 0,1"] * 2 + ["GPUs: 2,3"] * 2


def times(step):
    """When the program of a step began and ended."""
    begin = (step.output / "calls").stat().st_mtime
    return begin, (step.output / "result").stat().st_mtime


DRIVER = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from test_local import toy
from espnet_ext.jobs.local import run_steps
run_steps([toy(Path({folder!r}), seconds={seconds})], jobs=1)
"""


def start_driver(folder, seconds):
    code = DRIVER.format(
        root=str(ROOT), here=str(HERE), folder=str(folder), seconds=seconds
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (folder / "toy" / "calls").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


def test_a_killed_driver_takes_its_children_along(tmp_path):
    process = start_driver(tmp_path, seconds=5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    time.sleep(6)
    step = toy(tmp_path, seconds=5)
    assert not (step.output / "result").exists()
    assert status(step) is not Status.DONE
    run_steps([toy(tmp_path)], jobs=1)
    assert (step.output / "result").read_text() == "hello"


def test_a_second_run_does_not_write_the_same_folder(tmp_path):
    process = start_driver(tmp_path, seconds=6)
    with pytest.raises(UserError, match="is being written by process"):
        run_steps([toy(tmp_path)], jobs=1)
    assert process.wait(timeout=30) == 0
    process.stderr.close()
    assert calls(toy(tmp_path)) == 1


def test_a_hard_killed_step_is_reported(tmp_path):
    step = toy(tmp_path, seconds=30)
    pid = os.fork()
    if pid == 0:  # kills the step as the kernel's out-of-memory killer would
        while not (step.output / "calls").exists():
            time.sleep(0.05)
        lock = (tmp_path / ".toy.lock").read_text()
        os.kill(int(lock.split()[1]), signal.SIGKILL)
        os._exit(0)
    with pytest.raises(
        UserError, match=r"toy was killed, maybe out of memory \(it had"
    ):
        run_steps([step], jobs=1)
    os.waitpid(pid, 0)
    assert status(step) is not Status.DONE
    assert "lower --nj or --max_mem" in step.log.read_text()

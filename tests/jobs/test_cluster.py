"""A plan on a real Slurm: arrays, dependencies, failures, kills, attaching."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from one_machine_slurm import wait_until
from toy_plan import calls, options, toy, toy_table

from espnet_ext.errors import UserError
from espnet_ext.jobs import slurm as client
from espnet_ext.jobs.batch import read_batch, step_key
from espnet_ext.jobs.cluster import run_plan
from espnet_ext.jobs.overview import print_overview, standings
from espnet_ext.jobs.step import Status, status

pytestmark = pytest.mark.usefixtures("slurm")
HERE = Path(__file__).parent


def run(steps, folder, **changes):
    return run_plan(lambda: steps, options(folder, **changes))


def tasks_of(folder):
    """Slurm's tasks of the batches in a folder."""
    return [t for t in client.queue().values() if t.folder.is_relative_to(folder)]


def running(folder, word="RUNNING"):
    return [task for task in tasks_of(folder) if task.state == word]


def job_of(folder, step):
    """The task that runs a step, and its batch."""
    for task in tasks_of(folder):
        batch = read_batch(task.folder)
        if step_key(step) in map(step_key, batch.tasks[task.id.task]):
            return task, batch
    raise AssertionError(f"{step.name} is not in the queue")


def test_arrays_and_dependencies(tmp_path, capfd):
    steps = toy_table(tmp_path / "a b", 3)
    run(steps, tmp_path / "a b")
    assert {status(step) for step in steps} == {Status.DONE}
    assert {calls(step) for step in steps} == {1}
    # sets, the trainings, their inferences task for task, the table
    sizes = [len(read_batch(f).tasks) for f in sorted(tmp_path.glob("a b/slurm/*-*"))]
    assert sorted(sizes) == [1, 1, 3, 3]
    run(steps, tmp_path / "a b")
    assert {calls(step) for step in steps} == {1}
    assert "finished before" in capfd.readouterr().out


def test_a_failure_is_named_and_stops_no_other(tmp_path):
    steps = toy_table(tmp_path, 3, train1={"fail": "user"})
    with pytest.raises(UserError) as error:
        run(steps, tmp_path)
    by_name = {step.name: step for step in steps}
    text = str(error.value)
    assert "train1 failed (job" in text
    assert "spk1.wav: unreadable" in text
    assert str(by_name["train1"].log) in text
    assert text.index("Not run") < text.index("infer1")
    for name in ("train0", "train2", "infer0", "infer2"):
        assert status(by_name[name]) is Status.DONE
    assert status(by_name["infer1"]) is status(by_name["table"]) is Status.NEW
    # put right, only the rest is run
    repaired = toy_table(tmp_path, 3)
    run(repaired, tmp_path)
    assert {status(step) for step in repaired} == {Status.DONE}
    assert calls(by_name["train0"]) == calls(by_name["infer2"]) == 1


def test_a_hard_killed_job_is_found_and_named(tmp_path, capfd):
    steps = toy_table(tmp_path, 2, train0={"seconds": 60}, train1={"seconds": 1})
    run(steps, tmp_path, wait=False)
    victim = steps[1]
    wait_until((victim.output / "calls").exists, 30)
    task, batch = job_of(tmp_path, victim)
    # the whole job at once, as a node does that is switched off
    pids = [
        int(line.split()[0])
        for line in subprocess.run(
            ["ps", "-ewwo", "pid,args"], capture_output=True, text=True
        ).stdout.splitlines()[1:]
        if f"ser_step {batch.folder} {task.id.task}" in line
    ]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"train0 died without a word \(job \d+_0 on n"):
        run_and_wait_only(steps, tmp_path)
    assert status(steps[2]) is Status.DONE
    capfd.readouterr()
    show(steps, tmp_path)
    assert "died" in capfd.readouterr().out


def run_and_wait_only(steps, folder):
    """Watch what is under way; what has died meanwhile is not submitted again."""
    from espnet_ext.jobs import cluster

    watch = cluster.Watch()
    how = options(folder)
    queue = client.queue()
    flights = {
        task: cluster.Flight(entry, watch.batch(entry.folder))
        for task, entry in queue.items()
        if entry.folder.is_relative_to(folder)
    }
    cluster.wait_for(flights, how, watch)
    raise UserError(cluster.describe_failures({step_key(s): s for s in steps}, watch))


def show(steps, folder):
    queue = list(client.queue().values())
    print_overview(steps, standings(steps, folder / "slurm", queue))


def test_a_second_run_attaches(tmp_path, capfd):
    waits = {f"train{i}": {"seconds": 3} for i in range(3)}
    steps = toy_table(tmp_path, 3, **waits)
    run(steps, tmp_path, wait=False)
    wait_until(lambda: running(tmp_path), 30)
    queued = len(tasks_of(tmp_path))
    run(steps, tmp_path, wait=False)
    assert len(tasks_of(tmp_path)) == queued
    capfd.readouterr()
    show(steps, tmp_path)
    shown = capfd.readouterr().out
    assert "queued" in shown
    assert "Dependency" in shown
    run(steps, tmp_path)
    assert "in Slurm's queue" in capfd.readouterr().out
    assert {calls(step) for step in steps} == {1}
    show(steps, tmp_path)
    assert capfd.readouterr().out.splitlines()[-1] == "8 done"


def test_other_settings_for_a_folder_under_way_are_refused(tmp_path):
    first = toy(tmp_path, "run", seconds=2)
    run([first], tmp_path, wait=False)
    with pytest.raises(UserError, match=r"with other settings: wait for it"):
        run([toy(tmp_path, "run", text="bye")], tmp_path)
    run([first], tmp_path)


def test_killed_drivers_lose_and_double_nothing(tmp_path):
    draw = random.Random(0)
    command = [sys.executable, str(HERE / "toy_plan.py"), str(tmp_path), "6", "0.5"]
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.1, 1.5))
        process.kill()
        process.wait()
    waits = {f"train{i}": {"seconds": 0.5} for i in range(6)}
    steps = toy_table(tmp_path, 6, **waits)
    run(steps, tmp_path)
    assert {status(step) for step in steps} == {Status.DONE}
    assert {calls(step) for step in steps} == {1}


def test_preempted_work_is_requeued(tmp_path):
    step = toy(tmp_path, "run", seconds=4)
    run([step], tmp_path, wait=False)
    wait_until((step.output / "calls").exists, 30)
    urgent = subprocess.run(
        ["sbatch", "--parsable", "-purgent", "-N2", "--exclusive", "--wrap=sleep 1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert urgent.returncode == 0, urgent.stderr
    wait_until(lambda: running(tmp_path, "PENDING"), 20)
    run([step], tmp_path)
    assert status(step) is Status.DONE
    assert calls(step) == 2


def test_near_the_time_limit_a_job_goes_back_into_the_queue(tmp_path):
    """The signal is what `--signal=B:USR1@...` makes Slurm send."""
    step = toy(tmp_path, "run", seconds=4)
    run([step], tmp_path, wait=False, max_restarts=0)
    wait_until((step.output / "calls").exists, 40)
    task, _ = job_of(tmp_path, step)
    subprocess.run(["scancel", "--batch", "--signal=USR1", str(task.id)], check=True)
    with pytest.raises(UserError, match="more than --max_restarts 0"):
        run_and_wait_only([step], tmp_path)
    assert calls(step) == 1


def test_workers_share_a_step(tmp_path):
    step = replace(toy(tmp_path, "store", stage=3, seconds=4), workers=3)
    after = toy(tmp_path, "sets", stage=4, reads=[step])
    run([step, after], tmp_path)
    assert calls(step) == 3
    assert calls(after) == 1
    assert status(step) is status(after) is Status.DONE


def test_small_trainings_share_a_job(tmp_path):
    steps = toy_table(tmp_path, 4)
    run(steps, tmp_path, runs_per_job=2)
    folders = sorted(tmp_path.glob("slurm/*-*"))
    shared = [len(steps) for f in folders for steps in read_batch(f).tasks.values()]
    assert sorted(shared) == [1, 1, 2, 2, 2, 2]
    assert {calls(step) for step in steps} == {1}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"partition": "nowhere"}, "invalid partition"),
        ({"mem": "900G"}, "Requested node configuration is not available"),
    ],
)
def test_a_refusal_of_slurm_is_shown(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        run([toy(tmp_path, "run")], tmp_path, commands={"cuda": option})

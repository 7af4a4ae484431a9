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
from toy_plan import calls, job_of, options, tasks_of, toy, toy_table

from espnet_ext.errors import UserError
from espnet_ext.jobs import slurm as client
from espnet_ext.jobs.again import force
from espnet_ext.jobs.batch import read_batch, step_key
from espnet_ext.jobs.cluster import run_plan, steps_under_way
from espnet_ext.jobs.local import last_output
from espnet_ext.jobs.overview import print_overview, standings
from espnet_ext.jobs.step import Status, status

pytestmark = pytest.mark.usefixtures("slurm")
HERE = Path(__file__).parent


def run(steps, folder, **changes):
    return run_plan(lambda: steps, options(folder, **changes))


def running(folder, word="RUNNING"):
    return [task for task in tasks_of(folder) if task.state == word]


@pytest.fixture(scope="module")
def several(slurm, tmp_path_factory):
    """Plans that are submitted together and left alone: folders by name.

    A cluster takes a second or two for each link of a chain, whatever it does.
    """
    root = tmp_path_factory.mktemp("several")
    failing = {f"train{i}": {"fail": "user"} for i in (1, 2)}
    plans = {
        "a b%a": (toy_table(root / "a b%a", 3), {}),
        "failing": (toy_table(root / "failing", 4, **failing), {}),
        "shared": (toy_table(root / "shared", 4), {"runs_per_job": 2}),
        "packed": (
            toy_table(root / "packed", 4, train1={"fail": "user"}),
            {"runs_per_job": 4},
        ),
        "workers": (with_workers(root / "workers"), {}),
        "large": (toy_table(root / "large", 12), {}),
    }
    for name, (steps, changes) in plans.items():
        run(steps, root / name, wait=False, **changes)
    return root


def with_workers(folder):
    store = replace(toy(folder, "store", stage=3, seconds=4), workers=3)
    return [store, toy(folder, "sets", stage=4, reads=[store])]


def sizes(folder):
    """How many tasks each array has."""
    return sorted(len(read_batch(f).tasks) for f in folder.glob("slurm/*-*"))


def test_arrays_and_dependencies(several, capfd):
    folder = several / "a b%a"
    steps = toy_table(folder, 3)
    run(steps, folder)
    assert {status(step) for step in steps} == {Status.DONE}
    assert {calls(step) for step in steps} == {1}
    # sets, the trainings, their inferences task for task, the table
    assert sizes(folder) == [1, 1, 3, 3]
    for batch in folder.glob("slurm/*-*"):
        assert (batch / "0.log").is_file()
    capfd.readouterr()
    run(steps, folder)
    assert {calls(step) for step in steps} == {1}
    assert "finished before" in capfd.readouterr().out


def test_failures_are_named_and_stop_no_other(several, capfd):
    """Nobody watches: the table is made of what there is all the same."""
    folder = several / "failing"
    failing = {f"train{i}": {"fail": "user"} for i in (1, 2)}
    steps = toy_table(folder, 4, **failing)
    by_name = {step.name: step for step in steps}
    wait_until(lambda: not any(not t.ended for t in tasks_of(folder)), 60)
    assert calls(by_name["table"]) == 1
    capfd.readouterr()
    show(steps, folder)
    shown = capfd.readouterr().out
    assert shown.splitlines()[-1] == "6 done, 2 failed, 2 to do"
    # watched, the failed ones are tried again, and the table is made again
    with pytest.raises(UserError) as error:
        run(steps, folder)
    text = str(error.value)
    assert "train1 failed (job" in text
    assert "spk1.wav: unreadable" in text
    assert str(by_name["train1"].log) in text
    assert text.index("Not run") < text.index("infer1")
    assert "table" not in text.partition("Not run")[2]
    for name in ("train0", "train3", "infer0", "infer3", "table"):
        assert status(by_name[name]) is Status.DONE
    assert calls(by_name["table"]) == 1  # of the same runs: its job ended at once
    assert status(by_name["infer1"]) is Status.NEW
    # put right, only the rest is run, and the table of them all
    repaired = toy_table(folder, 4)
    run(repaired, folder)
    assert {status(step) for step in repaired} == {Status.DONE}
    assert calls(by_name["train0"]) == calls(by_name["infer3"]) == 1
    assert calls(by_name["table"]) == 2


def test_small_trainings_share_a_job(several):
    folder = several / "shared"
    steps = toy_table(folder, 4)
    run(steps, folder)
    found = [read_batch(f).tasks.values() for f in folder.glob("slurm/*-*")]
    assert sorted(len(task) for tasks in found for task in tasks) == [1, 1, 2, 2, 2, 2]
    assert {calls(step) for step in steps} == {1}


def test_a_failure_stops_none_that_shares_its_job(several):
    """Nobody watches: the others are predicted, and the table is made of them."""
    folder = several / "packed"
    steps = toy_table(folder, 4, train1={"fail": "user"})
    wait_until(lambda: not any(not t.ended for t in tasks_of(folder)), 60)
    left = {step.name: step for step in steps if status(step) is not Status.DONE}
    assert set(left) == {"train1", "infer1"}
    log = left["infer1"].log.read_text()
    assert "infer1 is not run, not finished: train1 (see " in log
    assert str(left["train1"].log) in log
    assert not (left["infer1"].output / "calls").exists()
    # the same command again names them
    with pytest.raises(UserError, match=r"train1 failed \(job") as error:
        run(steps, folder, runs_per_job=4)
    assert "infer1" in str(error.value).partition("Not run")[2]
    assert {calls(step) for step in steps if step.name not in left} == {1}


def test_what_is_forced_is_made_again_once(tmp_path):
    steps = toy_table(tmp_path, 1, train0={"seconds": 3})
    _, train, infer, table = steps
    run(steps, tmp_path)
    force(steps, {5}, steps_under_way())
    run(steps, tmp_path, wait=False)
    with pytest.raises(UserError, match="--force: train0 is in the queue already"):
        force(steps, {5}, steps_under_way())
    for _ in range(2):
        run(steps, tmp_path)
    assert {status(step) for step in steps} == {Status.DONE}
    # its result is the same, so what reads it is not made again
    assert [calls(step) for step in (train, infer, table)] == [2, 1, 1]


def test_workers_share_a_step(several):
    folder = several / "workers"
    store, sets = with_workers(folder)
    run([store, sets], folder)
    assert calls(store) == 3
    assert calls(sets) == 1
    assert status(store) is status(sets) is Status.DONE


def test_an_array_that_slurm_finds_too_large_is_parted(several):
    """The cluster of these tests takes MaxArraySize=10."""
    folder = several / "large"
    steps = toy_table(folder, 12)
    run(steps, folder)
    assert sizes(folder) == [1, 1, 6, 6, 6, 6]
    assert {calls(step) for step in steps} == {1}


LIMITED = """\
#!/bin/bash
# sbatch of a cluster that takes six tasks of a user: it says what Slurm says there
queued=$(squeue --noheader --array --states=PENDING,RUNNING --format=%i | wc -l)
array=$(printf '%s\n' "$@" | sed -n 's/^--array=//p' | tr , '\n' | wc -l)
if [ $((queued + array)) -gt 6 ]; then
    echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS" \
        "policy (job submit limit, user's size and/or time limits)" >&2
    exit 1
fi
exec sbatch "$@"
"""


def test_where_few_jobs_may_be_queued_the_rest_follows(several, tmp_path, capfd):
    wait_until(lambda: not any(not t.ended for t in client.queue().values()), 60)
    program = tmp_path / "limited sbatch"
    program.write_text(LIMITED)
    program.chmod(0o755)
    conf = replace(options(tmp_path).conf, command=(str(program),))
    steps = toy_table(tmp_path, 5)
    run(steps, tmp_path, conf=conf, wait=False)
    said = capfd.readouterr().out
    assert "Slurm takes no more jobs until some have ended: QOSMaxSubmit" in said
    assert said.endswith(
        "Not all is submitted yet: start the same command again later.\n"
    )
    run(steps, tmp_path, conf=conf)
    assert {status(step) for step in steps} == {Status.DONE}
    assert {calls(step) for step in steps} == {1}


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
        if f"step_process {batch.folder} {task.id.task}" in line
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
    flights = {task.id: task for task in tasks_of(folder)}
    cluster.wait_for(flights, how, watch)
    raise UserError(cluster.describe_failures({step_key(s): s for s in steps}, watch))


def show(steps, folder):
    queue = list(client.queue().values())
    print_overview(steps, standings(steps, folder / "slurm", queue))


def test_a_second_run_attaches_and_one_with_other_settings_is_refused(tmp_path, capfd):
    waits = {f"train{i}": {"seconds": 3} for i in range(3)}
    steps = toy_table(tmp_path, 3, **waits)
    run(steps, tmp_path, wait=False)
    wait_until(lambda: running(tmp_path), 30)
    queued = len(tasks_of(tmp_path))
    run(steps, tmp_path, wait=False)
    assert len(tasks_of(tmp_path)) == queued
    with pytest.raises(UserError, match=r"with other settings: wait for it"):
        run(toy_table(tmp_path, 3, train0={"text": "bye"}), tmp_path)
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


@pytest.fixture(scope="module")
def cut_off(slurm, tmp_path_factory):
    """Two steps whose jobs were put back into the queue; their folders.

    One was preempted, the other warned of its time limit: with the signal that
    `--signal=B:USR1@...` makes Slurm send.
    """
    root = tmp_path_factory.mktemp("cut off")
    steps = [toy(root / name, "run", seconds=4) for name in ("preempted", "warned")]
    run(steps[:1], root / "preempted", wait=False)
    run(steps[1:], root / "warned", wait=False, max_restarts=0)
    for step in steps:
        wait_until((step.output / "calls").exists, 40)
    task, _ = job_of(root / "warned", steps[1])
    subprocess.run(["scancel", "--batch", "--signal=USR1", str(task.id)], check=True)
    wait_until(lambda: not running(root / "warned"), 20)
    urgent = ["sbatch", "-purgent", "-N2", "--exclusive", "-o/dev/null", "--wrap=:"]
    subprocess.run(urgent, check=True, capture_output=True)
    wait_until(lambda: running(root / "preempted", "PENDING"), 20)
    return root


def test_preempted_work_is_requeued(cut_off):
    step = toy(cut_off / "preempted", "run", seconds=4)
    run([step], cut_off / "preempted")
    assert status(step) is Status.DONE
    assert calls(step) == 2


def test_restarts_are_bounded(cut_off):
    step = toy(cut_off / "warned", "run", seconds=4)
    with pytest.raises(UserError, match="more than --max_restarts 0"):
        run_and_wait_only([step], cut_off / "warned")
    assert calls(step) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"partition": "no"},
            r"run: invalid partition(.|\n)*--partition no\n`sinfo -s`",
        ),
        (
            {"mem": "900G"},
            r"Requested node configuration is not available.*\n.*`sinfo -e",
        ),
    ],
)
def test_a_refusal_of_slurm_is_shown(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        run([toy(tmp_path, "run")], tmp_path, commands={"cuda": option})


def test_a_refusal_in_the_middle_says_what_goes_on(tmp_path):
    steps = toy_table(tmp_path, 2)
    with pytest.raises(UserError, match=r"invalid partition(.|\n)*`scancel \d+` stops"):
        run(steps, tmp_path, commands={"cuda": {"partition": "no"}})
    assert len(tasks_of(tmp_path)) == 1


def test_what_cmd_sh_asks_for_reaches_slurm(tmp_path):
    steps = [replace(toy(tmp_path, f"run{i}", seconds=1), gpus=1) for i in (0, 1)]
    asks = {"mem": "3G", "time": "1:30:00", "num_threads": "2", "max_jobs_run": "1"}
    asks |= {"partition": "urgent", "account": "speech"}
    run(steps, tmp_path, commands={"cuda": asks}, wait=False)
    task, _ = job_of(tmp_path, steps[0])
    shown = subprocess.run(
        ["scontrol", "show", "job", "-o", str(task.id.job)],
        capture_output=True,
        text=True,
    ).stdout
    for field in (
        *("JobName=ser-train", "Partition=urgent", "Account=speech", "Requeue=1"),
        *("TimeLimit=01:30:00", "MinMemoryNode=3G", "CPUs/Task=2"),
        *("TresPerNode=gres:gpu:1", "ArrayTaskThrottle=1"),
    ):
        assert f"{field} " in shown, shown
    run(steps, tmp_path)
    assert {last_output(step).splitlines()[1] for step in steps} == {"GPUs: 0"}


def test_a_job_of_several_trainings_has_one_gpu(tmp_path):
    steps = [replace(toy(tmp_path, f"run{i}", seconds=1), gpus=1) for i in range(4)]
    run(steps, tmp_path, runs_per_job=2)
    said = [last_output(step).splitlines()[1] for step in steps]
    assert said[0] == said[1]
    assert {*said} <= {"GPUs: 0", "GPUs: 1"}
    assert sizes(tmp_path) == [2]

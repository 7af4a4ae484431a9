"""A real Slurm on this machine: two nodes and a controller, started and stopped here.

The nodes are called n-01 and n-02, so that their list is compressed: n-[01-02]. Slurm
is told that each has two GPUs. Work in partition `urgent` preempts work in `main`,
which is requeued. (cred_expire=5 is the least that Slurm takes; without it a requeued
job waits 120 s.)
"""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port1}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,\
preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MaxArraySize={largest_array}
GresTypes=gpu
KillWait=1
MailProg=/bin/true
NodeName=n-[01-02] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{port1}-{port2}] \
CPUs={cpus} RealMemory=200000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not():
    """Say why Slurm cannot be started here; empty if it can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return (
            f"needs Slurm's {', '.join(missing)}: on Debian or Ubuntu, as root, "
            "`apt-get install slurmctld slurmd munge slurm-client` (.ci/run does it)"
        )
    if os.geteuid() != 0:
        return "needs root, to start Slurm's daemons"
    return ""


@contextmanager
def running_slurm(cpus=4, largest_array=1001):
    """Start a cluster; yields the environment variables that lead to it.

    Args:
        cpus: Of each node.
        largest_array: Slurm's MaxArraySize; task numbers are below it.

    Raises:
        TimeoutError: If it does not come up; with what its daemons said.
    """
    port = free_ports(3)
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))  # sockets: a short path
    os.chmod(folder, 0o755)
    for name in ("state", "n-01", "n-02"):
        (folder / name).mkdir()
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.format(
            folder=folder,
            host=os.uname().nodename,
            port=port,
            port1=port + 1,
            port2=port + 2,
            cpus=cpus,
            largest_array=largest_array,
        )
    )
    # Any device files will do: nobody opens them.
    (folder / "gres.conf").write_text(
        "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
    )
    sbin = os.environ["PATH"] + ":/usr/sbin"
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": sbin}
    munge = [f"--{k}={folder}/munge.{v}" for k, v in MUNGE_FILES.items()]
    commands = [
        ["munged", "-F", "-f", f"--key-file={key}", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "n-01"],
        ["slurmd", "-D", "-N", "n-02"],
    ]
    daemons = []
    try:
        with (folder / "daemons.log").open("w") as log:
            for command in commands:
                daemons.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdout=log,
                        stderr=log,
                        preexec_fn=die_with_parent,
                    )
                )
                if command[0] == "munged":
                    wait_until((folder / "munge.sock").exists, 10)
        try:
            wait_until(lambda: nodes_idle(environment), 30)
        except TimeoutError:
            said = (folder / "daemons.log").read_text()
            raise TimeoutError(f"Slurm does not come up:\n{said[-3000:]}") from None
        yield {"SLURM_CONF": str(conf), "PATH": sbin}
    finally:
        subprocess.run(
            ["scancel", f"--user={os.getuid()}"],
            env=environment,
            capture_output=True,
            timeout=30,
        )
        wait_until(lambda: not active_jobs(environment), 20)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


MUNGE_FILES = {
    "socket": "sock",
    "log-file": "log",
    "pid-file": "pid",
    "seed-file": "seed",
}


def die_with_parent():
    """Have the kernel end this process when the tests are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def free_ports(count):
    """Return the first of some ports in a row that nobody listens on."""
    draw = random.Random(os.getpid())
    while True:
        first = draw.randrange(20000, 30000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return first


def nodes_idle(environment):
    result = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"],
        env=environment,
        capture_output=True,
        text=True,
    )
    return result.stdout.split() == ["idle", "idle"]


def active_jobs(environment):
    """List the jobs that are queued, run or are being ended."""
    result = subprocess.run(
        ["squeue", "--noheader", "--format=%i"],
        env=environment,
        capture_output=True,
        text=True,
    )
    return result.stdout.split()


def wait_until(condition, seconds, pause=0.1):
    """Wait for a condition.

    Raises:
        TimeoutError: If it does not come true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {condition}")
        time.sleep(pause)

"""Slurm's own commands, as functions: sbatch, squeue, sacct.

Nothing is remembered here: what is queued is what Slurm's queue says. A task is known
by its job's number and its own, and leads back to its batch by the script's path.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import JOB_ID, SCRIPT, STEPS_FILE, Batch
from espnet_ext.utils.atomic import atomic_write_text

NAME = "ser-"

# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES: states of a job that
# will not run again. Others (also COMPLETING, REQUEUED, SUSPENDED, ...) are on the way.
_ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)
_FORMAT = "%F|%K|%T|%M|%r|%N|%o"

# What sbatch says where it would take fewer jobs, or a smaller array, or later.
_TOO_MANY = re.compile(
    r"job array specification|submit limit|MaxSubmit|MaxJobCount|temporarily unable",
    re.IGNORECASE,
)
# What to look at when it refuses.
_HINTS = {
    "partition": "`sinfo -s` lists the partitions",
    "account": "`sacctmgr show assoc user=$USER format=account,partition,qos` lists "
    "your accounts",
    "qos": "`sacctmgr show assoc user=$USER format=account,partition,qos` lists yours",
    "node configuration": "`sinfo -eO nodelist,cpus,memory,gres` shows what nodes have",
    "time limit": "`sinfo -s` shows the longest time of each partition",
}
_PAUSE = 5.0
_LONG = 60.0  # seconds: a longer wait is announced


class TooManyJobsError(UserError):
    """Slurm takes no more jobs now, or no array as large as this one."""


@dataclass(frozen=True, order=True)
class TaskId:
    """A task of a job array."""

    job: int
    task: int

    def __str__(self) -> str:
        return f"{self.job}_{self.task}"


@dataclass(frozen=True)
class QueuedTask:
    """A task as the queue shows it."""

    id: TaskId
    state: str  # Slurm's word: ``PENDING``, ``RUNNING``, ``FAILED``, ...
    elapsed: str  # how long it has run, as Slurm writes it
    reason: str  # why it waits or ended
    node: str  # where it runs
    folder: Path  # of its batch

    @property
    def ended(self) -> bool:
        """Whether it will not run (again)."""
        return self.state in _ENDED

    @property
    def waited_in_vain(self) -> bool:
        """Whether it was cancelled because what it waits for has failed."""
        return self.ended and self.reason == "DependencyNeverSatisfied"

    @property
    def verdict(self) -> str:
        """State and reason in a word or two."""
        reason = "" if self.reason in ("", "None") else f" ({self.reason})"
        return f"{self.state}{reason}"


def check_available() -> None:
    """See that Slurm's commands are here.

    Raises:
        UserError: If they are not.
    """
    if shutil.which("squeue") is None:
        raise UserError(
            "squeue is not on PATH: start this on a login node of the cluster, or set "
            "cmd_backend=local in cmd.sh"
        )


def queue(patience: float = 10.0) -> dict[TaskId, QueuedTask]:
    """List the user's tasks: queued, running, and ended in the last minutes.

    Args:
        patience: For how many seconds to ask again when Slurm does not answer.

    Raises:
        UserError: If it has not answered; with what it said.
    """
    check_available()
    command = [
        *("squeue", "--noheader", "--array", "--states=all"),
        *(f"--user={os.getuid()}", f"--format={_FORMAT}"),
    ]
    deadline = time.monotonic() + patience
    told = False
    while True:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return parse_queue(result.stdout)
        if time.monotonic() > deadline:
            raise UserError(
                f"Slurm does not answer: {_reason(result.stderr)}. Jobs that are "
                "queued go on, and the same command attaches to them"
            )
        if patience > _LONG and not told:
            told = True
            minutes = int(patience / 60)
            said = _reason(result.stderr)
            print(f"Slurm does not answer, asking on for {minutes} min: {said}")
        time.sleep(_PAUSE)


def parse_queue(text: str) -> dict[TaskId, QueuedTask]:
    """Read squeue's lines; jobs that are not ours are left out."""
    tasks = {}
    for line in text.splitlines():
        fields = line.split("|", maxsplit=6)
        if len(fields) != 7 or not fields[1].strip().isdigit():
            continue
        job, task, state, elapsed, reason, node, command = map(str.strip, fields)
        folder = Path(command).parent
        if Path(command).name != SCRIPT or not (folder / STEPS_FILE).is_file():
            continue
        key = TaskId(int(job), int(task))
        tasks[key] = QueuedTask(key, state, elapsed, reason, node, folder)
    return tasks


def submit(
    batch: Batch,
    command: Sequence[str],
    label: str,
    dependency: str = "",
    at_once: int = 0,
    keep_open: Sequence[int] = (),
) -> int:
    """Hand a batch to Slurm as one job array.

    Args:
        batch: The tasks.
        command: ``sbatch`` with the options of the cluster.
        label: Ends the job's name.
        dependency: sbatch's ``--dependency``.
        at_once: How many of the tasks may run at the same time; 0: any number.
        keep_open: Descriptors that sbatch inherits. A lock among them is held until
            sbatch has ended, also when this process dies meanwhile.

    Returns:
        The job's number.

    Raises:
        TooManyJobsError: If Slurm refuses it for the number of jobs.
        UserError: If it refuses it for another reason.
    """
    array = ",".join(str(task) for task in sorted(batch.tasks))
    words = [
        *(*command, "--parsable", f"--job-name={NAME}{label}"),
        f"--array={array}" + (f"%{at_once}" if at_once else ""),
        f"--output={str(batch.folder).replace('%', '%%')}/%a.log",
        *("--open-mode=append", "--requeue"),
    ]
    if dependency:
        words += [f"--dependency={dependency}", "--kill-on-invalid-dep=yes"]
    words.append(str(batch.script))
    result = subprocess.run(
        words, capture_output=True, text=True, check=False, pass_fds=keep_open
    )
    found = re.search(r"^(\d+)(;\S+)?$", result.stdout.strip(), re.MULTILINE)
    if result.returncode == 0 and found:
        job = int(found[1])
    else:
        # The answer can be lost on the way while the job is in the queue. A job that is
        # refused can be there too, as one that has failed.
        jobs = {
            entry.id.job
            for entry in queue().values()
            if entry.folder == batch.folder and not entry.ended
        }
        if not jobs:
            raise _refusal(batch, command, result.stderr)
        job = jobs.pop()
    atomic_write_text(batch.folder / JOB_ID, f"{job}\n")
    return job


def _reason(said: str) -> str:
    """Shorten what one of Slurm's commands said to a line."""
    lines = (re.sub(r"^\w+: (error|fatal): ", "", li) for li in said.splitlines())
    return "; ".join(line for line in lines if line)


def _refusal(batch: Batch, command: Sequence[str], said: str) -> UserError:
    """Say why sbatch refused a batch, and what to look at."""
    reason = _reason(said)
    if _TOO_MANY.search(reason):
        shutil.rmtree(batch.folder, ignore_errors=True)  # it will come in other parts
        return TooManyJobsError(reason)
    hints = [text for word, text in _HINTS.items() if word in reason.lower()]
    names = ", ".join(dict.fromkeys(s.name for t in batch.tasks.values() for s in t))
    return UserError(
        f"sbatch refused the job for {names}: {reason}. Its options come from cmd.sh "
        f"and conf/slurm.conf: {shlex.join(command)}"
        + "".join(f"\n{hint}" for hint in hints[:1])
    )


def last_state(task: TaskId) -> str:
    """Ask Slurm's accounting how a task ended; empty where there is none."""
    if shutil.which("sacct") is None:
        return ""
    result = subprocess.run(
        ["sacct", "-nXP", "-j", str(task), "--format=State,ExitCode"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stdout.split() if result.returncode == 0 else []
    return lines[-1].replace("|", ", exit code ") if lines else ""

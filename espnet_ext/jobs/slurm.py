"""Slurm's own commands, as functions: sbatch and squeue.

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
from typing import NamedTuple

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import SCRIPT, STEPS_FILE, Batch, read_batch
from espnet_ext.jobs.step import Step

NAME = "ser-"

# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES: states of a job that
# will not run again. Others (also COMPLETING, REQUEUED, SUSPENDED, ...) are on the way.
_ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
_FORMAT = "%F|%K|%T|%r|%N|%o"

# What sbatch says where it would take fewer jobs, or a smaller array, or later.
_TOO_MANY = re.compile(
    r"job array specification|submit limit|MaxSubmit|MaxJobCount|temporarily unable",
    re.IGNORECASE,
)
# What to look at when it refuses.
_HINT = (
    "`sinfo -s` lists partitions and time limits, `sinfo -eO nodelist,cpus,memory,gres`"
    " what nodes have, `sacctmgr show assoc user=$USER format=account,partition,qos` "
    "your accounts"
)
_PAUSE = 5.0


class TooManyJobsError(UserError):
    """Slurm takes no more jobs now, or no array as large as this one."""


class TaskId(NamedTuple):
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
    reason: str  # why it waits or ended
    node: str  # where it runs
    folder: Path  # of its batch

    @property
    def batch(self) -> Batch:
        """Where it comes from."""
        return read_batch(self.folder)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What it runs."""
        return self.batch.tasks[self.id.task]

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


def queue(patience: float = 10.0) -> dict[TaskId, QueuedTask]:
    """List the user's tasks: queued, running, and ended in the last minutes.

    Raises:
        UserError: Slurm is not here, or has not answered for `patience` seconds.
    """
    if shutil.which("squeue") is None:
        raise UserError(
            "squeue is not on PATH: start this on a login node of the cluster, or set "
            "cmd_backend=local in cmd.sh"
        )
    command = [
        *("squeue", "--noheader", "--array", "--states=all"),
        *(f"--user={os.getuid()}", f"--format={_FORMAT}"),
    ]
    deadline = time.monotonic() + patience
    announced = False
    while True:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return parse_queue(result.stdout)
        answer = f"Slurm does not answer: {_reason(result.stderr)}"
        if time.monotonic() > deadline:
            raise UserError(
                f"{answer}. Jobs that are queued go on, and the same command attaches "
                "to them"
            )
        if not announced:
            print(f"{answer}; asking on for {patience:.0f} s", flush=True)
        announced = True
        time.sleep(_PAUSE)


def parse_queue(text: str) -> dict[TaskId, QueuedTask]:
    """Read squeue's lines; jobs of other programs are left out."""
    tasks = {}
    for line in text.splitlines():
        fields = line.split("|", maxsplit=5)
        if len(fields) != 6 or not fields[1].strip().isdigit():
            continue
        job, task, state, reason, node, command = map(str.strip, fields)
        folder = Path(command).parent
        if Path(command).name != SCRIPT or not (folder / STEPS_FILE).is_file():
            continue
        key = TaskId(int(job), int(task))
        tasks[key] = QueuedTask(key, state, reason, node, folder)
    return tasks


def submit(
    batch: Batch,
    command: Sequence[str],
    label: str,
    dependency: str = "",
    at_once: int = 0,
    keep_open: Sequence[int] = (),
) -> int:
    """Hand a batch to Slurm as one job array; return its number.

    Args:
        batch: The tasks.
        command: ``sbatch`` with the options of the cluster.
        label: Ends the job's name.
        dependency: sbatch's ``--dependency``.
        at_once: How many of the tasks may run at the same time; 0: any number.
        keep_open: Descriptors that sbatch inherits. A lock among them is held until
            sbatch has ended, also when this process dies meanwhile.

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
        return int(found[1])
    # The answer can be lost on the way while the job is in the queue. A job that is
    # refused can be there too, as one that has failed.
    for entry in queue().values():
        if entry.folder == batch.folder and not entry.ended:
            return entry.id.job
    reason = _reason(result.stderr)
    if _TOO_MANY.search(reason):
        shutil.rmtree(batch.folder, ignore_errors=True)  # it will come in other parts
        raise TooManyJobsError(reason)
    names = ", ".join(dict.fromkeys(s.name for t in batch.tasks.values() for s in t))
    raise UserError(
        f"sbatch refused the job for {names}: {reason}. Its options come from cmd.sh "
        f"and conf/slurm.conf: {shlex.join(command)}\n{_HINT}"
    )


def _reason(answer: str) -> str:
    """Shorten an answer of Slurm's commands to a line."""
    lines = (re.sub(r"^\w+: (error|fatal): ", "", li) for li in answer.splitlines())
    return "; ".join(line for line in lines if line)

"""A batch: tasks that were handed to a cluster together, as a folder on disk.

======================= ==============================================================
``steps.json``          the steps of each task: what a job runs, as it was when queued
``job.sh``              the script that the cluster starts, once a task
``job_id``              the cluster's number of it
``<task>.log``          what the task printed, and what the cluster said about it
``<task>.json``         how the task stands: running, done or failed
======================= ==============================================================

The folder is complete before the batch is submitted, and the cluster's queue names
``job.sh``: whoever finds the job in the queue finds the steps. So nothing is lost, and
nothing submitted twice, when the submitting process dies at any moment.
"""

import hashlib
import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.jobs.step import Step, step_from_json, step_to_json
from espnet_ext.utils.atomic import atomic_write_text

STEPS_FILE = "steps.json"
SCRIPT = "job.sh"
JOB_ID = "job_id"

# What path.sh sets. Clusters start jobs with little of the submitter's environment
# (ESPnet's slurm.conf: --export=PATH).
_ENVIRONMENT = (
    *("PATH", "PYTHONPATH", "LC_ALL", "PYTHONIOENCODING", "OMP_NUM_THREADS"),
    *("SER_ROOT", "SER_ENV", "HF_HOME", "HF_HUB_OFFLINE"),
)


@dataclass(frozen=True)
class Batch:
    """Tasks of one submission.

    Attributes:
        folder: Where it lies, absolute.
        tasks: The steps of each task by the task's number. Steps of one task run side
            by side.
        max_restarts: How often the cluster may start a task again.
        needs: What a step reads, by the step's key, where it is the job itself that
            must see whether that is finished.
    """

    folder: Path
    tasks: Mapping[int, tuple[Step, ...]]
    max_restarts: int
    needs: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)

    @property
    def script(self) -> Path:
        """The script that the cluster starts."""
        return self.folder / SCRIPT

    def log(self, task: int) -> Path:
        """What a task printed."""
        return self.folder / f"{task}.log"


def step_key(step: Step) -> str:
    """Name what a step makes and from what, before its inputs exist.

    Two plans that would run the same program with the same settings agree on it; how
    many processes or GPUs it uses does not count.
    """
    content = {
        "module": step.module,
        "settings": step.settings,
        "output": os.path.abspath(step.output),
        "inputs": [os.path.abspath(item.path) for item in step.inputs],
        "products": step.products,
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unique(steps: Iterable[Step]) -> list[Step]:
    """Keep each step once: folds share some, and workers share one."""
    return list({step_key(step): step for step in steps}.values())


def write_batch(
    root: Path,
    tasks: Mapping[int, Sequence[Step]],
    max_restarts: int,
    needs: Mapping[str, Sequence[Step]] | None = None,
) -> Batch:
    """Write the folder of a batch below `root`; the arguments are as in `Batch`."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    folder = Path(os.path.abspath(root)) / name
    batch = Batch(
        folder,
        {number: tuple(steps) for number, steps in tasks.items()},
        max_restarts,
        {key: tuple(steps) for key, steps in (needs or {}).items()},
    )
    content = {
        "max_restarts": max_restarts,
        "tasks": {
            number: [step_to_json(step) for step in steps]
            for number, steps in batch.tasks.items()
        },
        "needs": {
            key: [step_to_json(step) for step in steps]
            for key, steps in batch.needs.items()
        },
    }
    text = json.dumps(content, indent=1, default=str)
    atomic_write_text(folder / STEPS_FILE, text)
    atomic_write_text(batch.script, _script(folder))
    return batch


def read_batch(folder: Path) -> Batch:
    """Read what `write_batch` wrote.

    Raises:
        UserError: If there is no batch.
    """
    try:
        content = json.loads((folder / STEPS_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{folder / STEPS_FILE}: no batch of jobs ({error})") from None
    tasks = {
        int(number): tuple(step_from_json(step) for step in steps)
        for number, steps in content["tasks"].items()
    }
    needs = {
        key: tuple(step_from_json(step) for step in steps)
        for key, steps in content.get("needs", {}).items()
    }
    return Batch(folder, tasks, content["max_restarts"], needs)


def _script(folder: Path) -> str:
    """Make the job's script; paths in the steps are relative to the present folder."""
    exports = [
        f"export {name}={shlex.quote(os.environ[name])}"
        for name in _ENVIRONMENT
        if name in os.environ
    ]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            f"# Runs a task of {folder / STEPS_FILE}, by default the array's.",
            "set -euo pipefail",
            *exports,
            # A warning of the time limit before Python listens ends nothing.
            "trap '' USR1",
            f"cd -- {shlex.quote(os.getcwd())}",
            # exec: the cluster's signals reach Python, and nothing else.
            f"exec {shlex.quote(sys.executable)} -m espnet_ext.bin.ser_step "
            f'{shlex.quote(str(folder))} "${{1:-${{SLURM_ARRAY_TASK_ID}}}}"',
            "",
        ]
    )


@dataclass(frozen=True)
class TaskRecord:
    """How a task stands, by its own account.

    Attributes:
        state: ``running``, ``done`` or ``failed``.
        host: The node.
        job: The cluster's number of it.
        restarts: How often the cluster had started it again.
        started: Seconds since the epoch.
        ended: The same, 0 while it runs.
        note: What went wrong.
    """

    state: str
    host: str
    job: str
    restarts: int
    started: float
    ended: float = 0.0
    note: str = ""


def write_record(batch: Batch, task: int, record: TaskRecord) -> None:
    """Leave word of how a task stands."""
    text = json.dumps(asdict(record), indent=1)
    atomic_write_text(batch.folder / f"{task}.json", text)


def read_record(batch: Batch, task: int) -> TaskRecord | None:
    """Read a task's last word; None if it has not begun."""
    try:
        text = (batch.folder / f"{task}.json").read_text(encoding="utf-8")
        return TaskRecord(**json.loads(text))
    except (FileNotFoundError, json.JSONDecodeError):
        return None

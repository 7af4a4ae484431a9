"""A batch: tasks that were handed to a cluster together, as a folder on disk.

``steps.json`` holds the steps of each task as they were when queued, ``job.sh`` starts
a task, ``<task>.log`` is what it printed, ``<task>.json`` how it stands.

The folder is complete before the batch is submitted, and the cluster's queue names
``job.sh``: whoever finds the job in the queue finds the steps. So nothing is lost, and
nothing submitted twice, when the submitting process dies at any moment.
"""

import functools
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
from espnet_ext.jobs.step import Step, hash_json, step_from_json
from espnet_ext.utils.atomic import atomic_write_text

STEPS_FILE = "steps.json"
SCRIPT = "job.sh"

# What path.sh sets. Clusters start jobs with little of the submitter's environment
# (ESPnet's slurm.conf: --export=PATH).
_ENVIRONMENT = (
    *("PATH", "PYTHONPATH", "LC_ALL", "PYTHONIOENCODING", "OMP_NUM_THREADS"),
    *("SER_ROOT", "SER_ENV", "HF_HOME", "HF_HUB_OFFLINE"),
)


@dataclass(frozen=True)
class Batch:
    """Tasks of one submission; its folder never changes."""

    folder: Path  # where it lies, absolute
    tasks: Mapping[int, tuple[Step, ...]]  # by number; steps of one run side by side
    max_restarts: int  # how often the cluster may start a task again
    # What a job itself must find finished before a step, by the step's key.
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
    return hash_json(content)[:16]


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
    content = {
        "max_restarts": max_restarts,
        "tasks": {number: list(map(asdict, steps)) for number, steps in tasks.items()},
        "needs": {key: list(map(asdict, s)) for key, s in (needs or {}).items()},
    }
    text = json.dumps(content, indent=1, default=str)
    atomic_write_text(folder / STEPS_FILE, text)
    atomic_write_text(folder / SCRIPT, _script(folder))
    return read_batch(folder)


@functools.cache
def read_batch(folder: Path) -> Batch:
    """Read what `write_batch` wrote.

    Raises:
        UserError: If there is no batch.
    """
    try:
        content = json.loads((folder / STEPS_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{folder / STEPS_FILE}: no batch of jobs ({error})") from None
    tasks, needs = (
        {key: tuple(map(step_from_json, steps)) for key, steps in content[part].items()}
        for part in ("tasks", "needs")
    )
    numbered = {int(number): steps for number, steps in tasks.items()}
    return Batch(folder, numbered, content["max_restarts"], needs)


def _script(folder: Path) -> str:
    """Make the job's script; paths in the steps are relative to the present folder."""
    quote = shlex.quote
    set_here = [name for name in _ENVIRONMENT if name in os.environ]
    exports = [f"export {name}={quote(os.environ[name])}" for name in set_here]
    # A warning of the time limit before Python listens ends nothing; by exec the
    # cluster's signals reach Python, and nothing else.
    return f"""#!/usr/bin/env bash
# Runs a task of {folder / STEPS_FILE}, by default the array's.
set -euo pipefail
{chr(10).join(exports)}
trap '' USR1
cd -- {quote(os.getcwd())}
exec {quote(sys.executable)} -m espnet_ext.jobs.step_process {quote(str(folder))} \\
    "${{1:-${{SLURM_ARRAY_TASK_ID}}}}"
"""


@dataclass(frozen=True)
class TaskRecord:
    """How a task stands, by its own account."""

    state: str  # ``running``, ``done`` or ``failed``
    host: str  # the node
    job: str  # the cluster's number of it
    restarts: int  # how often the cluster had started it again
    started: float  # seconds since the epoch
    ended: float = 0.0  # the same, 0 while it runs
    note: str = ""  # what went wrong


def write_record(batch: Batch, task: int, record: TaskRecord) -> None:
    """Write down how a task stands."""
    text = json.dumps(asdict(record), indent=1)
    atomic_write_text(batch.folder / f"{task}.json", text)


def read_record(batch: Batch, task: int) -> TaskRecord | None:
    """Read how a task stands; None if it has not begun."""
    try:
        text = (batch.folder / f"{task}.json").read_text(encoding="utf-8")
        return TaskRecord(**json.loads(text))
    except (FileNotFoundError, json.JSONDecodeError):
        return None

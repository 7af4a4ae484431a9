"""On what a training ran and how long: ``hardware.json`` in its folder.

The table is often made on another machine than the trainings, so each training says for
itself where it ran. A training that was stopped and resumed has several starts, each
with its own machines; its wall time is their sum. The file is written when an epoch
begins, when it has been validated and at the end, so a kill loses at most the time of
the epoch that was running.

``espnet_ext/scoring/README.md`` describes the file, for whoever reads it.
"""

import json
import os
import platform
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from espnet_ext.utils.atomic import atomic_write_text
from espnet_ext.utils.machine import processor_name
from espnet_ext.utils.packages import DISTRIBUTIONS, find_packages

FILE = "hardware.json"


@dataclass(frozen=True, slots=True)
class Machine:
    """What one process of a training runs on.

    Attributes:
        host: Name of the machine.
        cpu: Model of its processor.
        cores: Logical cores that the process may use.
        threads: Threads that torch uses for one operation.
        gpus: Name of each GPU that the process uses; empty without one.
    """

    host: str
    cpu: str
    cores: int
    threads: int
    gpus: tuple[str, ...]


def this_machine(ngpu: int) -> Machine:
    """Describe what this process runs on.

    Args:
        ngpu: GPUs that the process uses, the current one first.
    """
    first = torch.cuda.current_device() if ngpu else 0
    devices = [first] if ngpu == 1 else range(ngpu)
    return Machine(
        host=socket.gethostname(),
        cpu=processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        threads=torch.get_num_threads(),
        gpus=tuple(torch.cuda.get_device_name(device) for device in devices),
    )


def all_machines(ngpu: int, *, distributed: bool) -> list[Machine]:
    """Describe what every rank runs on, in the order of the ranks.

    Args:
        ngpu: GPUs of each process.
        distributed: Whether there are other ranks; all of them must call this.
    """
    own = this_machine(ngpu)
    if not distributed:
        return [own]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return gathered


def imported_packages() -> dict[str, dict[str, Any]]:
    """Version and folder of ESPnet and the like, of those that are imported here.

    ``own`` tells whether a package is the environment's; another one may come from
    ``PYTHONPATH``.
    """
    found = find_packages(name for name in DISTRIBUTIONS if name in sys.modules)
    return {name: package.record() for name, package in found.items()}


@dataclass(slots=True)
class TrainingRecord:
    """The record of one start of a training; earlier starts are kept before it.

    Attributes:
        folder: Of the training.
        machines: One a rank.
        earlier: The starts before this one, as they are in the file.
        packages: Version and folder of each package that this process has imported.
    """

    folder: Path
    machines: list[Machine]
    earlier: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, dict[str, Any]] = field(
        default_factory=lambda: imported_packages()
    )
    _began: float = field(default_factory=time.perf_counter)
    _date: datetime = field(default_factory=lambda: datetime.now().astimezone())
    _first: int | None = None
    _last: int | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Note that an epoch has begun."""
        if self._first is None:
            self._first = epoch
        self.save()

    def end_epoch(self, epoch: int) -> None:
        """Note that an epoch has been trained and validated."""
        self._last = epoch
        self.save()

    def save(self) -> None:
        """Write the file; nothing if no epoch has begun, as in a finished training."""
        if self._first is None:
            return
        start = {
            "started": self._date.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._began, 3),
            "first_epoch": self._first,
            "last_epoch": self._last,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda if self.machines[0].gpus else None,
            "packages": self.packages,
            "machines": [asdict(machine) for machine in self.machines],
        }
        content = {"starts": [*self.earlier, start]}
        atomic_write_text(self.folder / FILE, json.dumps(content, indent=1) + "\n")


def open_record(
    folder: Path, machines: list[Machine], *, resume: bool
) -> TrainingRecord:
    """Begin the record of a start.

    Args:
        folder: Of the training.
        machines: One a rank.
        resume: Whether the training goes on, so that what it took before counts.
    """
    for leftover in folder.glob(f".tmp-{FILE}-*"):  # of a kill inside of a save
        leftover.unlink(missing_ok=True)
    earlier: list[dict[str, Any]] = []
    try:
        if resume:
            text = (folder / FILE).read_text(encoding="utf-8")
            earlier = json.loads(text)["starts"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # of an older version, or not ours: no reason to refuse a training
    return TrainingRecord(folder, machines, earlier)

"""On what a training runs and how long: what it writes into ``hardware.json``.

A training that was stopped and resumed has several starts, each with its own machines;
its wall time is their sum. The file is written when an epoch begins, when it has been
validated and at the end, so a kill loses at most the running epoch's time
(`scoring.hardware` writes and reads it).
"""

import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from espnet_ext.errors import UserError
from espnet_ext.scoring.hardware import FILE, read_starts, write_starts
from espnet_ext.utils.machine import processor_name
from espnet_ext.utils.packages import DISTRIBUTIONS, find_packages


def this_machine(ngpu: int) -> dict[str, Any]:
    """Describe what this process, with so many GPUs, runs on."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    devices = [torch.cuda.current_device()] if ngpu == 1 else range(ngpu)
    return {
        "host": socket.gethostname(),
        "cpu": processor_name(),
        "cores": len(affinity(0)) if affinity else 0,  # that the process may use
        "threads": torch.get_num_threads(),  # for one operation
        "gpus": [torch.cuda.get_device_name(device) for device in devices],
    }


@dataclass(slots=True)
class TrainingRecord:
    """The record of one start of a training; earlier starts are kept before it."""

    folder: Path
    earlier: Sequence[dict[str, Any]]
    start: dict[str, Any]
    _began: float = field(default_factory=time.perf_counter)

    def begin_epoch(self, epoch: int) -> None:
        """Note that an epoch has begun."""
        if self.start["first_epoch"] is None:
            self.start["first_epoch"] = epoch
        self.save()

    def end_epoch(self, epoch: int) -> None:
        """Note that an epoch has been trained and validated."""
        self.start["last_epoch"] = epoch
        self.save()

    def save(self) -> None:
        """Write the file; nothing if no epoch has begun, as in a finished training."""
        if self.start["first_epoch"] is not None:
            self.start["seconds"] = round(time.perf_counter() - self._began, 3)
            write_starts(self.folder, [*self.earlier, self.start])


def open_record(
    folder: Path, machines: Sequence[dict[str, Any]], *, resume: bool
) -> TrainingRecord:
    """Begin the record of a start on the `machines`, one a rank (`this_machine`).

    With `resume` what it took before counts.
    """
    for leftover in folder.glob(f".tmp-{FILE}-*"):  # of a kill inside of a save
        leftover.unlink(missing_ok=True)
    earlier = []
    with suppress(UserError):  # what took the file's place must not stop a training
        earlier = read_starts(folder) if resume else []
    found = find_packages(name for name in DISTRIBUTIONS if name in sys.modules)
    start = {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": 0.0,
        "first_epoch": None,
        "last_epoch": None,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if machines[0]["gpus"] else None,
        "packages": {name: package.record() for name, package in found.items()},
        "machines": machines,
    }
    return TrainingRecord(folder, earlier, start)

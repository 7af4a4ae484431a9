"""What trainings took, and with what they ran: ``hardware.json`` beside each train.log.

README.md has the file's keys. Of a training without it, the log tells hosts and wall
time.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.scoring.train_log import read_wall_time
from espnet_ext.utils.machine import processor_name
from espnet_ext.utils.packages import find_packages, in_words

HARDWARE_FILE = "hardware.json"
# Of trainings that kept no record.
_UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a training: it has several if it was stopped and resumed.

    Attributes:
        seconds: Wall time.
        hosts: Machines, each once.
        hardware: Processors and GPUs in words, without the machines' names.
        software: Versions in words.
        gpus: Number of GPUs.
    """

    seconds: float
    hosts: tuple[str, ...]
    hardware: str
    software: str
    gpus: int


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """What a training took.

    Attributes:
        seconds: Wall time, of all starts together.
        hosts: Machines that it ran on, each once.
        epochs: How many it trained; None if only its log is there.
        starts: Each start; empty if only its log is there.
    """

    seconds: float
    hosts: tuple[str, ...]
    epochs: int | None = None
    starts: tuple[Start, ...] = ()

    @property
    def gpu_seconds(self) -> float:
        """Wall time times the GPUs in use."""
        return sum(start.seconds * start.gpus for start in self.starts)


@dataclass(frozen=True, slots=True)
class HardwareShare:
    """What was trained on one kind of machine.

    Attributes:
        hardware: The machine in words.
        software: Versions in words; empty if only logs are there.
        hosts: Names of the machines.
        trainings: Trainings that ran on it, resumed ones on each of their kinds.
        seconds: Wall time there, of all of them together.
    """

    hardware: str
    software: str
    hosts: tuple[str, ...]
    trainings: int
    seconds: float


def training_time(log: Path) -> TrainingTime:
    """Find out what a training took: from its record, else from its log.

    Args:
        log: ``train.log``; the record lies beside it.

    Raises:
        UserError: There is neither, or the record is malformed.
    """
    record = log.with_name(HARDWARE_FILE)
    if not record.is_file():
        return TrainingTime(*read_wall_time(log))
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["starts"]
        starts = tuple(_start(start) for start in recorded)
        epochs = max(start["last_epoch"] or 0 for start in recorded)
        first = recorded[0]["first_epoch"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{record} is not the record of a training ({error!r}); remove it, and the "
            "log will tell its wall time"
        ) from None
    hosts = tuple(dict.fromkeys(host for start in starts for host in start.hosts))
    seconds = sum(start.seconds for start in starts)
    if first > 1 and log.is_file():
        # Begun by a version that kept no record: only the log knows all of it.
        logged, earlier = read_wall_time(log)
        hosts = tuple(dict.fromkeys((*earlier, *hosts)))
        seconds = max(seconds, logged)
    return TrainingTime(seconds, hosts, epochs, starts)


def _start(content: Mapping[str, Any]) -> Start:
    by_host: dict[str, list[Mapping[str, Any]]] = {}
    for machine in content["machines"]:  # one a rank
        by_host.setdefault(machine["host"], []).append(machine)
    software = [f"torch {content['torch']}"]
    software += [f"CUDA {content['cuda']}"] if content.get("cuda") else []
    # ESPnet's version, and what did not come from the environment.
    for name, package in content.get("packages", {}).items():
        if name == "espnet2" or not package["own"]:
            software.append(f"{name.removesuffix('2')} {in_words(package)}")
    return Start(
        seconds=float(content["seconds"]),
        hosts=tuple(by_host),
        hardware=_counted([_describe_host(h) for h in by_host.values()], " + "),
        software=", ".join([*software, f"python {content['python']}"]),
        gpus=sum(len(machine["gpus"]) for machine in content["machines"]),
    )


def _describe_host(ranks: Sequence[Mapping[str, Any]]) -> str:
    """Processor, threads and GPUs of one machine, over its ranks."""
    threads = sum(int(rank["threads"]) for rank in ranks)
    gpus = [str(gpu) for rank in ranks for gpu in rank["gpus"]]
    text = f"{ranks[0]['cpu']}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{text}, {_counted(gpus, ', ') if gpus else 'no GPU'}"


def _counted(words: Sequence[str], between: str) -> str:
    """Each word once, with its number if that is not one."""
    numbers = {word: words.count(word) for word in words}
    return between.join(
        word if number == 1 else f"{number} × {word}"
        for word, number in numbers.items()
    )


def hardware_shares(times: Iterable[TrainingTime]) -> list[HardwareShare]:
    """Sum up trainings by the kind of machine, the longest first."""
    shares: dict[tuple[str, str], HardwareShare] = {}
    for time in times:
        parts = list(time.starts) or [Start(time.seconds, time.hosts, _UNKNOWN, "", 0)]
        before_record = time.seconds - sum(part.seconds for part in parts)
        if before_record > 1.0:
            parts.append(Start(before_record, (), _UNKNOWN, "", 0))
        seen = set()
        for part in parts:
            kind = (part.hardware, part.software)
            old = shares.get(kind, HardwareShare(*kind, (), 0, 0.0))
            shares[kind] = HardwareShare(
                *kind,
                hosts=tuple(dict.fromkeys((*old.hosts, *part.hosts))),
                trainings=old.trainings + (kind not in seen),
                seconds=old.seconds + part.seconds,
            )
            seen.add(kind)
    return sorted(shares.values(), key=lambda share: -share.seconds)


@dataclass(frozen=True, slots=True)
class Environment:
    """What a result was made with; the only part that differs between equal runs."""

    date: str
    python: str
    espnet: str
    torch: str
    numpy: str
    espnet_ext: str
    git: str
    hardware: str


def read_environment(train_logs: Iterable[Path] = ()) -> Environment:
    """Versions of the packages, without importing any of them.

    Args:
        train_logs: Of the trainings, whose last start counts; without a record it is
            what this environment imports.
    """
    trained = []
    for log in train_logs:
        try:
            text = log.with_name(HARDWARE_FILE).read_text(encoding="utf-8")
            trained.append(dict(json.loads(text)["starts"][-1]["packages"]))
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue  # of an older version, or none
    names = ("espnet2", "torch", "espnet_ext")
    here = {name: p.record() for name, p in find_packages(names).items()}

    def version(name: str) -> str:
        ran = [in_words(packages[name]) for packages in trained if name in packages]
        if not ran and name in here:
            ran = [in_words(here[name])]
        return "; ".join(dict.fromkeys(ran)) or "not installed"

    return Environment(
        date=datetime.now().astimezone().strftime("%a %b %d %H:%M:%S %Z %Y"),
        python=platform.python_version(),
        espnet=version("espnet2"),
        torch=version("torch"),
        numpy=np.__version__,
        espnet_ext=version("espnet_ext"),
        git=_git_state(),
        hardware=f"{processor_name()}, {os.cpu_count()} logical cores",
    )


def _git_state() -> str:
    """Commit of the source tree, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()

    try:
        # An installed copy may lie below some other project's repository.
        if not git("ls-files", Path(__file__).name):
            return "none"
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" (modified)" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "none"

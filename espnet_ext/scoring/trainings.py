"""What trainings took, and with what they ran, from ``hardware.json``."""

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.scoring.hardware import FILE, malformed, read_starts
from espnet_ext.scoring.names import plural
from espnet_ext.utils.machine import processor_name
from espnet_ext.utils.packages import find_packages, in_words


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a training: it has several if it was stopped and resumed."""

    seconds: float
    hosts: tuple[str, ...]
    hardware: str  # without the machines' names
    software: str
    gpus: int


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """What a training took: its starts, and how many epochs it trained."""

    starts: tuple[Start, ...]
    epochs: int

    @property
    def seconds(self) -> float:
        """Wall time of all starts together."""
        return sum(start.seconds for start in self.starts)

    @property
    def gpu_seconds(self) -> float:
        """Wall time times the GPUs in use."""
        return sum(start.seconds * start.gpus for start in self.starts)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Machines that it ran on, each once."""
        return tuple(dict.fromkeys(host for s in self.starts for host in s.hosts))


@dataclass(frozen=True, slots=True)
class HardwareShare:
    """What was trained on one kind of machine."""

    hardware: str
    software: str
    hosts: tuple[str, ...]
    trainings: int  # resumed ones count on each of their kinds
    seconds: float


def training_times[K](logs: Mapping[K, Path | None]) -> dict[K, TrainingTime]:
    """Read what trainings took, from the records beside their logs.

    Trainings without a log or a record are left out.

    Raises:
        UserError: A record is malformed.
    """
    found = {}
    for key, log in logs.items():
        recorded = read_starts(log.parent) if log else []
        try:
            starts = tuple(_start(start) for start in recorded)
            epochs = max((start["last_epoch"] or 0 for start in recorded), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise malformed(log.parent / FILE, error) from None  # type: ignore[union-attr]
        if starts:
            found[key] = TrainingTime(starts, epochs)
    return found


def _start(content: Mapping[str, Any]) -> Start:
    machines = content["machines"]  # one a rank
    hosts = tuple(dict.fromkeys(machine["host"] for machine in machines))
    software = [f"torch {content['torch']}"]
    software += [f"CUDA {content['cuda']}"] if content.get("cuda") else []
    # ESPnet's version, and what did not come from the environment.
    for name, package in content.get("packages", {}).items():
        if name == "espnet2" or not package["own"]:
            software.append(f"{name.removesuffix('2')} {in_words(package)}")
    described = [
        _describe_host([rank for rank in machines if rank["host"] == host])
        for host in hosts
    ]
    return Start(
        seconds=float(content["seconds"]),
        hosts=hosts,
        hardware=_counted(described, " + "),
        software=", ".join([*software, f"python {content['python']}"]),
        gpus=sum(len(machine["gpus"]) for machine in machines),
    )


def _describe_host(ranks: Sequence[Mapping[str, Any]]) -> str:
    """Processor, threads and GPUs of one machine, over its ranks."""
    threads = plural(sum(int(rank["threads"]) for rank in ranks), "thread")
    gpus = [str(gpu) for rank in ranks for gpu in rank["gpus"]]
    return f"{ranks[0]['cpu']}, {threads}, {_counted(gpus, ', ') or 'no GPU'}"


def _counted(words: Sequence[str], between: str) -> str:
    """Each word once, with its number if that is not one."""
    counts = Counter(words).items()
    return between.join(w if number == 1 else f"{number} × {w}" for w, number in counts)


def hardware_shares(times: Iterable[TrainingTime]) -> list[HardwareShare]:
    """Sum up trainings by the kind of machine, the longest first."""
    kinds: dict[tuple[str, str], list[tuple[int, Start]]] = {}
    for number, time in enumerate(times):
        for start in time.starts:
            parts = kinds.setdefault((start.hardware, start.software), [])
            parts.append((number, start))
    shares = [
        HardwareShare(
            *kind,
            hosts=tuple(dict.fromkeys(host for _, s in parts for host in s.hosts)),
            trainings=len({number for number, _ in parts}),
            seconds=float(sum(start.seconds for _, start in parts)),
        )
        for kind, parts in kinds.items()
    ]
    return sorted(shares, key=lambda share: -share.seconds)


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
    """Versions of the packages, without importing any of them."""
    starts = [read_starts(log.parent)[-1:] for log in train_logs]
    trained = [start.get("packages", {}) for [start] in filter(None, starts)]
    names = ("espnet2", "torch", "espnet_ext")
    here = {name: p.record() for name, p in find_packages(names).items()}

    def version(name: str) -> str:
        ran = [packages[name] for packages in trained if name in packages]
        ran = ran or [here[n] for n in (name,) if n in here]
        return "; ".join(dict.fromkeys(map(in_words, ran))) or "not installed"

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
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.check_output(
            command, stderr=subprocess.DEVNULL, text=True, timeout=20
        ).strip()

    try:
        # An installed copy may lie below some other project's repository.
        if not git("ls-files", Path(__file__).name):
            return "none"
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" (modified)" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "none"

"""The list of a table's runs: where each one's predictions and log are.

``runs.csv`` has a row a run and these columns; paths are relative to the folder from
which the program is started, and blank of a run that is not finished:

=============== ===================================================================
``row``         key of the table's row
``fold``        0 where there are no folds
``seed``
``predictions`` predictions.csv of the fold's test set
``train_log``   may be blank or absent: for training curves and wall times
``config``      may be blank or absent: the training's YAML
``training``    may be blank or absent: a fingerprint of the training's inputs
``code``        may be blank or absent: a digest of the code that made the run
=============== ===================================================================

Beside a ``train_log`` there may be ``hardware.json``, in which the training says on
what it ran (README.md has its keys); without it the log tells hosts and wall time.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from espnet_ext.errors import UserError
from espnet_ext.scoring.predictions import Predictions, read_predictions
from espnet_ext.scoring.table_scores import RunKey
from espnet_ext.scoring.table_spec import TableSpec
from espnet_ext.utils.packages import in_words

_NEEDED = ("row", "fold", "seed", "predictions")
# ESPnet's: [host] 2026-01-01 10:00:00,000 (trainer:392) INFO: ...
_STAMP = re.compile(r"^\[([^\]]+)\] (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \(")
HARDWARE_FILE = "hardware.json"
# A longer silence is a break between two starts, not work.
_LONGEST_SILENCE = 3600.0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of the table.

    Attributes:
        key: Row, fold and seed.
        predictions: None if it is not finished.
        train_log: None if there is none.
        config: Its training YAML, or nothing.
        training: Fingerprint of its training, or nothing.
        code: Digest of the code that made it, or nothing.
    """

    key: RunKey
    predictions: Path | None
    train_log: Path | None
    config: str
    training: str
    code: str = ""


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
        starts: What it says of itself; empty if only its log is there.
    """

    seconds: float
    hosts: tuple[str, ...]
    epochs: int | None = None
    starts: tuple[Start, ...] = ()

    @property
    def gpu_seconds(self) -> float:
        """Wall time times the GPUs in use."""
        return sum(start.seconds * start.gpus for start in self.starts)


def read_runs(path: Path | str, spec: TableSpec) -> list[RunRecord]:
    """Read a list of runs.

    Raises:
        UserError: The file is missing or malformed, a run occurs twice, or is of no
            row of the table.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such list of runs")
    records: dict[RunKey, RunRecord] = {}
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if lacking:
            raise UserError(f"{path}:1: no column {lacking[0]!r} in the header")
        for line in reader:
            where = f"{path}:{reader.line_num}"
            key = _key(line, where)
            if key.row not in spec.rows:
                raise UserError(
                    f"{where}: no row {key.row!r} in table {spec.name}; there are "
                    f"{', '.join(spec.rows)}"
                )
            if key.fold not in spec.folds:
                raise UserError(f"{where}: no fold {key.fold} in table {spec.name}")
            if key in records:
                raise UserError(f"{where}: this row, fold and seed occur twice")
            records[key] = RunRecord(
                key=key,
                predictions=_path(line["predictions"]),
                train_log=_path(line.get("train_log")),
                config=line.get("config") or "",
                training=line.get("training") or "",
                code=line.get("code") or "",
            )
    if not records:
        raise UserError(f"{path}: no run in it")
    return list(records.values())


def _key(line: Mapping[str, str], where: str) -> RunKey:
    try:
        return RunKey(line["row"], int(line["fold"] or 0), int(line["seed"]))
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: fold {line['fold']!r} and seed {line['seed']!r} must be whole "
            "numbers"
        ) from None


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def read_all_predictions(records: Sequence[RunRecord]) -> dict[RunKey, Predictions]:
    """Read the predictions of the runs that are finished."""
    return {
        record.key: read_predictions(record.predictions)
        for record in records
        if record.predictions is not None
    }


def training_time(log: Path) -> TrainingTime:
    """Tell what a training took: by its own record, else by its log.

    Args:
        log: ``train.log``; the record lies beside it.

    Raises:
        UserError: There is neither, or the record is malformed.
    """
    record = log.with_name(HARDWARE_FILE)
    if not record.is_file():
        return _time_by_log(log)
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        starts = tuple(_start(start) for start in content["starts"])
        epochs = max(start["last_epoch"] or 0 for start in content["starts"])
        first = content["starts"][0]["first_epoch"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{record} is not the record of a training ({error!r}); remove it, and the "
            "log will tell its wall time"
        ) from None
    hosts = tuple(dict.fromkeys(host for start in starts for host in start.hosts))
    seconds = sum(start.seconds for start in starts)
    if first > 1 and log.is_file():
        # Begun by a version that kept no record: only the log knows all of it.
        by_log = _time_by_log(log)
        hosts = tuple(dict.fromkeys((*by_log.hosts, *hosts)))
        seconds = max(seconds, by_log.seconds)
    return TrainingTime(seconds, hosts, epochs, starts)


def _start(content: Mapping[str, Any]) -> Start:
    """Put one start of the record into words."""
    machines = content["machines"]
    by_host: dict[str, list[Mapping[str, Any]]] = {}
    for machine in machines:  # one a rank
        by_host.setdefault(machine["host"], []).append(machine)
    words = [_describe_host(ranks) for ranks in by_host.values()]
    software = f"torch {content['torch']}"
    if content.get("cuda"):
        software += f", CUDA {content['cuda']}"
    return Start(
        seconds=float(content["seconds"]),
        hosts=tuple(by_host),
        hardware=_counted(words, " + "),
        software=f"{software}{_packages(content)}, python {content['python']}",
        gpus=sum(len(machine["gpus"]) for machine in machines),
    )


def _packages(content: Mapping[str, Any]) -> str:
    """ESPnet's version, and what did not come from the environment."""
    told = {
        name.removesuffix("2"): in_words(package)
        for name, package in content.get("packages", {}).items()
        if name == "espnet2" or not package["own"]
    }
    return "".join(f", {name} {words}" for name, words in told.items())


def _describe_host(ranks: Sequence[Mapping[str, Any]]) -> str:
    """Processor, threads and GPUs of one machine, over its ranks."""
    threads = sum(int(rank["threads"]) for rank in ranks)
    gpus = [str(gpu) for rank in ranks for gpu in rank["gpus"]]
    text = f"{ranks[0]['cpu']}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{text}, {_counted(gpus, ', ') if gpus else 'no GPU'}"


def _counted(words: Sequence[str], between: str) -> str:
    """Each once, with its number if that is not one."""
    numbers = {word: words.count(word) for word in words}
    return between.join(
        word if number == 1 else f"{number} × {word}"
        for word, number in numbers.items()
    )


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


def hardware_shares(times: Iterable[TrainingTime]) -> list[HardwareShare]:
    """Sum up trainings by the kind of machine, the longest first."""
    shares: dict[tuple[str, str], HardwareShare] = {}
    for time in times:
        parts = time.starts or (Start(time.seconds, time.hosts, _UNKNOWN, "", 0),)
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
        unknown = time.seconds - sum(part.seconds for part in parts)
        if unknown > 1.0:  # before the record began
            old = shares.get((_UNKNOWN, ""), HardwareShare(_UNKNOWN, "", (), 0, 0.0))
            shares[_UNKNOWN, ""] = replace(
                old, trainings=old.trainings + 1, seconds=old.seconds + unknown
            )
    return sorted(shares.values(), key=lambda share: -share.seconds)


# Of trainings that kept no record.
_UNKNOWN = "not recorded"


def _time_by_log(log: Path) -> TrainingTime:
    """Add up the wall time of a training, breaks between its starts left out.

    Raises:
        UserError: There is no such log.
    """
    if not log.is_file():
        raise UserError(f"{log}: there is no such training log")
    seconds = 0.0
    hosts: dict[str, None] = {}  # in order, each once
    before: datetime | None = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("# Started at "):
            before = None
        found = _STAMP.match(line)
        if found is None:
            continue
        now = datetime.fromisoformat(found[2])
        hosts[found[1]] = None
        if before is not None:
            step = (now - before).total_seconds()
            seconds += step if 0 <= step <= _LONGEST_SILENCE else 0.0
        before = now
    return TrainingTime(seconds, tuple(hosts))

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
=============== ===================================================================
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.scoring.predictions import Predictions, read_predictions
from espnet_ext.scoring.table_scores import RunKey
from espnet_ext.scoring.table_spec import TableSpec

_NEEDED = ("row", "fold", "seed", "predictions")
# ESPnet's: [host] 2026-01-01 10:00:00,000 (trainer:392) INFO: ...
_STAMP = re.compile(r"^\[([^\]]+)\] (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \(")
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
    """

    key: RunKey
    predictions: Path | None
    train_log: Path | None
    config: str
    training: str


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """What a training took, by its log.

    Attributes:
        seconds: Wall time.
        hosts: Machines that it ran on.
    """

    seconds: float
    hosts: tuple[str, ...]


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

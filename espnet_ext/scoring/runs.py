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
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.scoring.predictions import Predictions, read_predictions
from espnet_ext.scoring.spec import TableSpec

_NEEDED = ("row", "fold", "seed", "predictions")


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run: row of the table, fold (0 where there are none) and seed."""

    row: str
    fold: int
    seed: int


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
    train_log: Path | None = None
    config: str = ""
    training: str = ""
    code: str = ""


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
            log = line.get("train_log")
            records[key] = RunRecord(
                key=key,
                predictions=Path(line["predictions"]) if line["predictions"] else None,
                train_log=Path(log) if log else None,
                **{
                    name: line.get(name) or ""
                    for name in ("config", "training", "code")
                },
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


def read_all_predictions(records: Sequence[RunRecord]) -> dict[RunKey, Predictions]:
    """Read the predictions of the runs that are finished."""
    return {
        record.key: read_predictions(record.predictions)
        for record in records
        if record.predictions is not None
    }

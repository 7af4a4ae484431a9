"""The list of a table's runs: where each one's predictions and log are.

``runs.csv`` has a row a run; paths are relative to the folder from which the program is
started. README.md has its columns.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import UserError
from espnet_ext.scoring.predictions import Predictions, read_predictions
from espnet_ext.scoring.spec import TableSpec

_NEEDED = ("row", "fold", "seed", "predictions")
# Beside the classes: utterances with attributes.
RATED = "valence, arousal and dominance"
_OPTIONAL = ("config", "training", "code", "train_set")


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run: row of the table, fold (0 where there are none) and seed."""

    row: str
    fold: int
    seed: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of the table."""

    key: RunKey
    predictions: Path | None  # None if it is not finished
    train_log: Path | None = None
    config: str = ""
    training: str = ""  # fingerprint of its training
    code: str = ""  # digest of the code that made it
    train_set: str = ""  # its folder


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
            try:
                key = RunKey(line["row"], int(line["fold"] or 0), int(line["seed"]))
            except (TypeError, ValueError):
                raise UserError(
                    f"{where}: fold {line['fold']!r} and seed {line['seed']!r} must be "
                    "whole numbers"
                ) from None
            if key.row not in spec.rows:
                raise UserError(
                    f"{where}: no row {key.row!r} in table {spec.name}; there are "
                    f"{', '.join(spec.rows)}"
                )
            if key.fold not in spec.folds:
                raise UserError(f"{where}: no fold {key.fold} in table {spec.name}")
            if key in records:
                raise UserError(f"{where}: this row, fold and seed occur twice")
            predictions, log = line["predictions"], line.get("train_log")
            records[key] = RunRecord(
                key,
                Path(predictions) if predictions else None,
                Path(log) if log else None,
                *(line.get(name) or "" for name in _OPTIONAL),
            )
    if not records:
        raise UserError(f"{path}: no run in it")
    return list(records.values())


def count_training_labels(records: Sequence[RunRecord]) -> dict[str, Counter[str]]:
    """Count each row's training utterances of each class and with `RATED`.

    Over all folds, as far as ``split.json`` beside the training sets is there.
    """
    counts: dict[str, Counter[str]] = {}
    for record in records:
        path = Path(record.train_set).parent / "split.json"
        if record.train_set and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))["train"]
            count = counts.setdefault(record.key.row, Counter())
            count.update({**found["classes"], RATED: found["with_attributes"]})
    return counts


def read_all_predictions(records: Sequence[RunRecord]) -> dict[RunKey, Predictions]:
    """Read the predictions of the runs that are finished."""
    return {r.key: read_predictions(r.predictions) for r in records if r.predictions}

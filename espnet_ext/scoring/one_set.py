"""Several models on one test set: a table of one fold and one seed, without a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.scoring.folds import ANY_CORPUS, align
from espnet_ext.scoring.metrics import CLASS_METRICS, METRIC_NAMES
from espnet_ext.scoring.names import model_name
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.runs import RunKey, RunRecord
from espnet_ext.scoring.scores import score_table, without_empty_columns
from espnet_ext.scoring.spec import (
    TESTED,
    Column,
    CorpusSpec,
    Pair,
    Row,
    TableSpec,
    default_pairs,
)
from espnet_ext.scoring.trainings import read_environment, training_times
from espnet_ext.scoring.words import TableReport


def score_set(
    systems: Mapping[str, Predictions],
    title: str,
    resamples: int = 10_000,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
    codes: Mapping[str, str] | None = None,
    train_logs: Mapping[str, Path] | None = None,
) -> TableReport:
    """Score models on their common test set.

    Raises:
        UserError: The files do not fit together (see `align`), or a pair is unknown.
    """
    pairs = default_pairs(list(systems)) if pairs is None else pairs
    for name in (name for pair in pairs for name in pair):
        if name not in systems:
            raise UserError(
                f"cannot compare {name!r}: no predictions of that name; there are "
                f"{', '.join(systems)}"
            )
    usual = {name for name, metric in CLASS_METRICS.items() if metric.usual}
    columns = {m: Column(ANY_CORPUS, m) for m in METRIC_NAMES if m not in usual}
    spec = TableSpec(
        name=title,
        title=title,
        corpora={ANY_CORPUS: CorpusSpec(scheme="")},
        columns=tuple(columns.values()),
        rows={name: Row(model_name(name)) for name in systems},
        comparisons=tuple(
            Pair(first, second, columns[metric])
            for first, second in pairs
            for metric in TESTED
        ),
    )
    keys = {name: RunKey(name, 0, 0) for name in systems}
    runs = {keys[name]: system for name, system in systems.items()}
    result = score_table(spec, runs, list(runs), resamples, seed)
    logs = train_logs or {}
    some = next(iter(align(systems).values()))
    return TableReport(
        result=without_empty_columns(result),
        claims=(),
        records=[
            RunRecord(
                keys[name],
                Path(system.path),
                logs.get(name),
                code=(codes or {}).get(name, ""),
            )
            for name, system in systems.items()
        ],
        times=training_times({keys[name]: log for name, log in logs.items()}),
        environment=read_environment(logs.values()),
        corpora_of_set=tuple(sorted(set(some.corpus) - {UNKNOWN})),
    )

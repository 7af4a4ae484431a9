"""Several models on one test set: a table of one fold and one seed, without a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.scoring.folds import ANY_CORPUS, align
from espnet_ext.scoring.metrics import CLASS_METRICS, METRIC_NAMES
from espnet_ext.scoring.names import model_name
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.runs import RunKey, RunRecord
from espnet_ext.scoring.scores import score_table
from espnet_ext.scoring.spec import Column, CorpusSpec, Pair, Row, TableSpec
from espnet_ext.scoring.trainings import read_environment, training_times
from espnet_ext.scoring.words import TableReport

# What is tested for each pair.
TESTED = ("ccc", "accuracy", "uar", "macro_f1")
_HIERARCHICAL = ("hierarchical_dc", "hierarchical_cd")
_REFERENCES = ("baseline_c", "baseline_d", "multitask")


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
    predicted = {column for cells in result.cells.values() for column in cells}
    shown = tuple(column for column in spec.columns if column in predicted)
    logs = train_logs or {}
    some = next(iter(align(systems).values()))
    return TableReport(
        result=replace(result, spec=replace(spec, columns=shown)),
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


def default_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The paper's comparisons: each hierarchical model with what it must beat."""
    return [
        (first, second)
        for first in _HIERARCHICAL
        for second in _REFERENCES
        if first in names and second in names
    ]

"""Several models on one test set: a table of one fold and one seed, without a paper."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.scoring.bootstrap import Interval
from espnet_ext.scoring.folds import ANY_CORPUS, align
from espnet_ext.scoring.metrics import METRICS
from espnet_ext.scoring.names import model_name
from espnet_ext.scoring.predictions import UNKNOWN, Predictions
from espnet_ext.scoring.runs import RunKey
from espnet_ext.scoring.scores import score_table
from espnet_ext.scoring.spec import Column, CorpusSpec, Pair, Row, TableSpec
from espnet_ext.scoring.text import six, without_nan
from espnet_ext.scoring.trainings import Environment
from espnet_ext.scoring.verdicts import (
    MIN_ROWS,
    Judged,
    describe_few,
    few_rows_note,
    too_few_resamples,
)

# What is tested for each pair.
TESTED = ("ccc", "accuracy", "uar", "macro_f1")
_HIERARCHICAL = ("hierarchical_dc", "hierarchical_cd")
_REFERENCES = ("baseline_c", "baseline_d", "multitask")


@dataclass(frozen=True, slots=True)
class TestedPair(Judged):
    """One metric of two models on the same utterances.

    Attributes:
        first: Model whose score comes first in the difference.
        second: The model it is compared with.
        metric: One of `TESTED`.
    """

    first: str
    second: str
    metric: str


@dataclass(frozen=True, slots=True)
class SetReport:
    """Scores of all models on one test set, as ``scores.json`` has them.

    Attributes:
        title: Headline.
        sources: Model -> predictions file.
        utterances: Rows of the test set.
        class_counts: Class -> rows annotated with it.
        corpora: Corpora of the test set.
        speakers: Number of speakers, None where some are unknown.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.
        scores: Model -> metric -> score with its 95 % interval over utterances.
        by_speaker: The same over speakers; empty with too few of them.
        chance: Metric -> score of always saying the most frequent class and the mean.
        pairs: Comparisons of models.
        notes: What a reader must know before the scores.
    """

    title: str
    sources: dict[str, str]
    utterances: int
    class_counts: dict[str, int]
    corpora: tuple[str, ...]
    speakers: int | None
    resamples: int
    seed: int
    scores: dict[str, dict[str, Interval]]
    by_speaker: dict[str, dict[str, Interval]]
    chance: dict[str, float]
    pairs: tuple[TestedPair, ...]
    notes: tuple[str, ...] = ()


def build_report(
    systems: Mapping[str, Predictions],
    title: str,
    resamples: int = 10_000,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
    notes: Sequence[str] = (),
) -> SetReport:
    """Score models on their common test set.

    Args:
        systems: Model -> predictions, in the order of the table.
        title: Headline.
        resamples: Bootstrap resamples; 1,000 do for intervals alone.
        seed: Seed of the resampling.
        pairs: Models to compare; None: each hierarchical model of the paper with its
            baselines and the multi-task model, as far as they are there.
        notes: What a reader must know before the scores.

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
    columns = {metric: Column(ANY_CORPUS, metric) for metric in METRICS}
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
    runs = {RunKey(name, 0, 0): system for name, system in systems.items()}
    result = score_table(spec, runs, list(runs), resamples, seed)
    cells = {
        name: {m: found[c] for m, c in columns.items() if c in found}
        for name, found in result.cells.items()
    }
    by_speaker = {
        name: {m: c.over_speakers for m, c in found.items() if c.over_speakers}
        for name, found in cells.items()
    }
    tested = result.test_sets[ANY_CORPUS]
    some = next(iter(align(systems).values()))
    return SetReport(
        title=title,
        sources={name: system.path for name, system in systems.items()},
        utterances=tested.utterances,
        class_counts=tested.classes,
        corpora=tuple(sorted(set(some.corpus) - {UNKNOWN})),
        speakers=tested.speakers,
        resamples=resamples,
        seed=seed,
        scores={n: {m: c.mean for m, c in found.items()} for n, found in cells.items()},
        by_speaker=by_speaker if any(by_speaker.values()) else {},
        chance={
            metric: result.chance[column]
            for metric, column in columns.items()
            if any(metric in found for found in cells.values())
        },
        pairs=tuple(
            TestedPair(
                found.tests,
                found.how,
                found.p_holm,
                found.pair.first,
                found.pair.second,
                found.pair.column.metric,
            )
            for found in result.comparisons
        ),
        notes=tuple(notes),
    )


def default_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The paper's comparisons: each hierarchical model with what it must beat."""
    return [
        (first, second)
        for first in _HIERARCHICAL
        for second in _REFERENCES
        if first in names and second in names
    ]


def notes_of(report: SetReport) -> list[str]:
    """What a reader must know of this report's intervals and tests."""
    notes = []
    if few := describe_few(report.class_counts):
        notes.append(few_rows_note(few))
    if report.utterances < MIN_ROWS:
        notes.append(
            f"Fewer than {MIN_ROWS} utterances: there is no interval that could be "
            "trusted."
        )
    tests = sum(not np.isnan(pair.result.p) for pair in report.pairs)
    return notes + too_few_resamples(tests, report.resamples)


def describe_set(report: SetReport) -> str:
    """The test set in words."""
    text = f"{report.utterances} utterances"
    if report.corpora:
        text += f" of {' + '.join(report.corpora)}"
    if report.speakers is not None:
        text += f", {report.speakers} speaker{'' if report.speakers == 1 else 's'}"
    return text


def report_json(report: SetReport, environment: Environment) -> str:
    """Everything in the report, numbers unrounded, keys as in `SetReport`."""
    content = {"environment": asdict(environment), **asdict(report)}
    content["pairs"] = [
        {**asdict(pair), "basis": pair.basis, "verdict": pair.finding}
        for pair in report.pairs
    ]
    content["notes"] = notes_of(report)
    return json.dumps(without_nan(content), indent=2, ensure_ascii=False) + "\n"


def format_csv(report: SetReport) -> str:
    """One row a model and metric; speaker columns blank where there are too few."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["model", "metric", "score", "low", "high", "speaker_low", "speaker_high"]
    )
    for name, scores in report.scores.items():
        for metric, found in scores.items():
            speaker = report.by_speaker.get(name, {}).get(metric)
            ends = (None, None) if speaker is None else (speaker.low, speaker.high)
            values = (found.estimate, found.low, found.high, *ends)
            writer.writerow([name, metric, *map(six, values)])
    for metric, value in report.chance.items():
        writer.writerow(["chance", metric, six(value), "", "", "", ""])
    return text.getvalue()

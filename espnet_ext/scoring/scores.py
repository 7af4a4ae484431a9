"""The scores of a table: over folds and seeds, with intervals and paired tests.

Two ways lead from several folds to one number, and they are not the same: the *mean of
folds* scores each fold alone and averages (what the table shows and the paper means);
*pooled* scores all folds' predictions once. Over seeds scores are averaged. Intervals
resample the utterances within each fold, the same for every model and seed, so they
speak of other test utterances and not of other trainings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.scoring.bootstrap import Interval, bias_corrected_interval
from espnet_ext.scoring.comparisons import TableComparison, compare
from espnet_ext.scoring.folds import ANY_CORPUS, gather
from espnet_ext.scoring.metrics import METRIC_NAMES
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.runs import RunKey
from espnet_ext.scoring.scored import Sampling, Scored, chance_scores
from espnet_ext.scoring.spec import Column, Kind, Pair, TableSpec
from espnet_ext.scoring.verdicts import MARGIN, Basis, corrected


@dataclass(frozen=True, slots=True)
class Cell:
    """One row and column."""

    mean: Interval  # over folds, of the mean over seeds
    over_speakers: Interval | None  # the same, speakers drawn, where there are enough
    pooled: Interval  # the folds' predictions scored together, mean over seeds
    by_fold: dict[int, float]  # mean over seeds
    by_seed: dict[int, float]  # mean over folds
    runs: int
    expected: int  # runs that there should be

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for one seed."""
        values = list(self.by_seed.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class TestSet:
    """What a corpus' rows were tested on."""

    by_fold: dict[int, int]  # fold -> utterances
    classes: dict[str, int]  # class -> utterances over all folds
    classes_by_fold: dict[int, dict[str, int]]
    speakers: int | None  # over all folds; None where some are unknown
    fingerprint: str  # of ids and annotations

    @property
    def utterances(self) -> int:
        """Over all folds."""
        return sum(self.by_fold.values())


@dataclass(frozen=True, slots=True)
class TableResult:
    """Everything that was computed."""

    spec: TableSpec
    cells: dict[str, dict[Column, Cell]]  # by row; without what it does not predict
    comparisons: tuple[TableComparison, ...]  # as far as both rows are there
    not_higher: dict[Pair, float]  # p (Holm) of the claims that a row is not higher
    chance: dict[Column, float]  # of always saying the most frequent class and the mean
    test_sets: dict[str, TestSet]  # by corpus
    missing: tuple[RunKey, ...]
    resamples: int
    seed: int

    @property
    def tests(self) -> int:
        """Number of tests that Holm's correction is over."""
        p_values = [c.p_holm for c in self.comparisons] + [*self.not_higher.values()]
        return int(np.sum(~np.isnan(p_values)))

    def compared(self, pair: Pair) -> tuple[TableComparison, float] | None:
        """Find a comparison, and the sign of its difference as `pair` asks for it."""
        for sign, wanted in ((1.0, pair), (-1.0, pair.reversed)):
            for comparison in self.comparisons:
                if comparison.pair == wanted:
                    return comparison, sign
        return None

    def incomparable(self, corpus: str) -> str | None:
        """Say why the paper's values are no yardstick on this corpus, if so."""
        spec, tested = self.spec.corpora[corpus], self.test_sets.get(corpus)
        if spec.paper_test_size is None or tested is None:
            return None
        if tested.utterances == spec.paper_test_size:
            return None
        release = f" ({spec.release})" if spec.release else ""
        return (
            f"tested on {tested.utterances:,} utterances, not on the "
            f"{spec.paper_test_size:,} there{release}"
        )


def score_table(
    spec: TableSpec,
    runs: Mapping[RunKey, Predictions],
    expected: Sequence[RunKey],
    resamples: int = 10_000,
    seed: int = 0,
) -> TableResult:
    """Score the runs of a table.

    Raises:
        UserError: There is no run at all, or runs of one fold do not have the same
            test set.
    """
    if not runs:
        raise UserError(f"{spec.name}: no run has made predictions yet")
    cells: dict[str, dict[Column, Cell]] = {row: {} for row in spec.rows}
    chance: dict[Column, float] = {}
    test_sets = {}
    compared: dict[Pair, TableComparison | None] = {}
    for place, corpus in enumerate(spec.corpora):
        data = gather(corpus, spec, runs)
        number = None if corpus == ANY_CORPUS else place
        scored = Scored(data, Sampling(resamples, seed, number))
        for row in (row for row in spec.rows if spec.is_tested(row, corpus)):
            wanted = sum(key.row == row for key in expected)
            cells[row] |= _cells(scored, row, wanted)
        for metric, value in chance_scores(data).items():
            chance[Column(corpus, metric)] = value
        test_sets[corpus] = TestSet(
            by_fold={number: len(fold.rows) for number, fold in data.folds.items()},
            classes=data.count_classes(slice(None)),
            classes_by_fold={
                number: data.count_classes(fold.rows)
                for number, fold in data.folds.items()
            },
            speakers=None if UNKNOWN in data.speaker else len(set(data.speaker)),
            fingerprint=data.fingerprint(),
        )
        for pair in spec.comparisons:
            if pair.column.corpus == corpus:
                compared[pair] = compare(scored, pair)
    result = TableResult(
        spec=spec,
        cells=cells,
        comparisons=tuple(c for p in spec.comparisons if (c := compared[p])),
        not_higher={},
        chance=chance,
        test_sets=test_sets,
        missing=tuple(key for key in expected if key not in runs),
        resamples=resamples,
        seed=seed,
    )
    return _with_holm(result)


def without_empty_columns(result: TableResult) -> TableResult:
    """Leave out the columns that no row has a score in, nor the paper a value."""
    found = {column for cells in result.cells.values() for column in cells}
    found |= {column for row in result.spec.rows.values() for column in row.paper}
    shown = tuple(column for column in result.spec.columns if column in found)
    return replace(result, spec=replace(result.spec, columns=shown))


def _with_holm(result: TableResult) -> TableResult:
    """Correct the p values of all comparisons and of all claims of no gain."""
    bounds = {}
    for claim in result.spec.claims:
        for condition in claim.conditions:
            there = result.compared(condition.pair)
            if condition.kind is Kind.NOT_HIGHER and there is not None:
                comparison, sign = there
                bounds[condition.pair] = comparison.result.p_not_above(MARGIN, sign)
    compared = result.comparisons
    p_values = iter(corrected([c.result.p for c in compared] + [*bounds.values()]))
    return replace(
        result,
        comparisons=tuple(replace(c, p_holm=next(p_values)) for c in compared),
        not_higher=dict(zip(bounds, p_values, strict=True)),
    )


def _cells(scored: Scored, row: str, expected: int) -> dict[Column, Cell]:
    """Score one row in every metric that it predicts."""
    data, estimates = scored.data, scored.estimates
    folds = data.folds_of(row)
    if not folds:
        return {}
    together, pooled_draws = scored.pooled(folds)
    seeds = [seed for name, seed in together if name == row]  # that all folds have
    found = {}
    for metric in METRIC_NAMES:
        if not scored.has(row, folds, metric):
            continue
        over = {
            basis: bias_corrected_interval(
                scored.mean(row, folds, estimates, metric),
                scored.mean(row, folds, drawn, metric),
            )
            for basis, drawn in scored.drawn.items()
        }
        pooled = Interval(*[float("nan")] * 3)
        if seeds:
            pooled = bias_corrected_interval(
                float(np.mean([together[row, seed][metric] for seed in seeds])),
                np.mean([pooled_draws[row, seed][metric] for seed in seeds], axis=0),
            )
        found[Column(data.corpus, metric)] = Cell(
            mean=over[Basis.UTTERANCES],
            over_speakers=over.get(Basis.SPEAKERS),
            pooled=pooled,
            by_fold={n: float(scored.mean(row, [n], estimates, metric)) for n in folds},
            by_seed={
                seed: float(np.mean([estimates[n][row, seed][metric] for n in folds]))
                for seed in seeds
            },
            runs=sum(len(data.seeds(row, n)) for n in folds),
            expected=expected,
        )
    return found

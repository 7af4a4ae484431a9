"""Two rows of a table compared, on the folds and seeds that both have.

A comparison is of the means of folds, both the difference and its test; `verdicts.py`
says which of its tests is the verdict, `bootstrap.py` has the methods' sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.bootstrap import Comparison, McNemar
from espnet_ext.scoring.folds import Fold
from espnet_ext.scoring.metrics import CLASS_METRICS, Floats
from espnet_ext.scoring.scored import Scored, classes_of
from espnet_ext.scoring.spec import Pair
from espnet_ext.scoring.verdicts import (
    LEVEL,
    MCNEMAR,
    SHORT_SCOPES,
    STUDENT,
    SWAPPED,
    Basis,
)


@dataclass(frozen=True, slots=True)
class SeedTest:
    """McNemar's test of two runs of one seed, over all folds."""

    seed: int
    result: McNemar


@dataclass(frozen=True, slots=True)
class TableComparison:
    """Two rows in one column, on the folds and seeds that both have."""

    tests: dict[Basis, Comparison]  # each that could be made
    how: str  # what gave the verdict's p value
    p_holm: float  # that value corrected over all tests of the report; nan without one
    pair: Pair
    folds: tuple[int, ...]
    pooled: Comparison  # difference of the pooled scores, for information
    by_seed: tuple[SeedTest, ...]  # over all rows of all folds, for accuracy

    @property
    def basis(self) -> Basis:
        """What the verdict's test draws: the strongest of the tests."""
        return next(basis for basis in Basis if basis in self.tests)

    @property
    def result(self) -> Comparison:
        """The verdict's test."""
        return self.tests[self.basis]

    @property
    def finding(self) -> str:
        """What the comparison shows, in a word or two."""
        if np.isnan(self.p_holm):
            return "not tested"
        if self.p_holm >= LEVEL:
            return "not shown"
        return "higher" if self.result.difference > 0 else "lower"

    @property
    def words(self) -> str:
        """The finding, and what it holds for."""
        return self.finding + SHORT_SCOPES[self.basis] * (self.finding != "not tested")


def compare(scored: Scored, pair: Pair) -> TableComparison | None:
    """Test two rows; None where no fold and seed has both."""
    data, metric, rows = scored.data, pair.column.metric, (pair.first, pair.second)
    both = {
        n: set(data.seeds(rows[0], n)) & set(data.seeds(rows[1], n)) for n in data.folds
    }
    folds = tuple(n for n, seeds in both.items() if seeds)
    seeds = sorted(set.intersection(*(both[n] for n in folds))) if folds else []
    if not seeds or not all(scored.has(row, folds, metric) for row in rows):
        return None
    seed_means = [
        [scored.mean(row, folds, scored.estimates, metric, [s]) for s in seeds]
        for row in rows
    ]
    difference = float(np.mean(seed_means[0]) - np.mean(seed_means[1]))

    def drawn_difference(folds: Sequence[int], drawn: Mapping) -> Floats:
        """First row minus second in each resample, shape (B,)."""
        first, second = (scored.mean(r, folds, drawn, metric, seeds) for r in rows)
        return first - second

    by_seed: tuple[SeedTest, ...] = ()
    if metric == "accuracy":
        by_seed = _mcnemar(pair, data.true_class, data.pool(folds), seeds)
    how, tests = STUDENT, {}
    for basis, drawn in scored.drawn.items():
        exact, swapped = None, None
        if metric in CLASS_METRICS:
            drawn_swaps = [
                scored.swaps(rows, n, tuple(seeds), basis, metric) for n in folds
            ]
            how, swapped = SWAPPED, np.mean(drawn_swaps, axis=0)
            alone = len(folds) == len(seeds) == 1
            exact = bootstrap.swap_p(difference, swapped)
            if by_seed and alone and basis is Basis.UTTERANCES:
                how, exact = MCNEMAR, by_seed[0].result.p_mid
        freedom = data.freedom(folds, basis)
        resampled = drawn_difference(folds, drawn)
        error = float(np.std(resampled))
        tests[basis] = bootstrap.compare(difference, error, freedom, exact)
        error = error if swapped is None else float(np.std(swapped))
    trainings = bootstrap.over_trainings(
        seed_means[0],
        seed_means[1],
        error,
        sum(_of_single_seeds(scored, row, folds, drawn, metric, seeds) for row in rows),
        freedom,
    )
    if trainings is not None:
        how, tests[Basis.TRAININGS] = STUDENT, trainings
    estimates, pool_drawn = scored.pooled(folds)
    first, second = (
        float(np.mean([estimates[row, seed][metric] for seed in seeds])) for row in rows
    )
    error = float(np.std(drawn_difference([0], {0: pool_drawn})))
    freedom = data.freedom(folds, Basis.UTTERANCES)
    pooled = bootstrap.compare(first - second, error, freedom)
    return TableComparison(tests, how, 1.0, pair, folds, pooled, by_seed)


def _of_single_seeds(
    scored: Scored,
    row: str,
    folds: Sequence[int],
    drawn: Mapping,
    metric: str,
    seeds: Sequence[int],
) -> float:
    """Variance, over resamples, of what single seeds add to a row's mean over seeds.

    0 where too few rows of a class leave no resamples: then the test is cautious.
    """
    if len(seeds) < 2:
        return 0.0
    found = [scored.mean(row, folds, drawn, metric, [s]) for s in seeds]  # S of (B,)
    apart = np.array(found) - np.mean(found, axis=0)  # (S, B)
    variance = float(apart.var(axis=1).sum()) / (len(seeds) - 1) / len(seeds)
    return 0.0 if np.isnan(variance) else variance


def _mcnemar(
    pair: Pair, true_class: NDArray[np.int64], pool: Fold, seeds: Sequence[int]
) -> tuple[SeedTest, ...]:
    """Test each seed over the rows of all folds."""
    truth = true_class[pool.rows]
    known = truth >= 0
    first, second = (
        [(classes_of(pool.systems[row, s]) == truth)[known] for s in seeds]
        for row in (pair.first, pair.second)
    )
    return tuple(
        SeedTest(seed, bootstrap.mcnemar(one, two))
        for seed, one, two in zip(seeds, first, second, strict=True)
    )

"""The scores of a table: over folds and seeds, with intervals and paired tests.

A run is one model trained on one fold with one seed; it is known by its predictions
only. Two ways lead from several folds to one number, and they are not the same:

- *mean of folds* (what the table shows, and what "5-fold cross validation" means in the
  paper): each fold is scored alone, and the scores are averaged;
- *pooled*: the predictions of all folds are put together and scored once.

Over seeds scores are averaged. Intervals resample the utterances within each fold, the
same resamples for every model and seed, so that they speak of other test utterances and
not of other trainings. A comparison is always of the means of folds, both the
difference and its test, on the folds and seeds that both rows have; `verdicts.py` says
which of its tests is the verdict, `bootstrap.py` has the methods' sources.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from espnet_ext.errors import UserError
from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.bootstrap import Comparison, Interval, McNemar
from espnet_ext.scoring.metrics import ATTRIBUTES, ccc, class_scores, uar
from espnet_ext.scoring.predictions import UNKNOWN, Predictions
from espnet_ext.scoring.report import align
from espnet_ext.scoring.table_spec import (
    TABLE_METRICS,
    UAR4,
    USUAL_CLASSES,
    Column,
    Kind,
    Pair,
    TableSpec,
)
from espnet_ext.scoring.verdicts import (
    MARGIN,
    MCNEMAR,
    MIN_SPEAKERS,
    STUDENT,
    SWAPPED,
    Basis,
    Judged,
    compare_scores,
    corrected,
    of_classes,
    without_interval,
)

Floats = NDArray[np.float64]
Draws = dict[str, Floats]  # metric -> its value in each resample, shape (B,)
RunName = tuple[str, int]  # row and seed, within a fold

# Numbers in a block of resampled weights, as in `bootstrap`.
_BLOCK_NUMBERS = 4_194_304


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run: row of the table, fold (0 where there are none) and seed."""

    row: str
    fold: int
    seed: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One row and column.

    Attributes:
        mean: Mean over folds of the mean over seeds, with its 95 % interval.
        pooled: The folds' predictions scored together, mean over seeds.
        by_fold: Fold -> mean over seeds.
        by_seed: Seed -> mean over folds.
        runs: Runs that are in it.
        expected: Runs that there should be.
    """

    mean: Interval
    pooled: Interval
    by_fold: dict[int, float]
    by_seed: dict[int, float]
    runs: int
    expected: int

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for one seed."""
        values = list(self.by_seed.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class SeedTest:
    """McNemar's test of two runs of one seed, over all folds."""

    seed: int
    result: McNemar


@dataclass(frozen=True, slots=True)
class TableComparison(Judged):
    """Two rows in one column, on the folds and seeds that both have.

    Attributes:
        pair: The rows and the column.
        folds: The folds.
        pooled: Difference of the pooled scores, for information.
        by_seed: McNemar's tests over all rows of all folds, for accuracy.
    """

    pair: Pair
    folds: tuple[int, ...]
    pooled: Comparison
    by_seed: tuple[SeedTest, ...]


@dataclass(frozen=True, slots=True)
class TestSet:
    """What a corpus' rows were tested on.

    Attributes:
        by_fold: Fold -> utterances.
        classes: Class -> utterances over all folds.
        classes_by_fold: Fold -> class -> utterances.
        speakers: Number of speakers over all folds; None where some are unknown.
        fingerprint: Digest of ids and annotations.
    """

    by_fold: dict[int, int]
    classes: dict[str, int]
    classes_by_fold: dict[int, dict[str, int]]
    speakers: int | None
    fingerprint: str

    @property
    def utterances(self) -> int:
        """Over all folds."""
        return sum(self.by_fold.values())


@dataclass(frozen=True, slots=True)
class TableResult:
    """Everything that was computed.

    Attributes:
        spec: The table.
        cells: Row -> column -> cell; a column that a row does not predict is absent.
        comparisons: In the order of the table's YAML, as far as both rows are there.
        not_higher: Corrected p values of the claims that a row is not higher.
        chance: Column -> score of always saying the most frequent class and the mean.
        test_sets: Corpus -> what was tested.
        missing: Runs that there should be and are not.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """

    spec: TableSpec
    cells: dict[str, dict[Column, Cell]]
    comparisons: tuple[TableComparison, ...]
    not_higher: dict[Pair, float]
    chance: dict[Column, float]
    test_sets: dict[str, TestSet]
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

    Args:
        spec: The table.
        runs: Predictions of the runs that are there.
        expected: All runs that there should be.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        UserError: There is no run at all, or runs of one fold do not have the same
            test set.
    """
    if not runs:
        raise UserError(f"{spec.name}: no run has made predictions yet")
    cells: dict[str, dict[Column, Cell]] = {row: {} for row in spec.rows}
    chance: dict[Column, float] = {}
    test_sets, compared = {}, {}
    for number, corpus in enumerate(spec.corpora):
        tested = _Tested(corpus, spec, runs, resamples, (seed, number))
        for row in spec.rows:
            keys = [key for key in expected if key.row == row]
            cells[row] |= tested.cells(row, len(keys))
        chance |= tested.chance()
        test_sets[corpus] = tested.describe()
        for pair in spec.comparisons:
            if pair.column.corpus == corpus:
                compared[pair] = tested.compare(pair)
    found = tuple(c for p in spec.comparisons if (c := compared[p]) is not None)
    result = TableResult(
        spec=spec,
        cells=cells,
        comparisons=found,
        not_higher={},
        chance=chance,
        test_sets=test_sets,
        missing=tuple(key for key in expected if key not in runs),
        resamples=resamples,
        seed=seed,
    )
    return _with_holm(result)


def _with_holm(result: TableResult) -> TableResult:
    """Correct the p values of all comparisons and of all claims of no gain."""
    bounds = {}
    for claim in result.spec.claims:
        for condition in claim.conditions:
            there = result.compared(condition.pair)
            if condition.kind is Kind.NOT_HIGHER and there is not None:
                comparison, sign = there
                bounds[condition.pair] = comparison.result.p_not_above(MARGIN, sign)
    p_values = corrected([c.result.p for c in result.comparisons] + [*bounds.values()])
    number = len(result.comparisons)
    return replace(
        result,
        comparisons=tuple(
            replace(comparison, p_holm=p)
            for comparison, p in zip(result.comparisons, p_values[:number], strict=True)
        ),
        not_higher=dict(zip(bounds, p_values[number:], strict=True)),
    )


@dataclass(frozen=True, slots=True)
class _Fold:
    """The runs of one fold on one corpus, aligned; rows are places in the whole."""

    systems: dict[RunName, Predictions]
    rows: NDArray[np.int64]

    @property
    def some(self) -> Predictions:
        return next(iter(self.systems.values()))


class _Tested:
    """All runs on the test sets of one corpus.

    The utterances of all folds stand one after the other; a resample is a vector of
    weights of them, drawn within each fold, so a fold's part of it is a resample of
    that fold.
    """

    def __init__(
        self,
        corpus: str,
        spec: TableSpec,
        runs: Mapping[RunKey, Predictions],
        resamples: int,
        seed: tuple[int, int],
    ) -> None:
        self.corpus = corpus
        self.spec = spec
        self.resamples = resamples
        self.seed = seed
        self.folds = self._gather(runs)
        self.fold_of = np.concatenate(
            [np.full(len(fold.rows), number) for number, fold in self.folds.items()]
        )
        parts = [fold.some for fold in self.folds.values()]
        self.true_class = np.concatenate([part.true_class for part in parts])
        self.true = np.concatenate(
            [np.stack([part.true[d] for d in ATTRIBUTES], axis=1) for part in parts]
        )  # (N, 3)
        self.speaker = np.array([s for part in parts for s in part.speaker])
        self.classes = parts[0].classes
        self.usual = self._usual_rows()
        self._scores = {
            number: {name: self._estimates(fold, name) for name in fold.systems}
            for number, fold in self.folds.items()
        }
        self._by_fold = {
            number: self._draws(fold, _UTTERANCES)
            for number, fold in self.folds.items()
        }
        self._by_speaker = (
            {n: self._draws(fold, _SPEAKERS) for n, fold in self.folds.items()}
            if self._enough_speakers()
            else {}
        )
        self._pooled: dict[tuple[int, ...], dict[RunName, Draws]] = {}
        self._swaps: dict[tuple, Draws] = {}

    def _gather(self, runs: Mapping[RunKey, Predictions]) -> dict[int, _Fold]:
        folds: dict[int, _Fold] = {}
        start = 0
        for number in self.spec.folds:
            own = {
                (key.row, key.seed): _of_corpus(predictions, self.corpus, self.spec)
                for key, predictions in runs.items()
                if key.fold == number
            }
            if not own:
                continue
            aligned = align({f"{row} seed {s}": p for (row, s), p in own.items()})
            systems = dict(zip(own, aligned.values(), strict=True))
            size = len(next(iter(systems.values())).ids)
            folds[number] = _Fold(systems, np.arange(start, start + size))
            start += size
        return folds

    def _usual_rows(self) -> NDArray[np.bool_] | None:
        """Rows of the usual four classes; None where those are all there are."""
        if not set(USUAL_CLASSES) < set(self.classes):
            return None
        usual = [self.classes.index(name) for name in USUAL_CLASSES]
        return np.isin(self.true_class, usual)

    def _enough_speakers(self) -> bool:
        return all(
            UNKNOWN not in self.speaker[fold.rows]
            and len(set(self.speaker[fold.rows])) >= MIN_SPEAKERS
            for fold in self.folds.values()
        )

    # ------------------------------------------------------------------- resamples

    def _blocks(
        self, kind: str, strata: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Iterator[Floats]:
        """Weights of the given rows, the same for whoever asks with one `kind`.

        Args:
            kind: What is resampled: names the stream of random numbers.
            strata: Of each utterance that may be drawn.
            rows: Places in those utterances that are wanted.
        """
        stream = _STREAMS.index(kind)
        rng = np.random.default_rng((*self.seed, stream))
        for counts in bootstrap.resample_within(strata, self.resamples, rng):
            yield counts[:, rows]

    def _speaker_blocks(self, rows: NDArray[np.int64]) -> Iterator[Floats]:
        """Weights of rows, whole speakers drawn within each fold."""
        names = np.char.add(np.char.add(self.fold_of.astype(str), " "), self.speaker)
        unique, first, inverse = np.unique(
            names, return_index=True, return_inverse=True
        )
        size = max(1, _BLOCK_NUMBERS // max(1, len(rows)))
        places = np.arange(len(unique))
        for counts in self._blocks("speakers", self.fold_of[first], places):
            for start in range(0, len(counts), size):
                yield counts[start : start + size][:, inverse[rows]]

    def _resamples(
        self,
        unit: str,
        kind: str,
        among: NDArray[np.bool_],
        rows: NDArray[np.int64],
    ) -> Iterator[Floats]:
        """Weights of some rows.

        Args:
            unit: What is drawn, utterances or speakers.
            kind: Of score.
            among: Which utterances may be drawn, shape (N,).
            rows: Those of them that are wanted.
        """
        if unit == _SPEAKERS:
            return self._speaker_blocks(rows)
        strata = self._class_strata() if kind == "classes" else self.fold_of
        places = np.cumsum(among) - 1
        return self._blocks(kind, strata[among], places[rows])

    def _draws(self, fold: "_Fold", unit: str) -> dict[RunName, Draws]:
        """Every metric of each run of a fold, or of pooled folds, in each resample."""
        found: dict[RunName, Draws] = {name: {} for name in fold.systems}
        for part in (self._attribute_draws(fold, unit), self._class_draws(fold, unit)):
            for name, drawn in part.items():
                found[name] |= drawn
        return found

    def _attribute_draws(self, fold: "_Fold", unit: str) -> dict[RunName, Draws]:
        rated = ~np.isnan(self.true).all(axis=1)
        local = np.flatnonzero(rated[fold.rows])
        rows = fold.rows[local]
        raters = [n for n, s in fold.systems.items() if s.predicts_attributes]
        if not raters or not len(rows) or np.isnan(self.true[rows]).all(axis=0).any():
            return {}
        pred = np.stack(
            [
                np.stack([fold.systems[n].pred[dim][local] for dim in ATTRIBUTES], 1)
                for n in raters
            ]
        )  # (M, n, 3)
        scores = bootstrap.ccc_distribution(
            self.true[rows], pred, self._resamples(unit, "attributes", rated, rows)
        )  # (B, M, 3)
        drawn = {f"ccc_{dim}": scores[..., d] for d, dim in enumerate(ATTRIBUTES)}
        drawn["ccc"] = bootstrap.mean_ccc(scores)
        fewest = int((~np.isnan(self.true[rows])).sum(axis=0).min())
        drawn = without_interval(drawn, (), fewest)
        return {
            name: {metric: values[:, place] for metric, values in drawn.items()}
            for place, name in enumerate(raters)
        }

    def _class_draws(self, fold: "_Fold", unit: str) -> dict[RunName, Draws]:
        known = self.true_class >= 0
        pickers = [n for n, s in fold.systems.items() if s.predicts_classes]
        if not pickers or not known[fold.rows].any():
            return {}

        def draw(kind: str, wanted: NDArray[np.bool_]) -> dict[str, Floats]:
            local = np.flatnonzero(wanted[fold.rows])
            rows = fold.rows[local]
            said = np.stack([_classes(fold.systems[n])[local] for n in pickers])
            truth = self.true_class[rows]
            drawn = bootstrap.class_distribution(
                truth, said, self._resamples(unit, kind, known, rows)
            )
            return without_interval(drawn, self._fewest(rows), len(rows))

        # Means over classes within classes, for a class of one row stays in; accuracy
        # over all rows, for the shares of the classes are part of it.
        drawn = draw("classes", known)
        drawn["accuracy"] = draw("accuracy", known)["accuracy"]
        if self.usual is not None:
            drawn[UAR4] = draw("classes", known & self.usual)["uar"]
        return {
            name: {metric: values[:, place] for metric, values in drawn.items()}
            for place, name in enumerate(pickers)
        }

    def _fewest(self, rows: NDArray[np.int64]) -> list[int]:
        """Rows of each class in each fold, of those that are there."""
        strata = self._class_strata()[rows]
        return np.unique(strata, return_counts=True)[1].tolist()

    def _class_strata(self) -> NDArray[np.int64]:
        return self.fold_of * (len(self.classes) + 1) + self.true_class + 1

    # --------------------------------------------------------------------- scores

    def _estimates(self, fold: "_Fold", name: RunName) -> dict[str, float]:
        system, rows = fold.systems[name], fold.rows
        scores: dict[str, float] = {}
        true = self.true[rows]
        if system.predicts_attributes and not np.isnan(true).all(axis=0).any():
            for column, dim in enumerate(ATTRIBUTES):
                known = ~np.isnan(true[:, column])
                scores[f"ccc_{dim}"] = ccc(true[known, column], system.pred[dim][known])
            scores["ccc"] = float(np.mean([scores[f"ccc_{d}"] for d in ATTRIBUTES]))
        truth = self.true_class[rows]
        known = truth >= 0
        if system.predicts_classes and known.any():
            said = _classes(system)
            scores |= class_scores(truth[known], said[known])
            if self.usual is not None:
                usual = self.usual[rows]
                scores[UAR4] = uar(truth[usual], said[usual])
        return scores

    def _pool(self, folds: tuple[int, ...]) -> "_Fold":
        """Put folds together, with the runs whose row and seed all of them have."""
        parts = [self.folds[number] for number in folds]
        if len(parts) == 1:
            return parts[0]
        names = [n for n in parts[0].systems if all(n in p.systems for p in parts)]
        return _Fold(
            {name: _joined([part.systems[name] for part in parts]) for name in names},
            np.concatenate([part.rows for part in parts]),
        )

    def _pooled_draws(self, folds: tuple[int, ...]) -> dict[RunName, Draws]:
        if len(folds) == 1:
            return self._by_fold[folds[0]]
        if folds not in self._pooled:
            self._pooled[folds] = self._draws(self._pool(folds), _UTTERANCES)
        return self._pooled[folds]

    def _seeds(self, row: str, number: int) -> list[int]:
        return sorted(s for r, s in self.folds[number].systems if r == row)

    def _folds_of(self, row: str) -> tuple[int, ...]:
        return tuple(n for n in self.folds if self._seeds(row, n))

    def _mean[T: float | Floats](
        self,
        row: str,
        folds: Sequence[int],
        values: Mapping[int, Mapping[RunName, Mapping[str, T]]],
        metric: str,
        seeds: Sequence[int] | None = None,
    ) -> T:
        """Mean over folds of the mean over seeds.

        Args:
            row: Of the table.
            folds: Which folds.
            values: Fold -> run -> metric -> score, or scores of resamples.
            metric: Which of them.
            seeds: Which seeds; None for all that the row has in a fold.
        """
        means = [
            np.mean(
                [values[n][row, s][metric] for s in seeds or self._seeds(row, n)],
                axis=0,
            )
            for n in folds
        ]
        return cast(T, np.mean(means, axis=0))

    def _has(self, row: str, folds: Sequence[int], metric: str) -> bool:
        """Whether every run of the row has the metric."""
        return all(
            metric in self._scores[n][row, s]
            for n in folds
            for s in self._seeds(row, n)
        )

    def cells(self, row: str, expected: int) -> dict[Column, Cell]:
        """Score one row in every metric that it predicts."""
        folds = self._folds_of(row)
        if not folds:
            return {}
        pool = self._pool(folds)
        together = {
            seed: self._estimates(pool, (row, seed))
            for name, seed in pool.systems
            if name == row
        }
        found = {}
        for metric in TABLE_METRICS:
            if not self._has(row, folds, metric):
                continue
            found[Column(self.corpus, metric)] = Cell(
                mean=bootstrap.bias_corrected_interval(
                    self._mean(row, folds, self._scores, metric),
                    self._mean(row, folds, self._by_fold, metric),
                ),
                pooled=self._pooled_interval(row, folds, metric, together),
                by_fold={
                    n: float(self._mean(row, [n], self._scores, metric)) for n in folds
                },
                by_seed={
                    seed: float(
                        np.mean([self._scores[n][row, seed][metric] for n in folds])
                    )
                    for seed in together
                },
                runs=sum(len(self._seeds(row, n)) for n in folds),
                expected=expected,
            )
        return found

    def _pooled_interval(
        self,
        row: str,
        folds: tuple[int, ...],
        metric: str,
        together: Mapping[int, Mapping[str, float]],
    ) -> Interval:
        if not together:  # no seed has all these folds
            return Interval(float("nan"), float("nan"), float("nan"))
        draws = self._pooled_draws(folds)
        return bootstrap.bias_corrected_interval(
            float(np.mean([scores[metric] for scores in together.values()])),
            np.mean([draws[row, seed][metric] for seed in together], axis=0),
        )

    def chance(self) -> dict[Column, float]:
        """Mean over folds of the scores of a constant answer."""
        by_fold: dict[str, list[float]] = {}
        for fold in self.folds.values():
            truth = self.true_class[fold.rows]
            truth = truth[truth >= 0]
            scores = {f"ccc_{dim}": 0.0 for dim in ATTRIBUTES} | {"ccc": 0.0}
            if len(truth):
                guess = np.full(len(truth), np.bincount(truth).argmax())
                scores |= class_scores(truth, guess)
            if self.usual is not None:
                scores[UAR4] = 1.0 / len(USUAL_CLASSES)
            for metric, value in scores.items():
                by_fold.setdefault(metric, []).append(value)
        return {
            Column(self.corpus, metric): float(np.mean(values))
            for metric, values in by_fold.items()
        }

    def describe(self) -> TestSet:
        """Count and fingerprint what was tested."""
        by_fold = {
            number: self._count(self.true_class[fold.rows])
            for number, fold in self.folds.items()
        }
        return TestSet(
            by_fold={number: len(fold.rows) for number, fold in self.folds.items()},
            classes=self._count(self.true_class),
            classes_by_fold=by_fold,
            speakers=None if UNKNOWN in self.speaker else len(set(self.speaker)),
            fingerprint=_fingerprint([fold.some for fold in self.folds.values()]),
        )

    def _count(self, truth: NDArray[np.int64]) -> dict[str, int]:
        return {
            name: int(np.sum(truth == index)) for index, name in enumerate(self.classes)
        }

    # ---------------------------------------------------------------- comparisons

    def compare(self, pair: Pair) -> TableComparison | None:
        """Test two rows on the folds and seeds that both have; None for no such."""
        metric, rows = pair.column.metric, (pair.first, pair.second)
        both = {
            n: set(self._seeds(rows[0], n)) & set(self._seeds(rows[1], n))
            for n in self.folds
        }
        folds = tuple(n for n, seeds in both.items() if seeds)
        seeds = sorted(set.intersection(*(both[n] for n in folds))) if folds else []
        if not seeds or not all(self._has(row, folds, metric) for row in rows):
            return None
        first, second = (
            [self._mean(row, folds, self._scores, metric, [s]) for s in seeds]
            for row in rows
        )
        by_seed: tuple[SeedTest, ...] = ()
        if metric == "accuracy":
            by_seed = self._mcnemar(pair, self._pool(folds), seeds)
        how, tests = STUDENT, {}
        for basis, drawn in (
            (Basis.UTTERANCES, self._by_fold),
            (Basis.SPEAKERS, self._by_speaker),
        ):
            if not drawn:
                continue
            exact, swapped = None, None
            if of_classes(metric):
                how, swapped = SWAPPED, self._swapped(pair, folds, seeds, basis)
                alone = len(folds) == len(seeds) == 1
                if by_seed and alone and basis is Basis.UTTERANCES:
                    how, exact = MCNEMAR, by_seed[0].result.p_mid
            tests[basis] = compare_scores(
                float(np.mean(first) - np.mean(second)),
                self._differences(pair, folds, seeds, drawn),
                self._freedom(folds, basis),
                swapped,
                exact,
            )
            error = tests[basis].error if swapped is None else float(np.std(swapped))
        trainings = bootstrap.over_trainings(first, second, error)
        if trainings is not None:
            how, tests[Basis.TRAININGS] = STUDENT, trainings
        return TableComparison(
            tests=tests,
            how=how,
            p_holm=1.0,
            pair=pair,
            folds=folds,
            pooled=self._pooled_comparison(pair, folds, seeds),
            by_seed=by_seed,
        )

    def _freedom(self, folds: Sequence[int], basis: Basis) -> int:
        """Drawn units, less one for each fold."""
        return sum(len(set(self._units(n, basis))) - 1 for n in folds)

    def _units(self, number: int, basis: Basis) -> list[str]:
        rows = self.folds[number].rows
        drawn = self.speaker if basis is Basis.SPEAKERS else np.arange(len(self.true))
        return drawn[rows].tolist()

    def _differences(
        self,
        pair: Pair,
        folds: Sequence[int],
        seeds: Sequence[int],
        drawn: Mapping[int, dict[RunName, Draws]],
    ) -> Floats:
        """First row minus second in each resample."""
        first, second = (
            self._mean(row, folds, drawn, pair.column.metric, seeds)
            for row in (pair.first, pair.second)
        )
        return first - second

    def _swapped(
        self, pair: Pair, folds: Sequence[int], seeds: Sequence[int], basis: Basis
    ) -> Floats:
        """First row minus second with answers swapped at random."""
        metric = pair.column.metric
        found = []
        for number in folds:
            key = (pair.first, pair.second, number, tuple(seeds), basis, metric == UAR4)
            if key not in self._swaps:
                self._swaps[key] = self._swaps_of(*key)
            found.append(self._swaps[key]["uar" if metric == UAR4 else metric])
        return np.mean(found, axis=0)

    def _swaps_of(
        self,
        first: str,
        second: str,
        number: int,
        seeds: tuple[int, ...],
        basis: Basis,
        usual: bool,
    ) -> Draws:
        fold = self.folds[number]
        wanted = (self.true_class >= 0)[fold.rows]
        if usual and self.usual is not None:
            wanted &= self.usual[fold.rows]
        one, two = (
            np.stack([_classes(fold.systems[row, s])[wanted] for s in seeds])
            for row in (first, second)
        )
        units = np.array(self._units(number, basis))[wanted]
        stream = len(_STREAMS) + list(Basis).index(basis)
        rng = np.random.default_rng((*self.seed, stream, number))
        return bootstrap.swapped_differences(
            self.true_class[fold.rows][wanted],
            one,
            two,
            bootstrap.swap_blocks(units, self.resamples, rng),
        )

    def _pooled_comparison(
        self, pair: Pair, folds: tuple[int, ...], seeds: Sequence[int]
    ) -> Comparison:
        """Of the folds' predictions put together; for information."""
        metric, pool = pair.column.metric, self._pool(folds)
        scores = {name: self._estimates(pool, name) for name in pool.systems}
        first, second = (
            float(np.mean([scores[row, seed][metric] for seed in seeds]))
            for row in (pair.first, pair.second)
        )
        drawn = self._differences(pair, [0], seeds, {0: self._pooled_draws(folds)})
        return compare_scores(
            first - second, drawn, self._freedom(folds, Basis.UTTERANCES)
        )

    def _mcnemar(
        self, pair: Pair, pool: "_Fold", seeds: Sequence[int]
    ) -> tuple[SeedTest, ...]:
        """Test each seed over the rows of all folds."""
        truth = self.true_class[pool.rows]
        known = truth >= 0
        first, second = (
            [(_classes(pool.systems[row, s]) == truth)[known] for s in seeds]
            for row in (pair.first, pair.second)
        )
        return tuple(
            SeedTest(seed, bootstrap.mcnemar(one, two))
            for seed, one, two in zip(seeds, first, second, strict=True)
        )


# What a resample draws, and a stream of random numbers for each kind of score.
_UTTERANCES, _SPEAKERS = "utterances", "speakers"
_STREAMS = ("attributes", "classes", "accuracy", "speakers")


def _classes(system: Predictions) -> NDArray[np.int64]:
    assert system.pred_class is not None
    return system.pred_class


def _of_corpus(predictions: Predictions, corpus: str, spec: TableSpec) -> Predictions:
    """Keep the rows of one corpus."""
    if len(spec.corpora) == 1 and set(predictions.corpus) == {UNKNOWN}:
        return predictions
    keep = np.array([name == corpus for name in predictions.corpus])
    if not keep.any():
        raise UserError(f"{predictions.path}: no utterance of corpus {corpus!r}")
    return predictions.select(keep)


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Put the predictions of several folds one after the other."""
    first = parts[0]

    def stack(arrays: Sequence[NDArray | None]) -> NDArray | None:
        there = [array for array in arrays if array is not None]
        return np.concatenate(there) if len(there) == len(arrays) else None

    def chain(values: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(item for value in values for item in value)

    def columns(each: Sequence[dict[str, NDArray]]) -> dict[str, NDArray]:
        return {name: np.concatenate([part[name] for part in each]) for name in each[0]}

    true_class = stack([part.true_class for part in parts])
    assert true_class is not None
    return Predictions(
        path=first.path,
        ids=chain([part.ids for part in parts]),
        corpus=chain([part.corpus for part in parts]),
        speaker=chain([part.speaker for part in parts]),
        gender=chain([part.gender for part in parts]),
        classes=first.classes,
        classes_declared=first.classes_declared,
        true_class=true_class,
        pred_class=stack([part.pred_class for part in parts]),
        probabilities=stack([part.probabilities for part in parts]),
        true=columns([part.true for part in parts]),
        pred=columns([part.pred for part in parts]),
    )


def pooled_predictions(
    spec: TableSpec, runs: Mapping[RunKey, Predictions], corpus: str
) -> dict[str, Predictions]:
    """Put together the folds of each row's first seed, for figures.

    Returns:
        Printed name of each row that has all folds -> its predictions.
    """
    seeds = sorted({key.seed for key in runs})
    folds = [n for n in spec.folds if any(key.fold == n for key in runs)]
    found = {}
    for row, described in spec.rows.items():
        keys = [RunKey(row, fold, seeds[0]) for fold in folds]
        if all(key in runs for key in keys):
            found[described.name] = _joined(
                [_of_corpus(runs[key], corpus, spec) for key in keys]
            )
    return align(found) if found else {}


def _fingerprint(parts: Sequence[Predictions]) -> str:
    """Digest of ids and annotations (sha256, 16 hexadecimal digits)."""
    total = hashlib.sha256()
    for part in parts:
        for row, utterance in enumerate(part.ids):
            number = part.true_class[row]
            name = part.classes[number] if number >= 0 else UNKNOWN
            values = " ".join(f"{part.true[dim][row]:.4f}" for dim in ATTRIBUTES)
            total.update(f"{utterance} {name} {values}\n".encode())
    return total.hexdigest()[:16]

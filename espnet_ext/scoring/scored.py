"""Scores of all runs on one corpus, on its test sets and in every resample.

A resample is a vector of weights of the utterances, drawn within each fold, so a fold's
part of it is a resample of that fold. All rows and seeds get the same resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.folds import Fold, FoldedRuns, RunName
from espnet_ext.scoring.metrics import (
    CCC_NAMES,
    CLASS_METRICS,
    Floats,
    attribute_scores,
    class_scores,
)
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.verdicts import Basis, without_interval

Draws = dict[str, Floats]  # metric -> its value in each resample, shape (B,)
Estimates = dict[RunName, dict[str, float]]  # run -> metric -> score
# Utterances are drawn once for each kind of score, speakers once for all.
_KINDS = ("attributes", "classes", "accuracy")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where random numbers come from.

    Each kind of score has a stream of its own, so that a model more or less changes no
    interval.
    """

    resamples: int
    seed: int
    # Place in the table; None for one test set, whose streams are numbered otherwise.
    corpus: int | None

    def of_scores(self, basis: Basis, kind: str) -> np.random.Generator:
        """The stream of a kind of score."""
        speakers = basis is Basis.SPEAKERS
        stream = _KINDS.index(kind)
        if self.corpus is None:
            streams = np.random.default_rng((self.seed, int(speakers))).spawn(3)
            return streams[min(stream, 1) if speakers else stream]
        stream = len(_KINDS) if speakers else stream
        return np.random.default_rng((self.seed, self.corpus, stream))

    def of_swaps(self, basis: Basis, fold: int) -> np.random.Generator:
        """The stream of swapped answers in a fold."""
        place = list(Basis).index(basis)
        if self.corpus is None:
            return np.random.default_rng((self.seed, 2 + place))
        stream = len(_KINDS) + 1 + place
        return np.random.default_rng((self.seed, self.corpus, stream, fold))


@dataclass(frozen=True)
class Scored:
    """Scores of runs."""

    data: FoldedRuns
    sampling: Sampling
    _pooled: dict[tuple[int, ...], tuple[Estimates, dict[RunName, Draws]]] = field(
        default_factory=dict
    )
    # Of all metrics, by `swaps`' arguments and whether of the usual classes.
    _swaps: dict[tuple, Draws] = field(default_factory=dict)

    @cached_property
    def estimates(self) -> dict[int, Estimates]:
        """Scores of each fold's test set."""
        return {n: estimate(self.data, fold) for n, fold in self.data.folds.items()}

    @cached_property
    def drawn(self) -> dict[Basis, dict[int, dict[RunName, Draws]]]:
        """Basis -> fold -> run -> resamples; speakers only where there are enough."""
        bases = [Basis.UTTERANCES] + [Basis.SPEAKERS] * self.data.enough_speakers
        folds = self.data.folds.items()
        return {basis: {n: self._draw(f, basis) for n, f in folds} for basis in bases}

    def mean[T: float | Floats](
        self,
        row: str,
        folds: Sequence[int],
        values: Mapping[int, Mapping[RunName, Mapping[str, T]]],
        metric: str,
        seeds: Sequence[int] | None = None,
    ) -> T:
        """Mean over folds of the mean over seeds.

        `values` are scores, or scores of resamples, of folds and runs; without `seeds`
        it is over all that the row has in a fold.
        """
        means = [
            np.mean(
                [values[n][row, s][metric] for s in seeds or self.data.seeds(row, n)],
                axis=0,
            )
            for n in folds
        ]
        return cast(T, np.mean(means, axis=0))

    def has(self, row: str, folds: Sequence[int], metric: str) -> bool:
        """Whether every run of the row has the metric."""
        return all(
            metric in self.estimates[n][row, s]
            for n in folds
            for s in self.data.seeds(row, n)
        )

    def pooled(self, folds: tuple[int, ...]) -> tuple[Estimates, dict[RunName, Draws]]:
        """Scores of folds put together, and those of each resample of utterances."""
        if len(folds) == 1:
            return self.estimates[folds[0]], self.drawn[Basis.UTTERANCES][folds[0]]
        if folds not in self._pooled:
            pool = self.data.pool(folds)
            drawn = self._draw(pool, Basis.UTTERANCES)
            self._pooled[folds] = (estimate(self.data, pool), drawn)
        return self._pooled[folds]

    def _draw(self, fold: Fold, basis: Basis) -> dict[RunName, Draws]:
        """Every metric of each run of a fold, or of pooled folds, in each resample."""
        found: dict[RunName, Draws] = {name: {} for name in fold.systems}
        for names, drawn in (
            (_raters(fold), self._attribute_draws(fold, basis)),
            (_pickers(fold), self._class_draws(fold, basis)),
        ):
            for place, name in enumerate(names):
                found[name] |= {metric: v[:, place] for metric, v in drawn.items()}
        return found

    def _attribute_draws(self, fold: Fold, basis: Basis) -> Draws:
        """Metric -> shape (B, M) of the M runs that predict attributes."""
        data, systems = self.data, _raters(fold).values()
        dims = _rated_dimensions(data, fold)
        rated = ~np.isnan(data.true[:, dims]).all(axis=1)
        local = np.flatnonzero(rated[fold.rows])
        if not systems or not dims:
            return {}
        true = np.ascontiguousarray(data.true[fold.rows[local]][:, dims])  # (n, D)
        all_pred = [[system.pred[ATTRIBUTES[d]] for d in dims] for system in systems]
        pred = np.array(all_pred)[..., local].transpose(0, 2, 1)  # (M, n, D)
        blocks = self._resamples(basis, "attributes", rated, fold.rows[local])
        scores = bootstrap.ccc_distribution(true, pred, blocks)  # (B, M, D)
        drawn = {f"ccc_{ATTRIBUTES[d]}": scores[..., i] for i, d in enumerate(dims)}
        if len(dims) == len(ATTRIBUTES):
            drawn["ccc"] = bootstrap.mean_ccc(scores)
        return without_interval(drawn, (), int((~np.isnan(true)).sum(axis=0).min()))

    def _class_draws(self, fold: Fold, basis: Basis) -> Draws:
        """Metric -> shape (B, M) of the M runs that predict classes."""
        data, systems = self.data, _pickers(fold).values()
        drawn: Draws = {}
        for within, usual in {(m.within, m.usual) for m in CLASS_METRICS.values()}:
            local = scored_rows(data, fold, usual=usual)
            if not systems or not len(local):
                continue
            rows = fold.rows[local]
            answers = np.stack([classes_of(s)[local] for s in systems])  # (M, n)
            # Means over classes within classes, for a class of one row stays in;
            # accuracy over all rows, for the shares of the classes are part of it.
            kind = "classes" if within else "accuracy"
            blocks = self._resamples(basis, kind, data.true_class >= 0, rows)
            scores = bootstrap.class_distribution(
                data.true_class[rows], answers, blocks
            )
            _, of_class = np.unique(data.class_strata[rows], return_counts=True)
            scores = without_interval(scores, of_class.tolist(), len(rows))
            drawn |= {
                name: scores[name]
                for name, metric in CLASS_METRICS.items()
                if (metric.within, metric.usual) == (within, usual)
            }
        return drawn

    def _resamples(
        self,
        basis: Basis,
        kind: str,
        among: NDArray[np.bool_],
        rows: NDArray[np.int64],
    ) -> bootstrap.Blocks:
        """Weights of some rows, the same for whichever rows of one kind are wanted.

        Args:
            basis: What is drawn.
            kind: Of score.
            among: Which utterances may be drawn, shape (N,).
            rows: Those of them that are wanted, shape (n,).

        Yields:
            Shape (b, n).
        """
        data, speakers = self.data, None
        strata = data.class_strata if kind == "classes" else data.fold_of
        if basis is Basis.SPEAKERS:  # whole ones, drawn within each fold
            strata = data.fold_of
            names = np.char.add(np.char.add(strata.astype(str), " "), data.speaker)
            speakers = names[among]
        places = (np.cumsum(among) - 1)[rows]
        rng, resamples = self.sampling.of_scores(basis, kind), self.sampling.resamples
        for weights in bootstrap.resample_within(
            strata[among], resamples, rng, speakers
        ):
            yield weights[:, places]

    def swaps(
        self,
        pair: tuple[str, str],
        number: int,
        seeds: tuple[int, ...],
        basis: Basis,
        metric: str,
    ) -> Floats:
        """Differences of two rows in a fold, answers swapped at random, shape (B,).

        The answers of all seeds are swapped together.
        """
        data, fold = self.data, self.data.folds[number]
        usual = CLASS_METRICS[metric].usual
        key = (pair, number, seeds, basis, usual)
        if key not in self._swaps:
            rows = scored_rows(data, fold, usual=usual)
            first, second = (
                np.stack([classes_of(fold.systems[row, s])[rows] for s in seeds])
                for row in pair
            )  # (S, n) each
            blocks = bootstrap.swap_blocks(
                data.units(number, basis)[rows],
                self.sampling.resamples,
                self.sampling.of_swaps(basis, number),
            )
            truth = data.true_class[fold.rows[rows]]
            self._swaps[key] = bootstrap.swapped_differences(
                truth, first, second, blocks
            )
        return self._swaps[key][metric]


def classes_of(system: Predictions) -> NDArray[np.int64]:
    """Predicted classes of a system that predicts classes, shape (N,)."""
    assert system.pred_class is not None
    return system.pred_class


def _raters(fold: Fold) -> dict[RunName, Predictions]:
    return {n: s for n, s in fold.systems.items() if s.predicts_attributes}


def _pickers(fold: Fold) -> dict[RunName, Predictions]:
    return {n: s for n, s in fold.systems.items() if s.predicts_classes}


def _rated_dimensions(data: FoldedRuns, fold: Fold) -> list[int]:
    """Places of the attributes that any utterance of a fold has."""
    known = ~np.isnan(data.true[fold.rows]).all(axis=0)
    return np.flatnonzero(known).tolist()


def scored_rows(data: FoldedRuns, fold: Fold, *, usual: bool) -> NDArray[np.int64]:
    """Places in a fold of utterances whose class is known; of the usual classes only.

    There are none of those where the usual classes are all that there are.
    """
    known = data.true_class >= 0
    if usual:
        known = known & data.usual if data.usual is not None else known & False
    return np.flatnonzero(known[fold.rows])


def _class_scores(
    data: FoldedRuns, fold: Fold, answer: NDArray[np.int64] | None
) -> dict[str, float]:
    """Scores of classes, shape (n,); without an answer, of the most frequent class."""
    found: dict[str, float] = {}
    for usual in (False, True):
        rows = scored_rows(data, fold, usual=usual)
        truth = data.true_class[fold.rows[rows]]
        if len(truth):
            frequent = np.full(len(truth), np.bincount(truth).argmax())
            guess = frequent if answer is None else answer[rows]
            found |= class_scores(truth, guess, usual=usual)
    return found


def estimate(data: FoldedRuns, fold: Fold) -> Estimates:
    """Scores of a fold's test set: of what a run predicts and is annotated."""
    true = {dim: data.true[fold.rows, i] for i, dim in enumerate(ATTRIBUTES)}
    found: Estimates = {name: {} for name in fold.systems}
    for name, system in _raters(fold).items():
        found[name] |= attribute_scores(true, system.pred)
        if len(found[name]) <= len(ATTRIBUTES):  # "ccc" is the mean of all three
            found[name].pop("ccc", None)
    for name, system in _pickers(fold).items():
        found[name] |= _class_scores(data, fold, classes_of(system))
    return found


def chance_scores(data: FoldedRuns) -> dict[str, float]:
    """Mean over folds of always answering the most frequent class and the mean."""
    by_fold: dict[str, list[float]] = {}
    for fold in data.folds.values():
        scores = dict.fromkeys(CCC_NAMES, 0.0) | _class_scores(data, fold, None)
        for metric, value in scores.items():
            by_fold.setdefault(metric, []).append(value)
    return {metric: float(np.mean(values)) for metric, values in by_fold.items()}

"""The scores of all runs on one corpus, on its test sets and in every resample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring.draws import (
    Draws,
    Floats,
    Sampling,
    classes_of,
    draw_scores,
    rated_dimensions,
)
from espnet_ext.scoring.folds import Fold, FoldedRuns, RunName
from espnet_ext.scoring.metrics import ccc, class_scores, uar
from espnet_ext.scoring.names import UAR4, USUAL_CLASSES
from espnet_ext.scoring.verdicts import Basis

Estimates = dict[RunName, dict[str, float]]  # run -> metric -> score


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of runs."""

    data: FoldedRuns
    sampling: Sampling
    estimates: dict[int, Estimates]  # by fold
    # Basis -> fold -> run -> resamples; speakers only where there are enough.
    drawn: dict[Basis, dict[int, dict[RunName, Draws]]]
    _pooled: dict[tuple[int, ...], tuple[Estimates, dict[RunName, Draws]]] = field(
        default_factory=dict
    )

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
            drawn = draw_scores(self.data, pool, self.sampling, Basis.UTTERANCES)
            self._pooled[folds] = (estimate(self.data, pool), drawn)
        return self._pooled[folds]


def score_runs(data: FoldedRuns, sampling: Sampling) -> Scored:
    """Score every run of every fold, on its test set and in every resample."""
    bases = [Basis.UTTERANCES] + [Basis.SPEAKERS] * data.enough_speakers
    return Scored(
        data,
        sampling,
        {number: estimate(data, fold) for number, fold in data.folds.items()},
        {
            basis: {
                number: draw_scores(data, fold, sampling, basis)
                for number, fold in data.folds.items()
            }
            for basis in bases
        },
    )


def estimate(data: FoldedRuns, fold: Fold) -> Estimates:
    """Scores of a fold's test set: of what a run predicts and is annotated."""
    true, truth = data.true[fold.rows], data.true_class[fold.rows]
    dims, labelled = rated_dimensions(data, fold), truth >= 0
    found: Estimates = {}
    for name, system in fold.systems.items():
        scores = found[name] = {}
        if system.predicts_attributes:
            for dim in dims:
                known = ~np.isnan(true[:, dim])
                pred = system.pred[ATTRIBUTES[dim]][known]
                scores[f"ccc_{ATTRIBUTES[dim]}"] = ccc(true[known, dim], pred)
            if len(dims) == len(ATTRIBUTES):
                scores["ccc"] = float(np.mean([scores[f"ccc_{d}"] for d in ATTRIBUTES]))
        if system.predicts_classes and labelled.any():
            said = classes_of(system)
            scores |= class_scores(truth[labelled], said[labelled])
            usual = None if data.usual is None else data.usual[fold.rows]
            if usual is not None and usual.any():
                scores[UAR4] = uar(truth[usual], said[usual])
    return found


def chance_scores(data: FoldedRuns) -> dict[str, float]:
    """Mean over folds of always answering the most frequent class and the mean."""
    by_fold: dict[str, list[float]] = {}
    for fold in data.folds.values():
        truth = data.true_class[fold.rows]
        truth = truth[truth >= 0]
        scores = {f"ccc_{dim}": 0.0 for dim in ATTRIBUTES} | {"ccc": 0.0}
        if len(truth):
            guess = np.full(len(truth), np.bincount(truth).argmax())
            scores |= class_scores(truth, guess)
        if data.usual is not None:
            scores[UAR4] = 1.0 / len(USUAL_CLASSES)
        for metric, value in scores.items():
            by_fold.setdefault(metric, []).append(value)
    return {metric: float(np.mean(values)) for metric, values in by_fold.items()}

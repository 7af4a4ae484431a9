"""Scores of runs in resamples of their utterances or speakers.

A resample is a vector of weights of the utterances, drawn within each fold, so a fold's
part of it is a resample of that fold. All rows and seeds get the same resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.folds import Fold, FoldedRuns, RunName
from espnet_ext.scoring.names import UAR4
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.verdicts import Basis, without_interval

Floats = NDArray[np.float64]
Draws = dict[str, Floats]  # metric -> its value in each resample, shape (B,)

# Numbers in a block of resampled weights, as in `bootstrap`.
_BLOCK_NUMBERS = 4_194_304
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


def classes_of(system: Predictions) -> NDArray[np.int64]:
    """Predicted classes of a system that predicts classes, shape (N,)."""
    assert system.pred_class is not None
    return system.pred_class


def draw_scores(
    data: FoldedRuns, fold: Fold, sampling: Sampling, basis: Basis
) -> dict[RunName, Draws]:
    """Every metric of each run of a fold, or of pooled folds, in each resample."""
    found: dict[RunName, Draws] = {name: {} for name in fold.systems}
    raters = [n for n, s in fold.systems.items() if s.predicts_attributes]
    pickers = [n for n, s in fold.systems.items() if s.predicts_classes]
    for names, drawn in (
        (raters, _attribute_draws(data, fold, raters, sampling, basis)),
        (pickers, _class_draws(data, fold, pickers, sampling, basis)),
    ):
        for place, name in enumerate(names):
            found[name] |= {metric: v[:, place] for metric, v in drawn.items()}
    return found


def _attribute_draws(
    data: FoldedRuns,
    fold: Fold,
    names: Sequence[RunName],
    sampling: Sampling,
    basis: Basis,
) -> Draws:
    """Metric -> shape (B, M) of the M runs named."""
    dims = rated_dimensions(data, fold)
    rated = ~np.isnan(data.true[:, dims]).all(axis=1)
    local = np.flatnonzero(rated[fold.rows])
    if not names or not dims:
        return {}
    rows = fold.rows[local]
    true = np.ascontiguousarray(data.true[rows][:, dims])  # (n, D)
    all_pred = [[fold.systems[n].pred[ATTRIBUTES[d]] for d in dims] for n in names]
    pred = np.array(all_pred)[..., local].transpose(0, 2, 1)  # (M, n, D)
    blocks = _resamples(data, sampling, basis, "attributes", rated, rows)
    scores = bootstrap.ccc_distribution(true, pred, blocks)  # (B, M, D)
    drawn = {f"ccc_{ATTRIBUTES[d]}": scores[..., i] for i, d in enumerate(dims)}
    if len(dims) == len(ATTRIBUTES):
        drawn["ccc"] = bootstrap.mean_ccc(scores)
    return without_interval(drawn, (), int((~np.isnan(true)).sum(axis=0).min()))


def rated_dimensions(data: FoldedRuns, fold: Fold) -> list[int]:
    """Places of the attributes that any utterance of a fold has."""
    known = ~np.isnan(data.true[fold.rows]).all(axis=0)
    return np.flatnonzero(known).tolist()


def _class_draws(
    data: FoldedRuns,
    fold: Fold,
    names: Sequence[RunName],
    sampling: Sampling,
    basis: Basis,
) -> Draws:
    """Metric -> shape (B, M) of the M runs named."""
    known = data.true_class >= 0
    if not names or not known[fold.rows].any():
        return {}

    def draw(kind: str, wanted: NDArray[np.bool_]) -> Draws:
        local = np.flatnonzero(wanted[fold.rows])
        rows = fold.rows[local]
        said = np.stack([classes_of(fold.systems[n])[local] for n in names])  # (M, n)
        blocks = _resamples(data, sampling, basis, kind, known, rows)
        drawn = bootstrap.class_distribution(data.true_class[rows], said, blocks)
        _, of_class = np.unique(data.class_strata[rows], return_counts=True)
        return without_interval(drawn, of_class.tolist(), len(rows))

    # Means over classes within classes, for a class of one row stays in; accuracy over
    # all rows, for the shares of the classes are part of it.
    drawn = draw("classes", known)
    drawn["accuracy"] = draw("accuracy", known)["accuracy"]
    if data.usual is not None and data.usual[fold.rows].any():
        drawn[UAR4] = draw("classes", known & data.usual)["uar"]
    return drawn


def _resamples(
    data: FoldedRuns,
    sampling: Sampling,
    basis: Basis,
    kind: str,
    among: NDArray[np.bool_],
    rows: NDArray[np.int64],
) -> Iterator[Floats]:
    """Weights of some rows, the same for whichever rows of one kind are wanted.

    Args:
        data: The runs.
        sampling: Number of resamples and their seed.
        basis: What is drawn.
        kind: Of score.
        among: Which utterances may be drawn, shape (N,).
        rows: Those of them that are wanted, shape (n,).

    Yields:
        Shape (b, n).
    """
    rng = sampling.of_scores(basis, kind)
    places = np.cumsum(among) - 1
    if basis is not Basis.SPEAKERS:
        strata = data.class_strata if kind == "classes" else data.fold_of
        for counts in bootstrap.resample_within(strata[among], sampling.resamples, rng):
            yield counts[:, places[rows]]
        return
    # Whole speakers, drawn within each fold.
    names = np.char.add(np.char.add(data.fold_of.astype(str), " "), data.speaker)
    _, first, inverse = np.unique(names[among], return_index=True, return_inverse=True)
    strata = data.fold_of[among][first]
    size = max(1, _BLOCK_NUMBERS // max(1, len(rows)))
    for counts in bootstrap.resample_within(strata, sampling.resamples, rng):
        for start in range(0, len(counts), size):
            yield counts[start : start + size][:, inverse[places[rows]]]


def draw_swaps(
    data: FoldedRuns,
    pair: tuple[str, str],
    number: int,
    seeds: Sequence[int],
    sampling: Sampling,
    basis: Basis,
    usual: NDArray[np.bool_] | None,
) -> Draws:
    """Differences of two rows' class scores in a fold, answers swapped at random.

    The answers of all seeds are swapped together; `usual`, shape (N,), tells which
    utterances take part.
    """
    fold = data.folds[number]
    wanted = (data.true_class >= 0)[fold.rows]
    if usual is not None:
        wanted &= usual[fold.rows]
    first, second = (
        np.stack([classes_of(fold.systems[row, s])[wanted] for s in seeds])
        for row in pair
    )  # (S, n) each
    rng = sampling.of_swaps(basis, number)
    units = data.units(number, basis)[wanted]
    blocks = bootstrap.swap_blocks(units, sampling.resamples, rng)
    truth = data.true_class[fold.rows][wanted]
    return bootstrap.swapped_differences(truth, first, second, blocks)

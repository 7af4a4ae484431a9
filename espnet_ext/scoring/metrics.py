"""The scores of the paper, over a whole set: CCC, accuracy, UAR and macro-F1.

Every function takes complete arrays of one set (never batches whose scores are then
averaged), computes in float64 and returns finite numbers. What cannot be scored (no
row, NaN, a negative class, two lengths, values that are no classes) is a `ValueError`:
rows whose truth is unknown must be dropped before, except in `attribute_scores`.

Sources:
    CCC: L. I-K. Lin, "A concordance correlation coefficient to evaluate
    reproducibility", Biometrics 45(1), 1989; equation 4 of the paper.
    UAR: B. Schuller et al., "The INTERSPEECH 2009 Emotion Challenge", 2009.
    Macro-F1: the mean of the classes' F1, as in scikit-learn's ``average="macro"``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from espnet_ext.attributes import ATTRIBUTES

Floats = NDArray[np.float64]


def _accuracy(in_truth: Floats, in_pred: Floats, right: Floats) -> Floats:
    return right.sum(axis=-1) / in_truth.sum(axis=-1)


def _uar(in_truth: Floats, in_pred: Floats, right: Floats) -> Floats:
    recall, present = right / np.maximum(in_truth, 1.0), in_truth > 0
    return (recall * present).sum(axis=-1) / present.sum(axis=-1)


def _macro_f1(in_truth: Floats, in_pred: Floats, right: Floats) -> Floats:
    f1 = 2.0 * right / np.maximum(in_truth + in_pred, 1.0)
    present = in_truth > 0
    return (f1 * present).sum(axis=-1) / present.sum(axis=-1)


@dataclass(frozen=True, slots=True)
class ClassMetric:
    """A score of classes, of a set or of resamples of it.

    `score` takes the weight of each class in the truth, in the prediction and where
    both agree, shape (..., K) each, and gives the score, shape (...). Classes without
    weight in the truth count in no mean over classes.
    """

    title: str  # in tables
    score: Callable[[Floats, Floats, Floats], Floats]
    within: bool = True  # a mean over classes, which are resampled one by one
    usual: bool = False  # of utterances of `names.USUAL_CLASSES` only


# In the order of every table: after CCC, as in the paper's Tables 1 and 3.
CLASS_METRICS = {
    "accuracy": ClassMetric("Acc", _accuracy, within=False),
    "uar": ClassMetric("UAR", _uar),
    "uar4": ClassMetric("UAR (4)", _uar, usual=True),
    "macro_f1": ClassMetric("macro-F1", _macro_f1),
}
CCC_NAMES = {"ccc": "CCC"} | {f"ccc_{d}": f"CCC-{d[0].upper()}" for d in ATTRIBUTES}
METRIC_NAMES = CCC_NAMES | {name: m.title for name, m in CLASS_METRICS.items()}


def ccc(true: ArrayLike, pred: ArrayLike) -> float:
    """Lin's concordance correlation coefficient of values, shape (N,) each.

    ``2 s_tp / (s_t^2 + s_p^2 + (mean_t - mean_p)^2)`` with biased (1/N) moments
    everywhere, so that equal arrays give exactly 1. Where either side is constant (a
    single row included) the score is 0.0, also where both are the same constant and
    the formula would be 0/0: agreement on a constant says nothing about concordance.

    >>> round(ccc([1, 2, 3], [2, 3, 4]), 6)
    0.571429
    """
    true, pred = _values(true, "true"), _values(pred, "pred")
    _check_lengths(true, pred)
    # Asked of the values and not of the variances: the mean of equal numbers need not
    # be that number in floating point, and noise over noise is not a score.
    if np.ptp(true) == 0.0 or np.ptp(pred) == 0.0:
        return 0.0
    difference = true.mean() - pred.mean()
    true, pred = true - true.mean(), pred - pred.mean()
    denominator = np.mean(true**2) + np.mean(pred**2) + difference**2
    if denominator == 0.0:  # spreads so small that their squares underflow
        return 0.0
    return float(2.0 * np.mean(true * pred) / denominator)


def confusion_matrix(
    true: ArrayLike, pred: ArrayLike, num_classes: int
) -> NDArray[np.int64]:
    """Count the pairs of class ids, shape (N,) each.

    Returns:
        Counts, shape (K, K): row = truth, column = prediction.
    """
    true, pred = _class_pair(true, pred)
    largest = int(max(true.max(), pred.max()))
    if largest >= num_classes:
        raise ValueError(f"class id {largest} with only {num_classes} classes")
    pairs = np.bincount(true * num_classes + pred, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).astype(np.int64)


def attribute_scores(
    true: Mapping[str, ArrayLike], pred: Mapping[str, ArrayLike]
) -> dict[str, float]:
    """CCC of each attribute over the rows where it is annotated, and their mean.

    Values by attribute have shape (N,); the truth is nan where unknown.

    Returns:
        ``ccc_valence``... and ``ccc``, their mean. An attribute that no row is
        annotated with is left out, here and in the mean.
    """
    scores = {}
    for name in ATTRIBUTES:
        truth, guess = np.asarray(true[name], np.float64), np.asarray(pred[name])
        known = ~np.isnan(truth)
        if known.any():
            scores[f"ccc_{name}"] = ccc(truth[known], guess[known])
    if scores:
        scores["ccc"] = float(np.mean(list(scores.values())))
    return scores


def class_counts(true: ArrayLike, pred: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """What class metrics count, of each row: features to be weighed and summed.

    The label set is fixed to the classes in the truth: rows of a class that is only
    predicted already count as misses of their true classes.

    Args:
        true: Class ids >= 0, shape (N,).
        pred: Predicted class ids, shape (..., N).

    Returns:
        Whether a row is in each class in the truth, shape (N, K), in the prediction
        and in both, shape (..., N, K) each.
    """
    truth, guess = np.asarray(true), np.asarray(pred)
    if truth.shape != guess.shape[-1:]:
        raise ValueError(f"true has shape {truth.shape}, expected {guess.shape[-1:]}")
    labels = np.unique(truth)
    if labels[0] < 0:
        raise ValueError("rows of unknown class must be dropped before")
    in_truth, in_pred = truth[:, None] == labels, guess[..., None] == labels
    return in_truth, in_pred, in_pred & in_truth


def class_scores(
    true: ArrayLike, pred: ArrayLike, *, usual: bool = False
) -> dict[str, float]:
    """Accuracy, UAR and macro-F1 of class ids >= 0, shape (N,) each.

    With `usual`, the metrics of the usual four classes, which all rows must be of.
    UAR and macro-F1 are means over the classes present in the truth. They equal
    scikit-learn's ``recall_score`` and ``f1_score`` with ``average="macro",
    labels=np.unique(true), zero_division=0``; without ``labels``, scikit-learn adds a
    zero for every class that is only predicted.
    """
    counts = [c.sum(axis=0) for c in class_counts(*_class_pair(true, pred))]
    return {
        name: float(metric.score(*counts))
        for name, metric in CLASS_METRICS.items()
        if metric.usual == usual
    }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often a system is right at each level of confidence, in B bins."""

    confidence: NDArray[np.float64]  # mean probability of the predicted class, (B,)
    accuracy: NDArray[np.float64]  # share of right rows, (B,)
    count: NDArray[np.int64]  # rows, (B,)
    ece: float  # expected calibration error: mean |accuracy - confidence| over rows


def calibration(
    right: ArrayLike, confidence: ArrayLike, num_bins: int = 10
) -> Calibration:
    """Reliability of the predicted classes, in bins of equally many rows.

    Bins of equal width would leave the low ones nearly empty, and their noise would be
    read as miscalibration. Source: C. Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, with the bins of M. Naeini et al., AAAI 2015, made equal in
    rows. Each row, shape (N,), is right or not; confidence is the probability given to
    its predicted class.
    """
    hits = np.asarray(right, dtype=np.float64)
    sure = _values(confidence, "confidence")
    _check_lengths(hits, sure)
    order = np.argsort(sure, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    means, shares = (np.array([v[rows].mean() for rows in bins]) for v in (sure, hits))
    counts = np.array([len(rows) for rows in bins])
    ece = float(np.average(np.abs(shares - means), weights=counts))
    return Calibration(means, shares, counts, ece)


def _values(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    _check_rows(array, name, ~np.isfinite(array))
    return array


def _class_pair(
    true: ArrayLike, pred: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true, pred = np.asarray(true), np.asarray(pred)
    for array, name in ((true, "true"), (pred, "pred")):
        _check_rows(array, name, array < 0)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} holds {array.dtype} and not integer class ids")
    _check_lengths(true, pred)
    return true.astype(np.int64), pred.astype(np.int64)


def _check_rows(array: NDArray, name: str, unknown: NDArray[np.bool_]) -> None:
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected (N,)")
    if array.size == 0:
        raise ValueError(f"{name} has no row: there is nothing to score")
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(f"{name}[{row}] is {array[row]}: drop unknown rows before")


def _check_lengths(true: NDArray, pred: NDArray) -> None:
    if true.shape != pred.shape:
        raise ValueError(f"true has {len(true)} rows and pred has {len(pred)}")

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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from espnet_ext.attributes import ATTRIBUTES

# Order of the columns in every table: as in the paper's Tables 1 and 3.
METRICS = ("ccc", *(f"ccc_{name}" for name in ATTRIBUTES))
METRICS += ("accuracy", "uar", "macro_f1")


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


def accuracy(true: ArrayLike, pred: ArrayLike) -> float:
    """Share of rows whose class is right; class ids >= 0, shape (N,) each."""
    return float(np.mean(np.equal(*_class_pair(true, pred))))


def uar(true: ArrayLike, pred: ArrayLike) -> float:
    """Unweighted average recall; class ids >= 0, shape (N,) each.

    The mean is over the classes present in the truth; a class without a row has no
    recall. Equals scikit-learn's ``recall_score(true, pred, average="macro",
    labels=np.unique(true))``. Guessing gives 1 / (number of classes in the truth).
    """
    hits, in_truth, _ = _class_counts(true, pred)
    return float(np.mean(hits / in_truth))


def macro_f1(true: ArrayLike, pred: ArrayLike) -> float:
    """Unweighted mean of the classes' F1; class ids >= 0, shape (N,) each.

    The mean is over the classes present in the truth: the rows of a class that is only
    predicted already count as misses of their true classes. Equals scikit-learn's
    ``f1_score(true, pred, average="macro", labels=np.unique(true), zero_division=0)``;
    without ``labels`` scikit-learn adds a zero for every class that is only predicted.
    """
    hits, in_truth, in_pred = _class_counts(true, pred)
    return float(np.mean(2.0 * hits / (in_truth + in_pred)))


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


def class_scores(true: ArrayLike, pred: ArrayLike) -> dict[str, float]:
    """Accuracy, UAR and macro-F1 of class ids >= 0, shape (N,) each."""
    return {
        "accuracy": accuracy(true, pred),
        "uar": uar(true, pred),
        "macro_f1": macro_f1(true, pred),
    }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often a system is right at each level of confidence, in B bins.

    Attributes:
        confidence: Mean probability of the predicted class in each bin, shape (B,).
        accuracy: Share of right rows in each bin, shape (B,).
        count: Rows of each bin, shape (B,).
        ece: Expected calibration error: mean ``|accuracy - confidence|`` over rows.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
    ece: float


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


def _class_counts(
    true: ArrayLike, pred: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are right, in the truth and in the prediction, of each true class."""
    true, pred = _class_pair(true, pred)
    size = int(max(true.max(), pred.max())) + 1
    in_truth = np.bincount(true, minlength=size)
    present = in_truth > 0
    hits, in_pred = (np.bincount(x, minlength=size) for x in (true[true == pred], pred))
    return hits[present], in_truth[present], in_pred[present]


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

"""The scores of the paper, over a whole set: CCC, accuracy, UAR and macro-F1.

Every function takes complete arrays of one set (never batches whose scores are then
averaged), computes in float64 and leaves the choice of rows to its caller: rows whose
truth is unknown must be dropped before. What cannot be scored (no row at all, NaN, a
negative class, two lengths) is a `ValueError`, never a NaN that travels on; a set in
which no row has a given label is therefore for the caller to notice.

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

# Dimensions are named everywhere; this is the order of every output.
ATTRIBUTES = ("valence", "arousal", "dominance")

# Order of the columns in every table: as in the paper's Tables 1 and 3.
METRICS = (
    "ccc",
    "ccc_valence",
    "ccc_arousal",
    "ccc_dominance",
    "accuracy",
    "uar",
    "macro_f1",
)


def ccc(true: ArrayLike, pred: ArrayLike) -> float:
    """Lin's concordance correlation coefficient.

    ``2 s_tp / (s_t^2 + s_p^2 + (mean_t - mean_p)^2)`` with biased (1/N) moments
    everywhere, so that equal arrays give exactly 1. Where either side is constant (a
    single row included) the covariance is zero and the score is 0.0, also where both
    are the same constant and the formula would be 0/0: agreement on a constant says
    nothing about concordance.

    Args:
        true: Annotated values, shape (N,), any unit.
        pred: Predicted values, shape (N,), the same unit.

    Returns:
        A finite number in [-1, 1].

    Raises:
        ValueError: No row, two lengths, more than one axis, or a non-finite value.

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
    """Count the rows of each pair of classes.

    Args:
        true: Class ids in [0, num_classes), shape (N,).
        pred: Class ids in [0, num_classes), shape (N,).
        num_classes: K.

    Returns:
        Counts, shape (K, K): row = truth, column = prediction.

    Raises:
        ValueError: As in `accuracy`, or an id that is not below `num_classes`.
    """
    true, pred = _classes(true, "true"), _classes(pred, "pred")
    _check_lengths(true, pred)
    largest = int(max(true.max(), pred.max()))
    if largest >= num_classes:
        raise ValueError(f"class id {largest} with only {num_classes} classes")
    pairs = np.bincount(true * num_classes + pred, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).astype(np.int64)


def accuracy(true: ArrayLike, pred: ArrayLike) -> float:
    """Share of rows whose class is right.

    Args:
        true: Class ids >= 0, shape (N,).
        pred: Class ids >= 0, shape (N,).

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: No row, two lengths, non-integer values or a negative id (an
            unknown class that should have been dropped).
    """
    true, pred = _classes(true, "true"), _classes(pred, "pred")
    _check_lengths(true, pred)
    return float(np.mean(true == pred))


def uar(true: ArrayLike, pred: ArrayLike) -> float:
    """Unweighted average recall: the mean of the classes' recalls.

    The mean is over the classes present in the truth; a class without a row has no
    recall. Equals scikit-learn's ``recall_score(true, pred, average="macro",
    labels=np.unique(true))`` and its ``balanced_accuracy_score``.

    Args:
        true: Class ids >= 0, shape (N,).
        pred: Class ids >= 0, shape (N,).

    Returns:
        A number in [0, 1]; guessing gives 1 / (number of classes in the truth).

    Raises:
        ValueError: As in `accuracy`.
    """
    hits, in_truth, _ = _class_counts(true, pred)
    present = in_truth > 0
    return float(np.mean(hits[present] / in_truth[present]))


def macro_f1(true: ArrayLike, pred: ArrayLike) -> float:
    """Unweighted mean of the classes' F1.

    The mean is over the classes present in the truth. A class that is only predicted
    has no F1 of its own: its rows already count as misses of their true classes.
    Equals scikit-learn's ``f1_score(true, pred, average="macro",
    labels=np.unique(true), zero_division=0)``; without ``labels`` scikit-learn adds a
    zero for every class that is predicted but never true.

    Args:
        true: Class ids >= 0, shape (N,).
        pred: Class ids >= 0, shape (N,).

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: As in `accuracy`.
    """
    hits, in_truth, in_pred = _class_counts(true, pred)
    present = in_truth > 0
    return float(np.mean(2.0 * hits[present] / (in_truth + in_pred)[present]))


@dataclass(frozen=True, slots=True)
class Scores:
    """One model's scores on one set; None where it does not predict that.

    Attributes:
        ccc: Mean of the three CCCs.
        ccc_valence: CCC of valence.
        ccc_arousal: CCC of arousal.
        ccc_dominance: CCC of dominance.
        accuracy: Share of right classes.
        uar: Unweighted average recall.
        macro_f1: Mean F1 of the classes present in the truth.
    """

    ccc: float | None = None
    ccc_valence: float | None = None
    ccc_arousal: float | None = None
    ccc_dominance: float | None = None
    accuracy: float | None = None
    uar: float | None = None
    macro_f1: float | None = None

    def __getitem__(self, metric: str) -> float | None:
        """Return the score called `metric`, one of `METRICS`."""
        if metric not in METRICS:
            raise KeyError(metric)
        return getattr(self, metric)


def attribute_scores(
    true: Mapping[str, ArrayLike], pred: Mapping[str, ArrayLike]
) -> dict[str, float]:
    """CCC of each dimension and their mean.

    Args:
        true: Dimension name -> annotated values, shape (N,); one N a dimension.
        pred: Dimension name -> predicted values, shape (N,).

    Returns:
        ``ccc``, ``ccc_valence``, ``ccc_arousal``, ``ccc_dominance``.

    Raises:
        ValueError: As in `ccc`.
        KeyError: A dimension is missing.
    """
    each = {f"ccc_{name}": ccc(true[name], pred[name]) for name in ATTRIBUTES}
    return {"ccc": sum(each.values()) / len(each), **each}


def class_scores(true: ArrayLike, pred: ArrayLike) -> dict[str, float]:
    """Accuracy, UAR and macro-F1 of class ids, shape (N,) each.

    Raises:
        ValueError: As in `accuracy`.
    """
    return {
        "accuracy": accuracy(true, pred),
        "uar": uar(true, pred),
        "macro_f1": macro_f1(true, pred),
    }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often a system is right at each level of confidence.

    Attributes:
        confidence: Mean probability of the predicted class in each bin, shape (B,).
        accuracy: Share of right rows in each bin, shape (B,).
        count: Rows of each bin, shape (B,).
        ece: Expected calibration error: the bins' mean ``|accuracy - confidence|``,
            weighted by their rows.
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
    rows.

    Args:
        right: Whether each row's class is right, booleans of shape (N,).
        confidence: Probability given to the predicted class, shape (N,).
        num_bins: At most this many bins; fewer with fewer rows.

    Raises:
        ValueError: No row, two lengths, or a non-finite value.
    """
    hits = np.asarray(right, dtype=np.float64)
    sure = _values(confidence, "confidence")
    _check_lengths(hits, sure)
    order = np.argsort(sure, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    means = np.array([sure[rows].mean() for rows in bins])
    shares = np.array([hits[rows].mean() for rows in bins])
    counts = np.array([len(rows) for rows in bins])
    ece = float(np.average(np.abs(shares - means), weights=counts))
    return Calibration(means, shares, counts, ece)


def _class_counts(
    true: ArrayLike, pred: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are right, in the truth and in the prediction, each (K,)."""
    true, pred = _classes(true, "true"), _classes(pred, "pred")
    _check_lengths(true, pred)
    size = int(max(true.max(), pred.max())) + 1
    return (
        np.bincount(true[true == pred], minlength=size),
        np.bincount(true, minlength=size),
        np.bincount(pred, minlength=size),
    )


def _values(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    _check_shape(array, name)
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"{name}[{row}] is {array[row]}: drop unknown rows before")
    return array


def _classes(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    _check_shape(array, name)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} holds {array.dtype} and not integer class ids")
    if array.min() < 0:
        row = int(np.argmax(array < 0))
        raise ValueError(f"{name}[{row}] is {array[row]}: drop unknown rows before")
    return array.astype(np.int64)


def _check_shape(array: NDArray, name: str) -> None:
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected (N,)")
    if array.size == 0:
        raise ValueError(f"{name} has no row: there is nothing to score")


def _check_lengths(true: NDArray, pred: NDArray) -> None:
    if true.shape != pred.shape:
        raise ValueError(f"true has {len(true)} rows and pred has {len(pred)}")

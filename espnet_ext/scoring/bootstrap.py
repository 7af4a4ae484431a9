"""Intervals and tests for scores: bootstrap, McNemar, Holm.

Every score here is a function of weighted sums over rows, so a resample is a vector of
counts and all resamples of all models are one matrix product, in blocks that bound the
memory. Models that are compared get the same resamples (paired). Resampling schemes
yield the blocks; the generator is always the caller's.

Sources:
    Bias-corrected percentile interval: B. Efron, "Better Bootstrap Confidence
    Intervals", JASA 82, 1987, section 3; B. Efron and R. Tibshirani, "An Introduction
    to the Bootstrap", 1993, section 14.3 (BCa with acceleration 0).
    Drawing n - 1 of n rows and weighing them n / (n - 1): J. Rao and C. Wu,
    "Resampling Inference with Complex Survey Data", JASA 83, 1988, section 2.
    P value with the +1: A. Davison and D. Hinkley, "Bootstrap Methods and their
    Application", 1997, section 4.2.
    McNemar's test, exact and mid-p: M. Fagerland, S. Lydersen and P. Laake, "The
    McNemar test for binary matched-pairs data", BMC Med. Res. Methodol. 13, 2013.
    Swapping two models' answers: A. Yeh, "More accurate tests for the statistical
    significance of result differences", COLING 2000; of whole clusters: V. Durkalski
    et al., "Analysis of clustered matched-pair data", Statistics in Medicine 22, 2003.
    Holm: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring.metrics import CLASS_METRICS, Floats, class_counts

# A block of resamples: how much each row weighs in each, shape (b, N).
Blocks = Iterable[Floats]

# Weights of one block: 32 MiB, which a processor's cache still helps.
_BLOCK_NUMBERS = 4_194_304
# In deviations: a score further from its resamples has more than a small bias, and
# correcting all of it would put the interval where there are no resamples.
_LARGEST_BIAS = 1.0
# Differences that rounding makes.
_SAME = 1e-12
# A resample whose spread is below this share of the set's is a constant one.
_NO_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its confidence interval; the score is that of the whole set."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """First score minus second, its interval and test of no difference."""

    difference: float
    low: float  # nan where the error is
    high: float
    p: float  # two-sided
    error: float  # standard error; nan where it is not known
    freedom: float  # degrees of freedom of Student's t

    def p_not_above(self, margin: float, sign: float = 1.0) -> float:
        """One-sided p value of a difference of `margin` or more.

        A small one shows that ``sign * difference`` is below the margin: the
        non-inferiority test (one half of D. Schuirmann's two one-sided tests, 1987).
        It is nan where the error is not known.
        """
        from scipy.special import stdtr

        gap = sign * self.difference - margin
        if self.error == 0.0:
            return float(gap >= 0.0)
        return float(stdtr(self.freedom, gap / self.error))


def resample_within(
    strata: ArrayLike,
    resamples: int,
    rng: np.random.Generator,
    units: ArrayLike | None = None,
) -> Iterator[Floats]:
    """Draw with replacement within each stratum, so that its size stays.

    With the true classes as strata, every resample has every class: a class with one
    row, which plain resamples miss a third of the time, would otherwise make the
    distribution of UAR and macro-F1 bimodal.

    Args:
        strata: Any numbers, shape (N,).
        resamples: How many.
        rng: The caller's generator.
        units: Speaker of each row, shape (N,), to draw speakers with all their rows:
            rows of one speaker are alike, which drawing rows does not see. All rows of
            a speaker are of one stratum.

    Yields:
        Weights of a block of resamples, shape (b, N), of all blocks (B, N). Those of
        the rows, or speakers, of a stratum sum to their number.
    """
    labels = np.asarray(strata)
    rows = inverse = np.arange(len(labels))
    if units is not None:
        _, rows, inverse = np.unique(units, return_index=True, return_inverse=True)
    labels = labels[rows]
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for size in _block_sizes(len(labels), resamples):
        counts = np.empty((size, len(labels)))
        for each in members:
            counts[:, each] = _draw(len(each), size, rng)
        step = max(1, _BLOCK_NUMBERS // len(inverse))  # all at once without units
        for start in range(0, size, step):
            yield counts[start : start + step, inverse]


def _draw(rows: int, size: int, rng: np.random.Generator) -> Floats:
    """Weights of rows that are drawn with replacement, `size` times: (size, rows).

    One row fewer is drawn than there are, and the weights are scaled up to the number
    of rows. The variance of a mean is then s^2 / n with s^2 over n - 1, and not
    (n - 1) / n of it: a class of ten rows, or twenty speakers, would have intervals
    that are too narrow. Of one row nothing can be drawn but itself.
    """
    drawn_rows = max(1, rows - 1)
    drawn = rng.integers(0, rows, size=(size, drawn_rows))
    drawn += np.arange(size)[:, None] * rows
    counts = np.bincount(drawn.ravel(), minlength=size * rows)
    return counts.reshape(size, rows) * np.float64(rows / drawn_rows)


def _block_sizes(rows: int, resamples: int) -> Iterator[int]:
    if rows < 1 or resamples < 1:
        raise ValueError(f"cannot draw {resamples} resamples of {rows} rows")
    size = max(1, _BLOCK_NUMBERS // rows)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def ccc_distribution(true: ArrayLike, pred: ArrayLike, blocks: Blocks) -> Floats:
    """CCC of every model and attribute in every resample, shape (B, M, D).

    As in `metrics.ccc`, a constant resample has CCC 0.

    Args:
        true: Annotated values, shape (N, D); nan where unknown.
        pred: Predicted values of M models, shape (M, N, D).
        blocks: Weights, shape (b, N) each, B rows in all.
    """
    truth = np.asarray(true, dtype=np.float64)
    guess = np.asarray(pred, dtype=np.float64)
    models, rows, dims = guess.shape
    if truth.shape != (rows, dims):
        raise ValueError(f"true has shape {truth.shape}, expected {(rows, dims)}")
    known = ~np.isnan(truth)
    if not known.any(axis=0).all() or np.isnan(guess).any():
        raise ValueError("an attribute without truth, or NaN in the predictions")

    # CCC does not change when both sides move together: moving the truth's mean to
    # zero keeps the sums of squares from cancelling.
    center = np.nanmean(truth, axis=0)
    truth = np.where(known, truth - center, 0.0)
    guess = np.where(known, guess - center, 0.0)  # (M, N, D)
    shared = [known.astype(np.float64), truth, truth**2]  # (N, D) each
    own = _by_row([guess, guess**2, guess * truth])  # (N, M D) each
    features = np.concatenate(shared + own, axis=1)  # (N, 3 D + 3 M D)
    scale_t = (truth**2).sum(axis=0) / known.sum(axis=0)  # (D,)
    scale_p = (guess**2).sum(axis=1) / known.sum(axis=0)  # (M, D)

    scores = []
    for counts in blocks:
        sums = counts @ features
        n, t, tt = (sums[:, i * dims : (i + 1) * dims][:, None] for i in range(3))
        p, pp, tp = _by_model(sums[:, 3 * dims :], models, dims)
        n = np.maximum(n, 1.0)  # no known row drawn: all sums are 0, and so is CCC
        mean_t, mean_p = t / n, p / n  # (b, 1, D), (b, M, D)
        var_t, var_p = tt / n - mean_t**2, pp / n - mean_p**2
        covariance = tp / n - mean_t * mean_p
        spread = (var_t > _NO_SPREAD * scale_t) & (var_p > _NO_SPREAD * scale_p)
        denominator = var_t + var_p + (mean_t - mean_p) ** 2
        zeros = np.zeros(denominator.shape)
        scores.append(np.divide(2.0 * covariance, denominator, zeros, where=spread))
    return np.concatenate(scores)


def class_distribution(
    true: ArrayLike, pred: ArrayLike, blocks: Blocks
) -> dict[str, Floats]:
    """Each of `CLASS_METRICS` of every model in every resample, (B, M) each.

    A class of which a resample has no row (never with `resample_within` on the truth)
    is left out of that resample's means.

    Args:
        true: Class ids >= 0, shape (N,).
        pred: Predicted class ids of M models, shape (M, N).
        blocks: Weights, shape (b, N) each, B rows in all.
    """
    in_truth, in_pred, right = class_counts(true, pred)
    models, _, k = right.shape
    features = np.concatenate([in_truth, *_by_row([in_pred, right])], axis=1)
    features = features.astype(np.float64)  # (N, K + 2 M K)
    scores = []
    for weights in blocks:
        sums = weights @ features
        counts = sums[:, None, :k], *_by_model(sums[:, k:], models, k)  # (b, M, K)
        scores.append([metric.score(*counts) for metric in CLASS_METRICS.values()])
    return _joined(scores)


def _by_row(arrays: Sequence[NDArray]) -> list[NDArray]:
    """Turn (M, N, D) into (N, M D), the features that counts are multiplied with."""
    return [a.transpose(1, 0, 2).reshape(a.shape[1], -1) for a in arrays]


def _by_model(sums: Floats, models: int, dims: int) -> list[Floats]:
    """Split sums of `_by_row` features, (b, n M D), into n arrays (b, M, D)."""
    parts = range(0, sums.shape[1], models * dims)
    return [sums[:, i : i + models * dims].reshape(-1, models, dims) for i in parts]


def _joined(blocks: Sequence[Sequence[Floats]]) -> dict[str, Floats]:
    parts = zip(CLASS_METRICS, zip(*blocks, strict=True), strict=True)
    return {name: np.concatenate(part) for name, part in parts}


def mean_ccc(scores: Floats) -> Floats:
    """Mean over the last axis, which must be the three attributes."""
    if scores.shape[-1] != len(ATTRIBUTES):
        raise ValueError(f"{scores.shape[-1]} attributes, expected {len(ATTRIBUTES)}")
    return scores.mean(axis=-1)


def bias_corrected_interval(
    estimate: float, distribution: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval, corrected for the bias of the score.

    CCC and macro-F1 of a small set are a little too low on average, and those of its
    resamples lower again; plain percentiles cover too little where folds and attributes
    are averaged (README.md has the numbers). Percentiles are therefore taken at
    ``Phi(2 z0 +- z)``, where ``z0`` tells how far the score is from the median of its
    resamples. Where one of the resamples, shape (B,), is nan there are no ends (nan).
    """
    from scipy.special import ndtr, ndtri  # scipy.stats takes a second to import

    values = np.asarray(distribution)
    if np.isnan(values).any():
        return Interval(float(estimate), np.nan, np.nan)
    same = np.isclose(values, estimate, rtol=0.0, atol=_SAME)
    below = np.sum((values < estimate) & ~same) + 0.5 * np.sum(same)
    share = (below + 0.5) / (len(values) + 1)  # neither 0 nor 1
    z0 = float(np.clip(ndtri(share), -_LARGEST_BIAS, _LARGEST_BIAS))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, ndtr(2.0 * z0 + ndtri([tail, 1.0 - tail])))
    return Interval(float(estimate), float(low), float(high))


def compare(
    difference: float,
    error: float,
    freedom: float,
    p: float | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Test of no difference by Student's t, unless `p` is another test's.

    Of a difference whose two parts have much the same bias, the error of resampling
    and t give 5 % of false alarms also with twenty speakers, where percentiles give 9
    (README.md has the numbers), and p values that no number of resamples bounds.
    Degrees of freedom are the drawn units less one for each fold.
    """
    from scipy.special import stdtr, stdtrit

    reach = error * float(stdtrit(freedom, (1.0 + confidence) / 2.0))
    if p is None and error == 0.0:
        p = float(difference == 0.0)
    elif p is None:
        p = 2.0 * float(stdtr(freedom, -abs(difference) / error))
    low, high = difference - reach, difference + reach
    return Comparison(float(difference), low, high, p, float(error), freedom)


def over_trainings(
    first: ArrayLike, second: ArrayLike, error: float, shared: float, freedom: float
) -> Comparison | None:
    """Test of no difference between two ways to train, not two trained models.

    The variance of the difference of means over seeds is that of the test utterances or
    speakers (by resampling, `error` squared) plus that of the trainings (over the seeds
    of each model). What a seed changes in single utterances is in both; its variance,
    `shared`, counts once. Student's t has Welch's degrees of freedom (Satterthwaite's
    formula), from S - 1 of each model's seeds and `freedom` of the test set.

    Scores of each model with each seed are on the whole set, shape (S,); None for fewer
    than two seeds.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape:
        raise ValueError(f"{len(one)} seeds of one model and {len(two)} of the other")
    seeds = len(one)
    if seeds < 2:
        return None
    of_seeds = [one.var(ddof=1) / seeds, two.var(ddof=1) / seeds]
    parts = np.array([*of_seeds, max(error**2 - shared, 0.0)])
    of_parts = float((parts**2 / [seeds - 1, seeds - 1, freedom]).sum())
    degrees = float(parts.sum() ** 2) / of_parts if of_parts else 1.0
    difference = float(one.mean() - two.mean())
    return compare(difference, float(parts.sum()) ** 0.5, degrees)


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's two-sided test of two models' accuracy on the same rows."""

    only_first: int  # rows that only this model has right
    only_second: int
    p_exact: float  # conservative
    p_mid: float  # closer to its level: the one to report


def mcnemar(right_first: ArrayLike, right_second: ArrayLike) -> McNemar:
    """Test whether two models are right equally often; booleans, shape (N,) each."""
    from scipy.special import bdtr

    first, second = np.asarray(right_first), np.asarray(right_second)
    if first.shape != second.shape or first.dtype != bool or second.dtype != bool:
        raise ValueError("expected two boolean arrays of one shape")
    b, c = int(np.sum(first & ~second)), int(np.sum(~first & second))
    smaller = min(b, c)
    tail = float(bdtr(smaller, b + c, 0.5))
    point = tail - (float(bdtr(smaller - 1, b + c, 0.5)) if smaller else 0.0)
    return McNemar(b, c, min(1.0, 2.0 * tail), min(1.0, 2.0 * tail - point))


def swap_blocks(
    units: ArrayLike, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int8]]:
    """Draw a sign for each unit (utterance or speaker): -1 swaps the two models there.

    Blocks are as in `resample_within`, of signs.
    """
    names, inverse = np.unique(np.asarray(units), return_inverse=True)
    for size in _block_sizes(len(inverse), resamples):
        signs = rng.integers(0, 2, (size, len(names)), dtype=np.int8) * 2 - 1
        yield signs[:, inverse]


def swapped_differences(
    true: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    blocks: Iterable[NDArray[np.int8]],
) -> dict[str, Floats]:
    """Differences of class scores, (B,) each, with answers swapped at random.

    Where two models are equal, their answers to a row (or to a speaker's rows) may
    change places, however few rows a class has: the differences found here are those
    that luck makes. For accuracy this is McNemar's test.

    Args:
        true: Class ids >= 0, shape (N,).
        first: Class ids that the first model predicts with each seed, shape (S, N).
        second: The same of the second model.
        blocks: Signs, shape (b, N) each, B rows in all; all ones give the difference
            (mean over seeds, first minus second).
    """
    in_truth, *counts = class_counts(true, np.stack([first, second]))
    both = np.stack(counts).astype(np.float64)  # in prediction, right: (2, 2, S, N, K)
    rows = in_truth.sum(axis=0)  # (K,)
    middle = both.sum(axis=3).mean(axis=1)  # (2, S, K)
    half = (both[:, 0] - both[:, 1]) / 2.0  # (2, S, N, K)
    features = half.transpose(2, 0, 1, 3).reshape(len(in_truth), -1)
    # Sums of halves are exact in 32 bits; rows with two equal answers never count.
    moving = np.flatnonzero(features.any(axis=1))
    features = features[moving].astype(np.float32)
    scores = []
    for signs in blocks:
        moved = signs[:, moving].astype(np.float32) @ features
        moved = moved.astype(np.float64).reshape(-1, *middle.shape)  # (b, 2, S, K)
        one, two = np.moveaxis(middle + moved, 1, 0), np.moveaxis(middle - moved, 1, 0)
        scores.append(
            [
                (metric.score(rows, *one) - metric.score(rows, *two)).mean(axis=-1)
                for metric in CLASS_METRICS.values()
            ]
        )
    return _joined(scores)


def swap_p(difference: float, swapped: ArrayLike) -> float:
    """Two-sided mid-p value of a difference among those of swapped answers, (B,)."""
    values = np.abs(np.asarray(swapped)) - abs(difference)
    if abs(difference) < _SAME:
        return 1.0
    beyond = np.sum(values > _SAME) + 0.5 * np.sum(np.abs(values) <= _SAME)
    return float(beyond + 1.0) / (len(values) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given.

    The i-th smallest of m p values is multiplied by m - i + 1, kept monotone and
    below 1. Rejecting where the result is below 0.05 keeps the chance of any false
    rejection in the family below 0.05, whatever their dependence.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"p values outside [0, 1] in {list(p_values)}")
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.tolist()

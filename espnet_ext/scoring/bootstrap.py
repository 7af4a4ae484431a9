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
    Several answers to each row: V. Durkalski et al., "Analysis of clustered
    matched-pair data", Statistics in Medicine 22, 2003.
    Holm: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from espnet_ext.scoring.metrics import ATTRIBUTES

Floats = NDArray[np.float64]
# A block of resamples: how much each row weighs in each, shape (b, N).
Blocks = Iterable[Floats]

# Weights of one block: 32 MiB, which a processor's cache still helps.
_BLOCK_NUMBERS = 4_194_304
# A score further from its resamples, in their deviations, is no matter of a small bias:
# correcting all of it would put the interval where there are no resamples.
_LARGEST_BIAS = 1.0
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
    """A difference of two scores, its interval and two-sided p value."""

    difference: float
    low: float
    high: float
    p: float


# --------------------------------------------------------------------- resampling


def resample_utterances(
    rows: int, resamples: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Draw from `rows` rows with replacement, `resamples` times.

    Yields:
        Weights of a block of resamples, shape (b, rows); each row of it sums to `rows`.
    """
    yield from resample_within(np.zeros(rows, dtype=np.int64), resamples, rng)


def resample_within(
    strata: ArrayLike, resamples: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Draw with replacement within each stratum, so that its size stays.

    With the true classes as strata, every resample has every class: a class with one
    row, which plain resamples miss a third of the time, would otherwise make the
    distribution of UAR and macro-F1 bimodal.

    Args:
        strata: Stratum of each row, shape (N,), any integers.
        resamples: Number of resamples.
        rng: Source of randomness.

    Yields:
        Weights of a block of resamples, shape (b, N); those of a stratum sum to its
        size.
    """
    labels = np.asarray(strata)
    _check_size(len(labels), resamples)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for size in _block_sizes(len(labels), resamples):
        counts = np.empty((size, len(labels)))
        for rows in members:
            counts[:, rows] = _draw(len(rows), size, rng)
        yield counts


def resample_clusters(
    clusters: Sequence[str], resamples: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Draw whole clusters (speakers) with replacement, with all their rows.

    Rows of one speaker are alike, which an interval over utterances does not see: this
    one speaks of other speakers. It needs some twenty of them to be honest.

    Args:
        clusters: Cluster of each row, shape (N,).
        resamples: Number of resamples.
        rng: Source of randomness.

    Yields:
        Weights of a block of resamples, shape (b, N).
    """
    names, inverse = np.unique(np.asarray(clusters), return_inverse=True)
    _check_size(len(inverse), resamples)
    for size in _block_sizes(len(inverse), resamples):
        yield _draw(len(names), size, rng)[:, inverse]


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
    size = max(1, _BLOCK_NUMBERS // rows)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _check_size(rows: int, resamples: int) -> None:
    if rows < 1 or resamples < 1:
        raise ValueError(f"cannot draw {resamples} resamples of {rows} rows")


# ------------------------------------------------------------------ scores of resamples


def ccc_distribution(true: ArrayLike, pred: ArrayLike, blocks: Blocks) -> Floats:
    """CCC of every model and dimension in every resample.

    Args:
        true: Annotated values, shape (N, D); nan where unknown.
        pred: Predicted values of M models, shape (M, N, D).
        blocks: Weights, shape (b, N) each, B rows in all.

    Returns:
        Shape (B, M, D). As in `metrics.ccc`, a constant resample has CCC 0.
    """
    truth = np.asarray(true, dtype=np.float64)
    guess = np.asarray(pred, dtype=np.float64)
    models, rows, dims = guess.shape
    if truth.shape != (rows, dims):
        raise ValueError(f"true has shape {truth.shape}, expected {(rows, dims)}")
    known = ~np.isnan(truth)
    if not known.any(axis=0).all() or np.isnan(guess).any():
        raise ValueError("a dimension without truth, or NaN in the predictions")

    # CCC does not change when both sides move together: moving the truth's mean to
    # zero keeps the sums of squares from cancelling.
    centre = np.nanmean(truth, axis=0)
    truth = np.where(known, truth - centre, 0.0)
    guess = np.where(known, guess - centre, 0.0)  # (M, N, D)
    shared = [known.astype(np.float64), truth, truth**2]  # (N, D) each
    own = [guess, guess**2, guess * truth]  # (M, N, D) each
    features = np.concatenate(
        shared + [array.transpose(1, 0, 2).reshape(rows, -1) for array in own], axis=1
    )  # (N, 3 D + 3 M D)
    scale_t = (truth**2).sum(axis=0) / known.sum(axis=0)  # (D,)
    scale_p = (guess**2).sum(axis=1) / known.sum(axis=0)  # (M, D)

    scores = []
    for counts in blocks:
        sums = counts @ features
        size = len(sums)
        n, t, tt = (sums[:, i * dims : (i + 1) * dims][:, None] for i in range(3))
        p, pp, tp = (
            sums[:, 3 * dims + i * models * dims :][:, : models * dims].reshape(
                size, models, dims
            )
            for i in range(3)
        )
        n = np.maximum(n, 1.0)  # no known row drawn: all sums are 0, and so is CCC
        mean_t, mean_p = t / n, p / n  # (b, 1, D), (b, M, D)
        var_t, var_p = tt / n - mean_t**2, pp / n - mean_p**2
        covariance = tp / n - mean_t * mean_p
        spread = (var_t > _NO_SPREAD * scale_t) & (var_p > _NO_SPREAD * scale_p)
        denominator = var_t + var_p + (mean_t - mean_p) ** 2
        scores.append(
            np.divide(
                2.0 * covariance,
                denominator,
                out=np.zeros((size, models, dims)),
                where=spread,
            )
        )
    return np.concatenate(scores)


def class_distribution(
    true: ArrayLike, pred: ArrayLike, blocks: Blocks
) -> dict[str, Floats]:
    """Accuracy, UAR and macro-F1 of every model in every resample.

    The label set is fixed to the classes present in the truth. A class of which a
    resample has no row (never with `resample_within` on the truth) is left out of
    that resample's means.

    Args:
        true: Class ids >= 0, shape (N,).
        pred: Predicted class ids of M models, shape (M, N).
        blocks: Weights, shape (b, N) each, B rows in all.

    Returns:
        ``accuracy``, ``uar`` and ``macro_f1``, shape (B, M) each.
    """
    truth, guess = np.asarray(true), np.asarray(pred)
    models, rows = guess.shape
    if truth.shape != (rows,):
        raise ValueError(f"true has shape {truth.shape}, expected {(rows,)}")
    labels = np.unique(truth)
    if labels[0] < 0:
        raise ValueError("rows of unknown class must be dropped before")
    of_class = truth[:, None] == labels  # (N, K)
    said = guess[:, :, None] == labels  # (M, N, K)
    hits = said & of_class
    features = np.concatenate(
        [of_class]
        + [array.transpose(1, 0, 2).reshape(rows, -1) for array in (said, hits)],
        axis=1,
    ).astype(np.float64)  # (N, K + 2 M K)

    k = len(labels)
    parts: dict[str, list[Floats]] = {"accuracy": [], "uar": [], "macro_f1": []}
    for counts in blocks:
        sums = counts @ features
        in_truth = sums[:, None, :k]  # (b, 1, K)
        in_pred, right = (
            sums[:, k + i * models * k :][:, : models * k].reshape(-1, models, k)
            for i in range(2)
        )
        present = in_truth > 0
        recall = right / np.maximum(in_truth, 1.0)
        f1 = 2.0 * right / np.maximum(in_truth + in_pred, 1.0)
        number = present.sum(axis=2)
        total = in_truth.sum(axis=2)
        parts["accuracy"].append(right.sum(axis=2) / total)
        parts["uar"].append((recall * present).sum(axis=2) / number)
        parts["macro_f1"].append((f1 * present).sum(axis=2) / number)
    return {name: np.concatenate(blocks_) for name, blocks_ in parts.items()}


def mean_ccc(scores: Floats) -> Floats:
    """Mean over the last axis, which must be the three dimensions."""
    if scores.shape[-1] != len(ATTRIBUTES):
        raise ValueError(f"{scores.shape[-1]} dimensions, expected {len(ATTRIBUTES)}")
    return scores.mean(axis=-1)


# ------------------------------------------------------------------ intervals and tests


def bias_corrected_interval(
    estimate: float, distribution: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval, corrected for the bias of the score.

    CCC and macro-F1 of a small set are a little too low on average, and those of its
    resamples lower again. Over folds and dimensions the noise is averaged away and
    that bias is not, so that plain percentiles cover too little (README.md has the
    numbers). Percentiles are therefore taken at ``Phi(2 z0 +- z)``, where ``z0`` says
    how far the score is from the median of its resamples; without bias they are the
    plain ones.

    Args:
        estimate: The score of the whole set.
        distribution: The score of each resample, shape (B,).
        confidence: Of the interval.
    """
    from scipy.special import ndtr, ndtri  # scipy.stats takes a second to import

    values = np.asarray(distribution)
    tail = (1.0 - confidence) / 2.0
    shift = 2.0 * _median_bias(estimate, values)
    low, high = np.quantile(values, ndtr(shift + ndtri([tail, 1.0 - tail])))
    return Interval(float(estimate), float(low), float(high))


def _median_bias(estimate: float, values: Floats) -> float:
    """Share of resamples below the score, as a normal deviate; 0 for one half."""
    from scipy.special import ndtri

    same = np.isclose(values, estimate, rtol=0.0, atol=1e-12)
    below = np.sum((values < estimate) & ~same) + 0.5 * np.sum(same)
    share = (below + 0.5) / (len(values) + 1)  # neither 0 nor 1
    return float(np.clip(ndtri(share), -_LARGEST_BIAS, _LARGEST_BIAS))


def paired_comparison(
    difference: float, differences: ArrayLike, confidence: float = 0.95
) -> Comparison:
    """Test of no difference from paired resamples.

    The p value is that of the interval turned round: p < 1 - confidence says that the
    interval leaves zero out. It comes from the shares of resamples on either side of
    zero, with one added to each count, and is never below 2 / (B + 1).

    Args:
        difference: First score minus second, on the whole set.
        differences: The same in each resample, both models on the same one, shape
            (B,). For several seeds: the difference of the means over seeds.
        confidence: Of the interval.
    """
    from scipy.special import ndtr, ndtri

    values = np.asarray(differences)
    interval = bias_corrected_interval(difference, values, confidence)
    shift = 2.0 * _median_bias(difference, values)
    below, above = np.sum(values <= 0.0), np.sum(values >= 0.0)
    shares = (np.array([below, above]) + 1) / (len(values) + 1)
    tails = ndtr(ndtri(shares) + np.array([-shift, shift]))
    p = np.clip(2.0 * tails.min(), 2.0 / (len(values) + 1), 1.0)
    return Comparison(interval.estimate, interval.low, interval.high, float(p))


def over_trainings(
    first: ArrayLike,
    second: ArrayLike,
    differences: ArrayLike,
    confidence: float = 0.95,
) -> Comparison | None:
    """Test of no difference between two ways to train, not two trained models.

    The variance of the difference of means over seeds has two parts: that of the test
    utterances (by the bootstrap) and that of the trainings (over the seeds of each
    model, which share nothing with the other's). Their sum is taken with Student's t at
    the 2 (S - 1) degrees of freedom of the second, less certain part, which is cautious
    where the first is the larger one.

    Args:
        first: First model's score with each seed on the whole set, shape (S,).
        second: The same of the second model.
        differences: Mean over seeds of the difference in each resample, shape (B,).
        confidence: Of the interval.

    Returns:
        None for fewer than two seeds, which say nothing about trainings.
    """
    from scipy.special import stdtr, stdtrit

    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape:
        raise ValueError(f"{len(one)} seeds of one model and {len(two)} of the other")
    if len(one) < 2:
        return None
    mean = float(one.mean() - two.mean())
    of_tests = float(np.var(np.asarray(differences)))
    of_trainings = float(np.var(one, ddof=1) + np.var(two, ddof=1)) / len(one)
    error = (of_tests + of_trainings) ** 0.5
    if error == 0.0:
        return Comparison(mean, mean, mean, 1.0 if mean == 0.0 else 0.0)
    freedom = 2 * (len(one) - 1)
    reach = error * float(stdtrit(freedom, (1.0 + confidence) / 2.0))
    p = 2.0 * float(stdtr(freedom, -abs(mean) / error))
    return Comparison(mean, mean - reach, mean + reach, p)


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test of two models' accuracy on the same rows.

    Attributes:
        only_first: Rows that only the first model has right.
        only_second: Rows that only the second model has right.
        p_exact: Two-sided exact p value; conservative.
        p_mid: Two-sided mid-p value: closer to its level, the one to report.
    """

    only_first: int
    only_second: int
    p_exact: float
    p_mid: float


def mcnemar(right_first: ArrayLike, right_second: ArrayLike) -> McNemar:
    """Test whether two models are right equally often on the same rows.

    Args:
        right_first: Whether the first model is right, booleans of shape (N,).
        right_second: The same of the second model.
    """
    from scipy.special import bdtr  # scipy.stats takes a second to import

    first, second = np.asarray(right_first), np.asarray(right_second)
    if first.shape != second.shape or first.dtype != bool or second.dtype != bool:
        raise ValueError("expected two boolean arrays of one shape")
    b, c = int(np.sum(first & ~second)), int(np.sum(~first & second))
    smaller = min(b, c)
    tail = float(bdtr(smaller, b + c, 0.5))
    point = tail - (float(bdtr(smaller - 1, b + c, 0.5)) if smaller else 0.0)
    return McNemar(b, c, min(1.0, 2.0 * tail), min(1.0, 2.0 * tail - point))


def mcnemar_of_seeds(right_first: ArrayLike, right_second: ArrayLike) -> float:
    """McNemar's test of two models with several seeds each: its mid-p value.

    A row's difference is the number of seeds with which the first model is right, less
    that of the second. Under the null hypothesis its sign is a coin's; the sum over
    rows is compared with its distribution over all signs, which is computed exactly.
    With one seed this is McNemar's test.

    Args:
        right_first: Whether the first model is right, booleans of shape (S, N).
        right_second: The same of the second model.
    """
    first, second = np.asarray(right_first), np.asarray(right_second)
    if first.shape != second.shape or first.dtype != bool or second.dtype != bool:
        raise ValueError("expected two boolean arrays of one shape")
    difference = first.sum(axis=0) - second.sum(axis=0)  # (N,), -S..S
    sizes, numbers = np.unique(np.abs(difference), return_counts=True)
    # Chance of each sum, from -reach to reach; grows by one size at a time.
    chances = np.ones(1)
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        if size:
            spaced = np.zeros(2 * size * number + 1)
            spaced[:: 2 * size] = _coin_flips(number)
            chances = _sum_of_two(chances, spaced)
    reach = (len(chances) - 1) // 2
    total = abs(int(difference.sum()))
    beyond = float(chances[reach + total + 1 :].sum())
    return min(1.0, 2.0 * beyond + (float(chances[reach + total]) if total else 1.0))


def _sum_of_two(first: Floats, second: Floats) -> Floats:
    """Distribution of the sum of two independent whole numbers."""
    size = len(first) + len(second) - 1
    both = np.fft.rfft(first, size) * np.fft.rfft(second, size)
    return np.maximum(np.fft.irfft(both, size), 0.0)  # rounding leaves -1e-18


def _coin_flips(number: int) -> Floats:
    """Chance of 0 to `number` heads, shape (number + 1,)."""
    from scipy.special import gammaln

    heads = np.arange(number + 1)
    ways = gammaln(number + 1) - gammaln(heads + 1) - gammaln(number - heads + 1)
    return np.exp(ways - number * np.log(2.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given.

    The i-th smallest of m p values is multiplied by m - i + 1, kept monotone and
    below 1: rejecting where the result is below 0.05 keeps the chance of any false
    rejection in the family below 0.05, whatever their dependence.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return []
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"p values outside [0, 1] in {list(p_values)}")
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.tolist()

"""Metrics against scikit-learn, torchmetrics and arithmetic by hand."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from espnet_ext.scoring import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_ccc_by_hand():
    # means 2 and 3, variances 2/3 each, covariance 2/3: 2(2/3) / (4/3 + 1) = 4/7
    assert metrics.ccc([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7, abs=1e-15)
    # covariance -2/3 and the same means: -1
    assert metrics.ccc([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0, abs=1e-15)
    # pred = 2 * true: cov 4/3, variances 2/3 and 8/3, mean difference 2
    assert metrics.ccc([1, 2, 3], [2, 4, 6]) == pytest.approx((8 / 3) / (22 / 3))


def test_ccc_equals_torchmetrics_with_its_unbiased_moments_put_right(rng):
    import torch
    from torchmetrics.functional import concordance_corrcoef

    true = rng.normal(3, 1, 400)
    pred = 0.6 * true + rng.normal(1, 0.7, 400)
    theirs = concordance_corrcoef(torch.tensor(pred), torch.tensor(true)).item()
    # torchmetrics divides by N - 1: the mean-difference term weighs (N - 1) / N less
    n = len(true)
    difference = (true.mean() - pred.mean()) ** 2
    numerator = 2 * np.cov(true, pred)[0, 1]
    spread = true.var(ddof=1) + pred.var(ddof=1)
    assert theirs == pytest.approx(numerator / (spread + difference), rel=1e-9)
    expected = numerator / (spread + difference * n / (n - 1))
    assert metrics.ccc(true, pred) == pytest.approx(expected, rel=1e-12)
    assert metrics.ccc(true, pred) == pytest.approx(theirs, rel=5e-3)


@pytest.mark.parametrize(
    ("true", "pred"),
    [
        ([0.1] * 7, [0.1] * 7),
        ([0.1] * 7, list(range(7))),
        (list(range(7)), [3.3] * 7),
        ([2.0], [2.0]),
        ([2.0], [5.0]),
        ([1e-200, 2e-200], [1e-200, 3e-200]),
    ],
)
def test_ccc_without_spread_is_zero(true, pred):
    score = metrics.ccc(true, pred)
    assert score == 0.0
    assert math.isfinite(score)


def test_ccc_is_exact_far_from_zero_and_in_float32(rng):
    true = rng.normal(0, 1, 50)
    assert metrics.ccc(true, true) == pytest.approx(1.0, abs=1e-15)
    shifted = metrics.ccc(true + 1e6, 0.5 * true + 1e6)
    assert shifted == pytest.approx(metrics.ccc(true, 0.5 * true), rel=1e-6)
    assert isinstance(metrics.ccc(true.astype(np.float32), true), float)


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("absent", [False, True])
def test_class_metrics_equal_scikit_learn(rng, num_classes, absent):
    true = rng.integers(0, num_classes, 300)
    pred = np.where(rng.random(300) < 0.5, true, rng.integers(0, num_classes, 300))
    if absent:  # the last class is predicted but never true
        true = np.where(true == num_classes - 1, 0, true)
        assert (pred == num_classes - 1).any()
    present = np.unique(true)
    macro = {"average": "macro", "labels": present}
    assert metrics.class_scores(true, pred) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(true, pred),
            "uar": sk.recall_score(true, pred, **macro),
            "macro_f1": sk.f1_score(true, pred, **macro, zero_division=0),
        }
    )
    ours = metrics.confusion_matrix(true, pred, num_classes)
    theirs = sk.confusion_matrix(true, pred, labels=np.arange(num_classes))
    np.testing.assert_array_equal(ours, theirs)


def test_class_that_is_never_predicted_counts_as_zero():
    # recalls 1, 0; precisions 2/3, 0; F1 0.8, 0
    true, pred = [0, 0, 1], [0, 0, 0]
    assert metrics.class_scores(true, pred)["uar"] == 0.5
    assert metrics.class_scores(true, pred)["macro_f1"] == pytest.approx(0.4)


def test_scores_by_name():
    values = {"valence": [1, 2, 3], "arousal": [1, 2, 3], "dominance": [1, 2, 3]}
    pred = {"dominance": [3, 2, 1], "valence": [1, 2, 3], "arousal": [2, 3, 4]}
    found = metrics.attribute_scores(values, pred)
    assert found["ccc_valence"] == pytest.approx(1)
    assert found["ccc_arousal"] == pytest.approx(4 / 7)
    assert found["ccc_dominance"] == pytest.approx(-1)
    assert found["ccc"] == pytest.approx(4 / 21)
    classes = metrics.class_scores([0, 0, 1], [0, 0, 0])
    assert [classes[name] for name in ("accuracy", "uar", "macro_f1")] == pytest.approx(
        [2 / 3, 0.5, 0.4]
    )


def test_attributes_are_scored_where_they_are_annotated():
    values = {
        "valence": [1, math.nan, 2, 3],
        "arousal": [math.nan] * 4,
        "dominance": [3, 2, 1, math.nan],
    }
    pred = {name: [2, 2, 3, 4] for name in values}
    found = metrics.attribute_scores(values, pred)
    assert found["ccc_valence"] == metrics.ccc([1, 2, 3], [2, 3, 4])
    assert found["ccc_dominance"] == metrics.ccc([3, 2, 1], [2, 2, 3])
    assert found["ccc"] == (found["ccc_valence"] + found["ccc_dominance"]) / 2
    assert "ccc_arousal" not in found
    assert metrics.attribute_scores(dict.fromkeys(values, [math.nan] * 4), pred) == {}


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        ([], [], "true has no row"),
        ([1.0, math.nan], [1.0, 2.0], r"true\[1\] is nan"),
        ([1.0, 2.0], [math.inf, 2.0], r"pred\[0\] is inf"),
        ([1.0, 2.0], [1.0], "true has 2 rows and pred has 1"),
        ([[1.0]], [[1.0]], r"shape \(1, 1\)"),
    ],
)
def test_ccc_refuses(true, pred, message):
    with pytest.raises(ValueError, match=message):
        metrics.ccc(true, pred)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.class_scores,
        lambda true, pred: metrics.confusion_matrix(true, pred, 3),
    ],
)
@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.array([], int), np.array([], int), "true has no row"),
        ([0, -1], [0, 0], r"true\[1\] is -1"),
        ([0, 1], [0, -1], r"pred\[1\] is -1"),
        ([0.0, 1.0], [0, 1], "true holds float64"),
        ([0, 1], [0], "true has 2 rows and pred has 1"),
    ],
)
def test_class_metrics_refuse(metric, true, pred, message):
    with pytest.raises(ValueError, match=message):
        metric(true, pred)


def test_confusion_matrix_refuses_a_class_beyond_the_last():
    with pytest.raises(ValueError, match="class id 3 with only 3 classes"):
        metrics.confusion_matrix([0, 3], [0, 0], 3)


def test_calibration_equals_scikit_learn(rng):
    sure = rng.permutation(np.linspace(0.2, 0.99, 500))
    right = rng.random(500) < sure**2
    found = metrics.calibration(right, sure)
    share, mean = calibration_curve(right, sure, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found.accuracy, share)
    np.testing.assert_allclose(found.confidence, mean)
    assert (found.count == 50).all()
    assert found.ece == pytest.approx(np.abs(share - mean).mean())


def test_calibration_by_hand():
    # bins (.2, .4) and (.6, .8): shares 0 and 1, means .3 and .7
    found = metrics.calibration([True, False, True, False], [0.6, 0.2, 0.8, 0.4], 2)
    assert found.ece == pytest.approx(0.3)
    assert metrics.calibration([True], [0.9]).ece == pytest.approx(0.1)
    with pytest.raises(ValueError, match="has no row"):
        metrics.calibration([], [])

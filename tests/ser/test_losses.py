import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.regression import concordance_corrcoef

from espnet_ext.errors import UserError
from espnet_ext.ser.losses import (
    JointLoss,
    attribute_losses,
    class_loss,
    concordance,
)

NAN = float("nan")


def float64_ccc(p, t):
    p, t = np.asarray(p, np.float64), np.asarray(t, np.float64)
    cov = np.mean((p - p.mean()) * (t - t.mean()))
    return 2 * cov / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)


@pytest.mark.parametrize(
    ("scale", "shift", "noise"),
    [(1, 0, 1), (1, 3, 0.1), (0.01, 3, 0.01), (2, -50, 0.5), (1e-3, 0, 1e-3)],
)
def test_is_the_biased_formula_in_float64(scale, shift, noise):
    rng = np.random.default_rng(0)
    t = rng.normal(size=200)
    p = scale * t + shift + noise * rng.normal(size=200)
    ours = concordance(torch.tensor(p), torch.tensor(t)).item()
    assert ours == pytest.approx(float64_ccc(p, t), abs=1e-12)
    single = concordance(torch.tensor(p).float(), torch.tensor(t).float()).item()
    assert single == pytest.approx(float64_ccc(p, t), abs=1e-5)


def test_agrees_with_torchmetrics_up_to_its_unbiased_moments():
    # torchmetrics divides all second moments by N - 1. With N of them drawn twice, the
    # mean's share is what differs: compare where the means agree exactly.
    rng = np.random.default_rng(1)
    t = rng.normal(size=500)
    p = 0.5 * t + rng.normal(size=500)
    t, p = t - t.mean(), p - p.mean()
    theirs = concordance_corrcoef(torch.tensor(p), torch.tensor(t)).item()
    assert concordance(torch.tensor(p), torch.tensor(t)).item() == pytest.approx(
        theirs, abs=1e-7
    )


def test_by_hand():
    # Means 2 and 3, variances 2/3, covariance 2/3: 2 (2/3) / (2/3 + 2/3 + 1) = 4/7.
    p, t = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0])
    assert concordance(p, t).item() == pytest.approx(4 / 7)


@pytest.mark.parametrize("kind", ["ccc", "mse"])
def test_gradcheck(kind):
    torch.manual_seed(0)
    predictions = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(7, 3, dtype=torch.float64)
    targets[1, 0] = targets[4] = NAN
    assert torch.autograd.gradcheck(
        lambda p: attribute_losses(p, targets, kind)[0], (predictions,)
    )


def test_gradcheck_of_the_joint_loss():
    torch.manual_seed(0)
    loss = JointLoss(alpha=0.5, beta=2.0, label_smoothing=0.1)
    targets = torch.randn(6, 3, dtype=torch.float64)
    classes = torch.tensor([0, 3, -1, 2, 4, -1])
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    attributes = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda y, c: loss(y, c, classes, targets).total, (logits, attributes)
    )


def test_rows_without_a_label_do_not_count():
    torch.manual_seed(0)
    predictions, targets = torch.randn(10, 3), torch.randn(10, 3)
    targets[3:, 0] = NAN  # valence of the first three rows only
    losses, counts = attribute_losses(predictions, targets)
    assert counts.tolist() == [3, 10, 10]
    for column, n in enumerate([3, 10, 10]):
        expected = 1 - float64_ccc(predictions[:n, column], targets[:n, column])
        assert losses[column].item() == pytest.approx(expected, abs=1e-6)


def test_attributes_are_not_mixed_up():
    targets = torch.rand(20, 3) * 4 + 1
    predictions = targets.clone()
    predictions[:, 1] = 6 - targets[:, 1]  # only arousal is wrong
    losses, _ = attribute_losses(predictions, targets)
    assert losses[0] < 1e-5
    assert losses[2] < 1e-5
    assert losses[1] > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("predictions", "targets"),
    [
        ([], []),
        ([2.0], [3.0]),
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        ([2.0, 2.0, 2.0], [3.0, 3.0, 3.0]),
        ([3.0, 3.0, 3.0 + 1e-20], [3.0, 3.0, 3.0]),
        ([1e-21, 0.0, 0.0], [0.0, 1e-21, 0.0]),
    ],
)
@pytest.mark.parametrize("kind", ["ccc", "released_ccc"])
def test_degenerate_batches_are_finite(predictions, targets, dtype, kind):
    p = torch.tensor(predictions, dtype=dtype)[:, None].repeat(1, 3).requires_grad_()
    t = torch.tensor(targets, dtype=dtype)[:, None].repeat(1, 3)
    losses, _ = attribute_losses(p, t, kind)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert p.grad.isfinite().all()
    if kind == "ccc":
        # CCC is 0 without variation, and says nothing of fewer than two rows.
        expected = 1.0 if len(p) > 1 else 0.0
        assert losses.tolist() == pytest.approx([expected] * 3, abs=1e-6)


def test_one_released_row_is_the_mean_of_squared_errors():
    p, t = torch.tensor([[2.0, 3.0, 5.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    losses, _ = attribute_losses(p, t, "released_ccc")
    assert losses.sum() == pytest.approx(torch.nn.functional.mse_loss(p, t).item())


def test_no_labelled_row_at_all_keeps_the_graph():
    logits = torch.randn(4, 5, requires_grad=True)
    attributes = torch.randn(4, 3, requires_grad=True)
    parts = JointLoss()(
        logits, attributes, torch.full((4,), -1), torch.full((4, 3), NAN)
    )
    parts.total.backward()
    assert parts.total.item() == 0
    # ESPnet leaves nan out of its means.
    assert len(parts.stats) == 4
    assert all(value.isnan() for value in parts.stats.values())
    assert torch.equal(logits.grad, torch.zeros(4, 5))
    assert torch.equal(attributes.grad, torch.zeros(4, 3))


def test_cross_entropy_of_the_labelled_rows():
    torch.manual_seed(0)
    logits, classes = torch.randn(6, 5), torch.tensor([1, -1, 0, 4, -1, 2])
    loss, count = class_loss(logits, classes)
    probabilities = logits.double().softmax(-1).numpy()
    expected = -np.mean([math.log(probabilities[i, classes[i]]) for i in (0, 2, 3, 5)])
    assert count == 4
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_class_weights_and_smoothing_are_torchs():
    torch.manual_seed(0)
    logits, classes = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, -1])
    loss = JointLoss(class_weights=[1.0, 2.0, 0.5], label_smoothing=0.15)
    parts = loss(logits, None, classes, torch.full((8, 3), NAN))
    expected = F.cross_entropy(
        logits[:-1],
        classes[:-1],
        weight=torch.tensor([1.0, 2.0, 0.5]),
        label_smoothing=0.15,
    )
    torch.testing.assert_close(parts.total, expected)


def test_total_is_equation_3():
    torch.manual_seed(0)
    logits, attributes = torch.randn(9, 5), torch.randn(9, 3)
    classes, targets = torch.randint(0, 5, (9,)), torch.randn(9, 3)
    parts = JointLoss(alpha=0.3, beta=0.7)(logits, attributes, classes, targets)
    concordances = [float64_ccc(attributes[:, i], targets[:, i]) for i in range(3)]
    expected = 0.3 * (3 - sum(concordances)) + 0.7 * F.cross_entropy(logits, classes)
    assert parts.total.item() == pytest.approx(expected.item(), abs=1e-5)
    assert set(parts.stats) == {
        "loss_valence",
        "loss_arousal",
        "loss_dominance",
        "loss_emotion",
    }


def test_full_precision_under_autocast():
    torch.manual_seed(0)
    attributes = (torch.randn(64, 3) * 0.01 + 3).bfloat16()
    targets = torch.randn(64, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = JointLoss()(None, attributes, torch.full((64,), -1), targets)
    assert parts.total.dtype == torch.float32
    expected = 3 - sum(
        float64_ccc(attributes[:, i].float(), targets[:, i]) for i in range(3)
    )
    assert parts.total.item() == pytest.approx(expected, abs=1e-4)


def test_unknown_kinds_are_refused():
    with pytest.raises(UserError, match="mae"):
        JointLoss(continuous="mae")
    with pytest.raises(UserError, match="balanced"):
        JointLoss(class_weights="balanced")

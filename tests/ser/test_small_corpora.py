"""What the preset `small` is made of: pooled deviations, brought to variance 1."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from espnet_ext.ser.decoder import EmotionDecoder
from espnet_ext.ser.pooling import SelfAttentivePooling


def test_deviation_is_numpys_weighted_one():
    torch.manual_seed(0)
    pooling = SelfAttentivePooling(6, num_heads=2, deviation=True).double()
    hidden, lengths = torch.randn(3, 7, 6).double(), torch.tensor([7, 4, 1])
    pooled, weights = pooling(hidden, lengths)
    assert pooled.shape == (3, 2, pooling.output_size) == (3, 2, 12)
    for row, length in enumerate(lengths.tolist()):
        frames = hidden[row, :length].numpy()
        for head in range(2):
            w = weights[row, head, :length].detach().numpy()
            mean = np.average(frames, axis=0, weights=w)
            squares = np.average((frames - mean) ** 2, axis=0, weights=w)
            expected = [*mean, *np.sqrt(np.maximum(squares, 1e-6))]
            np.testing.assert_allclose(pooled[row, head].detach(), expected)


def test_gradient_is_finite_where_all_frames_are_equal():
    pooling = SelfAttentivePooling(4, deviation=True)
    hidden = torch.ones(2, 5, 4, requires_grad=True)
    pooling(hidden, torch.tensor([5, 3]))[0].sum().backward()
    assert hidden.grad.isfinite().all()


def test_pooled_statistics_reach_the_perceptron_at_variance_one():
    torch.manual_seed(0)
    options = {"pooled_deviation": True, "pooled_norm": True, "dropout_rate": 0.0}
    decoder = EmotionDecoder(6, 3, ["discrete"], **options)
    branch = decoder.branches["discrete"]
    hidden, lengths = 5 + 0.01 * torch.randn(40, 7, 6), torch.full((40,), 7)
    pooled, _ = branch.pooling(hidden, lengths)
    seen = branch.pooled(pooled)[:, 0].detach().numpy()
    expected = StandardScaler().fit_transform(pooled[:, 0].detach().double().numpy())
    # BatchNorm adds 1e-5 to variances, here of 1e-5: scaled, not shifted
    for column, wanted in zip(seen.T, expected.T, strict=True):
        np.testing.assert_allclose(column / column.std(), wanted, rtol=0, atol=2e-2)
    assert decoder(hidden, lengths).logits.shape == (40, 3)

"""What the preset `small` is made of: stacked frames, a TDNN, pooled deviations."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from espnet_ext.encoders.stacked_linear import StackedLinear
from espnet_ext.encoders.tdnn import TDNNEncoder
from espnet_ext.errors import UserError
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


def test_stacked_frames_are_a_strided_convolution():
    torch.manual_seed(0)
    layer = StackedLinear(6, 5, stack=4)
    feats, lengths = torch.randn(2, 8, 6), torch.tensor([8, 5])
    feats[1, 5:] = 7.0  # padding, whatever it holds
    made, groups = layer(feats, lengths)
    assert groups.tolist() == [2, 2]
    real = feats.clone()
    real[1, 5:] = 0
    kernel = layer.linear_out.weight.view(5, 4, 6).transpose(1, 2)  # (5, 6, 4)
    expected = torch.nn.functional.conv1d(
        real.transpose(1, 2), kernel, layer.linear_out.bias, stride=4
    )
    torch.testing.assert_close(made, expected.transpose(1, 2))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_rows_do_not_depend_on_their_batch_mates(norm):
    torch.manual_seed(0)
    stack, encoder = StackedLinear(6, 8, stack=3), TDNNEncoder(8, 8, 3, 5, 0.2, norm)
    encoder.eval()
    long, short = torch.randn(17, 6), torch.randn(10, 6)
    batch = torch.nn.utils.rnn.pad_sequence([long, short], True, padding_value=3.0)
    together, lengths, _ = encoder(*stack(batch, torch.tensor([17, 10])))
    assert lengths.tolist() == [6, 4]
    for row, alone in enumerate((long, short)):
        made, _, _ = encoder(*stack(alone[None], torch.tensor([len(alone)])))
        torch.testing.assert_close(together[row, : lengths[row]], made[0])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: StackedLinear(6, 5, stack=0), "stack is 0"),
        (lambda: TDNNEncoder(6, norm="group"), "norm is 'group'"),
        (lambda: TDNNEncoder(6, kernel=4), "kernel 4"),
    ],
)
def test_impossible_options_are_named(make, text):
    with pytest.raises(UserError, match=text):
        make()


def test_input_is_kept_beside_the_output():
    feats, lengths = torch.randn(2, 7, 6), torch.tensor([7, 4])
    encoder = TDNNEncoder(6, 8, num_layers=1, keep_input=True).eval()
    made, _, _ = encoder(feats, lengths)
    assert made.shape == (2, 7, encoder.output_size()) == (2, 7, 14)
    assert torch.equal(made[..., :6], feats)
    alone = TDNNEncoder(6, num_layers=0, keep_input=True)
    assert torch.equal(alone(feats, lengths)[0], feats)
    assert alone.output_size() == 6


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

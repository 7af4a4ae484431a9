import numpy as np
import torch

from espnet_ext.ser.pooling import SelfAttentivePooling


def test_is_the_papers_formula():
    torch.manual_seed(0)
    pooling = SelfAttentivePooling(6)
    hidden = torch.randn(2, 5, 6)
    pooled, weights = pooling(hidden, torch.tensor([5, 3]))
    w = pooling.score.weight[0].detach().double().numpy()
    for row, length in enumerate([5, 3]):
        h = hidden[row, :length].double().numpy()
        scores = np.exp(h @ w)
        a = scores / scores.sum()
        np.testing.assert_allclose(weights[row, 0, :length].detach(), a, atol=1e-6)
        np.testing.assert_allclose(pooled[row, 0].detach(), a @ h, atol=1e-6)


def test_padding_weighs_exactly_nothing():
    torch.manual_seed(0)
    pooling = SelfAttentivePooling(4)
    short = torch.randn(1, 3, 4)
    garbage = torch.full((1, 4, 4), 1e6)
    alone, _ = pooling(short, torch.tensor([3]))
    padded, weights = pooling(torch.cat([short, garbage], dim=1), torch.tensor([3]))
    assert torch.equal(weights[0, 0, 3:], torch.zeros(4))
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-6)


def test_heads_are_poolings_of_their_own():
    torch.manual_seed(0)
    three, one = SelfAttentivePooling(4, 3), SelfAttentivePooling(4)
    hidden, lengths = torch.randn(2, 6, 4), torch.tensor([6, 2])
    pooled, _ = three(hidden, lengths)
    for head in range(3):
        one.score.weight.data = three.score.weight.data[head : head + 1]
        torch.testing.assert_close(pooled[:, head], one(hidden, lengths)[0][:, 0])


def test_one_frame_is_pooled_to_itself():
    hidden = torch.randn(1, 1, 4)
    pooled, weights = SelfAttentivePooling(4)(hidden, torch.tensor([1]))
    torch.testing.assert_close(pooled[:, 0], hidden[:, 0])
    assert weights.item() == 1.0

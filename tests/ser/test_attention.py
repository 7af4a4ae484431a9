"""The fast attention against ESPnet's own and against the formula."""

import copy
import math

import pytest
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    RelPositionMultiHeadedAttention,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_ext.encoders import block_attention as attention
from espnet_ext.encoders import torch_operators
from espnet_ext.encoders.block_attention import BlockAttention, use_block_attention

# Rows, frames, lengths, heads and channels a head. With 8 heads a row of 700 frames is
# cut into eight blocks of queries, the last one smaller.
SHAPES = [
    (3, 11, (11, 7, 1), 2, 4),
    (2, 1, (1, 1), 4, 2),
    (2, 259, (259, 30), 8, 8),
    (1, 700, (700,), 8, 8),
]


def make_pair(heads, channels, rate=0.0):
    torch.manual_seed(0)
    theirs = RelPositionMultiHeadedAttention(heads, heads * channels, rate)
    for p in theirs.parameters():
        nn.init.normal_(p, std=(heads * channels) ** -0.5)
    return theirs, BlockAttention.of(copy.deepcopy(theirs))


def make_input(rows, frames, lengths, width):
    torch.manual_seed(1)
    x = torch.randn(rows, frames, width)
    positions = torch.randn(1, 2 * frames - 1, width)
    mask = torch.arange(frames)[None, None] < torch.tensor(lengths)[:, None, None]
    return x, positions, mask


def run(attention, x, positions, mask):
    """Output and all gradients of a fixed random function of it."""
    x = x.clone().requires_grad_()
    positions = positions.clone().requires_grad_()
    out = attention(x, x, x, positions, mask)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    (out * weight).sum().backward()
    gradients = {name: p.grad for name, p in attention.named_parameters()}
    # Softmax does not see what is added to all keys: this gradient is zero but for
    # rounding, in either implementation.
    bias = gradients.pop("linear_k.bias")
    assert bias.norm() <= 1e-4 * gradients["linear_k.weight"].norm()
    return {"output": out, "x": x.grad, "positions": positions.grad, **gradients}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        error = (ours[name] - theirs[name]).norm() / theirs[name].norm()
        assert error < 2e-6, (name, error)


@pytest.mark.parametrize(("rows", "frames", "lengths", "heads", "channels"), SHAPES)
def test_equals_espnets_in_value_and_gradient(rows, frames, lengths, heads, channels):
    theirs, ours = make_pair(heads, channels)
    inputs = make_input(rows, frames, lengths, heads * channels)
    expected, actual = run(theirs, *inputs), run(ours, *inputs)
    if frames == 1:  # one key gets all weight, whatever its score
        flat = ("pos_bias_u", "pos_bias_v", "linear_pos.weight", "positions")
        for name in (*flat, "linear_q.weight", "linear_q.bias", "linear_k.weight"):
            assert expected.pop(name).abs().max() < 1e-5
            assert actual.pop(name).abs().max() < 1e-5
    assert_same(actual, expected)


@pytest.mark.parametrize("frames", [6, 530])
def test_gradient_under_dropout_is_that_of_the_weights_that_were_kept(frames):
    """The formula in plain operations, with the weights that the module has kept.

    Values that are unit vectors show the weights: their mixture is the weights
    themselves, `channels` keys at a time.
    """
    heads, channels, rate = 2, 8, 0.3
    _, ours = make_pair(heads, channels, rate)
    x, positions, mask = make_input(1, frames, (frames - 1,), heads * channels)
    kept = []
    for start in range(0, frames, channels):
        probe = copy.deepcopy(ours).train()
        shown = torch.zeros(frames, heads, channels)
        stop = min(start + channels, frames)
        for key in range(start, stop):
            shown[key, :, key - start] = 1
        for layer in (probe.linear_v, probe.linear_out):
            layer.weight.data.copy_(torch.eye(heads * channels))
            layer.bias.data.zero_()
        torch.manual_seed(5)
        with torch.no_grad():
            out = probe(x, x, shown.reshape(1, frames, -1), positions, mask)
        out = out.unflatten(-1, (heads, channels))[0, :, :, : stop - start]  # (T, H, .)
        kept.append(out.transpose(0, 1) > 0)
    kept = torch.cat(kept, -1)  # (H, T, T)
    assert not kept[:, :, -1].any()  # padding
    share = kept[:, :, :-1].float().mean().item()
    deviation = math.sqrt(rate * (1 - rate) / kept[:, :, :-1].numel())
    assert abs(share - (1 - rate)) < 4 * deviation

    def formula(query, key, value, pos_emb, mask):
        q, k, v = (
            layer(y).unflatten(-1, (heads, channels)).transpose(1, 2)
            for layer, y in (
                (ours.linear_q, query),
                (ours.linear_k, key),
                (ours.linear_v, value),
            )
        )  # (1, H, T, d)
        p = ours.linear_pos(pos_emb).unflatten(-1, (heads, channels)).transpose(1, 2)
        i, j = torch.arange(frames)[:, None], torch.arange(frames)[None]
        relative = p[:, :, frames - 1 - i + j]  # (1, H, T, T, d)
        content = (q + ours.pos_bias_u[:, None])[:, :, :, None] * k[:, :, None]
        position = (q + ours.pos_bias_v[:, None])[:, :, :, None] * relative
        scores = (content + position).sum(-1) / math.sqrt(channels)
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        mixed = (weights * kept / (1 - rate)) @ v
        return ours.linear_out(mixed.transpose(1, 2).flatten(2))

    ours.train()
    torch.manual_seed(5)
    actual = run(ours, x, positions, mask)
    ours.zero_grad()
    formula.named_parameters = ours.named_parameters
    expected = run(formula, x, positions, mask)
    assert expected.keys() == actual.keys()
    for name in expected:
        # The rate is a multiple of 2^-16.
        error = (actual[name] - expected[name]).norm() / expected[name].norm()
        assert error < 3e-5, (name, error)


def test_dropout_follows_the_seed_and_rests_in_evaluation():
    _, ours = make_pair(2, 8, 0.5)
    x, positions, mask = make_input(2, 20, (20, 12), 16)

    def attend(seed):
        torch.manual_seed(seed)
        return ours(x, x, x, positions, mask)

    ours.train()
    assert torch.equal(attend(1), attend(1))
    assert not torch.equal(attend(1), attend(2))
    ours.eval()
    assert torch.equal(attend(1), attend(2))


def test_dropping_everything_leaves_the_output_bias():
    _, ours = make_pair(2, 8, 1.0)
    inputs = make_input(1, 9, (9,), 16)
    x, positions, mask = inputs
    out = ours.train()(x, x, x, positions, mask)
    torch.testing.assert_close(out, ours.linear_out.bias.expand_as(out))
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in ours.parameters())


def make_encoder(**options):
    torch.manual_seed(3)
    return ConformerEncoder(
        12,
        output_size=16,
        attention_heads=2,
        linear_units=16,
        num_blocks=2,
        input_layer="linear",
        macaron_style=True,
        rel_pos_type="latest",
        cnn_module_kernel=5,
        **options,
    )


def test_an_encoder_keeps_its_names_and_numbers():
    theirs = make_encoder()
    ours = copy.deepcopy(theirs)
    use_block_attention(ours)
    kinds = {type(layer.self_attn) for layer in ours.encoders}
    assert kinds == {BlockAttention}
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    x, lengths = torch.randn(3, 30, 12), torch.tensor([30, 22, 5])
    for encoder in (theirs, ours):
        encoder.eval()
    out, _, _ = ours(x, lengths)
    torch.testing.assert_close(out, theirs(x, lengths)[0], rtol=1e-5, atol=2e-6)


def test_what_cannot_be_computed_this_way_is_left_to_espnet(monkeypatch):
    encoder = make_encoder(use_sdpa=True)
    use_block_attention(encoder)
    kinds = {type(layer.self_attn) for layer in encoder.encoders}
    assert kinds == {RelPositionMultiHeadedAttention}

    theirs, ours = make_pair(2, 4)
    calls = []
    original = RelPositionMultiHeadedAttention.forward

    def spy(self, *args):
        calls.append(args[0].dtype)
        return original(self, *args)

    monkeypatch.setattr(RelPositionMultiHeadedAttention, "forward", spy)
    x, positions, mask = make_input(2, 6, (6, 4), 8)
    ours(x, x, x, positions, mask)
    assert not calls
    holes = mask.clone()
    holes[0, 0, 2] = False
    torch.testing.assert_close(
        ours(x, x, x, positions, holes), theirs(x, x, x, positions, holes)
    )
    assert len(calls) == 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours(x, x, x, positions, mask)
    assert len(calls) == 3


class Memory(TorchDispatchMode):
    """Note the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


def saved_numbers(function):
    """What autograd keeps of a function's results, each storage once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    return result, sum(kept.values())


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_long_rows_keep_nothing_of_their_scores(rate, monkeypatch):
    """Computed again, weights and dropout are what they were: the same gradients."""
    _, ours = make_pair(2, 8, rate)
    ours.train()
    x, positions, mask = make_input(2, 530, (530, 500), 16)
    positions.requires_grad_()

    def kept_and_gradients():
        torch.manual_seed(5)
        ours.zero_grad()
        out, kept = saved_numbers(lambda: ours(x, x, x, positions, mask))
        out.square().sum().backward()
        return kept, [p.grad.clone() for p in ours.parameters()]

    whole, expected = kept_and_gradients()
    monkeypatch.setattr(attention, "_KEPT", 0)
    few, found = kept_and_gradients()
    scores = 2 * 530 * 1030
    assert whole > 4 * scores
    assert few < scores
    for ours_, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours_, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_score_matrix_is_ever_whole(dtype):
    _, ours = make_pair(8, 8, 0.1)
    ours.to(dtype).train()
    x, positions, mask = make_input(1, 2000, (2000,), 64)
    with Memory() as memory:
        out = ours(*[x.to(dtype)] * 3, positions.to(dtype), mask)
        out.sum().backward()
    assert memory.largest < 8 * 2000 * 2000 / 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_espnets_would_be_too_large_it_is_not_used(dtype, monkeypatch):
    """In half precision, in autocast, on a GPU, and with gaps in the mask."""
    theirs, ours = make_pair(2, 8)
    x, positions, mask = make_input(2, 60, (60, 45), 16)
    mask[0, 0, 7] = False
    expected = run(theirs, x, positions, mask)
    monkeypatch.setattr(attention, "_DENSE", 0)
    monkeypatch.setattr(RelPositionMultiHeadedAttention, "forward", None)
    if dtype == torch.float32:
        assert_same(run(ours, x, positions, mask), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours(x, x, x, positions, mask)
    assert out.dtype == torch.bfloat16
    error = (out - expected["output"]).norm() / expected["output"].norm()
    assert error < 2e-2
    out.float().sum().backward()


def test_double_precision_is_espnets():
    theirs, ours = make_pair(8, 8)
    x, positions, mask = (t for t in make_input(2, 259, (259, 30), 64))
    expected = run(theirs.double(), x.double(), positions.double(), mask)
    found = run(ours.double(), x.double(), positions.double(), mask)
    for name in expected:
        error = (found[name] - expected[name]).norm() / expected[name].norm()
        assert error < 1e-13, (name, error)


def test_public_operators_are_the_same(monkeypatch):
    """Where torch no longer has its own, attention and its gradient stay."""
    torch.manual_seed(0)
    weights = torch.randn(3, 5, 7).softmax(-1)
    gradient = torch.randn(3, 5, 7)
    levels = torch.randint(-9, 9, (3, 5, 7), dtype=torch.int16)
    scores = torch.randn(3, 5, 7, requires_grad=True)
    (expected,) = torch.autograd.grad(scores.softmax(-1), scores, gradient)
    for name in ("softmax_gradient", "public_softmax_gradient"):
        found = getattr(torch_operators, name)(gradient, scores.detach().softmax(-1))
        torch.testing.assert_close(found, expected)
    for name in ("keep_above", "public_keep_above"):
        found = getattr(torch_operators, name)(weights, levels, 2)
        assert torch.equal(found, torch.where(levels > 2, weights, 0.0))

    _, ours = make_pair(2, 8, 0.3)
    inputs = make_input(2, 20, (20, 12), 16)

    def attend():
        ours.zero_grad()
        torch.manual_seed(5)
        return {k: v.clone() for k, v in run(ours.train(), *inputs).items()}

    expected = attend()
    for name in ("softmax_gradient", "keep_above"):
        public = getattr(torch_operators, f"public_{name}")
        monkeypatch.setattr(attention, name, public)
    assert_same(attend(), expected)

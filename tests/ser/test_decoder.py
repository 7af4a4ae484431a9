import pytest
import torch

from espnet_ext.errors import UserError
from espnet_ext.ser.decoder import EmotionDecoder

HIERARCHIES = ["none", "dc", "cd", "mutual"]


def decode(decoder, rows=6):
    torch.manual_seed(1)
    hidden = torch.randn(rows, 7, 8)
    return decoder(hidden, torch.randint(1, 8, (rows,)))


def reached(loss, decoder):
    """Names of the parameters that a loss reaches."""
    decoder.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name
        for name, parameter in decoder.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_wiring_by_gradients(hierarchy):
    torch.manual_seed(0)
    decoder = EmotionDecoder(8, 5, hierarchy=hierarchy)
    output = decode(decoder)
    names = {name for name, _ in decoder.named_parameters()}

    def of(part):
        return {name for name in names if name.startswith(part)}

    continuous, discrete = of("branches.continuous"), of("branches.discrete")
    from_continuous = continuous | of("outputs.continuous")
    from_discrete = discrete | of("outputs.discrete")
    if hierarchy in ("dc", "mutual"):
        from_continuous |= discrete
    if hierarchy in ("cd", "mutual"):
        from_discrete |= continuous
    weights = torch.randn(6, 5)
    assert reached(output.attributes.sum(), decoder) == from_continuous
    assert reached((output.logits * weights).sum(), decoder) == from_discrete


@pytest.mark.parametrize("hierarchy", ["dc", "cd"])
def test_detached_auxiliary_embedding(hierarchy):
    decoder = EmotionDecoder(8, 5, hierarchy=hierarchy, detach_auxiliary=True)
    output = decode(decoder)
    names = reached(output.attributes.sum() + output.logits[:, 0].sum(), decoder)
    own = reached(output.attributes.sum(), decoder)
    assert not any(name.startswith("branches.discrete") for name in own)
    assert names > own


@pytest.mark.parametrize("branch", ["discrete", "continuous"])
def test_baselines_have_nothing_of_the_other_branch(branch):
    other = {"discrete": "continuous", "continuous": "discrete"}[branch]
    decoder = EmotionDecoder(8, 5, branches=[branch])
    assert not any(other in name for name, _ in decoder.named_parameters())
    output = decode(decoder)
    assert (output.logits is None) == (branch == "continuous")
    assert (output.attributes is None) == (branch == "discrete")


def test_sizes_are_the_papers():
    decoder = EmotionDecoder(64, 5, hierarchy="dc")
    shapes = {name: tuple(p.shape) for name, p in decoder.named_parameters()}
    assert shapes["branches.discrete.pooling.score.weight"] == (1, 64)
    assert shapes["branches.discrete.mlp.0.weight"] == (64, 64)
    assert shapes["branches.discrete.mlp.3.weight"] == (32, 64)
    assert shapes["outputs.discrete.weight"] == (5, 32)
    assert shapes["outputs.continuous.weight"] == (3, 64)


def test_order_of_concatenation():
    # [E_D E_C] for the attributes, [E_C E_D] for the classes.
    torch.manual_seed(0)
    decoder = EmotionDecoder(8, 5, hierarchy="mutual", attribute_output="linear").eval()
    output = decode(decoder)
    e_d, e_c = output.embeddings["discrete"], output.embeddings["continuous"]
    torch.testing.assert_close(
        output.attributes, decoder.outputs["continuous"](torch.cat([e_d, e_c], 1))
    )
    torch.testing.assert_close(
        output.logits, decoder.outputs["discrete"](torch.cat([e_c, e_d], 1))
    )


def test_attributes_start_alive_and_on_the_scale():
    for seed in range(20):
        torch.manual_seed(seed)
        output = decode(EmotionDecoder(8, 5, initial_attribute=3.0).eval())
        assert (output.attributes - 3).abs().max() < 1


@pytest.mark.parametrize(("kind", "low", "high"), [("relu", 0, 1e9), ("sigmoid", 1, 5)])
def test_range_of_the_attributes(kind, low, high):
    decoder = EmotionDecoder(8, 5, attribute_output=kind)
    decoder.outputs["continuous"].weight.data *= 1000
    attributes = decode(decoder, rows=64).attributes
    assert attributes.min() >= low
    assert attributes.max() <= high


def test_three_poolings_share_perceptron_and_output_unit():
    torch.manual_seed(0)
    decoder = EmotionDecoder(
        8, 5, hierarchy="mutual", attribute_poolings=3, attribute_output="linear"
    ).eval()
    output = decode(decoder)
    e_d, e_c = output.embeddings["discrete"], output.embeddings["continuous"]
    assert e_c.shape == (6, 96)
    assert output.attention["continuous"].shape == (6, 3, 7)
    torch.testing.assert_close(
        output.logits, decoder.outputs["discrete"](torch.cat([e_c, e_d], 1))
    )
    for column in range(3):
        own = e_c[:, 32 * column : 32 * (column + 1)]
        expected = decoder.outputs["continuous"](torch.cat([e_d, own], 1))
        torch.testing.assert_close(output.attributes[:, [column]], expected)


@pytest.mark.parametrize(
    "options",
    [
        {"hierarchy": "dd"},
        {"branches": ["discrete"], "hierarchy": "dc"},
        {"branches": []},
        {"branches": ["disc"]},
        {"activation": "gelu"},
        {"attribute_output": "tanh"},
        {"attribute_poolings": 2},
        {"attribute_output": "sigmoid", "initial_attribute": 9.0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match="decoder_conf"):
        EmotionDecoder(8, 5, **options)

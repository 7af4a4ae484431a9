"""The exact path against transformers' and torchaudio's own models."""

import collections

import pytest
import torch
import torchaudio
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from espnet_ext.features import (
    canonical_weights,
    frozen_linear,
    packed_attention,
    packed_convolutions,
    packed_encoder,
)
from espnet_ext.features.packed_convolutions import PositionEmbedding
from espnet_ext.features.packed_encoder import PackedEncoder
from espnet_ext.features.upstream import PRECISIONS

from .models import (
    FAMILIES,
    FORMS,
    LARGE,
    SMALL,
    random_model,
    random_waves,
    reference_states,
    worst_frame,
)

# 400 samples are one frame; 719 still one, 720 two; the rest have all remainders
# that a frame mask could get wrong.
LENGTHS = (400, 719, 720, 1039, 1040, 5000, 16000, 16079, 16080, 33001)
TOLERANCE = 1e-5


def packed_of(model, normalize=True, **options):
    architecture, weights = canonical_weights.from_huggingface(
        model.config.to_dict(), model.state_dict(), "test"
    )
    return PackedEncoder(architecture, weights, normalize, **options)


def states_of(upstream, waves):
    """Hidden states of each wave, from one call: [(L, T, D)]."""
    last = upstream.architecture.num_hidden_layers
    states = torch.stack([x.clone() for x in upstream.states(waves, last)])  # (L, N, D)
    frames = [upstream.architecture.num_frames(len(wave)) for wave in waves]
    return states.split(frames, dim=1)


def normalized(wave):
    return F.layer_norm(wave, wave.shape)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_batch_equals_transformers_alone(family, form):
    model = random_model(family, form, SMALL)
    waves = random_waves(LENGTHS)
    for wave, found in zip(waves, states_of(packed_of(model), waves), strict=True):
        expected = reference_states(model, normalized(wave))
        assert found.shape[1] == 1 + (len(wave) - 400) // 320
        assert worst_frame(found, expected) < TOLERANCE


@pytest.mark.parametrize(
    ("family", "form"), [("hubert", "layer"), ("wavlm", "layer"), ("hubert", "group")]
)
def test_large_shape_equals_transformers_alone(family, form):
    model = random_model(family, form, LARGE)
    waves = random_waves((400, 9999, 24321))
    for wave, found in zip(waves, states_of(packed_of(model), waves), strict=True):
        expected = reference_states(model, normalized(wave))
        assert worst_frame(found, expected) < TOLERANCE


@pytest.mark.parametrize(
    ("form", "shape"), [("layer", SMALL), ("group", SMALL), ("layer", LARGE)]
)
def test_equals_torchaudio(form, shape):
    model = random_model("wav2vec2", form, shape)
    theirs = import_huggingface_model(model).eval()
    (wave,) = random_waves((20001,))
    (found,) = states_of(packed_of(model), [wave])
    with torch.no_grad():
        expected, _ = theirs.extract_features(normalized(wave)[None])
    # torchaudio has no state 0, and its last state comes before a final norm.
    last = len(expected) if form == "group" else len(expected) - 1
    expected = torch.cat(expected[:last])
    assert worst_frame(found[1 : last + 1], expected) < TOLERANCE


def test_large_shape_equals_torchaudio_hubert_large():
    params = {**torchaudio.pipelines.HUBERT_LARGE._params, "encoder_num_layers": 2}
    torch.manual_seed(0)
    theirs = torchaudio.models.wav2vec2_model(**params).eval()
    found = canonical_weights.from_torchaudio(params, theirs.state_dict(), "test")
    upstream = PackedEncoder(*found, normalize=True)
    waves = random_waves((400, 7777, 16000))
    for wave, found in zip(waves, states_of(upstream, waves), strict=True):
        with torch.no_grad():
            expected, _ = theirs.extract_features(normalized(wave)[None])
            final = theirs.encoder.transformer.layer_norm(expected[-1])
        assert worst_frame(found[1:2], expected[0]) < TOLERANCE
        assert worst_frame(found[2:], final) < TOLERANCE


@pytest.mark.parametrize("form", FORMS)
def test_chunks_of_the_extractor_change_nothing(form, monkeypatch):
    model = random_model("hubert", form, SMALL)
    waves = random_waves((33001, 3000))
    whole = states_of(packed_of(model), waves)
    monkeypatch.setattr(packed_convolutions, "CHUNK_ON_CPU", 7)
    pieces = states_of(packed_of(model), waves)
    for a, b in zip(pieces, whole, strict=True):
        assert worst_frame(a, b) < TOLERANCE


def test_wavlm_bias_in_blocks_of_queries(monkeypatch):
    model = random_model("wavlm", "layer", SMALL)
    monkeypatch.setattr(packed_attention, "MASK_PAIRS", 1000)  # 103 frames: 9 queries
    (wave,) = random_waves((33001,))
    (found,) = states_of(packed_of(model), [wave])
    assert worst_frame(found, reference_states(model, normalized(wave))) < TOLERANCE


def test_wavlm_distances_beyond_the_last_bucket():
    shape = {**SMALL, "num_hidden_layers": 1, "max_bucket_distance": 100}
    model = random_model("wavlm", "group", {**shape, "num_buckets": 32})
    (wave,) = random_waves((48000,))
    (found,) = states_of(packed_of(model, normalize=False), [wave])
    assert worst_frame(found, reference_states(model, wave)) < TOLERANCE


def test_fewer_layers_are_the_same_states():
    model = random_model("hubert", "layer", SMALL)
    upstream = packed_of(model)
    waves = random_waves((5000, 7000))
    short = [x.clone() for x in upstream.states(waves, 1)]
    whole = [x.clone() for x in upstream.states(waves, 3)]
    assert len(short) == 2
    assert torch.equal(short[1], whole[1])


@pytest.mark.parametrize(
    ("convolutions", "most"), [(torch.float32, 1e-2), (torch.bfloat16, 2e-2)]
)
def test_bfloat16_error_is_what_the_docs_say(convolutions, most):
    model = random_model("hubert", "layer", SMALL)
    waves = random_waves((16000, 20000))
    exact = states_of(packed_of(model), waves)
    precision = {"compute": torch.bfloat16, "convolutions": convolutions}
    rough = states_of(packed_of(model, **precision), waves)
    for a, b in zip(rough, exact, strict=True):
        error = ((a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2))).max().item()
        assert 1e-4 < error < most


@pytest.mark.parametrize("family", ["hubert", "wavlm"])
@pytest.mark.parametrize("similar", [0.0, 0.75, 1.0])
def test_attention_in_groups_as_on_a_gpu(family, similar, monkeypatch):
    model = random_model(family, "layer", SMALL)
    waves = random_waves((*LENGTHS, 16000, 33001, 400))
    monkeypatch.setattr(packed_encoder, "SIMILAR_ON_CPU", similar)
    found = states_of(packed_of(model), waves)
    for wave, states in zip(waves, found, strict=True):
        expected = reference_states(model, normalized(wave))
        assert worst_frame(states, expected) < TOLERANCE


class Calls(TorchDispatchMode):
    """Notes the precisions of each norm and product, as a GPU would get them."""

    NAMES = ("native_layer_norm", "addmm", "mm", "bmm", "baddbmm", "convolution")

    def __init__(self):
        super().__init__()
        self.dtypes = collections.defaultdict(set)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in self.NAMES or "attention" in name:
            tensors = [
                x for x in pytree.tree_leaves((args, kwargs)) if torch.is_tensor(x)
            ]
            self.dtypes[name].add(tuple(x.dtype for x in tensors))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("compute", PRECISIONS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_operation_mixes_precisions_off_the_cpu(family, form, compute):
    """CUDA refuses weights of another precision than the input's.

    The meta device takes the same way through the code, without numbers.
    """
    linears, convolutions = PRECISIONS[compute]
    model = random_model(family, form, SMALL)
    upstream = packed_of(model, compute=linears, convolutions=convolutions).to("meta")
    waves = [wave.to("meta") for wave in random_waves((16000, 15000, 5000, 400))]
    with Calls() as calls:
        states = list(upstream.states(waves, 3))
    assert {state.dtype for state in states} == {torch.float32}
    assert {"native_layer_norm", "addmm"} <= calls.dtypes.keys()
    for name, found in calls.dtypes.items():
        for dtypes in found:
            assert len(set(dtypes)) == 1, (name, dtypes)


class Attentions(TorchFunctionMode):
    """Notes which kernels each attention may use."""

    def __init__(self):
        super().__init__()
        self.allowed = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            self.allowed.append(allowed_kernels())
        return func(*args, **(kwargs or {}))


def allowed_kernels():
    cuda = torch.backends.cuda
    kinds = {
        "cudnn": cuda.cudnn_sdp_enabled,
        "flash": cuda.flash_sdp_enabled,
        "efficient": cuda.mem_efficient_sdp_enabled,
        "math": cuda.math_sdp_enabled,
    }
    return {kind for kind, enabled in kinds.items() if enabled()}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_never_cudnns(family, monkeypatch):
    """It builds a graph for each new shape, and hardly two calls have the same."""
    model = random_model(family, "layer", SMALL)
    monkeypatch.setattr(packed_encoder, "SIMILAR_ON_CPU", 0.75)
    upstream = packed_of(model, compute=torch.bfloat16)
    before = allowed_kernels()
    assert "cudnn" in before
    with Attentions() as calls:
        states_of(upstream, random_waves((16000, 15000, 400)))
    assert len(calls.allowed) == 6  # two groups, three layers
    assert all(kinds == {"flash", "efficient", "math"} for kinds in calls.allowed)
    assert allowed_kernels() == before


def test_groups_cover_every_row_once():
    lengths = [5, 9, 8, 9, 1, 2]
    for similar, count in ((1.0, 5), (0.85, 4), (0.0, 1)):
        groups = packed_attention.group_lengths(lengths, similar, torch.device("cpu"))
        rows = torch.cat([group.rows.flatten()[group.places] for group in groups])
        assert sorted(rows.tolist()) == list(range(sum(lengths)))
        assert len(groups) == count


def test_without_rearranged_weights(monkeypatch):
    """Where oneDNN or its operators are missing, and on other devices."""
    model = random_model("hubert", "layer", SMALL)
    waves = random_waves((5000, 16079))
    monkeypatch.setattr(frozen_linear, "_can", lambda dtype: False)
    for wave, found in zip(waves, states_of(packed_of(model), waves), strict=True):
        expected = reference_states(model, normalized(wave))
        assert worst_frame(found, expected) < TOLERANCE


def test_moving_gives_the_weights_back():
    weight, x = torch.randn(24, 40), torch.randn(7, 40)
    layer = frozen_linear.Linear(weight, None, torch.float32, gelu=False)
    first = layer(x)
    layer.to("cpu")
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer(x), first)
    layer.to("meta")
    assert layer(x.to("meta")).shape == (7, 24)


@pytest.mark.parametrize("taps", [2, 3, 16, 128])
def test_position_embedding_is_the_convolution(taps):
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(24, 6, taps, generator=generator)
    bias = torch.randn(24, generator=generator)
    lengths = [1, 2, 300, taps, 63]
    x = torch.randn(sum(lengths), 24, generator=generator)
    found = PositionEmbedding(weight, bias, groups=4)(x, lengths)
    expected = [
        F.conv1d(part.T[None], weight, bias, padding=taps // 2, groups=4)[0].T
        for part in x.split(lengths)
    ]
    expected = [y[:n] for y, n in zip(expected, lengths, strict=True)]
    torch.testing.assert_close(found, F.gelu(torch.cat(expected)), rtol=0, atol=1e-4)


def test_frozen():
    model = random_model("hubert", "group", SMALL)
    upstream = packed_of(model).train()
    assert not upstream.training
    assert not any(module.training for module in upstream.modules())
    assert not any(p.requires_grad for p in upstream.parameters())
    (found,) = states_of(upstream, random_waves((5000,)))
    assert not found.requires_grad

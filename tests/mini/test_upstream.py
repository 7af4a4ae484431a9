import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from espnet_ext.mini.upstream import draw_weights, write_tiny_hubert


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upstream") / "hubert_tiny"
    write_tiny_hubert(folder, seed=3)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    model, info = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info.values()), info
    return model.eval()


def test_it_is_a_hubert_with_group_norm_front_end(model):
    assert type(model) is transformers.HubertModel
    assert model.config.feat_extract_norm == "group"
    assert model.config.hidden_size == 64
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 100_000 < count < 200_000


def test_positional_weights_are_those_written(model, folder):
    """Weight norm: direction times length gives back the drawn kernel."""
    weights = load_file(folder / "model.safetensors")
    expected = weights["encoder.pos_conv_embed.conv.weight_v"]
    kernel = model.encoder.pos_conv_embed.conv.weight.detach().numpy()
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-7)


def test_frames_are_those_of_the_real_models(model, folder):
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    assert extractor.do_normalize
    wave = 0.1 * np.random.default_rng(0).standard_normal(20_000)
    inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
    assert inputs.input_values.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.input_values.std().item() == pytest.approx(1, abs=1e-3)
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == 3
    for state in states:
        assert state.shape == (1, 1 + (20_000 - 400) // 320, 64)
        assert torch.isfinite(state).all()
        # Sound reaches every state: frames differ.
        assert state.std(dim=1).mean() > 0.1


def test_same_seed_same_bytes_whatever_else_was_drawn(folder, tmp_path):
    np.random.default_rng(0).standard_normal()
    torch.manual_seed(8)
    torch.rand(3)
    before = torch.get_rng_state()
    write_tiny_hubert(tmp_path / "again", seed=3)
    assert torch.equal(before, torch.get_rng_state())
    names = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    other = draw_weights(4)["feature_extractor.conv_layers.1.conv.weight"]
    same = draw_weights(3)["feature_extractor.conv_layers.1.conv.weight"]
    assert not np.array_equal(other, same)


def test_an_older_checkpoint_is_replaced(tmp_path):
    target = tmp_path / "hubert_tiny"
    target.mkdir()
    (target / "stale.bin").write_bytes(b"x")
    write_tiny_hubert(target, seed=0)
    assert not (target / "stale.bin").exists()
    assert json.loads((target / "config.json").read_text())["model_type"] == "hubert"

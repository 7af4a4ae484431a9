import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx_ir
import pytest
import soundfile
import torch

from espnet_ext import SpeechEmotion
from espnet_ext.bin import ser as program
from espnet_ext.errors import UserError
from espnet_ext.features.architecture import Architecture
from espnet_ext.features.canonical_weights import Checkpoint, canonical_shapes
from espnet_ext.features.config import parse_feature_config
from espnet_ext.features.upstream import ExactUpstream
from espnet_ext.inference import onnx_export
from espnet_ext.inference.calibrate import apply_temperature
from espnet_ext.inference.onnx_graph import TracedUpstream
from espnet_ext.inference.onnx_model import OnnxSpeechEmotion
from inference.conftest import train, voice

KINDS = ("baseline_c", "baseline_d", "hierarchical_dc", "multitask")
ATTRIBUTES = ("valence", "arousal", "dominance")


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        program.main([str(a) for a in arguments])
    return end.value.code


@pytest.fixture(scope="module")
def exported(package, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "graph.zip"
    assert run("export", "--model", package, "--output", path) == 0
    assert [p.name for p in path.parent.iterdir()] == ["graph.zip"]
    return path


@pytest.fixture(scope="module")
def light(exported):
    return SpeechEmotion.from_pretrained(exported)


def assert_same_answers(light, ser):
    rng = np.random.default_rng(4)
    for seconds in np.geomspace(0.1, 12, 50):
        wave = voice(rng, seconds)
        answer, expected = light(wave, 16000), ser(wave, 16000)
        assert answer.label == expected.label
        if expected.scores is None:
            assert answer.scores is None
        else:
            assert answer.scores == pytest.approx(expected.scores, abs=1e-4)
        for name in ATTRIBUTES:
            value = getattr(expected, name)
            assert getattr(answer, name) == (value and pytest.approx(value, abs=1e-4))
        assert set(answer.attention) == set(expected.attention)
        for branch, weights in expected.attention.items():
            assert answer.attention[branch] == pytest.approx(weights, abs=1e-4)
        assert answer.warnings == expected.warnings


def test_fifty_clips_get_the_numbers_of_torch(light, ser):
    assert isinstance(light, OnnxSpeechEmotion)
    assert_same_answers(light, ser)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_clips_of_the_other_kinds(recipe, kind, tmp_path):
    if not recipe.experiment(kind).is_dir():
        train(recipe, kind)
    onnx_export.export_model(recipe.experiment(kind), tmp_path / "graph")
    light = SpeechEmotion.from_pretrained(tmp_path / "graph")
    assert_same_answers(light, SpeechEmotion.from_pretrained(recipe.experiment(kind)))


WITHOUT_TORCH = """
import json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchaudio", "transformers", "espnet2"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, NoTorch())
from espnet_ext import SpeechEmotion
light = SpeechEmotion.from_pretrained(sys.argv[1])
print(json.dumps(light(sys.argv[2]).to_dict()))
print(json.dumps(light.timeline(sys.argv[2], window=0.5, hop=0.5).to_dict()))
from espnet_ext.bin import ser
ser.main(["predict", "--model", sys.argv[1], "--format", "jsonl", sys.argv[2]])
"""


def test_it_runs_where_torch_is_not_installed(exported, light, wav):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(exported), str(wav)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer, timeline, row = map(json.loads, done.stdout.splitlines())
    assert answer == light(wav).to_dict()
    assert timeline == light.timeline(wav, window=0.5, hop=0.5).to_dict()
    assert row["scores"] == answer["scores"]


def test_the_commands_take_it_as_any_package(exported, ser, wav, tmp_path, capsys):
    vectors = tmp_path / "vectors.npz"
    assert run("embed", "--model", exported, "--output", vectors, wav) == 0
    capsys.readouterr()
    assert run("info", "--model", exported, "--format", "json") == 0
    about = json.loads(capsys.readouterr().out)
    assert about["labels"] == list(ser.labels)
    assert about["features"]["upstream"]["name"] == "hubert_tiny"
    expected = ser(wav, embeddings=True).embeddings
    found = np.load(vectors)
    for branch, vector in expected.items():
        assert found[f"{wav}/{branch}"] == pytest.approx(vector, abs=1e-4)


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 800])
def test_shortest_recordings(light, ser, samples):
    wave = voice(np.random.default_rng(1), 1)[:samples]
    if samples < 400:
        errors = []
        for model in (light, ser):
            with pytest.raises(UserError) as error:
                model(wave, 16000)
            errors.append(str(error.value))
        assert errors[0] == errors[1]
    else:
        expected = ser(wave, 16000).scores
        assert light(wave, 16000).scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_minutes(light, ser):
    wave = voice(np.random.default_rng(2), 75)
    expected = ser(wave, 16000)
    assert light(wave, 16000).scores == pytest.approx(expected.scores, abs=1e-4)
    with pytest.raises(UserError, match="one answer covers 5 at most"):
        light(np.zeros(301 * 16000, np.float32), 16000)


def test_calibrated_scores(exported, light, wav):
    temperature = light.info.calibration.temperature
    raw = np.array(list(light(wav).scores.values()))
    mended = SpeechEmotion.from_pretrained(exported, scores="calibrated")(wav).scores
    assert list(mended.values()) == pytest.approx(apply_temperature(raw, temperature))
    outputs = light._network._session.run(
        ["calibrated"], {"wave": soundfile.read(wav, dtype="float32")[0]}
    )
    assert list(mended.values()) == pytest.approx(outputs[0].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upstream": "other"}, "holds its upstream"),
        ({"device": "cuda"}, "computes on the CPU only"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
    ],
)
def test_what_it_cannot_do_is_told(exported, options, message):
    with pytest.raises(UserError, match=message):
        SpeechEmotion.from_pretrained(exported, **options)


def test_it_has_no_torch_model_and_is_not_exported_again(exported, light, tmp_path):
    with pytest.raises(UserError, match="no torch model"):
        _ = light.model
    with pytest.raises(UserError, match="already"):
        onnx_export.export_model(exported, tmp_path / "again")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"upstream": {"source": "kaldi", "name": "mfcc"}}, "mfcc .* no ONNX form"),
        ({"compute": "bfloat16"}, "compute: bfloat16"),
    ],
)
def test_what_has_no_graph_is_told(package, tmp_path, monkeypatch, features, message):
    feature_config = SpeechEmotion.features.fget

    def changed(ser):
        values = feature_config(ser).as_dict() | features
        return parse_feature_config(values, "here")

    monkeypatch.setattr(SpeechEmotion, "features", property(changed))
    with pytest.raises(UserError, match=message):
        onnx_export.export_model(package, tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ready_graph(exported, tmp_path, monkeypatch):
    """Take the graph that is there in the place of tracing another one."""
    from espnet_ext.inference.package import unpack

    unpack(exported, tmp_path / "unpacked")
    graph = onnx_ir.load(tmp_path / "unpacked" / "model.onnx")
    monkeypatch.setattr(onnx_export, "_write_graph", lambda ser: graph)
    return graph


@pytest.mark.parametrize("name", ["bad", "bad.zip"])
def test_a_graph_with_other_numbers_is_not_left_behind(
    ready_graph, package, tmp_path, name
):
    (bias,) = (
        value
        for key, value in ready_graph.graph.initializers.items()
        if key.endswith("outputs.discrete.bias")
    )
    bias.const_value = onnx_ir.tensor(
        bias.const_value.numpy() + np.float32([1e-3] * 2 + [0] * 3)
    )
    target = tmp_path / "made" / name
    with pytest.raises(UserError, match="nothing is written"):
        onnx_export.export_model(package, target)
    assert list(target.parent.iterdir()) == []


def test_large_parameters_lie_beside_the_graph(
    ready_graph, package, light, wav, tmp_path, monkeypatch
):
    monkeypatch.setattr(onnx_export, "_MOST_BYTES", 1000)
    for name in ("large", "large.zip"):
        onnx_export.export_model(package, tmp_path / name)
        assert SpeechEmotion.from_pretrained(tmp_path / name)(wav) == light(wav)
    assert (tmp_path / "large" / "model.onnx.data").stat().st_size > 100_000
    (tmp_path / "large" / "model.onnx").write_bytes(b"cut")
    with pytest.raises(UserError, match="no graph that onnxruntime can run"):
        SpeechEmotion.from_pretrained(tmp_path / "large")


SMALL = Architecture(
    conv_dim=(16, 16, 16, 16),
    conv_kernel=(10, 3, 3, 2),
    conv_stride=(5, 2, 2, 2),
    hidden_size=32,
    num_attention_heads=4,
    intermediate_size=48,
    num_hidden_layers=3,
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=4,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
        {"num_buckets": 32, "max_bucket_distance": 60, "num_conv_pos_embeddings": 7},
        {"num_buckets": 32, "max_bucket_distance": 60, "do_stable_layer_norm": True},
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_family_has_the_states_of_the_exact_path(changes, normalize):
    architecture = dataclasses.replace(SMALL, **changes)
    torch.manual_seed(0)
    weights = {
        name: 0.3 * torch.randn(shape)
        for name, shape in canonical_shapes(architecture).items()
    }
    values = {"upstream": {"source": "huggingface", "name": "a/b"}, "layers": "all"}
    config = parse_feature_config(values, "here")
    traced = TracedUpstream(Checkpoint(architecture, weights, normalize), config)
    exact = ExactUpstream(architecture, weights, normalize, "float32")
    for samples in (200, 4001, 12000):
        wave = torch.randn(samples)
        (expected,) = exact.extract([wave], range(4), torch.float32)  # (L, T, D)
        torch.testing.assert_close(traced(wave), expected, rtol=1e-4, atol=1e-4)

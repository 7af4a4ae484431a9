"""One set of weights through Hugging Face, s3prl and torchaudio."""

import dataclasses
import json

import pytest
import torch
import torchaudio
import transformers
import yaml
from huggingface_hub.errors import EntryNotFoundError
from s3prl.upstream.hubert import hubconf as s3prl_hubert
from s3prl.upstream.hubert.hubert_model import (
    HubertConfig,
    HubertModel,
    HubertPretrainingConfig,
)
from s3prl.upstream.wavlm import hubconf as s3prl_wavlm
from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from espnet_ext.bin.ser_fetch_weights import main as fetch
from espnet_ext.errors import UserError
from espnet_ext.features.config import FeatureConfig, UpstreamConfig
from espnet_ext.features.huggingface import WEIGHT_FILES
from espnet_ext.features.upstream import load_upstream

from .models import SMALL, random_model, random_waves, reference_states, worst_frame

CONV = "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2"
FAIRSEQ = {
    "extractor_mode": "layer_norm",
    "encoder_layers": 3,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "layer_norm_first": True,
    "conv_feature_layers": CONV,
    "conv_bias": True,
    "conv_pos": 16,
    "conv_pos_groups": 4,
}
WAVES = (400, 5000, 16079)


def config_of(source, name, path=None):
    return FeatureConfig(UpstreamConfig(source, str(name), path and str(path)))


def s3prl_states(expert, wave):
    """s3prl's hidden states of one utterance: (L, T, D)."""
    expert.eval()
    with torch.no_grad():
        return torch.cat(expert([wave])["hidden_states"])


@pytest.fixture
def s3prl_hubert_file(tmp_path):
    torch.manual_seed(3)
    model_config = HubertConfig(label_rate=50, **FAIRSEQ)
    task_config = HubertPretrainingConfig(normalize=True)
    symbols = [[str(i) for i in range(8)]]
    model = HubertModel(model_config, task_config, symbols)
    path = tmp_path / "hubert.pt"
    torch.save(
        {
            "task_cfg": dataclasses.asdict(task_config),
            "model_cfg": dataclasses.asdict(model_config),
            "model_weight": model.state_dict(),
            "dictionaries_symbols": symbols,
        },
        path,
    )
    return path


def test_s3prl_hubert(s3prl_hubert_file):
    upstream = load_upstream(config_of("s3prl", "hubert_local", s3prl_hubert_file))
    assert upstream.normalize is True
    expert = s3prl_hubert.hubert_local(ckpt=str(s3prl_hubert_file))
    waves = random_waves(WAVES)
    states = upstream.extract(waves, range(4), torch.float32)
    for wave, found in zip(waves, states, strict=True):
        assert worst_frame(found, s3prl_states(expert, wave)) < 1e-5


def test_s3prl_wavlm(tmp_path):
    torch.manual_seed(4)
    values = {**FAIRSEQ, "relative_position_embedding": True, "gru_rel_pos": True}
    values |= {"num_buckets": 32, "max_distance": 80, "normalize": True}
    path = tmp_path / "wavlm.pt"
    model = WavLM(WavLMConfig(values))
    torch.save({"cfg": values, "model": model.state_dict()}, path)
    upstream = load_upstream(config_of("s3prl", "wavlm_local", path))
    expert = s3prl_wavlm.wavlm_local(ckpt=str(path))
    waves = random_waves((5000, 40000))
    states = upstream.extract(waves, range(4), torch.float32)
    for wave, found in zip(waves, states, strict=True):
        assert worst_frame(found, s3prl_states(expert, wave)) < 1e-5


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("hubert", "layer"),
        ("hubert", "group"),
        ("wav2vec2", "layer"),
        ("wavlm", "layer"),
    ],
)
def test_huggingface_and_torchaudio_agree(family, form, tmp_path, monkeypatch):
    model = random_model(family, form, SMALL)
    model.save_pretrained(tmp_path / "folder")
    first = load_upstream(config_of("huggingface", tmp_path / "folder"))

    theirs = import_huggingface_model(model)
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(theirs.state_dict(), cache / "random.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    pipelines = torchaudio.pipelines
    published = pipelines.WAVLM_BASE if family == "wavlm" else pipelines.HUBERT_BASE
    params = {
        **published._params,
        "extractor_mode": f"{form}_norm",
        "extractor_conv_layer_config": [(32, 10, 5)]
        + [(32, 3, 2)] * 4
        + [(32, 2, 2)] * 2,
        "extractor_conv_bias": form == "layer",
        "encoder_embed_dim": 48,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 3,
        "encoder_num_heads": 4,
        "encoder_ff_interm_features": 96,
        "encoder_layer_norm_first": form == "layer",
    }
    kind = "WavLM" if family == "wavlm" else "Wav2Vec2"
    bundle = pipelines.Wav2Vec2Bundle(
        "random.pth", params, 16000, form == "layer", kind
    )
    monkeypatch.setattr(pipelines, "RANDOM", bundle, raising=False)
    second = load_upstream(config_of("torchaudio", "RANDOM"))

    assert first.weights == second.weights
    assert first.normalize == second.normalize == (form == "layer")
    waves = random_waves(WAVES)
    for a, b in zip(
        first.extract(waves, [0, 3], torch.float32),
        second.extract(waves, [0, 3], torch.float32),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_torchaudio_bundle_without_its_weights(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(UserError, match=r"HUBERT_LARGE.*no network.*ser_fetch_weights"):
        load_upstream(config_of("torchaudio", "HUBERT_LARGE"))


def test_fetched_weights_are_the_same_anywhere(s3prl_hubert_file, tmp_path):
    """Through ser_fetch_weights' folder, which transformers reads too."""
    config = tmp_path / "features.yaml"
    upstream = {"source": "s3prl", "name": "hubert_local"}
    upstream["path"] = str(s3prl_hubert_file)
    config.write_text(yaml.safe_dump({"upstream": upstream}))
    folder = tmp_path / "folder"
    fetch(["--config", str(config), "--output", str(folder)])

    one = load_upstream(config_of("s3prl", "hubert_local", s3prl_hubert_file))
    waves = random_waves(WAVES)
    states = one.extract(waves, range(4), torch.float32)
    for source in ("s3prl", "huggingface"):
        other = load_upstream(config_of(source, folder))
        assert other.weights == one.weights
        assert other.normalize is True
        for a, b in zip(
            states, other.extract(waves, range(4), torch.float32), strict=True
        ):
            assert torch.equal(a, b)

    model = transformers.HubertModel.from_pretrained(folder).eval()
    for wave, found in zip(waves, states, strict=True):
        expected = reference_states(model, F.layer_norm(wave, wave.shape))
        assert worst_frame(found, expected) < 1e-5


def test_s3prl_without_its_weights(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(s3prl_hubert, "hubert_large_ll60k", refuse)
    with pytest.raises(UserError, match=r"hubert_large_ll60k.*no network.*ser_fetch"):
        load_upstream(config_of("s3prl", "hubert_large_ll60k"))


def test_weights_absent_and_no_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"facebook/hubert-large-ll60k.*ser_fetch_weights"
    ):
        load_upstream(config_of("huggingface", "facebook/hubert-large-ll60k"))


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("huggingface", "/no/such/folder", "no such folder"),
        ("torchaudio", "HUBERT_HUGE", "it has .*HUBERT_LARGE"),
        ("torchaudio", "__doc__", "torchaudio.pipelines has no upstream"),
        ("s3prl", "hubert_huge", "s3prl has no upstream 'hubert_huge'"),
    ],
)
def test_wrong_names(source, name, message):
    with pytest.raises(UserError, match=message):
        load_upstream(config_of(source, name))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1265\n"
DAMAGES = {
    "pointer": (lambda whole: POINTER.encode(), "is a git-lfs pointer.*git lfs pull"),
    "empty": (lambda whole: b"", "is empty; download it again"),
    "page": (lambda whole: b"\n<!DOCTYPE html>\n<html>404</html>", "is a web page"),
    "cut": (lambda whole: whole[: len(whole) // 2], "is damaged or incomplete"),
    "end lost": (lambda whole: whole[:-3], "is damaged or incomplete"),
    "zeros": (lambda whole: bytes(len(whole)), "is damaged or incomplete"),
    "list": (lambda whole: b"[1, 2]", "is damaged or incomplete"),
}


def write_model(folder, form):
    """Write a model whose weights are in that form; return it."""
    model = random_model("hubert", "layer", SMALL)
    model.save_pretrained(folder, max_shard_size="50KB" if "index" in form else "1GB")
    if "safetensors" in form:
        return model
    if "index" not in form:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        return model
    index = folder / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    for name in set(values["weight_map"].values()):
        tensors = load_file(folder / name)
        (folder / name).unlink()
        torch.save(tensors, folder / name.replace("safetensors", "bin"))
    text = index.read_text().replace("safetensors", "bin")
    index.unlink()
    (folder / "pytorch_model.bin.index.json").write_text(text)
    return model


@pytest.mark.parametrize("form", WEIGHT_FILES)
def test_every_form_of_weights_is_read(form, tmp_path):
    model = write_model(tmp_path, form)
    assert (tmp_path / form).is_file()
    assert ("index" in form) == (len(list(tmp_path.glob("*-of-*"))) > 1)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(f"\ufeff{text}", encoding="utf-8")
    upstream = load_upstream(config_of("huggingface", tmp_path))
    (wave,) = random_waves((5000,))
    (found,) = upstream.extract([wave], range(4), torch.float32)
    expected = reference_states(model, F.layer_norm(wave, wave.shape))
    assert worst_frame(found, expected) < 1e-5


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "model.safetensors.index.json",
        "model-00002-of-*.safetensors",
        "model-00002-of-*.bin",
    ],
)
def test_a_damaged_file_is_named(file, damage, tmp_path):
    form = file if file in WEIGHT_FILES else "model.safetensors"
    if "-of-" in file:
        form = "pytorch_model.bin" if file.endswith("bin") else "model.safetensors"
        form += ".index.json"
    write_model(tmp_path, form)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    (path,) = tmp_path.glob(file)
    change, message = DAMAGES[damage]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        load_upstream(config_of("huggingface", tmp_path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_an_index_that_names_what_is_not_there(form, tmp_path):
    write_model(tmp_path, f"{form}.index.json")
    shard = sorted(tmp_path.glob("*-of-*"))[1]
    shard.unlink()
    with pytest.raises(UserError, match=rf"{form}\.index\.json: names {shard.name}"):
        load_upstream(config_of("huggingface", tmp_path))
    (tmp_path / f"{form}.index.json").write_text("{}")
    with pytest.raises(UserError, match="no weight_map"):
        load_upstream(config_of("huggingface", tmp_path))


def test_missing_tensors_are_named(tmp_path):
    write_model(tmp_path, "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    lost = "encoder.layers.1.layer_norm.bias"
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=rf"no tensor '{lost}'; is it complete"):
        load_upstream(config_of("huggingface", tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 96}, r"has .*of shape .*, not \(96"),
        ({"num_hidden_layers": 4}, r"has no tensor 'encoder\.layers\.3"),
        ({"conv_dim": [32] * 6}, "config.json has sizes that do not go together"),
        ({"conv_kernel": None}, "config.json has sizes that do not go together"),
        ({"hidden_size": "48"}, "config.json has sizes that do not go together"),
    ],
)
def test_a_configuration_of_another_model_is_named(tmp_path, changes, message):
    write_model(tmp_path, "model.safetensors")
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(UserError, match=message) as caught:
        load_upstream(config_of("huggingface", tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: ")


def test_a_link_into_a_cache_that_was_not_copied_is_named(tmp_path):
    write_model(tmp_path, "model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    path = tmp_path / "model.safetensors"
    path.unlink()
    path.symlink_to("../../blobs/abc")
    with pytest.raises(UserError, match=r"a link to \.\./\.\./blobs/abc.*again"):
        load_upstream(config_of("huggingface", tmp_path))


@pytest.mark.parametrize("damage", ["pointer", "empty", "page", "cut", "zeros"])
def test_a_damaged_checkpoint_of_s3prl_is_named(s3prl_hubert_file, damage):
    change, message = DAMAGES[damage]
    s3prl_hubert_file.write_bytes(change(s3prl_hubert_file.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        load_upstream(config_of("s3prl", "hubert_local", s3prl_hubert_file))
    assert str(caught.value).startswith(f"{s3prl_hubert_file}: ")


def test_sharded_weights_are_fetched_with_all_their_files(tmp_path, monkeypatch):
    write_model(tmp_path, "model.safetensors.index.json")

    def download(name, file):
        if not (tmp_path / file).is_file():
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    here = load_upstream(config_of("huggingface", tmp_path))
    assert load_upstream(config_of("huggingface", "me/sharded")).weights == here.weights


@pytest.mark.parametrize("form", ["layer", "group"])
def test_group_norm_models_get_plain_audio(tmp_path, form):
    random_model("wav2vec2", form, SMALL).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    upstream = load_upstream(config_of("huggingface", tmp_path))
    assert upstream.normalize is (form == "layer")


def test_incomplete_folder(tmp_path):
    random_model("hubert", "group", SMALL).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor"):
        load_upstream(config_of("huggingface", tmp_path))


def test_unknown_kind_of_model(tmp_path):
    random_model("hubert", "group", SMALL).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "model_type": "bert"}))
    with pytest.raises(UserError, match="model_type 'bert'"):
        load_upstream(config_of("huggingface", tmp_path))


@pytest.mark.slow
def test_any_other_s3prl_upstream_runs_through_s3prl():
    from s3prl import hub

    upstream = load_upstream(config_of("s3prl", "fbank"))
    waves = random_waves((8000, 12345))
    states = upstream.extract(waves, [0], torch.float32)
    expert = hub.fbank().eval()
    for wave, found in zip(waves, states, strict=True):
        torch.testing.assert_close(found, s3prl_states(expert, wave))

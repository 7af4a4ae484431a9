"""Cached and online features in a model, and ESPnet's loader type."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from espnet2.train.dataset import DATA_TYPES, ESPnetDataset

from espnet_ext.bin.ser_extract import main
from espnet_ext.errors import UserError
from espnet_ext.features import layer_sum
from espnet_ext.features.frontend import CachedFeatures, OnlineUpstream
from espnet_ext.features.loader import NAME
from espnet_ext.features.store import FeatureStore


def waves_of(corpus, ids):
    waves = [soundfile.read(corpus.wav(u), dtype="float32")[0] for u in ids]
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.zeros(len(waves), int(lengths.max()))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return batch, lengths


def test_one_layer_passes_through():
    frontend = CachedFeatures(6)
    x = torch.randn(2, 5, 6).half()
    feats, lengths = frontend(x, torch.tensor([5, 3]))
    assert feats.dtype == torch.float32
    assert torch.equal(feats, x.float())
    assert lengths.tolist() == [5, 3]
    assert frontend.output_size() == 6
    assert not list(frontend.parameters())


def test_weighted_sum_by_hand():
    frontend = CachedFeatures(2, num_layers=3)
    x = torch.arange(12.0).view(1, 2, 3, 2)
    mean = x.mean(dim=2)  # equal weights at the start
    torch.testing.assert_close(frontend(x, torch.tensor([2]))[0], mean)
    with torch.no_grad():
        frontend.weights.copy_(torch.tensor([1.0, 2.0, 5.0]).log())
    expected = (1 * x[:, :, 0] + 2 * x[:, :, 1] + 5 * x[:, :, 2]) / 8
    feats, _ = frontend(x, torch.tensor([2]))
    torch.testing.assert_close(feats, expected)
    feats.sum().backward()
    assert frontend.weights.grad.abs().sum() > 0


def s3prl_featurizer(layers, dim, layer_norm):
    """s3prl's own Featurizer, as ESPnet's S3prlFrontend makes it."""
    from s3prl.nn import Featurizer

    upstream = SimpleNamespace(
        num_layers=layers,
        hidden_sizes=[dim] * layers,
        downsample_rates=[320] * layers,
    )
    return Featurizer(upstream, normalize=layer_norm)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_weighted_sum_is_s3prls(layer_norm):
    torch.manual_seed(0)
    layers, dim, lengths = 25, 16, torch.tensor([40, 23, 1])
    states = torch.randn(3, 40, layers, dim).half()
    for row, length in zip(states, lengths, strict=True):
        row[length:] = 0
    theirs = s3prl_featurizer(layers, dim, layer_norm)
    ours = CachedFeatures(dim, layers, layer_norm)
    with torch.no_grad():
        theirs.weights.normal_()
        ours.weights.copy_(theirs.weights)
    expected, expected_lengths = theirs(
        list(states.float().unbind(2)), [lengths] * layers
    )
    found, found_lengths = ours(states, lengths)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found_lengths, expected_lengths)
    factor = torch.randn(3, 40, dim)
    (expected * factor).sum().backward()
    (found * factor).sum().backward()
    torch.testing.assert_close(ours.weights.grad, theirs.weights.grad)


def test_weighted_sum_in_pieces(monkeypatch):
    states = torch.randn(2, 9, 3, 4)
    frontend = CachedFeatures(4, 3)
    whole, _ = frontend(states, torch.tensor([9, 5]))
    monkeypatch.setattr(layer_sum, "_PIECE_ON_CPU", 24)  # two frames
    pieces, _ = frontend(states, torch.tensor([9, 5]))
    torch.testing.assert_close(pieces, whole)
    assert (whole[1, 5:] == 0).all()


def test_wrong_store_is_named():
    with pytest.raises(UserError, match="made for 3 hidden states of width 2"):
        CachedFeatures(2, num_layers=3)(torch.zeros(1, 4, 5, 2), torch.tensor([4]))


@pytest.mark.parametrize("dtype", ["float16", "int8", "float32"])
@pytest.mark.parametrize("layers", ["all", "last"])
def test_online_numbers_are_the_cached_ones(corpus, dtype, layers):
    corpus.write_config(dtype=dtype, layers=layers)
    main(corpus.command())
    store = FeatureStore(corpus.store)
    online = OnlineUpstream(
        str(corpus.config), weights_hash=store.description["weights"]
    )
    ids = ["u02", "u05", "u09"]
    states, frames = online.states(*waves_of(corpus, ids))
    close = {"float16": 1e-3, "float32": 1e-5, "int8": 2e-2}[dtype]
    for row, length, utterance in zip(states, frames, ids, strict=True):
        cached = torch.from_numpy(store[utterance].copy())
        assert row.dtype == cached.dtype
        assert length == len(cached)
        # Batches differ in the last bits of fp32, so a number may round the other way.
        difference = (row[:length].float() - cached.float()).abs()
        if dtype != "float32":
            assert (difference > 0).float().mean() < 0.01
        assert difference.max() <= close * cached.float().abs().max()

    cached = CachedFeatures(store.dim, store.num_layers)
    feats, lengths = online(*waves_of(corpus, ids))
    for row, length, utterance in zip(feats, lengths, ids, strict=True):
        one = torch.from_numpy(store[utterance].copy())[None]
        expected, _ = cached(one, torch.tensor([len(one[0])]))
        atol = close * max(2, one.float().abs().max().item())
        torch.testing.assert_close(row[:length], expected[0], rtol=1e-3, atol=atol)


def test_online_numbers_are_the_same_under_autocast(corpus):
    online = OnlineUpstream(str(corpus.config))
    batch = waves_of(corpus, ["u02", "u05"])
    expected, _ = online(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = online(*batch)
    assert torch.equal(found, expected)


def test_rows_need_no_padding():
    torch.manual_seed(0)
    frontend = CachedFeatures(4, 3)
    rows = [torch.randn(t, 3, 4).half() for t in (9, 2)]
    lengths = torch.tensor([9, 2])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    expected, _ = frontend(padded, lengths)
    found, _ = frontend(rows, lengths)
    assert torch.equal(found, expected)
    assert (found[1, 2:] == 0).all()


def test_upstream_is_frozen_and_not_saved(corpus):
    online = OnlineUpstream(str(corpus.config))
    assert list(online.state_dict()) == ["reduce.weights"]
    assert [name for name, _ in online.named_parameters()] == ["reduce.weights"]
    batch = waves_of(corpus, ["u02", "u05"])
    online.train()
    first, _ = online(*batch)
    second, _ = online(*batch)
    assert torch.equal(first, second)
    first.sum().backward()
    assert online.reduce.weights.grad is not None


def test_other_weights_are_refused(corpus):
    with pytest.raises(UserError, match="other weights"):
        OnlineUpstream(str(corpus.config), weights_hash="0" * 64)


def test_too_short_a_waveform(corpus):
    online = OnlineUpstream(str(corpus.config))
    with pytest.raises(UserError, match="300 samples"):
        online(torch.zeros(2, 900), torch.tensor([900, 300]))


def test_loader_in_espnet_dataset(corpus):
    main(corpus.command())
    store = FeatureStore(corpus.store)
    loader = DATA_TYPES[NAME]["func"](str(corpus.store))
    assert list(loader) == list(store.ids)
    assert list(loader.keys()) == list(store.ids)
    assert len(loader) == len(store)
    assert "u01" in loader
    assert "nobody" not in loader
    assert loader["u01"].dtype == np.float16
    dataset = ESPnetDataset([(str(corpus.store), "speech", NAME)])
    utterance, data = dataset["u01"]
    assert utterance == "u01"
    np.testing.assert_array_equal(data["speech"], store["u01"].astype(np.float32))

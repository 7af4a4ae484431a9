"""Upstreams that need no weights: extraction, store, cached and online frontend."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from espnet_ext.bin.ser_extract import main
from espnet_ext.errors import UserError
from espnet_ext.features.config import load_feature_config
from espnet_ext.features.frontend import CachedFeatures, OnlineUpstream
from espnet_ext.features.store import FeatureStore
from espnet_ext.features.upstream import load_upstream

CONF = Path(__file__).resolve().parents[2] / "conf/features"


def with_deltas(frames):
    first = compute_deltas(frames.T)
    return torch.cat([frames.T, first, compute_deltas(first)]).T.numpy()


def kaldi_fbank(wave):
    return with_deltas(kaldi.fbank(wave[None], num_mel_bins=80))


def kaldi_mfcc(wave):
    options = {"num_ceps": 20, "num_mel_bins": 80, "snip_edges": False}
    return with_deltas(kaldi.mfcc(wave[None], **options))


@pytest.mark.parametrize(
    ("name", "reference", "dim"),
    [("fbank", kaldi_fbank, 240), ("mfcc", kaldi_mfcc, 60)],
)
def test_store_and_frontends_give_kaldis_numbers(corpus, capsys, name, reference, dim):
    config = CONF / f"{name}.yaml"
    main(corpus.command(config=config))
    store = FeatureStore(corpus.store)
    need = 100 * dim * 2 * sum(corpus.lengths.values()) / 16000  # fp16, 100 a second
    assert f"need {need / 1e3:.3g} kB in" in capsys.readouterr().err
    assert store.frame_shift == 160
    assert (store.num_layers, store.dim) == (1, dim)
    online, cached = OnlineUpstream(str(config)), CachedFeatures(dim)
    assert (online.output_size(), online.frame_shift) == (dim, 160)
    assert online.config.upstream.least_frame_shift == 160
    for utterance in list(corpus.lengths)[:3]:
        wave = torch.from_numpy(
            soundfile.read(corpus.wav(utterance), dtype="float32")[0]
        )
        expected = reference(wave)
        assert store.num_frames(utterance) == len(expected)
        # float16 keeps 11 bits; cepstra reach 100
        np.testing.assert_allclose(
            store[utterance].astype(np.float32), expected, rtol=1e-3, atol=2e-3
        )
        length = torch.tensor([len(wave)])
        feats, frames = online(wave[None], length)
        stored = torch.from_numpy(np.array(store[utterance]))[None]
        assert frames.tolist() == [len(expected)]
        torch.testing.assert_close(feats, cached(stored, frames)[0])


def test_egemaps_without_its_library_names_extra_and_license(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(UserError, match=r"espnet_ext\[egemaps\].*not commercial"):
        load_upstream(load_feature_config(CONF / "egemaps.yaml"))


def test_egemaps_goes_through_extraction_and_store(corpus, monkeypatch):
    class Smile:
        """In the form of opensmile.Smile: a row a frame, a column a descriptor."""

        feature_names = tuple(f"descriptor{i}" for i in range(25))

        def __init__(self, feature_set, feature_level):
            assert (feature_set, feature_level) == ("v02", "lld")

        def process_signal(self, signal, sampling_rate):
            assert signal.dtype == np.float32
            assert sampling_rate == 16000
            rows = [[1000.0 * signal[0] + i] * 25 for i in range(len(signal) // 160)]
            return pd.DataFrame(rows, columns=self.feature_names)

    library = ModuleType("opensmile")
    library.Smile = Smile
    library.__version__ = "0"
    library.FeatureSet = SimpleNamespace(eGeMAPSv02="v02")
    library.FeatureLevel = {"LowLevelDescriptors": "lld"}
    monkeypatch.setitem(sys.modules, "opensmile", library)
    main(corpus.command(config=CONF / "egemaps.yaml"))
    store = FeatureStore(corpus.store)
    assert (store.num_layers, store.dim) == (1, 25)
    wave = soundfile.read(corpus.wav("u00"), dtype="float32")[0]
    expected = 1000 * wave[0] + np.arange(len(wave) // 160)
    np.testing.assert_array_equal(store["u00"][:, 7], expected.astype(np.float32))


def test_unknown_set_is_named(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("upstream: {source: kaldi, name: plp}")
    with pytest.raises(UserError, match="kaldi has no upstream 'plp'; it has mfcc"):
        load_upstream(load_feature_config(config))

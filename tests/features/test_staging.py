"""A copy reads the same, and is made once."""

import numpy as np
import pytest

from espnet_ext.bin.ser_extract import main as extract
from espnet_ext.bin.ser_stage_store import main
from espnet_ext.errors import UserError
from espnet_ext.features import staging
from espnet_ext.features.store import FeatureStore


def test_copy(corpus):
    extract(corpus.command())
    copy = corpus.folder / "scratch" / "store"
    main(["--store", str(corpus.store), "--output", str(copy)])
    store, staged = FeatureStore(corpus.store), FeatureStore(copy)
    assert staged.is_whole()
    for utterance in store.ids:
        np.testing.assert_array_equal(staged[utterance], store[utterance])
    before = copy.stat().st_ino
    main(["--store", str(corpus.store), "--output", str(copy)])
    assert copy.stat().st_ino == before


def test_only_what_is_needed(corpus):
    extract(corpus.command(shard_seconds=1))
    copy = corpus.folder / "copy"
    staged = staging.stage_store(corpus.store, copy, ["u01"])
    assert len(list((copy / "shards").iterdir())) == 1
    np.testing.assert_array_equal(staged["u01"], FeatureStore(corpus.store)["u01"])
    more = staging.stage_store(corpus.store, copy)
    assert more.is_whole()


def test_refusals(corpus, monkeypatch):
    extract(corpus.command())
    with pytest.raises(UserError, match="no feature store; choose another"):
        staging.stage_store(corpus.store, corpus.data)
    monkeypatch.setattr(
        staging.shutil, "disk_usage", lambda path: type("", (), {"free": 10})
    )
    with pytest.raises(UserError, match="GB are free"):
        staging.stage_store(corpus.store, corpus.folder / "copy")
    assert not (corpus.folder / "copy").exists()

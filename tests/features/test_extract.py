"""The command: what it makes, goes on with, and refuses."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import weakref
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertModel

from espnet_ext.bin import ser_make_sets
from espnet_ext.bin.ser_extract import main
from espnet_ext.corpora.datadir import read_data_dir, write_data_dir
from espnet_ext.features import extract
from espnet_ext.features.store import FeatureStore
from espnet_ext.features.upstream import ExactUpstream
from espnet_ext.mini.upstream import write_tiny_hubert

from .models import reference_states

ROOT = Path(__file__).resolve().parents[2]
FORK = multiprocessing.get_context("fork")
# Blocks of one shard, and blocks of several with batches that go across them.
SMALL_SHARDS = (
    {"shard_seconds": 1},
    {"shard_seconds": 5, "shard_mb": 0.03, "batch_seconds": 2},
)


def shards_of(corpus):
    return {
        path.name: path.read_bytes()
        for path in (corpus.store / "shards").glob("*.safetensors")
    }


def verify(options):
    main(["--verify", "true", *options])


def fails_with(corpus, capsys, text, **changes):
    with pytest.raises(SystemExit) as caught:
        main(corpus.command(**changes))
    assert caught.value.code == 1
    assert text in capsys.readouterr().err


def test_features_are_those_of_transformers(corpus):
    main(corpus.command())
    store = FeatureStore(corpus.store)
    assert store.ids == tuple(corpus.lengths)
    model = HubertModel.from_pretrained(corpus.upstream).eval()
    for utterance in store.ids:
        wave, _ = soundfile.read(corpus.wav(utterance), dtype="float32")
        expected = reference_states(model, torch.from_numpy(wave))  # (L, T, D)
        found = torch.from_numpy(store[utterance].astype(np.float32)).transpose(0, 1)
        error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert error.max() < 5e-4  # fp16
    lines = (corpus.store / "speech_shape").read_text().splitlines()
    frames = 1 + (corpus.lengths["u00"] - 400) // 320
    assert lines[0] == f"u00 {frames},3,64"
    assert store.frame_shift == 320


def test_same_bytes_again(corpus):
    main(corpus.command())
    first = shards_of(corpus)
    assert len(first) > 2
    shutil.rmtree(corpus.store)
    main(corpus.command())
    assert shards_of(corpus) == first


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 4e-4), ("int8", 1.5e-2)]
)
def test_precision_of_the_store(corpus, dtype, tolerance):
    corpus.write_config(dtype="float32", layers="last")
    main(corpus.command(output=corpus.folder / "exact"))
    corpus.write_config(dtype=dtype, layers="last")
    main(corpus.command())
    exact, store = FeatureStore(corpus.folder / "exact"), FeatureStore(corpus.store)
    for utterance in store.ids:
        expected = exact[utterance]
        error = np.linalg.norm(store[utterance] - expected) / np.linalg.norm(expected)
        assert error <= tolerance


def test_layers(corpus):
    main(corpus.command())
    corpus.write_config(layers=[-1, 0])
    main(corpus.command(output=corpus.folder / "two"))
    whole, two = FeatureStore(corpus.store), FeatureStore(corpus.folder / "two")
    assert two.layers == (2, 0)
    np.testing.assert_allclose(
        two["u01"].astype(np.float32),
        whole["u01"][:, [2, 0]].astype(np.float32),
        rtol=2e-3,
        atol=1e-3,
    )


def test_finished_store_needs_no_torch(corpus):
    main(corpus.command())
    code = (
        "import sys; from espnet_ext.bin.ser_extract import main; main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *corpus.command()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "finished already" in done.stdout


def test_labels_keep_only_what_has_a_class(corpus):
    main(corpus.command(labels=ROOT / "conf/labels/paper5.yaml"))
    assert "u03" not in FeatureStore(corpus.store)  # xxx
    first = shards_of(corpus)
    main(corpus.command())
    assert "u03" in FeatureStore(corpus.store)
    assert first.items() <= shards_of(corpus).items()


def test_unusable_recordings_are_named_and_the_others_kept(corpus, capsys):
    rng = np.random.default_rng(1)
    corpus.write_wav("u90", rng, 320)  # 0.02 s
    corpus.write_wav("u91", rng, 399)
    corpus.write_wav("u92", rng, 400)
    corpus.write_wav("u05x", rng, 5000)
    corpus.write_data()
    corpus.wav("u05x").write_bytes(b"RIFF, but not really")
    fails_with(corpus, capsys, "u90: 320 samples at 16 kHz; the upstream needs 400")
    text = (corpus.store / "unusable.txt").read_text()
    assert [line.split()[0] for line in text.splitlines()] == ["u05x", "u90", "u91"]
    kept = shards_of(corpus)

    main(corpus.command(on_bad_audio="skip"))
    assert shards_of(corpus) == kept
    store = FeatureStore(corpus.store)
    assert set(store.ids) == set(corpus.lengths) - {"u05x", "u90", "u91"}
    assert store["u92"].shape == (1, 3, 64)
    assert set(store.unusable) == {"u05x", "u90", "u91"}

    for utterance in ("u05x", "u90", "u91"):
        corpus.write_wav(utterance, rng, 3000)
    main(corpus.command())
    assert set(FeatureStore(corpus.store).ids) == set(corpus.lengths)
    assert not (corpus.store / "unusable.txt").exists()
    assert kept.items() <= shards_of(corpus).items()


def test_samples_that_are_no_numbers(corpus, capsys):
    wave = np.zeros(4000, dtype=np.float32)
    wave[100] = np.nan
    soundfile.write(corpus.wav("u04"), wave, 16000, subtype="FLOAT")
    fails_with(corpus, capsys, "u04")


def test_other_audio_is_refused(corpus, capsys):
    main(corpus.command())
    wave, _ = soundfile.read(corpus.wav("u02"))
    soundfile.write(corpus.wav("u02"), -wave, 16000)
    fails_with(corpus, capsys, "the features of u02 were made from another recording")


def test_the_same_audio_with_a_new_date_is_not(corpus):
    main(corpus.command())
    os.utime(corpus.wav("u02"), (1, 1))
    main(corpus.command())


def test_other_weights_are_refused(corpus, capsys):
    from espnet_ext.mini.upstream import write_tiny_hubert

    main(corpus.command())
    write_tiny_hubert(corpus.upstream, seed=1)
    fails_with(corpus, capsys, "this store was made with weights")


def test_the_same_weights_elsewhere_are_not(corpus, capsys):
    main(corpus.command())
    shutil.copytree(corpus.upstream, corpus.folder / "copy")
    first = shards_of(corpus)
    main(corpus.command(upstream=corpus.folder / "copy"))
    assert shards_of(corpus) == first


@pytest.mark.parametrize("options", SMALL_SHARDS)
def test_a_lost_shard_is_made_again(corpus, options):
    main(corpus.command(**options))
    first = shards_of(corpus)
    for name in first:
        (corpus.store / "shards" / name).unlink()
        main(corpus.command(**options))
        assert shards_of(corpus) == first


def test_a_lost_plan_costs_nothing(corpus):
    main(corpus.command(labels=ROOT / "conf/labels/paper5.yaml"))
    first = shards_of(corpus)
    (corpus.store / "plan.json").unlink()
    main(corpus.command())
    assert "u03" in FeatureStore(corpus.store)  # which paper5 drops
    assert first.items() < shards_of(corpus).items()


def test_batches_are_of_similar_lengths_whatever_the_shards(corpus, monkeypatch):
    """Sorted over the corpus, read ahead, and gone when the next one is computed."""
    batches, loaded, alive = [], [], []
    load, compute = extract._load, ExactUpstream.extract

    def note_load(utterance, path):
        loaded.append(utterance)
        return load(utterance, path)

    def note_compute(self, waves, layers, dtype):
        batches.append([len(wave) for wave in waves])
        assert not [reference for reference in alive if reference() is not None]
        done = sum(len(batch) for batch in batches)
        deadline = time.monotonic() + 20
        while len(loaded) < min(done + 1, len(corpus.lengths)):
            assert time.monotonic() < deadline, "the next batch is not being read"
            time.sleep(0.002)
        states = compute(self, waves, layers, dtype)
        alive[:] = [weakref.ref(state) for state in states]
        return states

    monkeypatch.setattr(extract, "_load", note_load)
    monkeypatch.setattr(ExactUpstream, "extract", note_compute)
    main(corpus.command(shard_mb=0.02, shard_seconds=100, batch_seconds=2.5))
    assert len(shards_of(corpus)) > len(batches)
    lengths = [length for batch in batches for length in batch]
    assert lengths == sorted(corpus.lengths.values(), reverse=True)
    for batch, following in itertools.pairwise(batches):
        assert sum(batch) <= 2.5 * 16000 < sum(batch) + following[0]


def test_too_little_space(corpus, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        extract.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 1000)
    )
    fails_with(corpus, capsys, "where 1 kB are free")
    assert not list((corpus.store / "shards").glob("*.safetensors"))


def test_disk_full_on_the_way(corpus, capsys, monkeypatch):
    from espnet_ext.features.store_files import ShardWriter

    add, calls = ShardWriter.add, []

    def full(self, *args):
        calls.append(args)
        if len(calls) > 7:
            raise OSError(28, "No space left on device", str(self.path))
        add(self, *args)

    monkeypatch.setattr(ShardWriter, "add", full)
    fails_with(corpus, capsys, "free some space")
    kept = shards_of(corpus)
    assert kept
    monkeypatch.undo()
    main(corpus.command())
    assert kept.items() <= shards_of(corpus).items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "all"}, "layer is unknown; the nearest key is layers"),
        ({"layers": [7]}, "7 is outside of the upstream's 3 hidden states"),
        ({"layers": "first"}, "'all', 'last' or a list"),
        ({"dtype": "float8"}, "dtype is one of float16, float32, int8"),
    ],
)
def test_wrong_config(corpus, capsys, changes, message):
    corpus.write_config(**changes)
    fails_with(corpus, capsys, message)


def test_a_recording_longer_than_a_batch(corpus):
    rng = np.random.default_rng(2)
    corpus.write_wav("u50", rng, 90 * 16000)
    corpus.write_data()
    main(corpus.command(batch_seconds=5))
    assert FeatureStore(corpus.store)["u50"].shape == (4499, 3, 64)


@pytest.mark.slow
def test_ten_minutes(corpus):
    rng = np.random.default_rng(2)
    corpus.write_wav("u50", rng, 600 * 16000)
    corpus.write_data()
    main(corpus.command())
    assert FeatureStore(corpus.store)["u50"].shape == (29999, 3, 64)


@pytest.mark.parametrize(
    ("dtype", "held"), [("float16", "float16"), ("int8", "int8, which is read as fl")]
)
def test_what_reads_as_infinite_is_refused(corpus, capsys, monkeypatch, dtype, held):
    """States 4 % beyond and below fp16's largest number, 65504, in all but one."""
    compute = ExactUpstream.extract

    def scaled(self, waves, layers, dtype):
        states = compute(self, waves, layers, torch.float32)
        largest = [65504 * (1.04 if len(w) == beyond else 0.96) for w in waves]
        scale = [top / x.abs().max() for top, x in zip(largest, states, strict=True)]
        return [(x * y).to(dtype) for x, y in zip(states, scale, strict=True)]

    beyond = corpus.lengths["u05"]
    monkeypatch.setattr(ExactUpstream, "extract", scaled)
    corpus.write_config(dtype=dtype)
    fails_with(corpus, capsys, f"u05: its features do not fit into {held}")
    main(corpus.command(on_bad_audio="skip"))
    store = FeatureStore(corpus.store)
    assert set(store.unusable) == {"u05"}
    for utterance in store.ids:
        assert 60000 < np.abs(store[utterance].astype(np.float32)).max() < np.inf


def test_verify_names_a_damaged_header(corpus, capsys):
    main(corpus.command())
    path = FeatureStore(corpus.store).shard_path("u01")
    content = path.read_bytes()
    place = content.index(b'"shape":[3,') + len('"shape":[3,')
    path.write_bytes(
        content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    )
    with pytest.raises(SystemExit):
        verify(["--output", str(corpus.store)])
    assert f"rm {path}" in capsys.readouterr().err


def test_verify_names_what_is_damaged(corpus, capsys):
    main(corpus.command())
    verify(["--output", str(corpus.store)])
    assert f"{len(corpus.lengths)} utterances, all of them sound" in (
        capsys.readouterr().out
    )
    path = FeatureStore(corpus.store).shard_path("u01")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        verify(["--output", str(corpus.store)])
    message = capsys.readouterr().err
    assert f"rm {path}" in message
    path.unlink()
    main(corpus.command())
    verify(["--output", str(corpus.store)])


def recompute(corpus, *options):
    places = ["--output", str(corpus.store), "--data", str(corpus.data)]
    verify([*places, "--recompute", "5", *options])


def test_recomputing_states_the_error_of_the_precision(corpus, capsys):
    """Against transformers' own model: the same error that the command prints."""
    corpus.write_config(dtype="int8", layers=[0, 2])
    main(corpus.command())
    recompute(corpus)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-3] == ["state", "mean", "worst"]
    table = {
        int(state): (float(mean), float(worst)) for state, mean, worst in lines[-2:]
    }
    store = FeatureStore(corpus.store)
    model = HubertModel.from_pretrained(corpus.upstream).eval()
    for place, state in enumerate([0, 2]):
        errors = []
        # Twelve utterances in five equal parts, the middle of each.
        for utterance in ("u01", "u03", "u06", "u08", "u10"):
            wave, _ = soundfile.read(corpus.wav(utterance), dtype="float32")
            exact = reference_states(model, torch.from_numpy(wave))[state]  # (T, D)
            held = torch.from_numpy(store[utterance][:, place].astype(np.float32))
            errors.append((held - exact).norm(dim=-1) / exact.norm(dim=-1))
        errors = torch.cat(errors)
        assert table[state][0] == pytest.approx(errors.mean().item(), rel=0.06)
        assert table[state][1] == pytest.approx(errors.max().item(), rel=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recompute", "-1"], "--recompute -1: at least one is needed"),
        (["--recompute", "2"], "needs --data"),
    ],
)
def test_recomputing_refuses_what_means_nothing(corpus, capsys, options, message):
    with pytest.raises(SystemExit):
        verify(["--output", str(corpus.store), *options])
    assert message in capsys.readouterr().err


def test_recomputing_without_a_gpu_says_so(corpus, capsys, monkeypatch):
    main(corpus.command())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        recompute(corpus, "--ngpu", "1")
    assert "--ngpu 1: torch sees no GPU here" in capsys.readouterr().err


def test_recomputing_finds_other_weights_and_other_recordings(corpus, capsys):
    main(corpus.command())
    other = corpus.folder / "other"
    write_tiny_hubert(other, seed=9)
    with pytest.raises(SystemExit):
        recompute(corpus, "--upstream", str(other))
    assert "was made with other weights" in capsys.readouterr().err
    corpus.write_wav("u06", np.random.default_rng(3), 30000)
    with pytest.raises(SystemExit):
        recompute(corpus)
    assert "u06 has" in capsys.readouterr().err


def start(corpus, options):
    """Run the command in a process of its own, without importing everything again."""
    process = FORK.Process(target=main, args=(corpus.command(**options),))
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("options", SMALL_SHARDS)
def test_killed_at_any_moment(corpus, options):
    """Kills at different times; every shard that is visible is complete."""
    whole = corpus.folder / "whole"
    main(corpus.command(output=whole, **options))
    for shards in (0, 1, 2, 3, 5):
        process = start(corpus, options)
        deadline = time.monotonic() + 60
        while len(shards_of(corpus)) < shards and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.join()
        for name, content in shards_of(corpus).items():
            assert content == (whole / "shards" / name).read_bytes()
    main(corpus.command(**options))
    assert shards_of(corpus).keys() == {p.name for p in (whole / "shards").iterdir()}
    assert not list((corpus.store / "shards").glob(".tmp-*"))
    assert FeatureStore(corpus.store).ids == tuple(corpus.lengths)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("options", SMALL_SHARDS)
def test_several_processes_fill_one_store(corpus, options):
    alone = corpus.folder / "alone"
    main(corpus.command(output=alone, **options))
    processes = [start(corpus, options) for _ in range(3)]
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for name, content in shards_of(corpus).items():
        assert content == (alone / "shards" / name).read_bytes()
    assert FeatureStore(corpus.store).ids == tuple(corpus.lengths)


def test_sets_leave_out_what_the_store_cannot_use(corpus, tmp_path, capsys):
    data = read_data_dir(corpus.data)
    # A session an utterance, so that every part of the fold has some.
    records = [
        dataclasses.replace(
            u, split=f"Session{s}", id=f"Ses0{s}M_{u.id}", speaker=f"Ses0{s}F"
        )
        for place, u in enumerate(data.utterances.values())
        for s in (place % 5 + 1,)
    ]
    seconds = {u.id: data.durations[u.id[-3:]] for u in records}
    write_data_dir(corpus.data, records, seconds, {"iemocap": (1, 5)})
    for bad in ("u04", "u05", "u03"):  # u03 has no class
        wave, _ = soundfile.read(corpus.wav(bad))
        wave[100] = np.nan
        soundfile.write(corpus.wav(bad), wave, 16000, subtype="FLOAT")
    main(corpus.command(on_bad_audio="skip"))
    labels = ROOT / "conf" / "labels" / "paper5.yaml"
    command = ["--data", str(corpus.data), "--labels", str(labels)]
    command += ["--scheme", "iemocap_5fold", "--store", str(corpus.store)]
    command += ["--output", str(tmp_path / "sets")]
    ser_make_sets.main(command)
    assert "WARNING: 2 utterances are in no set" in capsys.readouterr().out
    split = json.loads((tmp_path / "sets" / "split.json").read_text())
    assert [id_[-3:] for id_ in split["unusable"]] == ["u05", "u04"]
    assert all("no numbers" in reason for reason in split["unusable"].values())
    parts = [read_data_dir(tmp_path / "sets" / p) for p in ("train", "valid", "test")]
    used = sorted(id_[-3:] for part in parts for id_ in part.utterances)
    assert used == [f"u{n:02d}" for n in range(12) if n not in (3, 4, 5)]

"""Predictions of a trained model, from features and from audio."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_corpus import (
    make_features,
    make_utterances,
    small,
    training_args,
    write_sets,
)
from training_runs import infer_args, load, statistics, train

from espnet_ext.bin.ser_infer import main as infer
from espnet_ext.errors import UserError
from espnet_ext.tasks.ser import SERTask


def test_any_batch_size_gives_the_same_file(corpus, trained, tmp_path):
    tables = []
    for size in (1, 5, 32):
        infer(infer_args(corpus, trained, tmp_path / str(size), batch_size=size))
        tables.append((tmp_path / str(size) / "predictions.csv").read_text())
    assert tables[0] == tables[1] == tables[2]
    rows = list(csv.DictReader(tables[0].splitlines()))
    assert [row["utterance"] for row in rows] == sorted(f"u{i:03d}" for i in range(32))
    records = make_utterances(32)
    for row in rows:
        record = records[row["utterance"]]
        assert row["emotion"] == record.emotion
        assert row["valence"] == f"{record.valence:.6f}"
        assert row["dominance"] == f"{record.dominance:.6f}"
        probabilities = {k: float(v) for k, v in row.items() if k.startswith("prob_")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        likeliest = max(probabilities, key=probabilities.get)
        assert row["emotion_pred"] == likeliest.removeprefix("prob_")


def test_predictions_are_those_of_validation(corpus, trained, tmp_path):
    # The test set here is the validation set, so the last epoch's scores must come out.
    arguments = infer_args(corpus, trained, tmp_path)
    arguments[arguments.index("--model_file") + 1] = str(trained / "6epoch.pth")
    infer(arguments)
    with open(tmp_path / "predictions.csv") as stream:
        rows = list(csv.DictReader(stream))
    stats = statistics(trained)[6]
    right = np.mean([row["emotion"] == row["emotion_pred"] for row in rows])
    assert right == pytest.approx(stats["acc"])
    for name in ("valence", "arousal", "dominance"):
        t = np.array([float(row[name]) for row in rows])
        p = np.array([float(row[f"{name}_pred"]) for row in rows])
        ccc = (
            2
            * np.cov(t, p, ddof=0)[0, 1]
            / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)
        )
        assert ccc == pytest.approx(stats[f"ccc_{name}"], abs=1e-4)


def test_dumps(corpus, trained, tmp_path):
    options = {"dump_attention": "true", "dump_embeddings": "true"}
    infer(infer_args(corpus, trained, tmp_path, **options))
    attention = np.load(tmp_path / "attention.npz")
    features = make_features(make_utterances(32))
    for utt, array in features.items():
        for branch in ("discrete", "continuous"):
            weights = attention[f"{utt}/{branch}"]
            assert weights.shape == (len(array),)
            assert weights.dtype == np.float32
            assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert np.load(tmp_path / "embeddings.npz")["u000/discrete"].shape == (32,)


@pytest.mark.parametrize("model", ["baseline_c", "baseline_d"])
def test_what_a_baseline_does_not_predict_is_blank(corpus, tmp_path, model):
    train(corpus, tmp_path, model, **small(max_epoch=1))
    arguments = infer_args(corpus, tmp_path, tmp_path / "out")
    metric = "ccc" if model == "baseline_c" else "acc"
    arguments[arguments.index("--model_file") + 1] = str(
        tmp_path / f"valid.{metric}.ave.pth"
    )
    infer(arguments)
    with open(tmp_path / "out" / "predictions.csv") as stream:
        row = next(csv.DictReader(stream))
    assert (row["emotion_pred"] == "") == (model == "baseline_c")
    assert (row["prob_neu"] == "") == (model == "baseline_c")
    assert (row["valence_pred"] == "") == (model == "baseline_d")


def test_a_checkpoint_whose_keys_do_not_fit_is_refused(
    corpus, trained, tmp_path, capsys
):
    state = load(trained / "1epoch.pth") if (trained / "1epoch.pth").exists() else None
    state = state or load(trained / "6epoch.pth")
    state["decoder.outputs.discreet.bias"] = state.pop("decoder.outputs.discrete.bias")
    torch.save(state, tmp_path / "wrong.pth")
    arguments = infer_args(corpus, trained, tmp_path / "out")
    arguments[arguments.index("--model_file") + 1] = str(tmp_path / "wrong.pth")
    with pytest.raises(SystemExit) as ending:
        infer(arguments)
    message = capsys.readouterr().err
    assert ending.value.code == 1
    assert "wrong.pth does not fit its configuration" in message
    assert "decoder.outputs.discrete.bias" in message
    assert "decoder.outputs.discreet.bias" in message
    assert not (tmp_path / "out").exists()


def test_the_online_frontend_trains_and_predicts(tmp_path):
    import soundfile

    from espnet_ext.mini.upstream import write_tiny_hubert

    write_tiny_hubert(tmp_path / "hubert")
    rng = np.random.default_rng(0)
    records, lengths = {}, {}
    for utt, record in make_utterances(16).items():
        samples = rng.normal(size=int(rng.integers(4000, 8000))) * 0.1
        soundfile.write(tmp_path / f"{utt}.wav", samples, 16000)
        wav = str(tmp_path / f"{utt}.wav")
        records[utt] = dataclasses.replace(record, wav=wav)
        lengths[utt] = len(samples)
    ids = list(records)
    sets = dict.fromkeys(("train", "valid", "test"), (ids, "both"))
    write_sets(tmp_path, records, **sets)
    shapes = tmp_path / "shape"
    shapes.write_text("".join(f"{utt} {n}\n" for utt, n in lengths.items()))
    upstream = f"{{source: huggingface, name: {tmp_path / 'hubert'}}}"
    config = f"{{config: {{upstream: {upstream}, layers: all, dtype: float16}}}}"
    options = small(max_epoch=1, frontend="online", frontend_conf=config)
    args = training_args(tmp_path, tmp_path / "exp", "multitask", **options)
    args = [a.replace(f"{tmp_path}/store,speech,ser_features", "SPEECH") for a in args]
    for part in ("train", "valid"):
        place = args.index("SPEECH")
        args[place] = f"{tmp_path}/{part}/wav.scp,speech,sound"
        args += [f"--{part}_shape_file", str(shapes)]
    SERTask.main(cmd=args)
    assert not any("hubert" in key for key in load(tmp_path / "exp" / "1epoch.pth"))
    arguments = infer_args(tmp_path, tmp_path / "exp", tmp_path / "out")
    place = arguments.index("--store")
    infer(arguments[:place] + arguments[place + 2 :])
    table = (tmp_path / "out" / "predictions.csv").read_text()
    assert len(table.splitlines()) == 17


def test_training_on_audio_reads_what_inference_reads(tmp_path):
    import soundfile
    import soxr

    from espnet_ext.corpora.audio import Waveforms
    from espnet_ext.train.dataset import SERDataset

    # 24,865 samples at 16 kHz, as stereo at 48 kHz, in a folder of Latin-1.
    left, right = 0.1 * np.random.default_rng(0).normal(size=(2, 74595))
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/donn\xe9es"))
    folder.mkdir()
    wav = folder / "a.wav"
    soundfile.write(os.fsencode(wav), np.stack([left, right], 1), 48000, "FLOAT")
    scp = tmp_path / "wav.scp"
    scp.write_bytes(b"u0 " + os.fsencode(wav) + b"\n")
    dataset = SERDataset([(str(scp), "speech", "sound")])
    _, found = dataset["u0"]
    expected = soxr.resample(((left + right) / 2).astype(np.float32), 48000, 16000)
    assert found["speech"].shape == (24865,)
    np.testing.assert_allclose(found["speech"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["speech"], Waveforms({"u0": str(wav)})["u0"])
    wav.write_bytes(wav.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.wav: cut off"):
        dataset["u0"]

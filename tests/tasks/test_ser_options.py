"""Options of a training: what is refused, what is written down."""

import argparse
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from tiny_corpus import (
    ROOT,
    make_features,
    make_utterances,
    small,
    training_args,
    write_sets,
    write_store,
)
from training_runs import infer_args, statistics, train

from espnet_ext.bin.ser_infer import main as infer
from espnet_ext.bin.ser_train import main as ser_train
from espnet_ext.errors import UserError
from espnet_ext.tasks.data import batch_rule
from espnet_ext.tasks.ser import SERTask


def test_help_imports_nothing_heavy(capsys):
    code = (
        "import sys; from espnet_ext.bin.ser_train import main; main(['--help']); "
        "print({'torch', 'espnet2', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("set()\n")
    ser_train(["--help_all"])
    everything = capsys.readouterr().out
    for option in re.findall(r"--[a-z_]+[a-z]", done.stdout):
        assert option in everything or option in ("--help_all", "--dry_run")
    assert "--ddp_comm_hook" in everything


@pytest.mark.parametrize("shift", [320, 160])
def test_clips_far_longer_than_the_rest_are_named(tmp_path, caplog, shift):
    records = make_utterances(30)
    features = make_features(records, layers=1, dim=4)
    features["u007"] = np.zeros((62 * 16000 // shift, 1, 4))
    write_store(tmp_path / "store", features, shift)
    ids = list(records)
    write_sets(tmp_path, records, train=(ids, "both"), valid=(ids[:5], "both"))
    with caplog.at_level("WARNING"):
        train(tmp_path, tmp_path / "exp", **small(max_epoch=1, max_batch_frames=12400))
    (text,) = [r.getMessage() for r in caplog.records if "far longer" in r.getMessage()]
    assert "[train]" in text
    assert "u007 (62 s)" in text
    assert "--max_seconds" in text


@pytest.mark.parametrize(
    ("source", "name", "frames"),  # a second
    [
        ("kaldi", "mfcc", 100),
        ("s3prl", "fbank", 100),
        ("s3prl", "hubert_large_ll60k", 50),
        ("huggingface", "facebook/hubert-base-ls960", 50),
        ("torchaudio", "WAVLM_LARGE", 50),
    ],
)
def test_batches_of_audio_are_bounded_in_frames_of_their_upstream(source, name, frames):
    config = {"upstream": {"source": source, "name": name}}
    args = argparse.Namespace(
        frontend="online",
        frontend_conf={"config": config, "layer_norm": True},
        max_batch_frames=3000,
        min_batch_size=1,
    )
    options = argparse.Namespace(
        train=True,
        data_path_and_name_and_type=[("wav.scp", "speech", "sound")],
        batch_type="length",
        batch_bins=1,
    )
    assert batch_rule(args, options, 1).limit_frames == 3000 * 16000 / frames
    args.frontend = "cached"
    with pytest.raises(UserError, match="audio needs the frontend online"):
        batch_rule(args, options, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accum_grad": 2}, "accum_grad"),
        ({"seed": 10000}, "seed"),
        ({"num_iters_per_epoch": 5}, "num_iters_per_epoch"),
        ({"batch_norm_batches": 0}, "batch_norm_batches is 0; give 1 or more"),
        ({"max_steps": 0}, "max_steps is 0; give 1 or more"),
        ({"ngpu": 2, "multiprocessing_distributed": "false"}, "ngpu"),
        ({"ngpu": 99}, "ngpu is 99, but torch sees"),
        ({"batch_type": "numel"}, "batch_type"),
        ({"loss_conf": "class_weights=[1,2]"}, "class_weights"),
    ],
)
def test_options_that_cannot_work_are_refused(corpus, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        train(corpus, tmp_path, **small(max_epoch=1), **options)


def test_sizes_and_classes_are_written_to_the_config(corpus, trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["frontend_conf"] == {"input_size": 16, "num_layers": 2}
    assert config["preencoder_conf"] == {"input_size": 16, "output_size": 16}
    assert config["class_list"] == ["neu", "ang", "hap", "sad", "dis"]
    assert config["seed"] == 0


def test_balanced_class_weights_are_scikit_learns(tmp_path):
    from sklearn.utils.class_weight import compute_class_weight

    records = make_utterances(33)
    write_store(tmp_path / "store", make_features(records))
    ids = list(records)
    write_sets(tmp_path, records, train=(ids, "both"), valid=(ids, "both"))
    options = small(max_epoch=1, loss_conf="class_weights=balanced")
    train(tmp_path, tmp_path / "exp", **options)
    config = yaml.safe_load((tmp_path / "exp" / "config.yaml").read_text())
    classes = [i % 5 for i in range(33)]
    expected = compute_class_weight("balanced", classes=np.arange(5), y=classes)
    assert config["loss_conf"]["class_weights"] == pytest.approx(list(expected))


@pytest.mark.parametrize("model", ["multitask", "hierarchical_cd"])
def test_the_released_preset_trains(corpus, tmp_path, model):
    options = small(max_epoch=2, valid_batch_bins=100, batch_bins=100)
    shapes = tmp_path / "shape"
    features = make_features(make_utterances(32))
    shapes.write_text("".join(f"{u} {len(x)},2,16\n" for u, x in features.items()))
    args = training_args(corpus, tmp_path / "exp", model, **options)
    args[1] = str(ROOT / "conf" / "released" / "iemocap" / f"train_{model}.yaml")
    for part in ("train", "valid"):
        args += [f"--{part}_shape_file", str(shapes)]
    SERTask.main(cmd=args)
    assert len(statistics(tmp_path / "exp")) == 2
    infer(infer_args(corpus, tmp_path / "exp", tmp_path / "out", dump_attention="true"))
    attention = np.load(tmp_path / "out" / "attention.npz")
    for name in ("continuous", "continuous_arousal", "discrete"):
        assert attention[f"u000/{name}"].sum() == pytest.approx(1, abs=1e-5)


def test_predictions_that_are_not_finite_stop_the_training(tmp_path):
    records = make_utterances(32)
    features = make_features(records)
    features["u007"][0, 0, 0] = np.inf
    write_store(tmp_path / "store", features)
    ids = list(records)
    write_sets(tmp_path, records, train=(ids, "both"), valid=(ids, "both"))
    with pytest.raises(UserError, match=r"epoch 1: logits are not finite, e\.g\. of u"):
        train(tmp_path, tmp_path / "exp", **small(max_epoch=2))


def test_espnets_own_iterator_still_works(corpus, tmp_path):
    options = small(max_epoch=1, iterator_type="sequence", batch_type="sorted")
    shapes = tmp_path / "shape"
    features = make_features(make_utterances(32))
    shapes.write_text("".join(f"{u} {len(x)},2,16\n" for u, x in features.items()))
    options |= {"train_shape_file": shapes, "valid_shape_file": shapes}
    options |= {"batch_size": 8, "num_workers": 1}
    train(corpus, tmp_path / "exp", **options)
    assert statistics(tmp_path / "exp", "train")[1]["total_count"] == 4


def test_print_config(monkeypatch):
    arguments = ["ser_train", "--print_config", "--decoder_conf", "hierarchy=dc"]
    monkeypatch.setattr(sys, "argv", arguments)
    stream = io.StringIO()
    SERTask.print_config(file=stream)
    config = yaml.safe_load(stream.getvalue())
    assert config["decoder_conf"]["hierarchy"] == "dc"
    assert config["decoder_conf"]["embedding_size"] == 32
    assert config["loss_conf"]["continuous"] == "ccc"

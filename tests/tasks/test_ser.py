"""The task as users run it: through SERTask.main, on a real store and real sets."""

import argparse
import csv
import dataclasses
import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import yaml
from espnet2.train import trainer as espnet_trainer
from espnet2.train.reporter import Reporter
from tiny_corpus import (
    ROOT,
    make_corpus,
    make_features,
    make_utterances,
    small,
    training_args,
    write_sets,
    write_store,
)

from espnet_ext.bin.ser_infer import main as infer
from espnet_ext.bin.ser_train import main as ser_train
from espnet_ext.errors import UserError
from espnet_ext.features.store import FeatureStore
from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.trainer import SERTrainer

MODELS = (
    "baseline_c",
    "baseline_d",
    "multitask",
    "hierarchical_dc",
    "hierarchical_cd",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def train(folder, output, model="hierarchical_dc", **options):
    SERTask.main(cmd=training_args(folder, output, model, **options))
    return output


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def statistics(output, phase="valid"):
    """Statistics by epoch, as the checkpoint has them."""
    reporter = Reporter()
    reporter.load_state_dict(load(output / "checkpoint.pth")["reporter"])
    return {epoch: stats[phase] for epoch, stats in reporter.stats.items()}


def assert_same_parameters(a, b):
    a, b = load(a), load(b)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# --- what a model learns


@pytest.mark.parametrize("model", MODELS)
def test_overfits_32_utterances(corpus, tmp_path, model):
    options = small(max_epoch=60, batch_bins=10**6, min_batch_size=32)
    options |= {"scheduler_conf": "warmup_steps=10", "optim_conf": "lr=0.01"}
    best = statistics(train(corpus, tmp_path, model, **options))[60]
    if model != "baseline_d":
        assert min(best[f"ccc_{d}"] for d in ("valence", "arousal", "dominance")) > 0.95
        assert best["ccc"] > 0.95
    if model != "baseline_c":
        assert best["acc"] == best["uar"] == best["macro_f1"] == 1.0
    assert ("acc" in best) == (model != "baseline_c")
    assert ("ccc" in best) == (model != "baseline_d")


@pytest.mark.parametrize(
    ("model", "loss", "others"),
    [
        # Which parameters a loss alone must leave exactly as they were.
        ("hierarchical_dc", "beta=0", ["outputs.discrete"]),
        ("hierarchical_cd", "alpha=0", ["outputs.continuous"]),
        ("hierarchical_dc", "alpha=0", ["outputs.continuous", "branches.continuous"]),
        ("hierarchical_cd", "beta=0", ["outputs.discrete", "branches.discrete"]),
        ("multitask", "beta=0", ["outputs.discrete", "branches.discrete"]),
        ("multitask", "alpha=0", ["outputs.continuous", "branches.continuous"]),
    ],
)
def test_wiring(corpus, tmp_path, model, loss, others):
    options = small(max_epoch=1, optim="sgd", scheduler="none", loss_conf=[loss])
    train(corpus, tmp_path / "before", model, **options, optim_conf="lr=0.0")
    train(corpus, tmp_path / "after", model, **options, optim_conf="lr=0.1")
    before = load(tmp_path / "before" / "1epoch.pth")
    after = load(tmp_path / "after" / "1epoch.pth")
    decoder = [name for name in before if name.startswith("decoder")]
    moved = {name for name in decoder if not torch.equal(before[name], after[name])}
    untouched = {n for n in decoder if any(f"decoder.{o}" in n for o in others)}
    assert untouched
    assert moved == set(decoder) - untouched


# --- two ranks


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def run_forked(function, *args, timeout=120):
    """Run function(*args) in a forked process; return its exit code."""
    process = mp.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join(timeout)
    return process.exitcode


def main_of_rank(rank, port, args):
    SERTask.main(
        cmd=[
            *args,
            *("--dist_world_size", "2", "--dist_rank", str(rank)),
            *("--dist_backend", "gloo", "--dist_master_addr", "127.0.0.1"),
            *("--dist_master_port", str(port), "--multiprocessing_distributed", "no"),
        ]
    )


def run_two_ranks(args):
    port = free_port()
    context = mp.get_context("fork")
    ranks = [context.Process(target=main_of_rank, args=(r, port, args)) for r in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]


def test_two_ranks_train_the_parameters_of_one_process(tmp_path):
    # 33 utterances: uneven shares. float64, so that rounding does not grow in Adam.
    folder = make_corpus(tmp_path / "corpus", count=33, layers=1)
    options = small(max_epoch=5, train_dtype="float64", conv_norm="layer")
    options |= {"scheduler": "none", "batch_bins": 10, "min_batch_size": 16}
    train(folder, tmp_path / "one", **options)
    run_two_ranks(training_args(folder, tmp_path / "two", "hierarchical_dc", **options))
    one, two = load(tmp_path / "one/5epoch.pth"), load(tmp_path / "two/5epoch.pth")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5, msg=name)
    for epoch, stats in statistics(tmp_path / "one").items():
        other = statistics(tmp_path / "two")[epoch]
        assert stats["total_count"] == other["total_count"]
        for name in ("loss", "ccc", "acc", "uar", "macro_f1"):
            assert other[name] == pytest.approx(stats[name], abs=1e-6), name


# --- BatchNorm's statistics


def batch_norm_of(model_file):
    """Mean and variance of the only BatchNorm, of a saved model."""
    state = load(model_file)
    name = "encoder.encoders.0.conv_module.norm.running"
    return torch.stack([state.pop(f"{name}_mean"), state.pop(f"{name}_var")]), state


def true_statistics(folder, model_file):
    """Mean and variance (2, C) over all frames of the training set, one by one."""
    store = FeatureStore(folder / "store")
    config = yaml.safe_load((model_file.parent / "config.yaml").read_text())
    model = SERTask.build_model(argparse.Namespace(**config)).eval()
    model.load_state_dict(load(model_file))
    (norm,) = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    seen = []
    with torch.no_grad(), norm.register_forward_hook(lambda _, x, __: seen.append(*x)):
        for utt in (folder / "train/utt2class").read_text().split()[::2]:
            feats = torch.from_numpy(np.array(store[utt]))
            model.predict(feats[None], torch.tensor([len(feats)]))
    frames = torch.cat(seen, dim=2)[0].double().numpy()  # (C, T)
    return np.stack([frames.mean(1), frames.var(1, ddof=1)])


def test_saved_models_have_the_statistics_of_the_training_set(corpus, uninterrupted):
    for name in ("4epoch.pth", "valid.ccc.ave_2best.pth"):
        ours, _ = batch_norm_of(uninterrupted / name)
        true = true_statistics(corpus, uninterrupted / name)
        np.testing.assert_allclose(ours, true, rtol=1e-4, atol=1e-5)


def test_statistics_do_not_change_the_training(corpus, uninterrupted, tmp_path):
    running = small(**RESUME, batch_norm_statistics="running")
    train(corpus, tmp_path, **running)
    (ours, parameters) = batch_norm_of(uninterrupted / "4epoch.pth")
    (theirs, others) = batch_norm_of(tmp_path / "4epoch.pth")
    assert not torch.allclose(ours, theirs, rtol=0.01)
    for name in parameters:
        assert torch.equal(parameters[name], others[name]), name


def test_two_ranks_get_the_statistics_of_one(corpus, tmp_path):
    options = small(max_epoch=2, optim_conf="lr=0.0", keep_nbest_models=2)
    train(corpus, tmp_path / "one", **options)
    run_two_ranks(training_args(corpus, tmp_path / "two", "hierarchical_dc", **options))
    for name in ("2epoch.pth", "valid.ccc.ave_2best.pth"):
        one, two = (batch_norm_of(tmp_path / n / name)[0] for n in ("one", "two"))
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


# --- kills and resuming


def kill_during_save(args, number):
    """Train until the given call of torch.save, write half of it, and die."""
    save, calls = torch.save, 0

    def dying_save(obj, f, *rest, **options):
        nonlocal calls
        calls += 1
        save(obj, f, *rest, **options)
        if calls == number:
            os.truncate(f, os.path.getsize(f) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = dying_save
    SERTask.main(cmd=args)


def kill_during_unlink(args, name):
    """Train until a file of this name is removed, and die right after."""
    unlink = Path.unlink

    def dying_unlink(self, *rest, **options):
        unlink(self, *rest, **options)
        if self.name == name and calls.append(name) is None and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    calls = []
    Path.unlink = dying_unlink
    SERTask.main(cmd=args)


def kill_in_epoch(args, epoch):
    """Train until the given epoch's second batch, and die."""
    from espnet_ext.train.iterator import EpochIterator, SERIterFactory

    build = SERIterFactory.build_iter

    def dying_build(self, number, shuffle=None):
        iterator = build(self, number, shuffle)
        if number == epoch and self.drawer.shuffle:
            iterator = DyingIterator(iterator.loader, iterator.corpora)
        return iterator

    class DyingIterator(EpochIterator):
        def __iter__(self):
            batches = iter(self.loader)
            yield next(batches)
            os.kill(os.getpid(), signal.SIGKILL)

    SERIterFactory.build_iter = dying_build
    SERTask.main(cmd=args)


RESUME = {
    "max_epoch": 4,
    "min_batch_size": 8,
    "batch_bins": 10,
    "scheduler_conf": "warmup_steps=10",
    "decoder_conf": ["dropout_rate=0.2"],
    "keep_nbest_models": 2,
}


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    return train(corpus, tmp_path_factory.mktemp("whole") / "exp", **small(**RESUME))


# Saves: checkpoint and model of epochs 1 to 4 are numbers 1 to 8, the average is 9, and
# 10 the average with its own BatchNorm statistics.
@pytest.mark.parametrize(
    ("kill", "when"),
    [
        *((kill_during_save, number) for number in (1, 2, 5, 6, 7, 8, 9, 10)),
        (kill_during_unlink, "latest.pth"),
        (kill_during_unlink, "valid.ccc.best.pth"),
        (kill_in_epoch, 3),
    ],
)
def test_a_kill_changes_nothing(corpus, uninterrupted, tmp_path, kill, when):
    output = tmp_path / "exp"
    args = training_args(corpus, output, "hierarchical_dc", **small(**RESUME))
    assert run_forked(kill, args, when) == -signal.SIGKILL
    SERTask.main(cmd=args)
    for name in ("4epoch.pth", "valid.ccc.ave_2best.pth", "valid.ccc.ave.pth"):
        assert_same_parameters(output / name, uninterrupted / name)
    names = {path.name for path in uninterrupted.iterdir()}
    assert {path.name for path in output.iterdir()} == names
    for link in ("latest.pth", "valid.ccc.best.pth", "valid.ccc.ave.pth"):
        assert (output / link).readlink() == (uninterrupted / link).readlink()


def test_a_truncated_checkpoint_costs_one_epoch(corpus, uninterrupted, tmp_path):
    output = tmp_path / "exp"
    short = small(**{**RESUME, "max_epoch": 3})
    train(corpus, output, **short)
    os.truncate(output / "checkpoint.pth", 1000)
    train(corpus, output, **small(**RESUME))
    assert_same_parameters(output / "4epoch.pth", uninterrupted / "4epoch.pth")
    assert statistics(output).keys() == statistics(uninterrupted).keys()


def test_unreadable_checkpoints_are_an_error(corpus, tmp_path):
    train(corpus, tmp_path, **small(max_epoch=2))
    for name in ("checkpoint.pth", "checkpoint.previous.pth"):
        os.truncate(tmp_path / name, 1000)
    with pytest.raises(UserError, match=r"checkpoint\.pth cannot be read"):
        train(corpus, tmp_path, **small(max_epoch=2))


def test_a_finished_training_is_left_alone(corpus, uninterrupted):
    def times():
        names = ("checkpoint.pth", "4epoch.pth")
        return [(uninterrupted / name).stat().st_mtime_ns for name in names]

    before = times()
    train(corpus, uninterrupted, **small(**RESUME))
    assert times() == before


def test_max_steps_end_the_training(corpus, tmp_path):
    # 32 utterances, 8 a batch: 4 steps an epoch, and 9 steps in the third epoch.
    options = small(max_epoch=20, max_steps=9, batch_bins=10, min_batch_size=8)
    options |= {"scheduler_conf": "warmup_steps=4"}
    train(corpus, tmp_path / "whole", **options)
    assert len(statistics(tmp_path / "whole")) == 3
    (optimizer,) = load(tmp_path / "whole" / "checkpoint.pth")["optimizers"]
    assert {int(s["step"]) for s in optimizer["state"].values()} == {12}
    # Going on is the same, and a lower max_epoch comes first.
    train(corpus, tmp_path / "parts", **options | {"max_epoch": 2})
    assert len(statistics(tmp_path / "parts")) == 2
    train(corpus, tmp_path / "parts", **options)
    for name in ("3epoch.pth", "valid.ccc.ave.pth"):
        assert_same_parameters(tmp_path / "parts" / name, tmp_path / "whole" / name)


def test_an_early_stop_is_left_alone(corpus, tmp_path):
    # The learning rate is zero: nothing improves, so patience runs out.
    options = small(max_epoch=20, optim_conf="lr=0.0", scheduler="none", patience=1)
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 3
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 3


def test_patience_counts_from_the_end_of_the_warm_up(corpus, tmp_path):
    # 2 steps an epoch: the warm-up ends in epoch 3, patience 1 runs out in epoch 5.
    options = small(max_epoch=20, optim_conf="lr=0.0", patience=1, batch_bins=10)
    options |= {"scheduler_conf": "warmup_steps=6", "min_batch_size": 16}
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 5
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 5


def test_a_checkpoint_of_another_model_is_refused(corpus, tmp_path):
    train(corpus, tmp_path, "multitask", **small(max_epoch=1))
    with pytest.raises(UserError, match="does not fit this configuration"):
        train(corpus, tmp_path, "hierarchical_dc", **small(max_epoch=2))


def test_a_checkpoint_is_loaded_to_the_cpu(tmp_path, monkeypatch):
    """On a GPU, Adam waits twice a parameter and step for counters that lie there."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    states = {
        "model": model.state_dict(),
        "reporter": Reporter().state_dict(),
        "optimizers": [optimizer.state_dict()],
        "schedulers": [None],
        "scaler": None,
    }
    torch.save(states, tmp_path / "checkpoint.pth")
    places = []
    safe_load = espnet_trainer.safe_torch_load

    def load_and_tell(path, map_location):
        places.append(map_location)
        return safe_load(path, map_location=map_location)

    monkeypatch.setattr(espnet_trainer, "safe_torch_load", load_and_tell)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    fresh = torch.optim.Adam(model.parameters())
    SERTrainer.resume(
        checkpoint=tmp_path / "checkpoint.pth",
        model=model,
        reporter=Reporter(),
        optimizers=[fresh],
        schedulers=[None],
        scaler=None,
        ngpu=1,
    )
    assert places == ["cpu"]
    assert {state["step"].item() for state in fresh.state.values()} == {1}


def test_a_saved_configuration_trains_the_same_again(corpus, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    options = small(max_epoch=2, loss_conf=["class_weights=balanced"])
    train(corpus, first, **options)
    ser_train(["--config", str(first / "config.yaml"), "--output_dir", str(again)])
    assert_same_parameters(first / "2epoch.pth", again / "2epoch.pth")
    changed = load_yaml(first / "config.yaml") ^ load_yaml(again / "config.yaml")
    assert {key for key, _ in changed} <= {"config", "output_dir"}


def load_yaml(path):
    content = yaml.safe_load(path.read_text())
    return {(key, str(value)) for key, value in content.items()}


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


def test_clips_far_longer_than_the_rest_are_named(tmp_path, caplog):
    records = make_utterances(30)
    features = make_features(records, layers=1, dim=4)
    features["u007"] = np.zeros((3100, 1, 4))
    write_store(tmp_path / "store", features)
    ids = list(records)
    write_sets(tmp_path, records, train=(ids, "both"), valid=(ids[:5], "both"))
    with caplog.at_level("WARNING"):
        train(tmp_path, tmp_path / "exp", **small(max_epoch=1, max_batch_frames=6200))
    (text,) = [r.getMessage() for r in caplog.records if "far longer" in r.getMessage()]
    assert "[train]" in text
    assert "u007 (62 s)" in text
    assert "--max_seconds" in text


def test_seeds_share_no_random_stream(corpus, tmp_path):
    seen = []
    manual_seed = torch.random.manual_seed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.random, "manual_seed", lambda s: seen.append(s) or manual_seed(s)
        )
        for seed in (0, 1, 2):
            train(corpus, tmp_path / str(seed), **small(max_epoch=3), seed=seed)
    assert len(seen) == 3 * 4  # the initialisation and three epochs
    assert len(set(seen)) == len(seen)


# --- selection


def test_the_average_is_of_the_best_by_the_criterion(corpus, tmp_path):
    options = small(max_epoch=6, scheduler_conf="warmup_steps=10", keep_nbest_models=3)
    train(corpus, tmp_path, **options)
    scores = {epoch: stats["ccc"] for epoch, stats in statistics(tmp_path).items()}
    best = sorted(scores, key=scores.get, reverse=True)[:3]
    models = [load(tmp_path / f"{epoch}epoch.pth") for epoch in best]
    average = load(tmp_path / "valid.ccc.ave.pth")
    for name, value in average.items():
        # BatchNorm's statistics are those of the averaged weights, see above.
        if value.is_floating_point() and ".running_" not in name:
            expected = sum(model[name].double() for model in models) / 3
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-6)


def test_the_test_fold_never_touches_selection(corpus, tmp_path):
    # Every file that a training opens is watched; none is of the test set, and the
    # features of the test utterances are never read.
    records = make_utterances(48)
    write_store(tmp_path / "store", make_features(records))
    ids = list(records)
    sets = {"train": (ids[:24], "both"), "valid": (ids[24:36], "both")}
    write_sets(tmp_path, records, **sets, test=(ids[36:], "both"))
    opened, read, watching = [], set(), True

    def watch(event, arguments):
        if watching and event == "open":
            opened.append(str(arguments[0]))

    from espnet_ext.features.store import FeatureStore

    get = FeatureStore.__getitem__
    sys.addaudithook(watch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FeatureStore, "__getitem__", lambda self, u: read.add(u) or get(self, u)
        )
        train(tmp_path, tmp_path / "exp", **small(max_epoch=2))
    watching = False
    assert any("/valid/" in path for path in opened)
    assert not [path for path in opened if path.startswith(str(tmp_path / "test"))]
    assert read == set(ids[:36])


def test_validation_is_over_the_whole_set_and_each_corpus(tmp_path):
    records = make_utterances(30, corpora=("iemocap", "msp_podcast"))
    write_store(tmp_path / "store", make_features(records))
    ids = list(records)
    write_sets_of(tmp_path, records, train=(ids, "both"), valid=(ids, "both"))
    train(tmp_path, tmp_path / "exp", **small(max_epoch=1, valid_batch_bins=30))
    (stats,) = statistics(tmp_path / "exp").values()
    for corpus in ("iemocap", "msp_podcast"):
        for name in ("ccc", "ccc_valence", "acc", "uar", "macro_f1"):
            assert np.isfinite(stats[f"{corpus}_{name}"])
    parts = [
        stats[f"{c}_{m}"] for c in ("iemocap", "msp_podcast") for m in ("ccc", "acc")
    ]
    assert stats["mean"] == pytest.approx(np.mean(parts))
    assert stats["ccc"] == pytest.approx(
        np.mean([stats[f"ccc_{d}"] for d in ("valence", "arousal", "dominance")])
    )
    accuracy = np.mean([stats["iemocap_acc"], stats["msp_podcast_acc"]])
    assert stats["acc"] == pytest.approx(accuracy)


def write_sets_of(folder, records, **sets):
    """Like `write_sets`, with the labels of IEMOCAP for both corpora."""
    write_sets(
        folder,
        {u: replace_corpus(record, "iemocap") for u, record in records.items()},
        **sets,
    )
    for name in sets:
        lines = [f"{utt} {records[utt].corpus}\n" for utt in sorted(sets[name][0])]
        (folder / name / "utt2corpus").write_text("".join(lines))


def replace_corpus(record, corpus):
    return dataclasses.replace(record, corpus=corpus)


def test_hidden_labels_give_no_metric(tmp_path):
    records = make_utterances(32)
    write_store(tmp_path / "store", make_features(records))
    ids = list(records)
    sets = {"train": (ids, "continuous"), "valid": (ids, "continuous")}
    write_sets(tmp_path, records, **sets)
    train(tmp_path, tmp_path / "exp", **small(max_epoch=2))
    for stats in statistics(tmp_path / "exp").values():
        assert "acc" not in stats
        assert all(np.isfinite(v) for v in stats.values() if isinstance(v, int | float))


def test_a_criterion_that_does_not_exist_is_named(corpus, tmp_path):
    options = small(max_epoch=1, best_model_criterion="valid,ccc,max")
    with pytest.raises(UserError, match=r"no valid ccc .* choose from acc, loss"):
        train(corpus, tmp_path, "baseline_d", **options)


def test_a_dead_output_unit_is_reported(corpus, tmp_path, caplog):
    options = small(max_epoch=1, optim_conf="lr=0.0")
    options["decoder_conf"] = [*options["decoder_conf"], "initial_attribute=-50.0"]
    train(corpus, tmp_path, "baseline_c", **options)
    for name in ("valence", "arousal", "dominance"):
        assert f"the ReLU output of {name} is dead" in caplog.text


# --- inference


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    options = small(max_epoch=6, scheduler_conf="warmup_steps=10")
    return train(corpus, output, **options)


def infer_args(corpus, trained, output, **options):
    args = ["--train_config", trained / "config.yaml", "--output", output]
    args += ["--model_file", trained / "valid.ccc.ave.pth"]
    args += ["--set", corpus / "test", "--store", corpus / "store"]
    for name, value in options.items():
        args += [f"--{name}", value]
    return [str(arg) for arg in args]


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


# --- options


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

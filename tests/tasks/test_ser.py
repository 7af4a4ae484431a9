"""The task as users run it: through SERTask.main, on a real store and real sets."""

import argparse
import dataclasses
import sys

import numpy as np
import pytest
import torch
import yaml
from tiny_corpus import (
    make_corpus,
    make_features,
    make_utterances,
    small,
    training_args,
    write_sets,
    write_store,
)
from training_runs import RESUME, infer_args, load, run_two_ranks, statistics, train

from espnet_ext.bin.ser_infer import main as infer
from espnet_ext.errors import UserError
from espnet_ext.features.store import FeatureStore
from espnet_ext.ser.decoder import EmotionOutput
from espnet_ext.tasks.model import PARTS
from espnet_ext.tasks.ser import CHOICES, SERTask

MODELS = (
    "baseline_c",
    "baseline_d",
    "multitask",
    "hierarchical_dc",
    "hierarchical_cd",
)


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


def test_seeds_share_no_random_stream(corpus, tmp_path):
    seen = []
    manual_seed = torch.random.manual_seed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.random, "manual_seed", lambda s: seen.append(s) or manual_seed(s)
        )
        for seed in (0, 1, 2):
            train(corpus, tmp_path / str(seed), **small(max_epoch=3), seed=seed)
    assert len(seen) == 3 * 4  # the initialization and three epochs
    assert len(set(seen)) == len(seen)


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


class MeanAttributes(torch.nn.Module):
    """A head that shares nothing with the paper's decoder but its output."""

    def __init__(self, encoder_output_size, num_classes, **_):
        super().__init__()
        self.output = torch.nn.Linear(encoder_output_size, 3)

    def forward(self, hidden, lengths):
        return EmotionOutput(attributes=self.output(hidden.mean(1)))


def test_a_head_needs_nothing_but_its_output(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(CHOICES["decoder"].classes, "bare", MeanAttributes)
    name = f"{__name__}:{MeanAttributes.__name__}"
    monkeypatch.setitem(PARTS["decoder"].classes, "bare", name)
    options = small(max_epoch=1, decoder="bare")
    train(corpus, tmp_path, "baseline_c", **options)
    assert "ccc" in statistics(tmp_path)[1]
    infer(infer_args(corpus, tmp_path, tmp_path / "test"))
    assert "valence_pred" in (tmp_path / "test/predictions.csv").read_text()


def test_a_dead_output_unit_is_reported(corpus, tmp_path, caplog):
    options = small(max_epoch=1, optim_conf="lr=0.0")
    options["decoder_conf"] = [*options["decoder_conf"], "initial_attribute=-50.0"]
    train(corpus, tmp_path, "baseline_c", **options)
    for name in ("valence", "arousal", "dominance"):
        assert f"the ReLU output of {name} is dead" in caplog.text

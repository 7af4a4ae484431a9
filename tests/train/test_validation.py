import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torchmetrics.functional.regression import concordance_corrcoef

from espnet_ext.train.validation import (
    SetPredictions,
    concatenate,
    dead_outputs,
    summarize,
)


def predictions(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 5, rows)
    targets = rng.uniform(1, 5, (rows, 3))
    return SetPredictions(
        ids=[f"u{i:03d}" for i in rng.permutation(rows)],
        logits=rng.normal(size=(rows, 5)) + 2 * np.eye(5)[classes],
        attributes=targets + rng.normal(size=(rows, 3)),
        classes=classes,
        targets=targets,
    )


def test_against_scikit_learn_and_torchmetrics():
    data = predictions()
    stats = summarize(data)
    predicted = data.logits.argmax(1)
    assert stats["acc"] == pytest.approx(accuracy_score(data.classes, predicted))
    uar = balanced_accuracy_score(data.classes, predicted)
    assert stats["uar"] == pytest.approx(uar)
    f1 = f1_score(data.classes, predicted, average="macro")
    assert stats["macro_f1"] == pytest.approx(f1)
    theirs = concordance_corrcoef(
        torch.tensor(data.attributes), torch.tensor(data.targets)
    )
    # Theirs has moments over N - 1.
    names = ("valence", "arousal", "dominance")
    ours = [stats[f"ccc_{name}"] for name in names]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-3)
    assert stats["ccc"] == pytest.approx(np.mean(ours))


def test_order_of_parts_does_not_matter():
    data = predictions()
    parts = [data.select(np.arange(start, 500, 3)) for start in (2, 0, 1)]
    joined = concatenate(parts)
    assert joined.ids == sorted(data.ids)
    assert summarize(joined) == summarize(concatenate([data]))


def test_rows_without_a_label_do_not_count():
    data = predictions()
    some = predictions()
    some.classes[100:] = -1
    some.targets[50:, 1] = np.nan
    stats = summarize(some)
    assert stats["acc"] == summarize(data.select(np.arange(100)))["acc"]
    first = summarize(data.select(np.arange(50)))
    assert stats["ccc_arousal"] == pytest.approx(first["ccc_arousal"])
    assert stats["ccc_valence"] == summarize(data)["ccc_valence"]


def test_nothing_is_ever_nan():
    data = predictions(4)
    data.targets[:] = np.nan
    assert set(summarize(data)) == {"acc", "uar", "macro_f1", "mean"}
    data.classes[:] = -1
    assert summarize(data) == {}
    constant = predictions(4)
    constant.attributes[:] = 3.0
    constant.targets[:] = 3.0
    assert all(np.isfinite(value) for value in summarize(constant).values())
    single = summarize(predictions(1))
    assert all(np.isfinite(value) for value in single.values())


def test_mismatched_corpora():
    # Corpus a has attributes, corpus b classes: each is selected by what it has.
    data = predictions()
    corpora = {utt: "ab"[i % 2] for i, utt in enumerate(data.ids)}
    data.classes[0::2] = -1
    data.targets[1::2] = np.nan
    stats = summarize(data, corpora)
    assert stats["mean"] == pytest.approx((stats["a_ccc"] + stats["b_acc"]) / 2)
    assert "a_acc" not in stats
    assert "b_ccc" not in stats
    assert stats["a_ccc"] == pytest.approx(stats["ccc"])


def test_dead_outputs_are_named():
    attributes = np.ones((10, 3))
    attributes[:, 1] = 0
    assert dead_outputs(attributes) == ["arousal"]
    assert dead_outputs(attributes[:0]) == []

"""The classical baseline, from wavs to predictions.csv, and its parts."""

import numpy as np
import pytest
import soundfile
import torch
from features import test_store
from sklearn.metrics import recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torchmetrics.functional import concordance_corrcoef

from espnet_ext.bin.ser_classical import main
from espnet_ext.classical.functionals import read_functionals
from espnet_ext.classical.model import (
    PENALTIES,
    WIDTHS,
    ClassicalConfig,
    concordance,
    fit_classes,
)
from espnet_ext.corpora.datadir import write_data_dir
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError
from espnet_ext.scoring.predictions import read_predictions
from espnet_ext.scoring.reference import read_reference

PITCH = {"ang": 400.0, "sad": 120.0}


def write_set(folder, wavs, seed, *, valence=True):
    """Tones whose pitch tells the class and whose level tells the valence."""
    rng = np.random.default_rng(seed)
    records, classes = [], {}
    for number in range(12):
        name, label = f"s{seed}u{number:02}", ("ang", "sad")[number % 2]
        level = rng.uniform(0.05, 0.5)
        time = np.arange(int(rng.uniform(0.4, 0.8) * 16000)) / 16000
        wave = level * np.sin(2 * np.pi * PITCH[label] * time)
        soundfile.write(
            wavs / f"{name}.wav", wave + rng.normal(0, 1e-3, len(wave)), 16000
        )
        known = {"valence": 1 + 8 * level, "arousal": 2.0, "dominance": 3.0}
        records.append(
            Utterance(
                id=name,
                wav=str(wavs / f"{name}.wav"),
                corpus="tones",
                speaker=f"s{seed}",
                gender="f",
                split="<unk>",
                emotion=label,
                **(known if valence else {}),
            )
        )
        classes[name] = ["ang", "sad"].index(label)
    write_data_dir(folder, records)
    (folder / "classes").write_text("ang\nsad\n")
    lines = [f"{name} {index}\n" for name, index in sorted(classes.items())]
    (folder / "utt2class").write_text("".join(lines))


@pytest.fixture
def sets(tmp_path):
    for seed, part in enumerate(("train", "valid", "test")):
        write_set(tmp_path / part, tmp_path, seed)
    return tmp_path


def command(sets, **more):
    (sets / "c.yaml").write_text("functionals: mfcc\n")
    options = {p: sets / p for p in ("train", "valid", "test")}
    options |= {"config": sets / "c.yaml", "output": sets / "out", **more}
    return [word for k, v in options.items() for word in (f"--{k}", str(v))]


def test_predicts_classes_and_attributes(sets, capsys):
    main(command(sets))
    reference = read_reference(sets / "test")
    found = read_predictions(sets / "out/predictions.csv", reference)
    assert found.predicts_classes
    assert found.predicts_attributes
    lines = (sets / "out/predictions.csv").read_text().splitlines()
    rows = [
        dict(zip(lines[0].split(","), r.split(","), strict=True)) for r in lines[1:]
    ]
    assert [r["emotion_pred"] for r in rows] == [r["emotion"] for r in rows]
    truth, predicted = (
        [float(r[k]) for r in rows] for k in ("valence", "valence_pred")
    )
    assert concordance_corrcoef(torch.tensor(predicted), torch.tensor(truth)) > 0.5
    assert "emotion: C " in capsys.readouterr().out


def test_features_of_a_store_do_as_well(sets, monkeypatch):
    ids = [f"s{seed}u{number:02}" for seed in range(3) for number in range(12)]
    monkeypatch.setattr(test_store, "FRAMES", dict.fromkeys(ids, 9))
    test_store.fill(sets / "store", ids=ids)
    words = command(sets, store=sets / "store")
    (sets / "c.yaml").write_text("functionals: store\n")
    main(words)
    reference = read_reference(sets / "test")
    assert read_predictions(sets / "out/predictions.csv", reference).predicts_classes


def test_attributes_that_nobody_annotated_are_left_out(tmp_path):
    for seed, part in enumerate(("train", "valid", "test")):
        write_set(tmp_path / part, tmp_path, seed, valence=False)
    main(command(tmp_path))
    found = read_predictions(
        tmp_path / "out/predictions.csv", read_reference(tmp_path / "test")
    )
    assert found.predicts_classes
    assert not found.predicts_attributes


def test_choice_is_the_best_of_all_on_validation_and_test_plays_no_part():
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c"])

    def draw(n):
        labels = rng.integers(0, 3, n)
        return rng.normal(0, 1, (n, 5)) + labels[:, None] * 0.7, names[labels]

    train, valid = draw(60), draw(40)
    fitted = fit_classes(ClassicalConfig(), train, valid)
    reached = []
    for penalty in PENALTIES["rbf"]:
        for width in WIDTHS:
            machine = make_pipeline(
                StandardScaler(),
                SVC(C=penalty, gamma=width / 5, class_weight="balanced"),
            ).fit(*train)
            predicted = machine.predict(valid[0])
            reached.append(recall_score(valid[1], predicted, average="macro"))
    assert fitted.score == pytest.approx(max(reached))
    np.testing.assert_allclose(fitted.machine[0].mean_, train[0].mean(0))


def test_concordance_is_that_of_torchmetrics():
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(3, 1, 50), rng.normal(2, 2, 50)
    expected = concordance_corrcoef(torch.tensor(predicted), torch.tensor(truth))
    # torchmetrics divides variances by N - 1; with 1/N throughout the two agree to 1/N
    assert concordance(truth, predicted) == pytest.approx(float(expected), abs=0.02)
    assert concordance(truth, truth) == pytest.approx(1)
    assert concordance(np.ones(3), np.ones(3)) == 0


def test_what_is_open_is_chosen_by_speakers_that_were_not_trained_on():
    rng = np.random.default_rng(0)
    speakers = np.repeat(["a", "b", "c"], 20)
    labels = np.tile(["x", "y"], 30)
    signal = rng.normal(0, 1, (60, 4)) + (labels == "y")[:, None] * 0.8
    valid = signal[:4], labels[:4]
    fitted = fit_classes(ClassicalConfig(), (signal, labels), valid, speakers)
    reached = []
    for penalty in PENALTIES["rbf"]:
        for width in WIDTHS:
            machine = make_pipeline(
                StandardScaler(),
                SVC(C=penalty, gamma=width / 4, class_weight="balanced"),
            )
            held_out = cross_val_predict(
                machine, signal, labels, groups=speakers, cv=LeaveOneGroupOut()
            )
            on_valid = machine.fit(signal, labels).predict(valid[0])
            truth, predicted = [*labels, *valid[1]], [*held_out, *on_valid]
            reached.append(recall_score(truth, predicted, average="macro"))
    assert fitted.score == pytest.approx(max(reached))
    assert fitted.machine[0].n_samples_seen_ == 60
    by_validation = fit_classes(
        ClassicalConfig(), (signal, labels), valid, ["<unk>", *speakers[1:]]
    )
    assert by_validation.score == 1  # of four utterances that it was trained on


def test_faults_are_named(sets):
    with pytest.raises(UserError, match="choose from mfcc, egemaps, store"):
        read_functionals("plp", [], {})
    with pytest.raises(UserError, match="kernel is 'poly'"):
        ClassicalConfig(kernel="poly")
    with pytest.raises(UserError, match="of u are not finite"):
        read_functionals("store", ["u"], {"u": np.full((3, 2), np.nan)})
    one = (np.zeros((2, 1)), np.array(["ang", "ang"]))
    with pytest.raises(UserError, match=r"of the training set is ang; .* two classes"):
        fit_classes(ClassicalConfig(), one, one)

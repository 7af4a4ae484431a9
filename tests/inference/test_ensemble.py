"""Several trainings in one package: the mean and the spread."""

import csv
import json
import statistics
import zipfile

import numpy as np
import pytest
import torch
import yaml

from espnet_ext import SpeechEmotion
from espnet_ext.bin import ser as program
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.sets import write_set
from espnet_ext.errors import UserError
from espnet_ext.inference.pack import pack_experiment
from inference.conftest import ROOT, train

ATTRIBUTES = ("valence", "arousal", "dominance")


@pytest.fixture(scope="module")
def trainings(recipe):
    """Two seeds of a split and one of another, which has other training clips."""
    train(recipe, "hierarchical_cd", seed=1)
    data = read_data_dir(recipe.folder / "data")
    labels = load_class_map(ROOT / "conf/labels/paper5.yaml")
    ids = list(recipe.wavs)
    parts = {"train": ids[6:], "valid": ids[:4], "test": ids[4:6]}
    for part, own in parts.items():
        folder = recipe.folder / "dump/iemocap/sets/paper5/split_2" / part
        write_set(data, own, labels, folder)
    train(recipe, "hierarchical_cd", split=2)
    places = {"seed0": (0, 1), "seed1": (1, 1), "fold2": (0, 2)}
    return {n: recipe.experiment("hierarchical_cd", *p) for n, p in places.items()}


@pytest.fixture(scope="module")
def seeds(trainings, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "seeds.zip"
    pack_experiment(trainings["seed0"], path, others=[trainings["seed1"]])
    return path


@pytest.fixture(scope="module")
def folds(trainings, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "folds.zip"
    pack_experiment(trainings["seed0"], path, others=[trainings["fold2"]])
    return path


@pytest.fixture(scope="module")
def alone(trainings):
    return [SpeechEmotion.from_pretrained(trainings[n]) for n in ("seed0", "seed1")]


@pytest.fixture(scope="module")
def together(seeds):
    return SpeechEmotion.from_pretrained(seeds)


def test_answers_are_means_with_their_spread(alone, together, wav):
    members = [ser(wav, embeddings=True) for ser in alone]
    answer = together(wav, embeddings=True)
    assert members[0].scores["happy"] != members[1].scores["happy"]
    for name, score in answer.scores.items():
        values = [m.scores[name] for m in members]
        assert score == pytest.approx(statistics.mean(values), abs=1e-12)
        spread = answer.spread.scores[name]
        assert spread == pytest.approx(statistics.stdev(values), abs=1e-12)
    for name in ATTRIBUTES:
        values = [getattr(m, name) for m in members]
        assert getattr(answer, name) == pytest.approx(statistics.mean(values))
        spread = getattr(answer.spread, name)
        assert spread == pytest.approx(statistics.stdev(values), rel=1e-9)
    assert answer.label == max(answer.scores, key=answer.scores.get)
    for branch, weights in answer.attention.items():
        expected = torch.tensor(np.array([m.attention[branch] for m in members]))
        assert weights == pytest.approx(expected.mean(0).numpy(), abs=1e-7)
    for number, member in enumerate(members, 1):
        for branch, vector in member.embeddings.items():
            assert np.array_equal(answer.embeddings[f"{branch}_{number}"], vector)
    assert members[0].spread is None
    assert members[0].to_dict()["spread"] is None


def test_features_are_computed_once(together, wav, monkeypatch):
    calls = []
    network = type(together._network)
    original = network._states
    monkeypatch.setattr(
        network, "_states", lambda self, w: calls.append(1) or original(self, w)
    )
    together(wav)
    assert len(calls) == 1
    assert len(together.models) == 2


def test_every_loader_takes_it(seeds, together, wav, tmp_path):
    import espnet
    from espnet_model_zoo.downloader import ModelDownloader

    expected = together(wav).to_dict()
    with pytest.warns(UserWarning, match="local model"):
        files = ModelDownloader(str(tmp_path)).unpack_local_file(str(seeds))
    assert SpeechEmotion(**files)(wav).to_dict() == expected
    loaded = espnet.load(str(seeds), task="ser", device="cpu")
    assert loaded(wav).to_dict() == expected
    names = sorted((tmp_path).rglob("models/*.pth"))
    listed = {**files, "ser_model_file": names}
    assert SpeechEmotion(**listed)(wav).to_dict() == expected
    with pytest.raises(UserError, match=r"tells of 2 members.*has 1"):
        SpeechEmotion(**{**files, "ser_model_file": names[0]})


def test_a_timeline_is_of_the_mean(alone, together, wav):
    one, two = (ser.timeline(wav, 1, 0.5).steps for ser in alone)
    for first, second, step in zip(
        one, two, together.timeline(wav, 1, 0.5).steps, strict=True
    ):
        expected = (first.scores["happy"] + second.scores["happy"]) / 2
        assert step.scores["happy"] == pytest.approx(expected, abs=1e-9)
        assert step.valence == pytest.approx((first.valence + second.valence) / 2)


def run(*arguments):
    with pytest.raises(SystemExit) as left:
        program.main([str(a) for a in arguments])
    return left.value.code


def test_commands(seeds, folds, together, trainings, wav, tmp_path, capsys):
    expected = together(wav)
    model = ("--model", seeds, "--device", "cpu")
    assert run("predict", *model, "--format", "csv", wav) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    spread = expected.spread
    assert float(row["spread_prob_happy"]) == pytest.approx(
        spread.scores["happy"], abs=1e-6
    )
    assert float(row["spread_arousal"]) == pytest.approx(spread.arousal, abs=1e-6)
    assert run("predict", *model, "--format", "jsonl", wav) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["spread"]["valence"] == spread.valence
    assert run("predict", *model, wav) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert f"{expected.valence:.3f} +-{spread.valence:.3f}" in line
    assert f" +-{spread.scores[expected.label]:.3f}" in line
    assert line.index("%") + 1 == head.index("speech") + len("speech")
    assert run("embed", *model, "--output", tmp_path / "e.npz", wav) == 0
    with np.load(tmp_path / "e.npz") as vectors:
        assert {n.rpartition("/")[2] for n in vectors} == {
            *("discrete_1", "discrete_2", "continuous_1", "continuous_2")
        }
    capsys.readouterr()
    assert run("info", "--model", folds) == 0
    out = capsys.readouterr().out
    assert "member 2" in out
    assert "no honest score" in out
    path = tmp_path / "m.zip"
    both = trainings["seed1"], trainings["fold2"]
    assert run("pack", *both, "--output", path) == 0
    assert run("export", "--model", path, "--output", tmp_path / "g.zip") == 2
    assert "is an ensemble" in capsys.readouterr().err
    assert not (tmp_path / "g.zip").exists()


def test_the_card_names_members_and_warns_of_folds(seeds, folds):
    cards = []
    for path in (seeds, folds):
        with zipfile.ZipFile(path) as archive:
            cards.append(archive.read("README.md").decode())
            info = yaml.safe_load(archive.read("ser_info.yaml"))
            assert "seed" not in yaml.safe_load(archive.read("config.yaml"))
        assert len(info["members"]) == 2
        assert "Ensemble of 2 trainings" in cards[-1]
    assert "no honest score" not in cards[0]
    assert "no honest score" in cards[1]
    assert [m["seed"] for m in info["members"]] == [0, 0]
    assert [m["utterances"] for m in info["members"]] == [12, 6]
    assert info["utterances"] == 12


def test_one_temperature_is_fitted_to_the_mean(recipe, alone, together, folds):
    """The fit is near the best of a grid by torch's loss on the mean."""
    classes = ["neutral", "angry", "happy", "sad", "disgusted"]
    truth = [number % 5 for number in range(len(recipe.wavs))]
    order = [list(together.labels).index(classes[t]) for t in range(5)]
    labels = torch.tensor([order[t] for t in truth])
    wavs = list(recipe.wavs.values())
    mean = np.mean([[[*a.scores.values()] for a in s(wavs)] for s in alone], axis=0)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 400))
    logs = torch.tensor(mean).log()
    losses = [torch.nn.functional.cross_entropy(logs / t, labels) for t in grid]
    best = grid[int(np.argmin(losses))]
    calibration = together.info.calibration
    assert calibration.temperature == pytest.approx(best, rel=0.02)
    assert calibration.utterances == 12
    calibrated = SpeechEmotion.from_pretrained(folds, scores="calibrated")
    assert calibrated.info.calibration.utterances == 12


FAULTS = {
    "class_list": lambda c: c["class_list"].reverse(),
    "encoder_conf": lambda c: c["encoder_conf"].update(dropout_rate=0.3),
    "batch_bins": lambda c: c.update(batch_bins=7),
}


@pytest.mark.parametrize("key", FAULTS)
def test_members_that_differ_are_named(trainings, tmp_path, key):
    folder = trainings["seed1"].parent / f"other_{key}"
    folder.mkdir(exist_ok=True)
    for file in trainings["seed1"].glob("*.pth"):
        (folder / file.name).write_bytes(file.read_bytes())
    config = yaml.safe_load((trainings["seed1"] / "config.yaml").read_text())
    FAULTS[key](config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    what = {"class_list": "classes", "encoder_conf": "encoder_conf: dropout_rate: "}
    what = what.get(key, key)
    with pytest.raises(UserError, match=what) as caught:
        pack_experiment(trainings["seed0"], tmp_path / "m.zip", others=[folder])
    assert str(trainings["seed0"]) in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_models_and_the_same_twice_are_refused(recipe, trainings, tmp_path):
    first = trainings["seed0"]
    for other, reason in [
        (recipe.experiment("baseline_c"), "they differ in"),
        (first.parent / "." / first.name, "given twice"),
    ]:
        with pytest.raises(UserError, match=reason):
            pack_experiment(first, tmp_path / "m.zip", others=[other])
    assert not list(tmp_path.iterdir())

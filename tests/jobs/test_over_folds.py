"""The table over the folds of a recipe: what it is made of, and its means."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from espnet_ext.bin import ser_score
from espnet_ext.jobs.options import get_parser
from espnet_ext.jobs.recipe import Recipe
from espnet_ext.jobs.step import is_done, mark_done, write_files
from espnet_ext.jobs.work import Work, plan_work

ROOT = Path(__file__).parents[2]
CLASSES = ("ang", "hap", "neu")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "wav").mkdir()
    models = ("baseline_d", "classical")
    return Recipe(
        corpus="emodb",
        corpus_root=tmp_path / "wav",
        scheme="emodb_5fold",
        fold=None,
        labels=Path("conf/labels/paper5.yaml"),
        features=Path("conf/features/mini.yaml"),
        models={name: Path(f"conf/train_{name}.yaml") for name in models},
        seed=3,
        datadir=tmp_path / "data",
        dumpdir=tmp_path / "dump",
        expdir=tmp_path / "exp",
        resamples=100,
    )


def work_of(recipe, folds):
    return Work([replace(recipe, fold=fold) for fold in folds], None, range(1, 8))


def finish(step):
    """Finish a step with stand-ins for its products."""
    for name in step.products:
        path = step.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name != "predictions.csv":
            path.write_text(f"{name} of {step.name}")
    mark_done(step)


def predict(step, truth, rng):
    """Write a model's predictions, more than half of them right; return its classes."""
    guess = np.where(rng.random(len(truth)) < 0.6, truth, rng.choice(CLASSES))
    path = step.output / "predictions.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    fold = step.output.parent.parent.name
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("utterance", "corpus", "emotion", "emotion_pred"))
        for number, pair in enumerate(zip(truth, guess, strict=True)):
            writer.writerow((f"{fold}_{number}", "emodb", *pair))
    return guess


def test_the_mean_over_folds_is_the_last_table(recipe, capsys):
    work = work_of(recipe, (1, 3))
    rng = np.random.default_rng(0)
    truth = {f"emodb_5fold_{n}": rng.choice(CLASSES, 30 + 9 * n) for n in (1, 3)}
    scores = {}
    *steps, last = work.all_steps()
    for step in (step for step in steps if step.stage < 7):
        if "predictions.csv" in step.products:
            model = step.output.parent.name.removesuffix("_seed3")
            true = truth[step.output.parent.parent.name]
            guess = predict(step, true, rng)
            found = accuracy_score(true, guess), balanced_accuracy_score(true, guess)
            scores.setdefault(model, []).append(found)
        finish(step)
    assert last.name == "score EmoDB, folds 1, 3"
    write_files(last)
    ser_score.main([*last.args, "--plots", "false"])
    assert last.output == recipe.expdir / "tables" / "mini_paper5_emodb_5fold"
    table = list(csv.DictReader((last.output / "table.csv").open()))
    means = {(row["row"], row["metric"]): float(row["mean"]) for row in table}
    for model, by_fold in scores.items():
        accuracy, uar = np.mean(by_fold, axis=0)
        assert means[model, "accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert means[model, "uar"] == pytest.approx(uar, abs=1e-6)
    shown = capsys.readouterr().out
    assert "EmoDB, folds 1, 3 (mean of folds)" in shown
    assert "CCC" not in shown  # which nothing here predicts
    assert "made by other code" not in shown  # training and classical fit
    mark_done(last)
    assert is_done(work.all_steps()[-1])
    assert not is_done(work_of(recipe, (1, 2, 3)).all_steps()[-1])


def test_its_yaml_is_a_table_that_more_seeds_can_be_added_to(recipe):
    overlay = Path("conf/iemocap_msp_podcast.yaml")
    models = {"baseline_d": recipe.models["baseline_d"]}
    recipe = replace(recipe, corpus_overlay=overlay, seconds=(0, 9), models=models)
    plan = work_of(recipe, (1, 2)).all_steps()
    write_files(plan[-1])
    path = plan[-1].files[-1][0]
    assert yaml.safe_load(path.read_text())["recipe"] == "emodb"
    words = ["--table", str(path), "--seeds", "5", "--features", "mini"]
    words += ["--root", f"emodb={recipe.corpus_root}"]
    for name in ("datadir", "dumpdir", "expdir"):
        words += [f"--{name}", str(getattr(recipe, name))]
    table = plan_work(get_parser().parse_args(words)).table
    trained = {s.output: s.settings for run in table.runs for s in run.steps()}
    assert len(trained) == 20
    for step in (step for step in plan if step.stage == 5):
        assert trained[step.output] == step.settings
        assert {s.output for s in table.steps()} >= {s.output for s in plan[:-3]}


@pytest.mark.parametrize("folds", [(None,), (1,)])
def test_one_fold_has_its_own_table_alone(recipe, folds):
    names = [s.name for s in work_of(recipe, folds).all_steps() if s.stage == 7]
    assert len(names) == 1

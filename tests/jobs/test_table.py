"""The plan of a table: which runs, what they share, and what a failure stops."""

import csv
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from espnet_ext.errors import UserError
from espnet_ext.jobs.batch import step_key
from espnet_ext.jobs.graph import prerequisites
from espnet_ext.jobs.option_checks import MINI_FOLDERS
from espnet_ext.jobs.recipe import Mini, Recipe, build_plan
from espnet_ext.jobs.run import run_stages
from espnet_ext.jobs.stages import MODELS, STAGES
from espnet_ext.jobs.step import is_done, mark_done, parse_runs
from espnet_ext.jobs.table import (
    Place,
    list_runs,
    plan_table,
    print_standing,
    table_step,
)
from espnet_ext.jobs.work import Work
from espnet_ext.tasks.config import read_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Tables name configs as recipes do: relative to a folder that has conf."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def base(tmp_path):
    """What the recipes of a table have in common."""
    downloads = tmp_path / "downloads"
    return Recipe(
        corpus="iemocap",
        corpus_root=downloads / "IEMOCAP_full_release",
        scheme="iemocap_5fold",
        fold=None,
        labels=Path("conf/labels/paper5.yaml"),
        features=Path("conf/features/mini.yaml"),
        models={},
        upstream=str(downloads / "hubert_tiny"),
        overlay=Path("conf/mini.yaml"),
        mini=Mini(),
        datadir=tmp_path / "data",
        dumpdir=tmp_path / "dump",
        expdir=tmp_path / "exp",
        resamples=10_000,
    )


def places_of(base):
    return {
        corpus: Place(base.corpus_root.parent / folder, base.datadir, base.dumpdir)
        for corpus, folder in MINI_FOLDERS.items()
    }


def table(base, name, **changes):
    path = Path("conf", "tables", f"{name}.yaml")
    given = {"path": path, "places": places_of(base), "features": base.features}
    return plan_table(base=base, **{**given, **changes})


def pretend(step):
    """Finish a step with stand-ins for its products."""
    for name in step.products:
        path = step.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {step.name}")
    mark_done(step)


def finish(planned):
    for stage in range(1, 7):
        for step in planned.steps():
            if step.stage == stage:
                pretend(step)


def test_table1_is_five_models_on_five_folds(base):
    planned = table(base, "table1")
    assert len(planned.runs) == 25
    assert {(run.row, run.fold) for run in planned.runs} == {
        (model, fold) for model in MODELS for fold in range(1, 6)
    }
    stages = [step.stage for step in planned.steps()]
    assert [stages.count(stage) for stage in STAGES] == [3, 1, 5, 25, 25, 0, 0, 0]
    names = [step.name for step in planned.steps()]
    assert len(set(names)) == len(names)


def test_seeds_share_everything_before_training(base):
    planned = table(base, "table3", seeds=3)
    stages = [step.stage for step in planned.steps()]
    assert [stages.count(stage) for stage in STAGES] == [3, 1, 1, 15, 15, 0, 0, 0]


def test_runs_are_those_of_the_ordinary_recipe(base):
    """What `./run.sh --fold 1` finished is finished in the table, and the other way."""
    models = {"multitask": Path("conf/train_multitask.yaml")}
    recipe = replace(base, fold=1, models=models)
    for step in build_plan(recipe):
        if step.stage <= 6:
            pretend(step)
    planned = table(base, "table1")
    done = [run for run in planned.runs if is_done(run.steps()[1])]
    assert [(run.row, run.fold) for run in done] == [("multitask", 1)]
    finish(planned)
    assert all(is_done(step) for step in build_plan(recipe) if step.stage <= 6)


def test_tables_share_their_corpora(base):
    finish(table(base, "table1"))
    planned = table(base, "table2")
    todo = [step.name for step in planned.steps() if not is_done(step)]
    assert not any("iemocap" in name for name in todo if name.startswith("prepare"))
    assert not any(name.endswith("features of iemocap") for name in todo)
    assert any(name.endswith("features of msp_podcast") for name in todo)


def test_table2_shows_some_labels_and_names_its_stores(base):
    planned = table(base, "table2")
    assert len(planned.runs) == 8
    assert len({run.folder for run in planned.runs}) == 8
    sets = {step.name: step for step in planned.steps() if step.stage == 4}
    assert len(sets) == 8
    step = sets["make the sets of iemocap_5fold_5_discrete+msp_podcast_subset_none"]
    shown = step.args[step.args.index("--train_labels") + 1 :][:2]
    assert shown == ("iemocap=discrete", "msp_podcast=none")
    assert step.args[step.args.index("--subset_like") + 1] == "iemocap"
    assert "stores" in step.products
    for run in planned.runs:
        train, infer = run.steps()
        config = train.settings["config"]
        assert config["best_model_criterion"] == [["valid", "mean", "max"]]
        assert (
            config["max_epoch"]
            == yaml.safe_load(Path("conf/mini.yaml").read_text())["max_epoch"]
        )
        text = " ".join(train.args)
        assert f"{run.recipe.sets / 'stores'},speech,ser_features" in text
        assert "utt2corpus,corpus,text" in text
        assert str(run.recipe.sets / "stores") in infer.args
        assert {item.path for item in train.inputs} == {
            run.recipe.sets / "train",
            run.recipe.sets / "valid",
        }
    read = {item.path for item in step.inputs}
    for corpus in ("iemocap", "msp_podcast"):
        assert base.dumpdir / corpus / "mini" / "store.json" in read


def test_combined_sets_may_lie_elsewhere_than_the_features(base, tmp_path):
    """As in egs2/iemocap_msp_podcast, which takes features from the corpora's own."""
    places = {
        corpus: replace(place, dumpdir=tmp_path / corpus / "dump")
        for corpus, place in places_of(base).items()
    }
    run = table(base, "table2", places=places).runs[0]
    assert run.recipe.sets.is_relative_to(base.dumpdir)
    assert [part.store.parents[1] for part in run.recipe.corpora] == [
        tmp_path / "iemocap" / "dump",
        tmp_path / "msp_podcast" / "dump",
    ]


def test_presets_do_not_take_each_others_place(base):
    paper = table(base, "table3")
    released = table(base, "table3", preset="released", features=None)
    assert not {run.folder for run in paper.runs} & {r.folder for r in released.runs}
    assert released.output.name == "table3_released"
    assert released.recipes[0].features.stem == "hubert_large_last"
    train, _ = released.runs[0].steps()
    # with nothing of conf/msp_podcast.yaml, but for the overlay of the built-in corpora
    own = read_config("conf/released/msp_podcast/train_baseline_c.yaml")
    overlay = yaml.safe_load(Path("conf/mini.yaml").read_text())
    config = train.settings["config"]
    assert {k: v for k, v in config.items() if k not in overlay} == {
        k: v for k, v in own.items() if k not in overlay
    }


def test_the_released_preset_leaves_long_clips_out(base):
    planned = table(base, "table1", preset="released")
    (step,) = [
        s
        for s in planned.steps()
        if s.name == "make the sets of iemocap_5fold_1_0.1-30s"
    ]
    assert step.args[-4:] == ("--min_seconds", "0.1", "--max_seconds", "30.0")
    assert planned.runs[0].recipe.sets == step.output
    paper = table(base, "table1").runs[0].recipe.sets
    assert paper.name == "iemocap_5fold_1"


def test_an_overlay_of_the_schedule_spares_a_constant_rate(base):
    run = table(base, "sanity").runs[0]
    config = run.steps()[0].settings["config"]
    assert config["scheduler"] is None
    assert "scheduler_conf" not in config
    assert config["max_epoch"] == yaml.safe_load(base.overlay.read_text())["max_epoch"]


def test_msp_podcast_has_its_own_batches(base):
    train, _ = table(replace(base, overlay=None), "table3").runs[0].steps()
    assert train.settings["config"]["batch_bins"] == 21000
    train, _ = table(replace(base, overlay=None), "table1").runs[0].steps()
    assert train.settings["config"]["batch_bins"] == 3125


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "best"}, "no preset 'best'; there are paper, released"),
        ({"places": {}}, "needs iemocap: give --root iemocap=DIR"),
        ({"path": Path("nowhere.yaml")}, "there is no such table"),
    ],
)
def test_what_is_wrong_is_named(base, changes, message):
    with pytest.raises(UserError, match=message):
        table(base, "table1", **changes)


def test_two_rows_in_one_folder_are_refused(base, tmp_path):
    content = yaml.safe_load(Path("conf/tables/table1.yaml").read_text())
    content["rows"]["baseline_d"]["config"] = "train_baseline_c.yaml"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="rows baseline_c and baseline_d would both"):
        table(base, "", path=path)


def test_the_plan_is_printed(base, capsys):
    planned = table(base, "table1", seeds=2)
    for stage in range(1, 7):
        for step in planned.steps():
            runs = ("1 (seed 0)", "2 (seed 0)", "2 (seed 1)")
            wanted = "multitask on" in step.name and step.name.endswith(runs)
            if step.stage == stage and (stage < 5 or wanted):
                pretend(step)
    print_standing(planned)
    lines = capsys.readouterr().out.splitlines()
    assert "data, features and sets: 9 of 9 steps finished" in lines[1]
    assert "runs: 3 of 50 finished" in lines[2]
    row = next(line for line in lines if "Multi-task" in line)
    assert row.split()[2:] == ["1", "of", "2", "done", *["to", "do"] * 3]


def run_all(planned, fails):
    """Run the stages with stand-ins; steps whose name contains `fails` fail.

    Returns what is told of failures, and the names of the steps that were run.
    """
    ran = []

    def run_group(steps):
        failed = [step.name for step in steps if fails in step.name]
        for step in steps:
            ran.append(step.name)
            if step.name not in failed:
                pretend(step)
        if failed:
            raise UserError("\n".join(f"{name} failed; see its log" for name in failed))

    work = Work(planned.recipes, planned, [1, 3, 4, 5, 6])
    return run_stages(work, run_group), ran


def left_out(failures):
    return [text.strip() for text in failures if text.startswith("    ")]


def test_a_failed_training_stops_nothing_but_its_prediction(base):
    planned = table(base, "table1")
    failures, ran = run_all(planned, "train multitask on iemocap_5fold_2")
    assert len(ran) == 3 + 1 + 5 + 25 + 24
    assert failures == [
        "train multitask on iemocap_5fold_2 (seed 0) failed; see its log",
        "Not run, because what they need is not finished:",
        "    predict with multitask on iemocap_5fold_2 (seed 0)",
    ]
    rows = listed(planned)
    assert len(rows) == 25
    blank = [row for row in rows if not row["predictions"]]
    assert [(row["row"], row["fold"]) for row in blank] == [("multitask", "2")]
    assert all(row["training"] for row in rows if row["predictions"])


def test_a_failed_training_of_a_recipe_stops_no_other_model(base):
    models = {name: Path("conf", f"train_{name}.yaml") for name in MODELS[:2]}
    recipe = replace(base, fold=1, models=models)
    ran = []

    def run_group(steps):
        ran.extend(step.name for step in steps)
        for step in steps:
            if step.name.startswith("train baseline_c"):
                raise UserError("it failed")
            pretend(step)

    for step in build_plan(recipe):
        if step.stage < 5:
            pretend(step)
    pretend(build_plan(recipe)[-4])  # the other training
    failures = run_stages(Work([recipe], None, [5, 6, 7]), run_group)
    assert left_out(failures) == [
        "predict with baseline_c on iemocap_5fold_1 (seed 0)",
        "score iemocap_5fold_1",
    ]
    assert ran[-1] == "predict with baseline_d on iemocap_5fold_1 (seed 0)"


def listed(planned):
    """The rows that ser_score would be given."""
    runs = parse_runs(table_step(planned).files[0][1])
    return list(csv.DictReader(list_runs(runs).splitlines()))


def test_one_corpus_without_features_leaves_the_other(base):
    failures, ran = run_all(table(base, "table2"), "extract mini features of msp")
    assert "extract mini features of iemocap" in ran
    assert not any(name.startswith("train") for name in ran)
    assert len(left_out(failures)) == 8 + 8 + 8


def test_what_is_finished_is_not_run_again(base):
    planned = table(base, "table3")
    run_all(planned, "train baseline_d")
    failures, ran = run_all(planned, "nothing")
    assert ran == [
        "train baseline_d on msp_podcast (seed 0)",
        "predict with baseline_d on msp_podcast (seed 0)",
    ]
    assert failures == []


def test_the_table_is_made_again_when_a_run_is_added(base):
    planned = table(base, "table3")
    run_all(planned, "train baseline_d")
    step = table_step(planned)
    pretend(step)
    assert is_done(table_step(planned))
    run_all(planned, "nothing")
    assert not is_done(table_step(planned))


def test_runs_without_folds_are_fold_0(base):
    assert {row["fold"] for row in listed(table(base, "table3"))} == {"0"}


def test_the_table_waits_for_all_runs_however_they_end(base):
    planned = table(base, "table3")
    steps = [*planned.steps(), table_step(planned)]
    (*_, last) = steps
    assert last.reports
    assert not any(step.reports for step in planned.steps())
    waits = {step.name for step in prerequisites(steps)[step_key(last)]}
    assert waits == {step.name for step in steps if step.stage == 6}


def test_the_table_is_the_same_step_before_and_after_the_runs(base):
    """So that a second call knows the one in Slurm's queue; other runs are another."""
    planned = table(base, "table3")
    key = step_key(table_step(planned))
    finish(planned)
    assert step_key(table_step(planned)) == key
    assert step_key(table_step(table(base, "table3", seeds=2))) != key
    assert step_key(table_step(table(replace(base, overlay=None), "table3"))) != key


def test_predictions_of_other_settings_are_not_listed(base):
    planned = table(base, "table3")
    finish(planned)
    assert all(row["predictions"] for row in listed(planned))
    changed = table(replace(base, overlay=None), "table3")  # not trained with these yet
    assert not any(row["predictions"] for row in listed(changed))


# ------------------------------------------------------------------ the real thing

SMALL_TABLE = """\
title: Two models on two folds
recipe: mini
labels: paper5
corpora:
  iemocap: {{scheme: iemocap_5fold, folds: [1, 2], paper_test_size: 1}}
presets:
  paper: {{configs: {configs}, features: mini}}
columns: [iemocap.ccc, iemocap.accuracy]
rows:
  c: {{name: Only C, config: train_baseline_c.yaml}}
  both: {{name: Both, config: train_multitask.yaml}}
comparisons:
  - {{rows: [both, c], columns: [iemocap.ccc]}}
"""


class Workspace:
    """A folder with a table of one's own and everything that it makes."""

    def __init__(self, folder):
        self.folder = folder
        self.configs = folder / "configs"
        self.configs.mkdir(parents=True)
        for name in ("train", "train_baseline_c", "train_multitask"):
            text = Path("conf", f"{name}.yaml").read_text()
            (self.configs / f"{name}.yaml").write_text(text)
        self.table = folder / "small.yaml"
        self.table.write_text(SMALL_TABLE.format(configs=self.configs))
        overlay = yaml.safe_load(Path("conf/mini.yaml").read_text())
        overlay |= {"max_epoch": 2, "keep_nbest_models": 1}
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))

    def run(self, *options):
        downloads = self.folder / "downloads"
        return subprocess.run(
            [
                *(str(ROOT / "run.sh"), "--table", str(self.table)),
                *("--corpus_root", str(downloads / "IEMOCAP_full_release")),
                *("--upstream", str(downloads / "hubert_tiny")),
                *("--mini_scale", "0.2", "--nj", "1", "--resamples", "100"),
                *("--overlay", str(self.folder / "overlay.yaml")),
                *("--datadir", str(self.folder / "data")),
                *("--dumpdir", str(self.folder / "dump")),
                *("--expdir", str(self.folder / "exp"), *options),
            ],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=900,
        )

    @property
    def output(self):
        return self.folder / "exp" / "tables" / "small"

    def numbers(self):
        return (self.output / "table.csv").read_bytes()


@pytest.mark.slow
def test_a_table_of_ones_own_with_a_run_that_fails(tmp_path):
    """Fails, is told and left out; put right, the rest is not run again."""
    workspace = Workspace(tmp_path / "a table")
    config = workspace.configs / "train_multitask.yaml"
    good = config.read_text()
    content = yaml.safe_load(good)
    content["loss_conf"] = {"class_weights": [1.0, 2.0]}  # of five classes
    config.write_text(yaml.safe_dump(content))
    result = workspace.run()
    assert result.returncode == 1, result.stdout[-2000:]
    assert "Traceback" not in result.stderr
    runs = workspace.folder / "exp" / "mini_paper5"
    for fold in (1, 2):
        log = runs / f"iemocap_5fold_{fold}" / "multitask_seed0" / "train.log"
        assert str(log) in result.stderr
        assert f"predict with multitask on iemocap_5fold_{fold}" in result.stderr
    assert "class_weights has 2 numbers" in result.stderr
    text = (workspace.output / "RESULTS.md").read_text()
    assert "2 of 4 runs are missing" in text

    config.write_text(good)
    again = workspace.run()
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    assert "runs: 2 of 4 finished" in again.stdout
    assert "train baseline_c" not in again.stdout
    content = json.loads((workspace.output / "table.json").read_text())
    assert set(content["rows"]["both"]["scores"]) >= {"iemocap.ccc", "iemocap.uar4"}
    assert len(content["comparisons"]) == 1
    assert all(run["seconds"] > 0 and run["hosts"] for run in content["runs"])
    assert all(len(run["training"]) == 64 for run in content["runs"])
    plots = {path.name for path in (workspace.output / "plots").iterdir()}
    assert {"table.png", "training_curves.png", "valence_arousal.png"} <= plots

    numbers = workspace.numbers()
    third = workspace.run()
    assert third.returncode == 0
    assert "runs: 4 of 4 finished" in third.stdout
    assert "Only C" in third.stdout
    assert workspace.numbers() == numbers

"""The plan of tables of any corpora: folds, scales, manifests, and one run of it."""

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from corpora.manifest_files import speech_rows, write_csv, write_wavs

from espnet_ext.errors import UserError
from espnet_ext.jobs import front
from espnet_ext.jobs.options import get_parser
from espnet_ext.jobs.recipe import Recipe
from espnet_ext.jobs.table import list_runs, plan_table, table_step
from espnet_ext.jobs.table_corpora import Place

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "conf" / "tables" / "cross_corpus.yaml"
TABLE = {
    "title": "Across",
    "labels": "four",
    "corpora": {
        "emodb": {"fold": 3},
        "iemocap": {"scheme": "iemocap_5fold"},
        "mine": {"manifest": "speech.csv", "attribute_scale": [1, 7]},
    },
    "presets": {"paper": {"configs": "conf/small", "features": "mfcc"}},
    "metrics": ["uar"],
    "cross": {"config": "train_baseline_d.yaml", "train": ["each"]},
}
MINE = TABLE["corpora"]["mine"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def plan(tmp_path):
    """Plan TABLE with changes; EmoDB and IEMOCAP have a place."""
    rows = [row | {"valence": 1 + s % 7} for s, row in enumerate(speech_rows())]
    write_csv(tmp_path / "speech.csv", rows)

    def planned(path=None, places=("emodb", "iemocap"), **changes):
        table = tmp_path / "across.yaml"
        table.write_text(yaml.safe_dump(TABLE | changes, sort_keys=False))
        base = Recipe(
            corpus="",
            corpus_root=Path(),
            scheme="",
            fold=None,
            labels=Path(),
            features=Path(),
            models={},
            dumpdir=tmp_path / "dump",
        )
        found = {
            corpus: Place(Path("/roots", corpus), Path("data"), Path("dump"))
            for corpus in places
        }
        return plan_table(path or table, base, found)

    return planned


def words(planned, start):
    (step,) = (step for step in planned.steps() if step.name.startswith(start))
    return " ".join(step.args)


def test_each_corpus_has_its_fold_its_place_and_one_scale(plan, tmp_path):
    planned = plan()
    split = "emodb_5fold_3_both+iemocap_5fold_1_none+mine_1_none_unit"
    assert planned.runs[0].recipe.split == split
    sets = words(planned, f"make the sets of {split}")
    assert "--scheme emodb_5fold iemocap_5fold mine " in sets
    assert "--fold 3 1 1 " in sets
    assert "--attribute_scale unit" in sets
    prepare = words(planned, "prepare mine")
    assert f"--manifest {tmp_path / 'speech.csv'}" in prepare
    assert "--attribute_scale 1.0 7.0" in prepare
    assert f"--root {tmp_path} " in prepare
    assert "--root /roots/emodb" in words(planned, "prepare emodb")
    assert "--corpora emodb iemocap mine" in " ".join(table_step(planned).args)


def test_scales_are_mapped_where_they_differ_or_as_the_table_says(plan):
    def scale(**changes):
        (first, *_) = plan(**changes).runs
        return first.recipe.unit_attributes

    same = {"corpora": TABLE["corpora"] | {"mine": MINE | {"attribute_scale": [1, 5]}}}
    rated = plan  # valence goes to 6: the scale must hold it
    with pytest.raises(UserError, match="valence"):
        rated(**same)
    without = {c: TABLE["corpora"][c] for c in ("emodb", "iemocap")}
    assert scale()
    assert not scale(corpora=without)  # EmoDB has no attributes
    assert scale(corpora=without, attribute_scale="unit")
    assert not scale(attribute_scale="own")


def test_all_corpora_go_through_folds_together(plan):
    corpora = {name: {"folds": [2, 4]} for name in ("emodb", "iemocap")}
    planned = plan(corpora=corpora)
    assert [run.fold for run in planned.runs] == [2, 2, 4, 4]
    splits = {run.recipe.split for run in planned.runs}
    assert "emodb_5fold_4_both+iemocap_5fold_4_none" in splits


def test_a_corpus_that_is_only_tested_needs_nothing_to_train_on(plan):
    mine = MINE | {"scheme": "whole"}
    corpora = TABLE["corpora"] | {"mine": mine, "iemocap": {"scheme": "whole"}}
    planned = plan(corpora=corpora)
    assert [run.row for run in planned.runs] == ["emodb"]
    split = planned.runs[0].recipe.split
    assert split == "emodb_5fold_3_both+iemocap_whole_none+mine_whole_none_unit"
    assert "--test_only true" in words(planned, "prepare mine")


def test_the_shipped_table_is_made_of_the_corpora_that_there_are(plan):
    planned = plan(SHIPPED)
    assert list(planned.spec.corpora) == ["iemocap", "emodb"]
    assert planned.output.name == "cross_corpus_iemocap+emodb"
    assert [run.row for run in planned.runs] == ["iemocap", "emodb", "all"]
    assert "--corpora iemocap emodb" in " ".join(table_step(planned).args)
    for places, there in (((), ""), (["meld"], "there is only meld")):
        with pytest.raises(UserError, match=f"needs two of its corpora .*{there}"):
            plan(SHIPPED, places)


BY_HAND = {"x": {"name": "X", "config": "train_baseline_c.yaml"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpora": {"emodb": {"fold": 6}, "iemocap": {}}}, "emodb: fold 6: .* has 5"),
        (
            {"corpora": {"emodb": {"scheme": "six"}, "iemocap": {}}},
            "emodb: scheme: there is no six, but emodb_5fold, emodb_loso and whole",
        ),
        (
            {"corpora": {"emodb": {}, "mine": {"manifest": "none.csv"}}},
            "mine: manifest: there is no .*none.csv",
        ),
        ({"cross": None, "rows": BY_HAND, "corpora": {"meld": {}}}, "needs meld: give"),
        (
            {"rows": {"x": BY_HAND["x"] | {"train": {"emodb": "both"}}}},
            "rows: x: train_baseline_c.yaml .*: valence, arousal or dominance",
        ),
        (
            {"rows": {"x": BY_HAND["x"] | {"train": {"mine": "discrete"}}}},
            "rows: x: train_baseline_c.yaml .*: valence, arousal or dominance",
        ),
    ],
)
def test_what_is_wrong_is_named(plan, changes, message):
    with pytest.raises(UserError, match=message) as error:
        plan(**changes)
    assert "across.yaml" in str(error.value)


def test_the_classical_baseline_may_be_a_row(plan):
    cross = {"config": "../train_classical.yaml", "train": ["each"]}
    planned = plan(cross=cross)
    (step,) = planned.runs[0].steps()
    assert "ser_classical" in step.module
    assert {step.stage for step in planned.steps()} == {1, 3, 4, 6}
    listed = list_runs({"emodb 0 0": (step,)})
    (row,) = csv.DictReader(listed.splitlines())
    assert (row["row"], row["predictions"], row["train_log"]) == ("emodb", "", "")
    assert row["train_set"] == str(planned.runs[0].recipe.sets / "train")


@pytest.mark.parametrize(
    ("corpora", "options", "recipe"),
    [
        ({"mine": MINE}, (), "manifest"),
        ({"iemocap": {}}, (), "mini"),
        ({"iemocap": {}}, ("--root", "iemocap=."), "manifest"),
    ],
)
def test_a_table_without_a_recipe_runs_where_every_corpus_can(
    tmp_path, corpora, options, recipe
):
    path = tmp_path / "across.yaml"
    path.write_text(yaml.safe_dump(TABLE | {"corpora": corpora}))
    args = get_parser().parse_args(["--table", str(path), *options])
    assert front.choose_recipe(args) == recipe


@pytest.mark.slow
def test_two_manifests_become_a_matrix(tmp_path):
    """Attributes of two scales, a row of each corpus and of both, from tones."""
    corpora = {}
    for name, high in (("one", 5), ("two", 7)):
        rows = [
            {**row, "valence": 1 + s % high, "arousal": 2, "dominance": 1 + s % 3}
            for s, row in enumerate(speech_rows())
        ]
        (tmp_path / name).mkdir()
        write_wavs(tmp_path / name, rows)
        write_csv(tmp_path / name / "speech.csv", rows)
        scale = {"attribute_scale": [1, high]}
        corpora[name] = {"manifest": f"{name}/speech.csv"} | scale
    cross = {"config": "../train_classical.yaml", "train": ["each", "all"]}
    table = TABLE | {"corpora": corpora, "cross": cross, "metrics": ["uar", "ccc"]}
    (tmp_path / "across.yaml").write_text(yaml.safe_dump(table))
    folders = [f"--{kind}dir={tmp_path / kind}" for kind in ("data", "dump", "exp")]
    done = subprocess.run(
        [
            *(str(ROOT / "run.sh"), "--table", "across.yaml", "--nj", "1"),
            *("--resamples", "100", *folders),
        ],
        cwd=tmp_path,
        env=os.environ | {"cmd_backend": "local"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "UAR: trained on (rows), tested on (columns)" in done.stdout
    output = tmp_path / "exp" / "tables" / "across"
    with open(output / "matrix.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trained_on"] for row in rows] == ["one", "two", "one two"] * 2
    assert all(0 <= float(row["one"]) <= 1 for row in rows if row["metric"] == "uar")
    assert (output / "plots" / "matrix.png").is_file()
    (scales,) = (tmp_path / "dump").glob("*/sets/four/one_1+two_1_unit/test")
    assert (scales / "attribute_scale").read_text() == "one 0 1\ntwo 0 1\n"
    content = json.loads((output / "table.json").read_text())
    assert content["warnings"] == []

"""The matrix of a cross-corpus table: rows that `cross` makes, cells, notes, files."""

import csv
import json

import numpy as np
import pytest
import yaml
from sklearn.metrics import recall_score

from espnet_ext.bin import ser_score
from espnet_ext.errors import UserError
from espnet_ext.scoring import figures
from espnet_ext.scoring.runs import read_all_predictions, read_runs
from espnet_ext.scoring.scores import score_table
from espnet_ext.scoring.spec import load_table

CLASSES = ("neu", "ang", "hap", "sad")
TABLE = {
    "title": "Across",
    "labels": "four",
    "corpora": {"emodb": {"fold": 3}, "mine": {"manifest": "mine.csv"}},
    "presets": {"paper": {"configs": "conf", "features": "mini"}},
    "metrics": ["uar", "ccc"],
    "cross": {"config": "train_baseline_d.yaml", "train": ["each"]},
}


def write_table(folder, **changes):
    path = folder / "across.yaml"
    path.write_text(yaml.safe_dump(TABLE | changes, sort_keys=False))
    return path


def load(folder, chosen=None, **changes):
    return load_table(write_table(folder, **changes), chosen)


def hand(**row):
    return {"x": {"name": "X", "config": "train_x.yaml"} | row}


THREE = TABLE["corpora"] | {"ravdess": {}}


def test_cross_makes_a_row_of_each_choice_of_corpora(tmp_path):
    train = ["each", "leave_one_out", "all"]
    cross = TABLE["cross"] | {"train": train, "labels": "discrete"}
    spec = load(tmp_path, cross=cross)
    # of two corpora, all but one is the other one
    assert list(spec.rows) == ["emodb", "mine", "all"]
    spec = load(tmp_path, cross=cross, corpora=THREE)
    shown = {
        key: {c for c, labels in spec.trained_on(key).items() if labels == "discrete"}
        for key in spec.rows
    }
    assert shown == {
        **{name: {name} for name in THREE},
        **{f"without_{name}": set(THREE) - {name} for name in THREE},
        "all": set(THREE),
    }
    assert spec.rows["without_emodb"].name == "all but EmoDB"
    names = [str(column) for column in spec.columns]
    assert names == [f"{c}.{metric}" for metric in ("uar", "ccc") for c in THREE]


def test_some_of_the_corpora_are_a_table_of_their_own(tmp_path):
    spec = load(tmp_path, ["emodb", "ravdess"], corpora=THREE)
    assert (spec.name, list(spec.rows)) == (
        "across_emodb+ravdess",
        ["emodb", "ravdess"],
    )
    assert spec.any_corpora
    assert not load(tmp_path, rows=hand(train={"mine": "both"})).any_corpora


def test_rows_by_hand_train_on_what_they_name(tmp_path):
    spec = load(tmp_path, rows=hand(train={"mine": "both"}, test=["emodb"]))
    assert spec.trained_on("x") == {"emodb": "none", "mine": "both"}
    assert spec.is_tested("x", "emodb")
    assert not spec.is_tested("x", "mine")
    spec = load(tmp_path, rows=hand())
    assert spec.trained_on("x") == {"emodb": "both", "mine": "both"}


def corpora(**changes):
    return {"corpora": TABLE["corpora"] | changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross": {"train": ["each"]}}, "cross: config is missing"),
        (
            {"cross": {"config": "x", "train": ["one"]}},
            "cross: train is one of each, leave_one_out, all, not 'one'",
        ),
        ({"columns": ["emodb.uar"]}, "give either columns .*, or metrics"),
        ({"metrics": []}, "give either columns .*, or metrics"),
        ({"metrics": ["wer"]}, "metrics: no metric 'wer'; there are"),
        ({"rows": {"mine": hand()["x"]}}, "rows: mine: cross makes a row of this name"),
        ({"rows": hand(train={"ravdess": "both"})}, "x: train: no corpus 'ravdess'"),
        ({"rows": hand(test=["ravdess"])}, "x: test: no corpus 'ravdess'"),
        ({"rows": hand(train={"mine": "none"})}, "x: train: no corpus is trained on"),
        (
            {"rows": hand(train={"emodb": "both"})}
            | corpora(emodb={"scheme": "whole"}),
            "x: train: emodb has `scheme: whole`",
        ),
        (corpora(emodb={"folds": [1], "fold": 1}), "emodb: give either folds or fold"),
        (corpora(emodb={"fold": 0}), "emodb: fold: expected a whole number above 0"),
        (corpora(emodb={"scheme": "whole", "fold": 1}), "emodb: there are no folds"),
        (corpora(emodb={"root": "x"}), "emodb: root is of a manifest"),
        (
            corpora(mine={"manifest": "x", "scheme": "six"}),
            "mine: scheme: a manifest has its own split",
        ),
        (
            corpora(mine={"manifest": "x", "attribute_scale": [7, 1]}),
            "mine: attribute_scale: the lowest value comes first",
        ),
        (
            corpora(emodb={"folds": [1, 2]}),
            r"all the same folds, .* emodb \[1, 2\], mine \[\]",
        ),
        (
            {
                "rows": hand(test=["mine"]),
                "comparisons": [{"rows": ["x", "mine"], "columns": ["emodb.uar"]}],
            },
            "comparisons: 1: x is not tested there: no corpus 'emodb'",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, **changes)
    assert "across.yaml" in str(error.value)


def test_all_corpora_may_go_fold_by_fold_together(tmp_path):
    folds = {"emodb": {"folds": [1, 2]}, "ravdess": {"folds": [1, 2]}}
    assert load(tmp_path, corpora=folds).folds == (1, 2)


# ---- Scores and files


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A table of tiny predictions; mine has no `sad` and attributes, EmoDB has none."""
    folder = tmp_path_factory.mktemp("across")
    rows = hand(train={"emodb": "both"}, test=["mine"])
    rows["x"]["name"] = "By hand"
    table = write_table(folder, rows=rows)
    rng = np.random.default_rng(3)
    truth = {"emodb": rng.permutation(np.arange(80) % 4), "mine": np.arange(60) % 3}
    said, lines = {}, ["row,fold,seed,predictions,train_set"]
    for row in ("emodb", "mine", "x"):
        path = folder / f"{row}.csv"
        with open(path, "w", newline="") as stream:
            writer = csv.writer(stream)
            names = [f"{d}{end}" for end in ("", "_pred") for d in ("valence",)]
            head = ["utterance", "corpus", "emotion", "emotion_pred"]
            head += [f"prob_{name}" for name in CLASSES]
            writer.writerow([*head, *names, "arousal", "arousal_pred", "dominance",
                             "dominance_pred"])  # fmt: skip
            for corpus, true in truth.items():
                right = rng.random(len(true)) < 0.6
                said[row, corpus] = np.where(right, true, rng.integers(0, 4, len(true)))
                for i, (t, s) in enumerate(zip(true, said[row, corpus], strict=True)):
                    rated = [0.1 * t, 0.3, 0.2 * i % 1, 0.5, 0.1 * i % 1, 0.5]
                    if corpus == "emodb":
                        rated[::2] = [""] * 3
                    shares = [0.7 if k == s else 0.1 for k in range(4)]
                    cells = [f"{corpus}-{i:03}", corpus, CLASSES[t], CLASSES[s]]
                    writer.writerow([*cells, *shares, *rated])
        sets = folder / "sets" / row
        sets.mkdir(parents=True)
        labels = {"classes": {c: 5 for c in CLASSES}, "with_attributes": 20}
        if row == "mine":
            labels["classes"]["sad"] = 0
        if row == "emodb":
            labels["with_attributes"] = 0
        (sets / "split.json").write_text(json.dumps({"train": labels}))
        lines.append(f"{row},0,0,{path},{sets / 'train'}")
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")
    words = ["--table", str(table), "--runs", str(folder / "runs.csv")]
    words += ["--output", str(folder / "out"), "--resamples", "100"]
    ser_score.main([*words, "--plots", "false"])
    return folder, truth, said


def matrix_csv(folder):
    with open(folder / "out" / "matrix.csv", newline="") as stream:
        return {(x["metric"], x["row"]): x for x in csv.DictReader(stream)}


def test_cells_are_scores_over_the_classes_that_the_test_set_has(scored):
    folder, truth, said = scored
    found = matrix_csv(folder)
    assert len(found) == 6
    for row, corpus in (("emodb", "mine"), ("emodb", "emodb"), ("x", "mine")):
        labels = sorted(set(truth[corpus]))  # three of mine
        true, answer = truth[corpus], said[row, corpus]
        uar = recall_score(true, answer, labels=labels, average="macro")
        line = found["uar", row]
        assert float(line[corpus]) == pytest.approx(uar, abs=1e-6)
        assert float(line[f"{corpus}_low"]) < uar < float(line[f"{corpus}_high"])
    assert found["uar", "x"]["emodb"] == ""  # not tested there
    assert found["uar", "x"]["trained_on"] == "emodb"
    assert all(line["emodb"] == "" for (m, _), line in found.items() if m == "ccc")


def test_the_report_has_a_matrix_a_metric_and_says_what_lacks(scored):
    folder, _, _ = scored
    text = (folder / "out" / "RESULTS.md").read_text()
    uar = text.split("### UAR: trained on (rows), tested on (columns)\n")[1]
    head, _, first, second, third, chance = uar.splitlines()[:6]
    assert head == "|trained on|EmoDB|mine|"
    line = matrix_csv(folder)["uar", "emodb"]
    own = f"{float(line['emodb']):.3f} ° [{float(line['emodb_low']):.3f}, "
    assert first.startswith(f"|EmoDB|{own}")
    assert "°" not in first.split("|")[3]
    assert "°" in second.split("|")[3]
    assert third.startswith("|By hand||")
    assert chance == "|chance|0.250|0.333|"
    assert "|trained on|mine|" in text.split("### CCC: trained on")[1]
    for sentence in (
        "CCC is not scored on EmoDB",
        "mine: no test utterance is sad. UAR and macro-F1 are means over the other 3",
        "Trained on mine: no training utterance is sad",
        "Trained on EmoDB: no training utterance has valence, arousal and dominance",
    ):
        assert text.count(sentence) == 1
    assert "UAR: trained on (rows)" in (folder / "out" / "report.html").read_text()


def test_the_heat_map_shows_the_numbers_and_frames_what_is_trained_on(scored):
    folder, _, _ = scored
    spec = load_table(folder / "across.yaml")
    records = read_runs(folder / "runs.csv", spec)
    keys = [record.key for record in records]
    result = score_table(spec, read_all_predictions(records), keys, 100)
    uar, ccc = figures._plot_matrix(result).axes
    shown = [text.get_text() for text in uar.texts]
    found = matrix_csv(folder)
    names = [("emodb", c) for c in TABLE["corpora"]]
    names += [("mine", c) for c in TABLE["corpora"]]
    wanted = [f"{float(found['uar', row][c]):.3f}" for row, c in names]
    assert shown == [*wanted, "–", f"{float(found['uar', 'x']['mine']):.3f}"]
    frames = [(round(p.get_x() + 0.46), round(p.get_y() + 0.44)) for p in uar.patches]
    assert frames == [(0, 0), (1, 1)]
    ticks = [tick.get_text() for tick in uar.get_xticklabels()]
    assert ticks == ["EmoDB\nchance 0.25", "mine\nchance 0.33"]
    assert len(ccc.texts) == 3

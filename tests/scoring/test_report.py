"""RESULTS.md, scores.json and scores.csv against a hand-made set of predictions.

Ten utterances, six neutral and four angry, of which four and three are right, each of
them twice (of fewer than twenty no interval is given)::

    accuracy 7/10   UAR (4/6 + 3/4) / 2 = .70833
    F1 neutral 2*4/(6+5) = .72727, angry 2*3/(4+5) = .66667, macro .69697

Valence is predicted perfectly (CCC 1), arousal (five times 1, five times 3) one too
high (2 / (1 + 1 + 1) = .66667), dominance as a constant (0); their mean is .55556.
"""

import csv
import io
import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from espnet_ext.errors import UserError
from espnet_ext.scoring.folds import align
from espnet_ext.scoring.one_set import score_set
from espnet_ext.scoring.pages import fill
from espnet_ext.scoring.predictions import read_predictions
from espnet_ext.scoring.spec import Column, default_pairs
from espnet_ext.scoring.trainings import read_environment
from espnet_ext.scoring.writers import latex, set_csv, set_json, terminal

HEADER = (
    "utterance,corpus,speaker,gender,emotion,emotion_pred,prob_neu,prob_ang,"
    "valence,arousal,dominance,valence_pred,arousal_pred,dominance_pred"
)
TRUE = (["neu"] * 6 + ["ang"] * 4) * 2
HAND = (["neu"] * 4 + ["ang"] * 2 + ["neu"] + ["ang"] * 3) * 2
EXPECTED = {
    "ccc": 5 / 9,
    "ccc_valence": 1.0,
    "ccc_arousal": 2 / 3,
    "ccc_dominance": 0.0,
    "accuracy": 0.7,
    "uar": 17 / 24,
    "macro_f1": (8 / 11 + 2 / 3) / 2,
}
CHANCE = {
    "ccc": 0.0,
    "ccc_valence": 0.0,
    "ccc_arousal": 0.0,
    "ccc_dominance": 0.0,
    "accuracy": 0.6,
    "uar": 0.5,
    "macro_f1": 12 / 16 / 2,
}


def scores(report):
    """Model -> metric -> score with its interval."""
    return {
        row: {column.metric: cell.mean for column, cell in cells.items()}
        for row, cells in report.result.cells.items()
    }


def markdown(report, images):
    return fill("results.md.j2", report, images)


def chance(report):
    return {c.metric: report.result.chance[c] for c in report.result.spec.columns}


def rows(said, attributes=True, speakers=2):
    lines = []
    for i, (true, pred) in enumerate(zip(TRUE, said, strict=True)):
        turn = i % 10
        arousal = 1 + 2 * (turn % 2)
        probability = "0.9,0.1" if pred == "neu" else "0.2,0.8"
        lines.append(
            f"u{i:02},mini,s{i % speakers},f,{true},"
            + (f"{pred},{probability}" if pred else ",,")
            + f",{turn / 2},{arousal},{turn}"
            + (f",{turn / 2},{arousal + 1},3" if attributes else ",,,")
        )
    return lines


@pytest.fixture
def systems(write_csv):
    """The hand-made model, a perfect classifier and a model of attributes."""
    return {
        name: read_predictions(write_csv(lines, HEADER, f"{name}.csv"))
        for name, lines in {
            "hierarchical_dc": rows(HAND),
            "baseline_d": rows(TRUE, attributes=False),
            "baseline_c": rows([""] * 20),
        }.items()
    }


@pytest.fixture
def report(systems):
    return score_set(systems, "Hand-made", resamples=500, seed=1)


def test_every_number_of_the_scores(report):
    found = {m: i.estimate for m, i in scores(report)["hierarchical_dc"].items()}
    assert found == pytest.approx(EXPECTED)
    assert list(found) == list(EXPECTED)
    perfect = scores(report)["baseline_d"]
    assert list(perfect) == ["accuracy", "uar", "macro_f1"]
    assert all((i.low, i.estimate, i.high) == (1, 1, 1) for i in perfect.values())
    assert set(scores(report)["baseline_c"]) == set(list(EXPECTED)[:4])
    assert chance(report) == pytest.approx(CHANCE)
    assert json.loads(set_json(report))["by_speaker"] == {}
    tested = report.result.test_sets[""]
    assert tested.classes == {"neu": 12, "ang": 8}
    assert (tested.utterances, tested.speakers) == (20, 2)
    assert report.corpora_of_set == ("mini",)


def test_every_number_of_the_markdown(report):
    text = markdown(report, {"a": ("A plot", b"")})
    table = re.search(r"\|model\|.*?\|chance\|[^\n]*", text, re.DOTALL)[0].splitlines()
    assert table[0] == "|model|CCC|CCC-V|CCC-A|CCC-D|Acc|UAR|macro-F1|"
    row = dict(zip(EXPECTED, table[2].split("|")[2:-1], strict=True))
    for metric, cell in row.items():
        interval = scores(report)["hierarchical_dc"][metric]
        expected = [EXPECTED[metric], interval.low, interval.high]
        numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", cell)]
        assert numbers == pytest.approx(expected, abs=5.01e-4), metric
    assert table[3] == (
        "|Baseline D|||||1.000 [1.000, 1.000]|1.000 [1.000, 1.000]|"
        "1.000 [1.000, 1.000]|"
    )
    assert table[4].startswith("|Baseline C|0.556 [")
    assert table[4].endswith("|0.000 [0.000, 0.000]||||")
    assert table[5] == "|chance|0.000|0.000|0.000|0.000|0.600|0.500|0.375|"
    assert "neutral 12, angry 8;" in text
    assert "![A plot](plots/a.png)" in text
    # -6 rights of 20; McNemar 0 against 6: 2 / 2^6, mid-p minus 1/64
    front, behind = text.split("<details>")
    cells = next(x for x in front.splitlines() if "|Acc|-" in x).split("|")
    assert cells[1] == "Hierarchical D-C − Baseline D"
    assert cells[3].startswith("-0.300 [")
    assert cells[5] == "not shown (these models, these speakers)"
    cells = next(x for x in behind.splitlines() if "|Acc|" in x).split("|")
    assert cells[3] == "McNemar (mid-p), over utterances"
    assert cells[4].endswith("], p 0.016")
    assert "not of the methods" in text


def test_terminal_table(report):
    lines = terminal(report).splitlines()
    assert lines[1].split() == [
        "CCC", "CCC-V", "CCC-A", "CCC-D", "Acc", "UAR", "macro-F1"
    ]  # fmt: skip
    assert lines[3].split()[2:] == [
        "0.556", "1.000", "0.667", "0.000", "0.700", "0.708", "0.697"
    ]  # fmt: skip
    assert lines[5].split()[2:] == ["-", "-", "-", "-", "1.000", "1.000", "1.000"]
    assert lines[10].split() == ["chance"] + [f"{v:.3f}" for v in CHANCE.values()]
    # scores, intervals and headings stand in the same columns
    assert lines[1].index("macro-F1") == lines[3].index("0.697")
    assert lines[1].index("macro-F1") == lines[6].rindex("[1.000")
    assert all(len(line) < 125 for line in lines)


def test_json_and_csv_say_the_same(report):
    content = json.loads(set_json(report))
    for name, found in content["scores"].items():
        for metric, interval in found.items():
            assert interval["estimate"] == scores(report)[name][metric].estimate
    table = list(csv.DictReader(io.StringIO(set_csv(report))))
    assert len(table) == 7 + 3 + 4 + 7
    for row in table[:7]:
        assert float(row["score"]) == pytest.approx(EXPECTED[row["metric"]], abs=1e-6)
        interval = content["scores"][row["model"]][row["metric"]]
        assert float(row["low"]) == pytest.approx(interval["low"], abs=1e-6)
    assert [float(row["score"]) for row in table[-7:]] == pytest.approx(
        list(CHANCE.values()), abs=1e-6
    )


def test_every_number_of_the_latex(report):
    lines = latex(report).splitlines()
    assert lines[3].split(" & ") == [
        "Model", "CCC", "CCC-V", "CCC-A", "CCC-D", "Acc", "UAR", r"macro-F1 \\"
    ]  # fmt: skip
    cells = lines[5].removesuffix(r" \\").split(" & ")
    assert cells[0] == "Hierarchical D-C"
    assert [float(s) for s in cells[1:]] == pytest.approx(
        list(EXPECTED.values()), abs=5.01e-4
    )
    ends = [
        [float(n) for n in re.findall(r"-?\d\.\d+", cell)]
        for cell in lines[6].split(" & ")[1:]
    ]
    for (low, high), interval in zip(
        ends, scores(report)["hierarchical_dc"].values(), strict=True
    ):
        assert (low, high) == pytest.approx((interval.low, interval.high), abs=5.01e-4)
    assert lines[7].count("--") == 4
    assert lines[12] == (
        r"Chance & 0.000 & 0.000 & 0.000 & 0.000 & 0.600 & 0.500 & 0.375 \\"
    )


def test_intervals_agree_with_scipy(report, systems):
    system = systems["hierarchical_dc"]
    true, pred = system.true_class, system.pred_class

    def uar(*said):  # within classes: scipy draws each sample for itself
        recalls = [np.mean(s == label) for label, s in enumerate(said)]
        return np.mean(recalls)

    assert uar(pred[true == 0], pred[true == 1]) == pytest.approx(
        balanced_accuracy_score(true, pred)
    )
    theirs = stats.bootstrap(
        (pred[true == 0], pred[true == 1]),
        uar,
        vectorized=False,
        n_resamples=3000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = scores(score_set(systems, "", resamples=3000))["hierarchical_dc"]["uar"]
    assert ours.low == pytest.approx(theirs.low, abs=0.05)
    assert ours.high == pytest.approx(theirs.high, abs=0.05)


def test_same_inputs_same_report_and_other_models_change_nothing(systems, report):
    again = score_set(systems, "Hand-made", resamples=500, seed=1)
    assert scores(again) == scores(report)
    other = score_set(systems, "Hand-made", resamples=500, seed=2)
    assert scores(other) != scores(report)
    alone = score_set(
        {"hierarchical_dc": systems["hierarchical_dc"]}, "x", resamples=500, seed=1
    )
    assert scores(alone)["hierarchical_dc"] == scores(report)["hierarchical_dc"]


def test_pairs_and_holm(report, systems):
    names = ["baseline_c", "multitask", "hierarchical_dc", "other"]
    assert default_pairs(names) == [
        ("hierarchical_dc", "baseline_c"),
        ("hierarchical_dc", "multitask"),
    ]
    assert [
        (p.pair.second, p.pair.column.metric) for p in report.result.comparisons
    ] == [
        ("baseline_c", "ccc"),
        ("baseline_d", "accuracy"),
        ("baseline_d", "uar"),
        ("baseline_d", "macro_f1"),
    ]
    assert report.result.comparisons[0].result.p == 1.0  # the same attributes
    p = sorted(pair.result.p for pair in report.result.comparisons)
    assert min(pair.p_holm for pair in report.result.comparisons) == pytest.approx(
        4 * p[0]
    )
    assert score_set(systems, "", resamples=100, pairs=[]).result.comparisons == ()
    with pytest.raises(UserError, match="cannot compare 'x': no predictions of that"):
        score_set(systems, "", pairs=[("hierarchical_dc", "x")])


def test_intervals_over_speakers_where_there_are_enough(write_csv):
    header = "utterance,speaker,emotion,emotion_pred"
    lines = [f"u{i:03d},s{i % 40},a,{'ab'[i % 3 == 0]}" for i in range(100)]
    lines += [f"v{i:03d},s{i % 40},b,{'ba'[i % 4 == 0]}" for i in range(100)]
    system = read_predictions(write_csv(lines, header))
    found = score_set({"x": system, "y": system}, "t", 300, pairs=[("x", "y")])
    interval = found.result.cells["x"][Column("", "uar")].over_speakers
    assert interval.low < interval.estimate < interval.high
    pair = found.result.comparisons[0]
    assert pair.basis == "speakers"
    assert (pair.result.p, pair.finding) == (1.0, "not shown")
    assert "### Intervals over speakers" in markdown(found, {})
    row = next(csv.DictReader(io.StringIO(set_csv(found))))
    assert float(row["speaker_low"]) < float(row["score"])


def test_uar_is_resampled_within_classes(write_csv):
    # Recalls .6, .6 and .5 of six rows. Within classes the standard error is
    # sqrt(2 * .24 / 50 + .25 / 5) / 3 = .081.
    lines = [f"a{i:02d},a,{'ab'[i % 5 > 2]}" for i in range(50)]
    lines += [f"b{i:02d},b,{'ba'[i % 5 > 2]}" for i in range(50)] + [
        f"c{i},c,{'ca'[i % 2]}" for i in range(6)
    ]
    system = read_predictions(write_csv(lines, "utterance,emotion,emotion_pred"))
    found = scores(score_set({"x": system}, "t", 1000))["x"]["uar"]
    assert found.estimate == pytest.approx(1.7 / 3)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0812, rel=0.15)


def test_two_rows_have_a_score_and_no_interval(write_csv):
    """Of two rows one is drawn, and a constant has a CCC of 0: [0, 0] around .84."""
    lines = ["a,1,1,1,1.2,1.2,1.2", "b,2,2,2,1.8,1.8,1.8"]
    header = "utterance,valence,arousal,dominance,valence_pred,arousal_pred,"
    header += "dominance_pred"
    found = score_set({"x": read_predictions(write_csv(lines, header))}, "t", 100)
    ccc = scores(found)["x"]["ccc"]
    assert ccc.estimate == pytest.approx(2 * 0.15 / (0.25 + 0.09))
    assert np.isnan([ccc.low, ccc.high]).all()
    for text in (
        terminal(found),
        markdown(found, {}),
        latex(found),
    ):
        assert "[-]" in text
        assert "test set of fewer than 20 utterances" in text
    content = json.loads(set_json(found))
    assert content["scores"]["x"]["ccc"]["low"] is None
    row = next(csv.DictReader(io.StringIO(set_csv(found))))
    assert row["low"] == row["high"] == ""


def one_against_all(write_csv, counts):
    """Two models on classes of these sizes; the second is wrong about every fifth."""
    truth = np.repeat(list("abcde"), counts)
    header = "utterance,emotion,emotion_pred"
    lines = [[], []]
    for place, true in enumerate(truth):
        wrong = "b" if true == "a" else "a"
        lines[0].append(f"u{place:03},{true},{true}")
        lines[1].append(f"u{place:03},{true},{wrong if place % 5 == 0 else true}")
    return [
        read_predictions(write_csv(each, header, f"{place}.csv"))
        for place, each in enumerate(lines)
    ]


def test_a_class_of_one_row_is_told_beside_the_numbers(write_csv):
    a, b = one_against_all(write_csv, (75, 75, 60, 39, 1))
    found = score_set({"a": a, "b": b}, "t", pairs=[("a", "b")])
    assert np.isnan(scores(found)["a"]["uar"].low)
    assert np.isfinite(scores(found)["a"]["accuracy"].low)
    (uar,) = [
        pair for pair in found.result.comparisons if pair.pair.column.metric == "uar"
    ]
    assert uar.how == "answers swapped"
    # Signs of the rows that only one has right, each weighed by its class.
    wrong = b.pred_class != b.true_class
    weight = 1 / (5 * np.bincount(b.true_class)[b.true_class][wrong])
    normal = 2 * stats.norm.sf(uar.result.difference / np.sum(weight**2) ** 0.5)
    assert uar.result.difference == pytest.approx(weight.sum())
    assert uar.result.p == pytest.approx(normal, abs=0.01)
    for text in (terminal(found), markdown(found, {})):
        assert "Classes of fewer than 5 utterances (e 1)" in text


def test_resamples_that_cannot_reach_the_level_are_told(write_csv):
    a, b = one_against_all(write_csv, (30, 30, 30, 30, 30))
    pairs = [("a", "b"), ("b", "a")]
    few = score_set({"a": a, "b": b}, "t", 100, pairs=pairs)
    assert "100 resamples are too few for 6 tests" in terminal(few)
    more = score_set({"a": a, "b": b}, "t", pairs=pairs)
    assert more.result.resamples == 10_000
    assert "too few" not in terminal(more)
    assert max(pair.p_holm for pair in more.result.comparisons) < 0.05


def test_partly_rated_sets(write_csv):
    header = "utterance,valence,valence_pred,arousal_pred,dominance_pred"
    lines = ["a,1,1,1,1", "b,2,2,2,2", "c,,3,3,3", "d,4,4,4,4"]
    found = score_set({"x": read_predictions(write_csv(lines, header))}, "t", 100)
    assert list(scores(found)["x"]) == ["ccc_valence"]
    assert scores(found)["x"]["ccc_valence"].estimate == pytest.approx(1)
    assert chance(found) == {"ccc_valence": 0.0}


def test_align_fills_truth_and_class_order(write_csv):
    header = "utterance,emotion,emotion_pred,prob_x,prob_y"
    first = write_csv(["a,x,x,.6,.4", "b,,y,.1,.9"], header, "1.csv")
    second = write_csv(["b,y,y", "a,,y"], "utterance,emotion,emotion_pred", "2.csv")
    found = align({"1": read_predictions(first), "2": read_predictions(second)})
    for system in found.values():
        assert system.classes == ("x", "y")
        np.testing.assert_array_equal(system.true_class, [0, 1])
    np.testing.assert_array_equal(found["2"].pred_class, [1, 1])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["a,x,x"], r"2\.csv: 1 utterances missing that .*1\.csv has, such as b"),
        (["a,x,x", "b,y,y", "c,x,x"], r"1\.csv: 1 utterances missing that .*2\.csv"),
        (["a,x,x", "b,x,y"], r"2\.csv: b: its annotated emotion differs from that in"),
        (["a,x,x", "b,z,y"], r"2\.csv: unknown class 'z'; expected x, y"),
    ],
)
def test_files_that_do_not_fit_together(write_csv, other, message):
    header = "utterance,emotion,emotion_pred"
    first = write_csv(
        ["a,x,x,.6,.4", "b,y,y,.1,.9"], f"{header},prob_x,prob_y", "1.csv"
    )
    systems = {
        "1": read_predictions(first),
        "2": read_predictions(write_csv(other, header, "2.csv")),
    }
    with pytest.raises(UserError, match=message):
        align(systems)


def test_environment_is_read_without_imports():
    found = read_environment()
    assert re.fullmatch(r"3\.1\d\.\d+", found.python)
    assert found.numpy == np.__version__
    assert found.espnet[:3] == "202"
    assert found.git == "none" or re.match(r"[0-9a-f]{40}", found.git)

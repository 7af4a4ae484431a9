"""Every number that a table's files print is one of the table's numbers."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from espnet_ext.bin import ser_score
from espnet_ext.errors import UserError
from espnet_ext.jobs.step import Step, format_runs
from espnet_ext.scoring.claims import Verdict, judge_claims
from espnet_ext.scoring.runs import read_all_predictions, read_runs
from espnet_ext.scoring.scores import score_table
from espnet_ext.scoring.spec import Column, load_table
from espnet_ext.scoring.trainings import training_times
from scoring import table_data


def run(made, *options):
    output = made.folder / "out"
    ser_score.main(
        [
            *("--table", str(made.table), "--runs", str(made.runs)),
            *("--output", str(output), "--resamples", "200", *options),
        ]
    )
    return output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return table_data.make(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def output(made):
    return run(made)


@pytest.fixture(scope="module")
def result(made):
    spec = load_table(made.table)
    records = read_runs(made.runs, spec)
    keys = [record.key for record in records]
    return score_table(spec, read_all_predictions(records), keys, 200)


def markdown_table(text, heading):
    """Rows of the first table under a heading, cells stripped."""
    section = text.split(f"### {heading}\n", 1)[1].split("\n### ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_csv_has_every_metric(output, result):
    rows = list(csv.DictReader((output / "table.csv").open()))
    assert len(rows) == 2 * 8
    for row in rows:
        column = Column(row["corpus"], row["metric"])
        cell = result.cells[row["row"]][column]
        for name, value in (
            ("mean", cell.mean.estimate),
            ("mean_low", cell.mean.low),
            ("mean_high", cell.mean.high),
            ("pooled", cell.pooled.estimate),
            ("pooled_low", cell.pooled.low),
            ("pooled_high", cell.pooled.high),
            ("seed_deviation", cell.seed_deviation),
            ("chance", result.chance[column]),
        ):
            assert row[name] == table_data.six(value), name
        assert (row["runs"], row["expected_runs"]) == ("4", "4")
    ccc = next(r for r in rows if r["row"] == "one" and r["metric"] == "ccc")
    assert (ccc["paper"], ccc["paper_corrected"]) == ("0.500000", "0.400000")
    assert float(ccc["difference"]) == pytest.approx(float(ccc["mean"]) - 0.5, abs=2e-6)
    assert ccc["comparable"] == "yes"
    uar = next(r for r in rows if r["row"] == "one" and r["metric"] == "uar")
    assert uar["paper"] == uar["difference"] == uar["comparable"] == ""


def test_markdown_cells(output, result):
    text = (output / "RESULTS.md").read_text()
    head, *rows, chance = markdown_table(text, "Mean of folds")
    assert head == ["model", "CCC", "Acc", "UAR", "UAR (4)", "macro-F1"]
    assert [row[0] for row in rows] == ["Row & one", "Row two"]
    columns = result.spec.columns
    for key, row in zip(("one", "two"), rows, strict=True):
        for column, text_of_cell in zip(columns, row[1:], strict=True):
            cell = result.cells[key][column]
            mean = cell.mean
            parts = [
                f"{mean.estimate:.3f} {table_data.ends(mean)}",
                f"± {cell.seed_deviation:.3f} over seeds",
            ]
            paper = result.spec.rows[key].paper.get(column)
            if paper is not None:
                parts.append(f"paper {paper:.3f} ({mean.estimate - paper:+.3f})")
            if (key, column.metric) == ("one", "ccc"):
                parts.append(f"its V, A, D: 0.400 ({mean.estimate - 0.4:+.3f})")
            assert text_of_cell == "<br>".join(parts)
    assert chance[1:] == [f"{result.chance[column]:.3f}" for column in columns]


def test_markdown_pooled_and_folds(output, result):
    text = (output / "RESULTS.md").read_text()
    _, *rows, _ = markdown_table(text, "Pooled over folds")
    for key, row in zip(("one", "two"), rows, strict=True):
        for column, cell in zip(result.spec.columns, row[1:], strict=True):
            pooled = result.cells[key][column].pooled
            assert cell == f"{pooled.estimate:.3f} {table_data.ends(pooled)}"
    _, *rows = markdown_table(text, "Fold by fold")
    assert len(rows) == 2 * 5
    names = {"Row & one": "one", "Row two": "two"}
    columns = {result.spec.column_name(c): c for c in result.spec.columns}
    for name, score, *values in rows:
        by_fold = result.cells[names[name]][columns[score]].by_fold
        assert values == [f"{by_fold[1]:.3f}", f"{by_fold[2]:.3f}"]


def p(value):
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def test_one_verdict_a_comparison_and_every_test_behind_it(output, result):
    text = (output / "RESULTS.md").read_text()
    front, behind = text.split("<details>")
    head, *rows = markdown_table(front + "\n### ", "Comparisons")
    assert head == ["rows", "score", "difference", "p (Holm)", "verdict"]
    details = [line.split("|")[1:-1] for line in behind.splitlines() if "|Row" in line]
    lines = list(csv.DictReader((output / "comparisons.csv").open()))
    page = (output / "report.html").read_text()
    assert len(rows) == len(lines) == len(result.comparisons) == 4
    for row, line, more, found in zip(
        rows, lines, details, result.comparisons, strict=False
    ):
        mean, pooled = found.result, found.pooled
        assert mean == found.tests["trainings"]
        assert row[0] == "Row two − Row & one"
        ends = table_data.ends(mean, "+.3f")
        assert row[2:] == [
            f"{mean.difference:+.3f} {ends}", p(found.p_holm), found.finding
        ]  # fmt: skip
        assert more[2] == f"{found.how}, over trainings"
        for place, basis in ((3, "trainings"), (4, "utterances")):
            test = found.tests[basis]
            assert more[place] == f"{table_data.ends(test, '+.3f')}, p {p(test.p)}"
            assert more[place].replace("<", "&lt;") in page
        ends = table_data.ends(pooled, "+.3f")
        assert more[5] == f"{pooled.difference:+.3f} {ends}"
        if found.pair.column.metric == "accuracy":
            first = found.by_seed[0].result
            assert more[6].startswith(
                f"seed 0: {first.only_first} / {first.only_second}, p {p(first.p_mid)};"
            )
        else:
            assert more[6] == ""
        for name, value in (
            ("difference", mean.difference),
            ("low", mean.low),
            ("high", mean.high),
            ("p", mean.p),
            ("p_holm", found.p_holm),
            ("trainings_p", found.tests["trainings"].p),
            ("utterances_p", found.tests["utterances"].p),
            ("utterances_low", found.tests["utterances"].low),
            ("pooled_difference", pooled.difference),
            ("pooled_low", pooled.low),
            ("pooled_high", pooled.high),
        ):
            assert line[name] == table_data.six(value), name
        assert line["speakers_p"] == ""
        assert (line["verdict"], line["basis"]) == (found.finding, "trainings")


def test_latex(output, result):
    lines = (output / "table.tex").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.removesuffix(r"\\").split(" & ")]
        for line in (re.sub(r"\\&", "AND", text) for text in lines)
        if line.endswith(r"\\")
    ]
    head, one, ends, spread, paper, two, *_ = rows
    assert head == ["Model", "CCC", "Acc", "UAR", "UAR (4)", "macro-F1"]
    assert (one[0], two[0]) == ("Row AND one", "Row two")
    for place, column in enumerate(result.spec.columns, 1):
        mean = result.cells["one"][column].mean
        assert one[place] == f"{mean.estimate:.3f}"
        assert ends[place] == rf"{{\scriptsize {table_data.ends(mean)}}}"
        deviation = result.cells["one"][column].seed_deviation
        assert spread[place] == (rf"{{\scriptsize $\pm$ {deviation:.3f} over seeds}}")
    for place, (column, value) in enumerate(
        zip(result.spec.columns[:2], (0.5, 0.75), strict=True), 1
    ):
        difference = result.cells["one"][column].mean.estimate - value
        assert paper[place] == (
            rf"{{\scriptsize paper {value:.3f} ({difference:+.3f})}}"
        )
    assert paper[3:] == ["", "", ""]
    assert rows[-1][1:] == [f"{result.chance[c]:.3f}" for c in result.spec.columns]


def test_json_is_whole(output, result):
    content = json.loads((output / "table.json").read_text())
    scores = content["rows"]["two"]["scores"]["iemocap.ccc"]
    cell = result.cells["two"][Column("iemocap", "ccc")]
    assert scores["mean"]["estimate"] == cell.mean.estimate
    assert scores["by_fold"] == {str(f): v for f, v in cell.by_fold.items()}
    assert len(content["runs"]) == 8
    assert content["environment"]["git"]
    assert content["test_sets"]["iemocap"]["by_fold"] == {"1": 60, "2": 40}
    assert [claim["verdict"] for claim in content["claims"]] == [
        claim.verdict.value for claim in judge_claims(result)
    ]


class Page(HTMLParser):
    """Collects text, and whatever a page would fetch."""

    def __init__(self):
        super().__init__()
        self.text, self.fetched, self.tags = io.StringIO(), [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                self.fetched.append(value)

    def handle_data(self, data):
        self.text.write(data + " ")


def test_the_page_needs_nothing_else(output, result):
    page = Page()
    text = (output / "report.html").read_text()
    page.feed(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(
        item.startswith(("#", "data:image/png;base64,")) for item in page.fetched
    )
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    shown = page.text.getvalue()
    for cells in result.cells.values():
        for column in result.spec.columns:
            mean = cells[column].mean
            assert f"{mean.estimate:.3f}" in shown
            assert table_data.ends(mean) in shown
    assert "Row & one" in shown
    assert "<script" not in text.lower()
    figures = {path.stem for path in (output / "plots").iterdir()}
    assert {"table", "confusion_matrix", "valence_arousal", "calibration"} <= figures
    assert len([f for f in page.fetched if f.startswith("data:")]) == len(figures)


def test_the_same_runs_give_the_same_files(made, output):
    before = {path.name: path.read_bytes() for path in output.glob("table.csv")}
    plots = {path.name: path.read_bytes() for path in (output / "plots").iterdir()}
    run(made)
    assert before == {p.name: p.read_bytes() for p in output.glob("table.csv")}
    assert plots == {p.name: p.read_bytes() for p in (output / "plots").iterdir()}


def test_missing_runs_and_other_data_are_told_first(tmp_path, capsys):
    made = table_data.make(tmp_path, sizes={1: 60, 2: 41})
    missing = {("two", 2, 0), ("two", 2, 1)}
    table_data.write_runs(made, list(made.said), missing)
    text = (run(made, "--plots", "false") / "RESULTS.md").read_text()
    assert (
        "2 of 8 runs are missing: Row two fold 2 seed 0, Row two fold 2 seed 1" in text
    )
    assert "(2 of 4 runs)" in text
    assert 'called "paper" are not comparable (marked †): tested on 101' in text
    assert text.index("not comparable") < text.index("### Mean of folds")
    shown = capsys.readouterr().out
    assert "runs are missing" in shown
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert {row["comparable"] for row in rows if row["paper"]} == {"no"}


def test_runs_of_other_code_are_told_first(tmp_path, capsys):
    made = table_data.make(tmp_path)
    lines = made.runs.read_text().splitlines()
    codes = ["code", *["one one"] * 5, "two one", "", "not recorded not recorded"]
    listed = [f"{line},{code}" for line, code in zip(lines, codes, strict=True)]
    made.runs.write_text("\n".join(listed) + "\n")
    text = (run(made, "--plots", "false") / "RESULTS.md").read_text()
    keys = list(made.said)
    names = ", ".join(
        f"Row {key[0]} fold {key[1]} seed {key[2]}" for key in (keys[5], keys[7])
    )
    said = "2 of 7 runs were made by other code than the rest, which may be why they"
    assert f"> **{said} differ: {names}. `--force 5-6` makes" in text
    assert said in capsys.readouterr().out
    assert text.index(said) < text.index("### Mean of folds")


def test_runs_of_one_code_or_of_none_known_are_no_news(output):
    assert "other code" not in (output / "RESULTS.md").read_text()


def test_a_plans_list_of_runs_that_is_missing_is_named(tmp_path, capsys):
    made = table_data.make(tmp_path)
    with pytest.raises(SystemExit):
        run(made, "--plots", "false", "--runs", str(tmp_path / "gone.json"))
    assert "gone.json: no such list of runs" in capsys.readouterr().err


def test_a_plans_unfinished_runs_are_missing(tmp_path, capsys):
    """Of the steps that `./run.sh --table` writes down, none is finished yet."""
    made = table_data.make(tmp_path)
    train, infer = (
        Step(name, stage, "m", (), tmp_path / name, ("predictions.csv",), ())
        for name, stage in (("train", 5), ("infer", 6))
    )
    train = replace(train, files=((tmp_path / "train.yaml", ""),))
    path = tmp_path / "plan.json"
    path.write_text(format_runs({"one 1 0": [train, infer]}))
    with pytest.raises(SystemExit):
        run(made, "--plots", "false", "--runs", str(path))
    assert "no run has made predictions yet" in capsys.readouterr().err
    lines = list(csv.DictReader((tmp_path / "plan.csv").open()))
    assert [(x["row"], x["fold"], x["seed"], x["predictions"]) for x in lines] == [
        ("one", "1", "0", "")
    ]


def fails(made, capsys):
    with pytest.raises(SystemExit) as end:
        run(made, "--plots", "false")
    assert end.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,fold,seed\n", ":1: no column 'predictions'"),
        ("row,fold,seed,predictions\n", "no run in it"),
        ("row,fold,seed,predictions\nthree,1,0,a.csv\n", ":2: no row 'three'"),
        ("row,fold,seed,predictions\none,9,0,a.csv\n", ":2: no fold 9"),
        ("row,fold,seed,predictions\none,x,0,a.csv\n", "must be whole numbers"),
        ("row,fold,seed,predictions\none,1,0,a\none,1,0,b\n", ":3: .* occur twice"),
        (
            "row,fold,seed,predictions\none,1,0,gone.csv\n",
            "gone.csv: no such predictions",
        ),
    ],
)
def test_a_wrong_list_of_runs_is_named(tmp_path, capsys, text, message):
    made = table_data.make(tmp_path, seeds=(0,))
    made.runs.write_text(text)
    assert re.search(message, fails(made, capsys))


def training_time(log):
    return training_times({"x": log})["x"]


def test_a_training_without_a_record_is_left_out(tmp_path):
    assert training_times({"x": tmp_path / "train.log", "y": None}) == {}


MACHINE = {"host": "node1", "cpu": "Some CPU", "cores": 8, "threads": 4, "gpus": []}
ON_GPU = MACHINE | {"host": "node2", "gpus": ["Some GPU"]}


def start(seconds, first, last, *machines, cuda=None):
    return {
        "started": "2026-01-01T10:00:00+00:00",
        "seconds": seconds,
        "first_epoch": first,
        "last_epoch": last,
        "python": "3.12.1",
        "torch": "2.13",
        "cuda": cuda,
        "machines": list(machines),
    }


def write_record(folder, *starts):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hardware.json").write_text(json.dumps({"starts": starts}))
    return folder / "train.log"


def test_the_starts_of_a_training_add_up(tmp_path):
    log = write_record(
        tmp_path,
        start(100.5, 1, 3, MACHINE),
        start(50.0, 4, 6, ON_GPU, ON_GPU, cuda="13.0"),
    )
    found = training_time(log)
    assert (found.seconds, found.epochs) == (150.5, 6)
    assert found.hosts == ("node1", "node2")
    assert found.gpu_seconds == 100.0
    first, second = found.starts
    assert first.hardware == "Some CPU, 4 threads, no GPU"
    assert first.software == "torch 2.13, python 3.12.1"
    assert second.hardware == "Some CPU, 8 threads, 2 × Some GPU"
    assert second.software == "torch 2.13, CUDA 13.0, python 3.12.1"


def test_several_nodes_are_counted(tmp_path):
    nodes = [ON_GPU | {"host": host} for host in ("a", "a", "b", "b")]
    found = training_time(write_record(tmp_path, start(10.0, 1, 1, *nodes, cuda="13")))
    assert found.starts[0].hardware == "2 × Some CPU, 8 threads, 2 × Some GPU"
    assert found.hosts == ("a", "b")
    assert found.gpu_seconds == 40.0


@pytest.mark.parametrize("text", ["", "{}", '{"starts": [{}]}', "[]"])
def test_a_malformed_record_is_named(tmp_path, text):
    (tmp_path / "hardware.json").write_text(text)
    with pytest.raises(UserError, match=r"hardware\.json is not the record"):
        training_time(tmp_path / "train.log")


def test_where_and_how_long(tmp_path):
    """One run on a GPU, one resumed on another machine, one without a record."""
    made = table_data.make(tmp_path, seeds=(0,))
    keys = list(made.said)
    gpu = start(3600.0, 1, 10, ON_GPU, cuda="13.0")
    write_record(tmp_path / "first", gpu)
    write_record(tmp_path / "second", start(60.0, 1, 2, MACHINE), gpu)
    with open(made.runs, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "fold", "seed", "predictions", "train_log"])
        for key, name in zip(keys, ("first", "second", "third", ""), strict=True):
            log = tmp_path / name / "train.log" if name else ""
            writer.writerow([*key, table_data.prediction_path(made, key), log])
    output = run(made, "--plots", "false")
    text = (output / "RESULTS.md").read_text()
    assert (
        "2 trainings took 2:01:00 (h:mm:ss) together, with 2:00:00 of GPU time." in text
    )
    _, *rows = markdown_table(text, "Where and how long")
    software = "torch 2.13, CUDA 13.0, python 3.12.1"
    assert rows == [
        ["Some CPU, 4 threads, Some GPU", software, "node2", "2", "2:00:00"],
        [
            *("Some CPU, 4 threads, no GPU", "torch 2.13, python 3.12.1"),
            *("node1", "1", "0:01:00"),
        ],
    ]
    _, *runs = markdown_table(text, "Runs")
    assert [row[1:4] for row in runs] == [
        ["1:00:00", "10", "node2"],
        ["1:01:00", "10", "node1, node2"],
        ["", "", ""],
        ["", "", ""],
    ]
    page = (output / "report.html").read_text()
    for cell in (*rows[0], "2:01:00 (h:mm:ss) together"):
        assert cell in page
    content = json.loads((output / "table.json").read_text())
    assert content["training_seconds"] == 7260.0
    assert content["training_gpu_seconds"] == 7200.0
    assert [share["trainings"] for share in content["hardware"]] == [2, 1]
    assert content["runs"][1]["starts"][1]["gpus"] == 1


def test_without_any_log_there_is_no_such_section(output):
    assert "### Where and how long" not in (output / "RESULTS.md").read_text()
    page = (output / "report.html").read_text()
    assert "where-and-how-long" not in page  # no link leads nowhere
    assert 'href="#mean-of-folds"' in page


def test_one_seed_speaks_of_trained_models_only(tmp_path):
    made = table_data.make(tmp_path, seeds=(0,))
    text = (run(made, "--plots", "false") / "RESULTS.md").read_text()
    assert "One training for each row and fold" in text
    assert "over trainings" not in text
    front = text.split("<details>")[0] + "\n### "
    for row in markdown_table(front, "Comparisons")[1:]:
        assert row[-1].endswith(" (these models, these speakers)"), row
    _, claim = markdown_table(text, "The paper's claims")
    assert claim[1] == "**holds (these models)**"
    few = [
        f"{name} {count} in fold {fold}"
        for fold, true in made.true.items()
        for name, count in zip(
            ("neutral", "angry", "happy", "sad", "disgusted"),
            np.bincount(true, minlength=5),
            strict=True,
        )
        if 0 < count < 5
    ]
    assert "disgusted 1 in fold 1" in few
    assert f"lasses of fewer than 5 utterances ({', '.join(few)})" in text


def test_too_few_resamples_are_told(tmp_path, capsys):
    made = table_data.make(tmp_path, seeds=(0,))
    table = made.table.read_text()
    made.table.write_text(
        table.replace("uar, iemocap.macro", "uar, iemocap.uar4, iemocap.macro")
    )
    text = (
        run(made, "--plots", "false", "--resamples", "100") / "RESULTS.md"
    ).read_text()
    # 5 comparisons and a claim of no gain, each p of swaps at least 1 / 101
    assert "100 resamples are too few for 6 tests" in text
    assert "below 0.06" in text
    assert "too few" in capsys.readouterr().out


def check_latex(text):
    """What LaTeX itself would stumble over, for it is not installed everywhere."""
    body = [line for line in text.splitlines() if not line.startswith("%")]
    columns = len(re.search(r"begin\{tabular\}\{(\w+)\}", body[0])[1])
    assert body[-1] == r"\end{tabular}"
    for line in body[1:-1]:
        if line in (r"\toprule", r"\midrule", r"\bottomrule"):
            continue
        assert line.endswith(r" \\"), line
        if not line.startswith(r"\multicolumn"):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line
        assert not line.lstrip().startswith(("[", "*"))
        bare = re.sub(r"\\.", "", line)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert not re.search(r"[#_%~^<>]", re.sub(r"\$[^$]*\$", "", bare)), line
        assert line.isascii(), line


def test_latex_of_hard_names(tmp_path):
    """Names with all that LaTeX reads as something else, on data of another size."""
    made = table_data.make(tmp_path, sizes={1: 60, 2: 41})
    text = made.table.read_text().replace(
        "Row & one", "'[x] 100% of $5_#^~{\\} <a> † −'"
    )
    made.table.write_text(text.replace("Row two", "'*two'"))
    output = run(made, "--plots", "false")
    table = (output / "table.tex").read_text()
    check_latex(table)
    check_latex((output / "comparisons.tex").read_text())
    assert r"{}[x] 100\% of \$5\_\#\textasciicircum{}" in table
    assert r"0.500$^\dagger$ (" in table
    assert r"\multicolumn{6}{l}" in table


def test_latex_comparisons(output, result):
    text = (output / "comparisons.tex").read_text()
    check_latex(text)
    check_latex((output / "table.tex").read_text())
    rows = [line for line in text.splitlines() if line.startswith("Row two")]
    for row, found in zip(rows, result.comparisons, strict=True):
        mean = found.result
        assert f"${mean.difference:+.3f}$" in row
        assert f"${table_data.ends(mean, '+.3f')}$" in row
        assert row.endswith(rf"& ${p(found.p_holm)}$ & {found.words} \\")


def judged(made):
    spec = load_table(made.table)
    records = read_runs(made.runs, spec)
    keys = [record.key for record in records]
    result = score_table(spec, read_all_predictions(records), keys, 2000)
    return result, judge_claims(result)


def with_claims(made, *conditions):
    """Let the table claim these conditions, each as a claim of its own."""
    claims = "".join(f"  - {{says: x, if: [{c}]}}\n" for c in conditions)
    text = re.sub(r"claims:.*?(?=notes:)", "claims:\n" + claims, table_data.TABLE,
                  flags=re.DOTALL)  # fmt: skip
    made.table.write_text(text)
    return judged(made)


def test_verdicts_of_a_clear_difference(tmp_path):
    made = table_data.make(
        tmp_path, (0,), sizes={1: 300, 2: 300}, skill={"one": 0.3, "two": 0.9}
    )
    expected = {
        "{higher: [two, one], in: iemocap.ccc}": (Verdict.HOLDS, "higher"),
        "{higher: [one, two], in: iemocap.ccc}": (Verdict.FAILS, "lower"),
        "{lower: [one, two], in: iemocap.ccc}": (Verdict.HOLDS, "lower"),
        "{lower: [two, one], in: iemocap.ccc}": (Verdict.FAILS, "higher"),
        "{not_higher: [one, two], in: iemocap.accuracy}": (
            *(Verdict.HOLDS, "not higher by 0.02"),
        ),
        "{not_higher: [two, one], in: iemocap.accuracy}": (Verdict.FAILS, "higher"),
    }
    _, claims = with_claims(made, *expected)
    for claim, (verdict, finding) in zip(claims, expected.values(), strict=True):
        (found,) = claim.conditions
        assert (found.verdict, found.finding) == (verdict, finding)
        assert found.low < found.difference < found.high
        assert (found.difference > 0) == (found.condition.pair.first == "two")
        assert claim.words == f"{verdict.value} (these models)"
    assert claims[0].conditions[0].paper == pytest.approx(0.2)
    made.table.write_text(table_data.TABLE)
    table_data.write_runs(
        made, list(made.said), {key for key in made.said if key[0] == "two"}
    )
    (claim,) = judged(made)[1]
    assert claim.words == "not tested"


def same_but(made, rows, fold=1):
    """Let both rows say the same, right in all but some utterances.

    Args:
        made: The table's predictions.
        rows: Row of the table -> utterances that it has wrong, as a slice.
        fold: Where.
    """
    truth = made.true[fold]
    for row, wrong in rows.items():
        said = truth.copy()
        said[wrong] = (said[wrong] + 1) % 4
        made.said[row, fold, 0] = said
        table_data.write_predictions(made, (row, fold, 0))


def test_a_small_gain_is_neither_higher_nor_ruled_out(tmp_path):
    """A gain of .012 that luck may have made: undecided, and higher in sign only."""
    made = table_data.make(tmp_path, (0,), sizes={1: 250, 2: 250})
    for fold in (1, 2):
        same_but(made, {"one": slice(0, 8), "two": slice(5, 10)}, fold)
    _, claims = with_claims(
        made,
        "{not_higher: [two, one], in: iemocap.accuracy}",
        "{higher: [two, one], in: iemocap.accuracy}",
        "{lower: [one, two], in: iemocap.accuracy}",
        "{not_higher: [one, two], in: iemocap.accuracy}",
    )
    assert [claim.conditions[0].difference for claim in claims] == pytest.approx(
        [0.012, 0.012, -0.012, -0.012]
    )
    assert [claim.verdict for claim in claims] == [
        *(Verdict.UNDECIDED, Verdict.IN_SIGN, Verdict.IN_SIGN, Verdict.HOLDS)
    ]
    assert [claim.conditions[0].finding for claim in claims] == [
        *("undecided", "higher in sign only"),
        *("lower in sign only", "not higher by 0.02"),
    ]


def test_no_claim_rests_on_the_sign_of_the_pooled_scores(tmp_path):
    """Higher as the mean of folds and lower when pooled: never "holds" by McNemar."""
    made = table_data.make(tmp_path, (0,), sizes={1: 900, 2: 30})
    same_but(made, {"one": slice(0, 0), "two": slice(0, 60)}, 1)
    same_but(made, {"one": slice(0, 8), "two": slice(0, 0)}, 2)
    result, claims = with_claims(made, "{higher: [two, one], in: iemocap.accuracy}")
    found = next(c for c in result.comparisons if c.pair.column.metric == "accuracy")
    assert found.result.difference == pytest.approx((8 / 30 - 60 / 900) / 2)
    assert found.pooled.difference == pytest.approx((8 - 60) / 930)
    assert found.by_seed[0].result.p_mid < 1e-5
    # Signs of 60 and 8 rows of unequal weight: the variance is exact.
    error = (60 / 900**2 + 8 / 30**2) ** 0.5 / 2
    expected = 2 * stats.norm.sf(found.result.difference / error)
    assert found.result.p == pytest.approx(expected, abs=0.02)
    assert found.result.p > 1e-3
    assert (found.finding == "higher") == (claims[0].verdict is Verdict.HOLDS)

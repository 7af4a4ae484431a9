"""A table's results as csv, json, LaTeX and for a terminal."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from espnet_ext.scoring.claims import ClaimResult
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.names import METRIC_NAMES, model_name
from espnet_ext.scoring.one_set import SetReport, describe_set, notes_of
from espnet_ext.scoring.runs import RunRecord
from espnet_ext.scoring.scores import Cell
from espnet_ext.scoring.spec import Column
from espnet_ext.scoring.text import (
    ends_signed,
    ends_text,
    p_text,
    printed,
    signed,
    six,
    without_nan,
)
from espnet_ext.scoring.verdicts import Basis
from espnet_ext.scoring.words import (
    INCOMPARABLE,
    TableReport,
    how_tested,
    limits_of,
    pair_name,
    paper_lines,
    seed_tests,
    warnings_of,
)

CELL_COLUMNS = (
    *("row", "name", "corpus", "metric", "mean", "mean_low", "mean_high"),
    *("pooled", "pooled_low", "pooled_high", "seed_deviation", "runs", "expected_runs"),
    *("chance", "paper", "difference", "paper_corrected", "comparable"),
)
PAIR_COLUMNS = (
    *("first", "second", "corpus", "metric", "difference", "low", "high", "p"),
    *("p_holm", "verdict", "basis", "test"),
    *(f"{b.value}_{end}" for b in Basis for end in ("low", "high", "p")),
    *("pooled_difference", "pooled_low", "pooled_high", "by_seed"),
)


# ---------------------------------------------------------------------- csv and json


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def table_csv(report: TableReport) -> str:
    """A line a row and metric, every metric; the columns are `CELL_COLUMNS`."""
    result, rows = report.result, []
    for key, described in result.spec.rows.items():
        for corpus in result.spec.corpora:
            comparable = "no" if result.incomparable(corpus) else "yes"
            for column in (Column(corpus, metric) for metric in METRIC_NAMES):
                cell, paper = result.cells[key].get(column), described.paper.get(column)
                if cell is None and paper is None:
                    continue
                numbers: list[object] = [""] * 9
                difference = None
                if cell is not None:
                    mean, pooled = cell.mean, cell.pooled
                    values = [mean.estimate, mean.low, mean.high]
                    values += [pooled.estimate, pooled.low, pooled.high]
                    numbers = [*map(six, (*values, cell.seed_deviation))]
                    numbers += [cell.runs, cell.expected]
                    difference = None if paper is None else mean.estimate - paper
                rows.append(
                    [
                        *(key, described.name, corpus, column.metric, *numbers),
                        *map(six, (result.chance.get(column), paper, difference)),
                        six(described.corrected.get(column)),
                        comparable if paper is not None else "",
                    ]
                )
    return _csv(CELL_COLUMNS, rows)


def comparisons_csv(report: TableReport) -> str:
    """A line a comparison; the columns are `PAIR_COLUMNS`."""
    rows = []
    for found in report.result.comparisons:
        pair, result, pooled = found.pair, found.result, found.pooled
        tests = [found.tests.get(basis) for basis in Basis]
        rows.append(
            [
                *(pair.first, pair.second, pair.column.corpus, pair.column.metric),
                *map(six, (result.difference, result.low, result.high, result.p)),
                *(six(found.p_holm), found.finding, found.basis, found.how),
                *(
                    six(n)
                    for t in tests
                    for n in ((t.low, t.high, t.p) if t else [None] * 3)
                ),
                *map(six, (pooled.difference, pooled.low, pooled.high)),
                seed_tests(found),
            ]
        )
    return _csv(PAIR_COLUMNS, rows)


def table_json(report: TableReport) -> str:
    """Everything, unrounded."""
    result = report.result
    content = {
        "table": result.spec.name,
        "title": result.spec.title,
        "environment": asdict(report.environment),
        "resamples": result.resamples,
        "seed": result.seed,
        "warnings": warnings_of(report),
        "limits": limits_of(report),
        "training_seconds": report.training_seconds,
        "training_gpu_seconds": report.gpu_seconds,
        "hardware": [asdict(share) for share in report.hardware],
        "test_sets": {c: asdict(tested) for c, tested in result.test_sets.items()},
        "rows": {
            row: {
                "name": described.name,
                "config": described.config,
                "train": dict(described.train),
                "paper": {str(c): value for c, value in described.paper.items()},
                "scores": {
                    str(column): _cell_json(cell)
                    for column, cell in result.cells[row].items()
                },
            }
            for row, described in result.spec.rows.items()
        },
        "chance": {str(column): value for column, value in result.chance.items()},
        "comparisons": [_pair_json(found) for found in result.comparisons],
        "claims": [_claim_json(claim) for claim in report.claims],
        "runs": [_run_json(report, record) for record in report.records],
    }
    return json.dumps(without_nan(content), indent=2, ensure_ascii=False) + "\n"


def _cell_json(cell: Cell) -> dict[str, Any]:
    content = {**asdict(cell), "seed_deviation": cell.seed_deviation}
    del content["over_speakers"]
    return content


def _pair_json(found: TableComparison) -> dict[str, Any]:
    pair = found.pair
    names = {"first": pair.first, "second": pair.second, "column": str(pair.column)}
    verdict = {"basis": found.basis, "verdict": found.finding}
    return {**asdict(found), "pair": names, **verdict}


def _claim_json(claim: ClaimResult) -> dict[str, Any]:
    return {
        "says": claim.claim.says,
        "verdict": claim.verdict.value,
        "words": claim.words,
        "conditions": [
            {
                "first": found.condition.pair.first,
                "second": found.condition.pair.second,
                "column": str(found.condition.pair.column),
                "expected": found.condition.kind.value,
                "difference": found.difference,
                "p_holm": found.p_holm,
                "paper": found.paper,
                "verdict": found.verdict.value,
                "finding": found.finding,
            }
            for found in claim.conditions
        ],
    }


def _run_json(report: TableReport, record: RunRecord) -> dict[str, Any]:
    time = report.times.get(record.key)
    return {
        **asdict(record.key),
        "predictions": None if record.predictions is None else str(record.predictions),
        "config": record.config,
        "training": record.training,
        "seconds": None if time is None else time.seconds,
        "hosts": [] if time is None else list(time.hosts),
        "epochs": None if time is None else time.epochs,
        "starts": [] if time is None else [asdict(start) for start in time.starts],
    }


# ----------------------------------------------------------- LaTeX and for a terminal


@dataclass(frozen=True, slots=True)
class _Lines:
    """A table whose rows have several lines: score, interval and more.

    Attributes:
        heads: Names of the columns.
        rows: Name -> lines of cells.
        chance: Last line.
    """

    heads: list[str]
    rows: dict[str, list[list[str]]]
    chance: list[str]


def _set_lines(report: SetReport) -> _Lines:
    rows = {}
    for name, scores in report.scores.items():
        found = [scores.get(metric) for metric in report.chance]
        rows[model_name(name)] = [
            [printed(f.estimate if f else None) for f in found],
            [ends_text(f) if f else "" for f in found],
        ]
    heads = [METRIC_NAMES[metric] for metric in report.chance]
    return _Lines(heads, rows, [printed(value) for value in report.chance.values()])


def set_latex(report: SetReport) -> str:
    r"""Scores of one test set as a ``tabular`` of the ``booktabs`` package."""
    table = _set_lines(report)
    rows = {
        name: [
            [text.replace("-", "--") if text == "-" else text for text in scores],
            [rf"\scriptsize {text}" if text else "" for text in ends],
        ]
        for name, (scores, ends) in table.rows.items()
    }
    return _latex(_Lines(table.heads, rows, table.chance), notes_of(report))


def table_latex(report: TableReport) -> str:
    r"""The table for a paper: a ``tabular`` of the ``booktabs`` package.

    Each row has a line of scores, one of intervals, one of the spread over seeds where
    there are several, and one of the paper's values with the difference to them.
    """
    result, spec = report.result, report.result.spec
    rows = {}
    for row, described in spec.rows.items():
        cells = [result.cells[row].get(column) for column in spec.columns]
        lines = [["--" if c is None else f"{c.mean.estimate:.3f}" for c in cells]]
        ends = ["" if c is None else _small(ends_text(c.mean)) for c in cells]
        spread = [c.seed_deviation if c else None for c in cells]
        over_seeds = [
            "" if value is None else _small(rf"$\pm$ {value:.3f} over seeds")
            for value in spread
        ]
        paper = [
            "".join(_small(_escape(t)) for t in paper_lines(report, row, column)[:1])
            for column in spec.columns
        ]
        lines += [part for part in (ends, over_seeds, paper) if any(part)]
        rows[described.name] = lines
    reasons = [r for corpus in spec.corpora if (r := result.incomparable(corpus))]
    foot = []
    if reasons:
        text = _small(_escape(f"{INCOMPARABLE} not comparable: {'; '.join(reasons)}"))
        foot = [rf"\multicolumn{{{len(spec.columns) + 1}}}{{l}}{{{text}}} \\"]
    heads = [spec.column_name(column) for column in spec.columns]
    chance = [printed(result.chance.get(column)) for column in spec.columns]
    comments = [*warnings_of(report), *limits_of(report)]
    return _latex(_Lines(heads, rows, chance), comments, foot)


_LATEX_COMMENT = r"% Generated by espnet_ext.bin.ser_score; needs \usepackage{booktabs}"


def _latex(table: _Lines, comments: Iterable[str], foot: Sequence[str] = ()) -> str:
    lines = [
        _LATEX_COMMENT,
        *(f"% {comment}" for comment in comments),
        r"\begin{tabular}{l" + "c" * len(table.heads) + "}",
        r"\toprule",
        _latex_line("Model", [_escape(head) for head in table.heads]),
        r"\midrule",
    ]
    for name, (first, *others) in table.rows.items():
        lines.append(_latex_line(name, first))
        lines += [_latex_line("", cells) for cells in others]
    lines += [r"\midrule", _latex_line("Chance", table.chance), r"\bottomrule", *foot]
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def comparisons_latex(report: TableReport) -> str:
    r"""The comparisons for a paper: a ``tabular`` of the ``booktabs`` package."""
    lines = [
        _LATEX_COMMENT,
        f"% {how_tested(report)}",
        r"\begin{tabular}{llcrl}",
        r"\toprule",
        _latex_line("Models", ["Score", "Difference", r"$p_\mathrm{Holm}$", "Verdict"]),
        r"\midrule",
    ]
    for found in report.result.comparisons:
        score = _escape(report.result.spec.column_name(found.pair.column))
        difference = f"${signed(found.result.difference)}$ "
        difference += _small(f"${ends_signed(found.result)}$")
        cells = [score, difference, f"${p_text(found.p_holm)}$", found.words]
        lines.append(_latex_line(pair_name(report, found.pair), cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_line(name: str, cells: Sequence[str]) -> str:
    # After \\ a name that begins with [ or * would be read as its argument.
    first = _escape(name)
    first = f"{{}}{first}" if first[:1] in ("[", "*") else first
    return " & ".join([first, *cells]) + r" \\"


def _small(text: str) -> str:
    return rf"{{\scriptsize {text}}}" if text else ""


# What LaTeX reads as a command, or its fonts lack.
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "−": "$-$",
    "±": r"$\pm$",
    INCOMPARABLE: r"$^\dagger$",
}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def set_terminal(report: SetReport) -> str:
    """Scores of one test set for a terminal: a score and below it its interval."""
    lines = _terminal(report.title, _set_lines(report))
    lines.append(f"{describe_set(report)}; [95 % bootstrap interval]")
    return "\n".join([*lines, *(f"note: {note}" for note in notes_of(report))])


def table_terminal(report: TableReport) -> str:
    """The table for a terminal: score, interval, and the paper's value."""
    result, spec = report.result, report.result.spec
    rows = {}
    for row, described in spec.rows.items():
        cells = [result.cells[row].get(column) for column in spec.columns]
        paper = []
        for column in spec.columns:
            mark = INCOMPARABLE if result.incomparable(column.corpus) else ""
            value = described.paper.get(column)
            paper.append("" if value is None else f"{spec.source} {value:.3f}{mark}")
        rows[described.name] = [
            [printed(cell.mean.estimate if cell else None) for cell in cells],
            [ends_text(cell.mean) if cell else "" for cell in cells],
            *([paper] if any(paper) else []),
        ]
    heads = [spec.column_name(column) for column in spec.columns]
    chance = [printed(result.chance.get(column)) for column in spec.columns]
    title = spec.title + " (mean of folds)" * report.several_folds
    lines = _terminal(title, _Lines(heads, rows, chance))
    lines.append("[95 % bootstrap interval]")
    if report.claims:
        lines += ["", f"What the {spec.source} claims, on this data:"]
        lines += [f"{c.words:28} {c.claim.says}" for c in report.claims]
    return "\n".join([*lines, *(f"note: {text}" for text in warnings_of(report))])


def _terminal(title: str, table: _Lines) -> list[str]:
    width = max(15, *(len(head) + 2 for head in table.heads))
    label = max(len(name) for name in ("chance", *table.rows)) + 2

    def line(name: str, cells: Iterable[str]) -> str:
        return (name.ljust(label) + "".join(c.ljust(width) for c in cells)).rstrip()

    rule = "-" * (label + width * len(table.heads) - 2)
    lines = [title, line("", table.heads), rule]
    for name, (scores, ends, *others) in table.rows.items():
        lines += [line(name, scores), line("", (e.replace("0.", ".") for e in ends))]
        lines += [line("", cells) for cells in others]
    return [*lines, rule, line("chance", table.chance)]

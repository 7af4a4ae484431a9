"""A table's results as csv, json, LaTeX and for a terminal."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from espnet_ext.scoring.bootstrap import Interval
from espnet_ext.scoring.claims import ClaimResult
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.folds import ANY_CORPUS
from espnet_ext.scoring.names import METRIC_NAMES
from espnet_ext.scoring.runs import RunRecord
from espnet_ext.scoring.scores import Cell
from espnet_ext.scoring.spec import Column, Pair
from espnet_ext.scoring.text import (
    ends_signed,
    ends_text,
    p_text,
    plain,
    printed,
    signed,
    six,
)
from espnet_ext.scoring.verdicts import Basis
from espnet_ext.scoring.words import (
    INCOMPARABLE,
    TableReport,
    describe_set,
    how_tested,
    limits_of,
    limits_of_sets,
    notes_of,
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
SET_COLUMNS = ("model", "metric", "score", "low", "high", "speaker_low", "speaker_high")
PAIR_COLUMNS = (
    *("first", "second", "corpus", "metric", "difference", "low", "high", "p"),
    *("p_holm", "verdict", "basis", "test"),
    *(f"{b.value}_{end}" for b in Basis for end in ("low", "high", "p")),
    *("pooled_difference", "pooled_low", "pooled_high", "by_seed"),
)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _ends(found: Interval) -> tuple[float, float, float]:
    return found.estimate, found.low, found.high


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
                    values = (*_ends(cell.mean), *_ends(cell.pooled))
                    numbers = [*map(six, (*values, cell.seed_deviation))]
                    numbers += [cell.runs, cell.expected]
                    difference = None if paper is None else cell.mean.estimate - paper
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
        "environment": report.environment,
        "resamples": result.resamples,
        "seed": result.seed,
        "warnings": warnings_of(report),
        "limits": limits_of(report),
        "training_seconds": report.training_seconds,
        "training_gpu_seconds": report.gpu_seconds,
        "hardware": report.hardware,
        "test_sets": result.test_sets,
        "rows": {
            row: {
                "name": described.name,
                "config": described.config,
                "train": described.train,
                "paper": described.paper,
                "scores": {
                    c: _cell_json(cell) for c, cell in result.cells[row].items()
                },
            }
            for row, described in result.spec.rows.items()
        },
        "chance": result.chance,
        "comparisons": [
            {**asdict(found), "pair": _names(found.pair), **_verdict(found)}
            for found in result.comparisons
        ],
        "claims": [_claim_json(claim) for claim in report.claims],
        "runs": [_run_json(report, record) for record in report.records],
    }
    return _json(content)


def _json(content: Any) -> str:
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"


def _cell_json(cell: Cell) -> dict[str, Any]:
    content = {**asdict(cell), "seed_deviation": cell.seed_deviation}
    del content["over_speakers"]
    return content


def _verdict(found: TableComparison) -> dict[str, str]:
    return {"basis": found.basis, "verdict": found.finding}


def _names(pair: Pair) -> dict[str, str]:
    return {"first": pair.first, "second": pair.second, "column": str(pair.column)}


def _claim_json(claim: ClaimResult) -> dict[str, Any]:
    return {
        "says": claim.claim.says,
        "verdict": claim.verdict.value,
        "words": claim.words,
        "conditions": [
            {
                **_names(found.condition.pair),
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
        "predictions": record.predictions and str(record.predictions),
        "config": record.config,
        "training": record.training,
        "seconds": time and time.seconds,
        "hosts": time.hosts if time else [],
        "epochs": time and time.epochs,
        "starts": time.starts if time else [],
    }


def _intervals(report: TableReport, basis: str) -> dict[str, dict[str, Interval]]:
    """Model -> metric -> score with its interval over utterances or speakers."""
    shown = report.result.spec.columns
    return {
        row: {
            column.metric: interval
            for column in shown
            if column in cells and (interval := getattr(cells[column], basis))
        }
        for row, cells in report.result.cells.items()
    }


def set_json(report: TableReport) -> str:
    """Everything of one test set, unrounded."""
    result, tested = report.result, report.result.test_sets[ANY_CORPUS]
    by_speaker = _intervals(report, "over_speakers")
    pairs = []
    for found in result.comparisons:
        pair = found.pair
        pairs.append(
            {
                **{"tests": found.tests, "how": found.how, "p_holm": found.p_holm},
                **{"first": pair.first, "second": pair.second},
                **{"metric": pair.column.metric, **_verdict(found)},
            }
        )
    content = {
        "environment": report.environment,
        "title": result.spec.title,
        "sources": {r.key.row: str(r.predictions) for r in report.records},
        "utterances": tested.utterances,
        "class_counts": tested.classes,
        "corpora": report.corpora_of_set,
        "speakers": tested.speakers,
        "resamples": result.resamples,
        "seed": result.seed,
        "scores": _intervals(report, "mean"),
        "by_speaker": by_speaker if any(by_speaker.values()) else {},
        "chance": {c.metric: result.chance[c] for c in result.spec.columns},
        "pairs": pairs,
        "notes": notes_of(report),
    }
    return _json(content)


def set_csv(report: TableReport) -> str:
    """A line a model and metric; speaker columns blank where there are too few."""
    rows = []
    by_speaker = _intervals(report, "over_speakers")
    for name, scores in _intervals(report, "mean").items():
        for metric, found in scores.items():
            speaker = by_speaker[name].get(metric)
            ends = (speaker.low, speaker.high) if speaker else (None, None)
            rows.append([name, metric, *map(six, (*_ends(found), *ends))])
    for column in report.result.spec.columns:
        chance = six(report.result.chance[column])
        rows.append(["chance", column.metric, chance, *[""] * 4])
    return _csv(SET_COLUMNS, rows)


def latex(report: TableReport) -> str:
    r"""The table for a paper: a ``tabular`` of the ``booktabs`` package.

    Each row has a line of scores, one of intervals, one of the spread over seeds where
    there are several, and one of the paper's values with the difference to them.
    """
    result, spec = report.result, report.result.spec
    heads = [spec.column_name(column) for column in spec.columns]
    notes = [*warnings_of(report), *limits_of(report)]
    if report.one_set:
        notes = notes_of(report)
    lines = [
        _LATEX_COMMENT,
        *(f"% {note}" for note in notes),
        r"\begin{tabular}{l" + "c" * len(heads) + "}",
        r"\toprule",
        _latex_line("Model", map(_escape, heads)),
        r"\midrule",
    ]
    small = r"\scriptsize {}" if report.one_set else _SMALL
    for row, described in spec.rows.items():
        cells = [result.cells[row].get(column) for column in spec.columns]
        scores = ["--" if c is None else f"{c.mean.estimate:.3f}" for c in cells]
        ends = ["" if c is None else ends_text(c.mean) for c in cells]
        over_seeds = [
            rf"$\pm$ {c.seed_deviation:.3f} over seeds"
            if c and c.seed_deviation is not None
            else ""
            for c in cells
        ]
        paper = [
            "".join(map(_escape, paper_lines(report, row, column)[:1]))
            for column in spec.columns
        ]
        lines.append(_latex_line(described.name, scores))
        for part in (ends, over_seeds, paper):
            if any(part):
                fine = [text and small.format(text) for text in part]
                lines.append(_latex_line("", fine))
    chance = [printed(result.chance.get(column)) for column in spec.columns]
    lines += [r"\midrule", _latex_line("Chance", chance), r"\bottomrule"]
    reasons = [r for corpus in spec.corpora if (r := result.incomparable(corpus))]
    if reasons:
        text = _escape(f"{INCOMPARABLE} not comparable: {'; '.join(reasons)}")
        text = _SMALL.format(text)
        lines.append(rf"\multicolumn{{{len(heads) + 1}}}{{l}}{{{text}}} \\")
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


_SMALL = r"{{\scriptsize {}}}"
_LATEX_COMMENT = r"% Generated by espnet_ext.bin.ser_score; needs \usepackage{booktabs}"


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
        difference += _SMALL.format(f"${ends_signed(found.result)}$")
        cells = [score, difference, f"${p_text(found.p_holm)}$", found.words]
        lines.append(_latex_line(pair_name(report, found.pair), cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_line(name: str, cells: Iterable[str]) -> str:
    # After \\ a name that begins with [ or * would be read as its argument.
    first = _escape(name)
    first = f"{{}}{first}" if first[:1] in ("[", "*") else first
    return " & ".join([first, *cells]) + r" \\"


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


def terminal(report: TableReport) -> str:
    """The table for a terminal: score, interval, and the paper's value."""
    result, spec = report.result, report.result.spec
    heads = [spec.column_name(column) for column in spec.columns]
    width = max(15, *(len(head) + 2 for head in heads))
    names = [row.name for row in spec.rows.values()]
    label = max(len(name) for name in ("chance", *names)) + 2

    def line(name: str, cells: Iterable[str]) -> str:
        return (name.ljust(label) + "".join(c.ljust(width) for c in cells)).rstrip()

    rule = "-" * (label + width * len(heads) - 2)
    title = spec.title + " (mean of folds)" * report.several_folds
    lines = [title, line("", heads), rule]
    for row, described in spec.rows.items():
        cells = [result.cells[row].get(column) for column in spec.columns]
        paper = []
        for column in spec.columns:
            mark = INCOMPARABLE if result.incomparable(column.corpus) else ""
            value = described.paper.get(column)
            paper.append("" if value is None else f"{spec.source} {value:.3f}{mark}")
        scores = [printed(cell.mean.estimate if cell else None) for cell in cells]
        ends = [ends_text(cell.mean) if cell else "" for cell in cells]
        lines.append(line(described.name, scores))
        lines.append(line("", (text.replace("0.", ".") for text in ends)))
        lines += [line("", paper)] if any(paper) else []
    chance = [printed(result.chance.get(column)) for column in spec.columns]
    lines += [rule, line("chance", chance)]
    tested = f"{describe_set(report)}; " if report.one_set else ""
    lines.append(f"{tested}[95 % bootstrap interval]")
    if report.claims:
        lines += ["", f"What the {spec.source} claims, on this data:"]
        lines += [f"{c.words:28} {c.claim.says}" for c in report.claims]
    notes = warnings_of(report)
    if report.one_set:
        notes = [*limits_of_sets(report), *notes]
    return "\n".join([*lines, *(f"note: {text}" for text in notes)])

"""A report's files: markdown and HTML from templates, csv, json, LaTeX; a terminal."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_ext.scoring import words
from espnet_ext.scoring.bootstrap import Interval
from espnet_ext.scoring.claims import ClaimResult
from espnet_ext.scoring.folds import ANY_CORPUS
from espnet_ext.scoring.matrix import SEEN, heads, is_trained_on, matrix_rows
from espnet_ext.scoring.metrics import METRIC_NAMES
from espnet_ext.scoring.pages import fill, pair_grid
from espnet_ext.scoring.runs import RunRecord
from espnet_ext.scoring.scores import Cell
from espnet_ext.scoring.spec import Column, Pair
from espnet_ext.scoring.text import ends, plain, printed, signed, six
from espnet_ext.scoring.trainings import hardware_shares
from espnet_ext.scoring.verdicts import Basis
from espnet_ext.scoring.words import TableReport
from espnet_ext.utils.atomic import atomic_dir, atomic_write_text

if TYPE_CHECKING:  # --plots false must not wait for matplotlib
    from matplotlib.figure import Figure

# File's stem -> caption and figure.
Figures = Mapping[str, tuple[str, "Figure"]]


def write_report(
    report: TableReport, output: Path, figures: Figures | None
) -> list[Path]:
    """Write all files of a table, or of models on one test set, each in one step.

    Returns:
        The files written, RESULTS.md first.
    """
    images = {}
    if figures:
        from espnet_ext.scoring.plots import png_of

        images = {name: (text, png_of(f)) for name, (text, f) in figures.items()}
    if report.one_set:
        texts = {
            "scores.json": set_json(report),
            "scores.csv": set_csv(report),
            "scores.tex": latex(report),
        }
    else:
        texts = {
            "report.html": fill("report.html.j2", report, images),
            "table.csv": table_csv(report),
            "comparisons.csv": comparisons_csv(report),
            "table.json": table_json(report),
            "table.tex": latex(report),
            "comparisons.tex": comparisons_latex(report),
        }
        if report.result.spec.metrics:
            texts["matrix.csv"] = _csv(matrix_rows(report.result))
    # Last: whatever it links to is there.
    texts["RESULTS.md"] = fill("results.md.j2", report, images)
    output.mkdir(parents=True, exist_ok=True)
    if images:
        with atomic_dir(output / "plots") as folder:
            for name, (_, image) in images.items():
                (folder / f"{name}.png").write_bytes(image)
    for name, content in texts.items():
        atomic_write_text(output / name, content)
    plots = [f"plots/{name}.png" for name in images]
    return [output / name for name in ("RESULTS.md", *list(texts)[:-1], *plots)]


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    columns = (
        [*rows[0]] if rows else ["first", "second"]
    )  # no comparison, no blank file
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _numbers(found: object, names: Mapping[str, str]) -> dict[str, str]:
    """Numbers by column, blank where there are none; `names` has each one's field."""
    return {name: six(getattr(found, of, None)) for name, of in names.items()}


def _interval(found: Interval | None, name: str, ends: str) -> dict[str, str]:
    names = {name: "estimate", f"{ends}low": "low", f"{ends}high": "high"}
    return _numbers(found, names)


def table_csv(report: TableReport) -> str:
    """A line a row and metric, every metric that is scored or has a paper's value."""
    result, rows = report.result, []
    for key, described in result.spec.rows.items():
        for column in (Column(c, m) for c in result.spec.corpora for m in METRIC_NAMES):
            cell, paper = result.cells[key].get(column), described.paper.get(column)
            if cell is None and paper is None:
                continue
            comparable = "no" if result.incomparable(column.corpus) else "yes"
            gap = cell.mean.estimate - paper if cell and paper is not None else None
            rows.append(
                {"row": key, "name": described.name, **asdict(column)}
                | _interval(cell.mean if cell else None, "mean", "mean_")
                | _interval(cell.pooled if cell else None, "pooled", "pooled_")
                | _numbers(cell, {"seed_deviation": "seed_deviation"})
                | {
                    "runs": str(cell.runs) if cell else "",
                    "expected_runs": str(cell.expected) if cell else "",
                    "chance": six(result.chance.get(column)),
                    "paper": six(paper),
                    "difference": six(gap),
                    "paper_corrected": six(described.corrected.get(column)),
                    "comparable": comparable if paper is not None else "",
                }
            )
    return _csv(rows)


def comparisons_csv(report: TableReport) -> str:
    """A line a comparison, with every test behind its verdict."""
    rows = []
    for found in report.result.comparisons:
        pair, difference = found.pair, ("difference", "low", "high")
        row = {"first": pair.first, "second": pair.second, **asdict(pair.column)}
        row |= _numbers(found.result, {name: name for name in (*difference, "p")})
        row |= {"p_holm": six(found.p_holm), "verdict": found.finding}
        row |= {"basis": found.basis, "test": found.how}
        for basis in Basis:
            names = {f"{basis}_{name}": name for name in ("low", "high", "p")}
            row |= _numbers(found.tests.get(basis), names)
        row |= _numbers(found.pooled, {f"pooled_{name}": name for name in difference})
        rows.append(row | {"by_seed": words.seed_tests(found)})
    return _csv(rows)


def _json(content: Any) -> str:
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"


def table_json(report: TableReport) -> str:
    """Everything, unrounded."""
    result = report.result
    content = {
        "table": result.spec.name,
        "title": result.spec.title,
        "environment": report.environment,
        "resamples": result.resamples,
        "seed": result.seed,
        "warnings": words.warnings_of(report),
        "limits": words.limits_of(report),
        "training_seconds": report.training_seconds,
        "training_gpu_seconds": report.gpu_seconds,
        "hardware": hardware_shares(report.times.values()),
        "test_sets": result.test_sets,
        "rows": {
            row: {
                "name": described.name,
                "config": described.config,
                "train": described.train,
                "paper": described.paper,
                "scores": {c: _cell_json(x) for c, x in result.cells[row].items()},
            }
            for row, described in result.spec.rows.items()
        },
        "chance": result.chance,
        "comparisons": [
            {
                **asdict(found),
                "pair": _names(found.pair),
                "basis": found.basis,
                "verdict": found.finding,
            }
            for found in result.comparisons
        ],
        "claims": [_claim_json(claim) for claim in report.claims],
        "runs": [_run_json(report, record) for record in report.records],
    }
    return _json(content)


def _cell_json(cell: Cell) -> dict[str, Any]:
    content = {**asdict(cell), "seed_deviation": cell.seed_deviation}
    del content["over_speakers"]
    return content


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
    return {
        row: {
            column.metric: interval
            for column in report.result.spec.columns
            if column in cells and (interval := getattr(cells[column], basis))
        }
        for row, cells in report.result.cells.items()
    }


def set_json(report: TableReport) -> str:
    """Everything of one test set, unrounded."""
    result, tested = report.result, report.result.test_sets[ANY_CORPUS]
    by_speaker = _intervals(report, "over_speakers")
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
        "pairs": [
            {
                "tests": found.tests,
                "how": found.how,
                "p_holm": found.p_holm,
                "first": found.pair.first,
                "second": found.pair.second,
                "metric": found.pair.column.metric,
                "basis": found.basis,
                "verdict": found.finding,
            }
            for found in result.comparisons
        ],
        "notes": words.notes_of(report),
    }
    return _json(content)


def set_csv(report: TableReport) -> str:
    """A line a model and metric; speaker columns blank where there are too few."""
    by_speaker = _intervals(report, "over_speakers")
    rows = [
        {"model": name, "metric": metric}
        | _interval(found, "score", "")
        | _numbers(
            by_speaker[name].get(metric), {"speaker_low": "low", "speaker_high": "high"}
        )
        for name, scores in _intervals(report, "mean").items()
        for metric, found in scores.items()
    ]
    for column in report.result.spec.columns:
        chance = six(report.result.chance[column])
        rows.append({"model": "chance", "metric": column.metric, "score": chance})
    return _csv(rows)


def latex(report: TableReport) -> str:
    r"""The table for a paper: a ``tabular`` of the ``booktabs`` package.

    Each row has a line of scores, one of intervals, one of the spread over seeds where
    there are several, and one of the paper's values with the difference to them.
    """
    result, spec = report.result, report.result.spec
    heads = [_escape(spec.column_name(column)) for column in spec.columns]
    small = r"\scriptsize {}" if report.one_set else _SMALL
    rows: list[Sequence[str] | None] = [["Model", *heads], None]
    for row, described in spec.rows.items():
        cells = [result.cells[row].get(column) for column in spec.columns]
        deviations = [c.seed_deviation if c else None for c in cells]
        papers = [words.paper_lines(report, row, column)[:1] for column in spec.columns]
        rows.append(
            [
                described.name,
                *(printed(c.mean.estimate if c else None, nothing="--") for c in cells),
            ]
        )
        for part in (
            [ends(c.mean) if c else "" for c in cells],
            [rf"$\pm$ {d:.3f} over seeds" if d is not None else "" for d in deviations],
            ["".join(map(_escape, paper)) for paper in papers],
        ):
            if any(part):
                rows.append(["", *(text and small.format(text) for text in part)])
    chance = [printed(result.chance.get(column)) for column in spec.columns]
    reasons = [r for corpus in spec.corpora if (r := result.incomparable(corpus))]
    last = ""
    if reasons:
        text = _escape(f"{words.INCOMPARABLE} not comparable: {'; '.join(reasons)}")
        text = _SMALL.format(text)
        last = rf"\multicolumn{{{len(heads) + 1}}}{{l}}{{{text}}} \\" + "\n"
    notes = [*words.warnings_of(report), *words.limits_of(report)]
    if report.one_set:
        notes = words.notes_of(report)
    rows += [None, ["Chance", *chance]]
    return _tabular("l" + "c" * len(heads), rows, notes, last)


def comparisons_latex(report: TableReport) -> str:
    r"""The comparisons for a paper: a ``tabular`` of the ``booktabs`` package."""
    heads = ["Models", "Score", "Difference", r"$p_\mathrm{Holm}$", "Verdict"]
    rows: list[Sequence[str] | None] = [heads, None]
    for row, found in zip(pair_grid(report), report.result.comparisons, strict=True):
        small = _SMALL.format(f"${ends(found.result, '+.3f')}$")
        difference = f"${signed(found.result.difference)}$ {small}"
        p, verdict = f"${row['p (Holm)']}$", row["verdict"]
        rows.append([row["rows"], _escape(row["score"]), difference, p, verdict])
    return _tabular("llcrl", rows, [words.how_tested(report)])


_SMALL = r"{{\scriptsize {}}}"
# What LaTeX reads as a command, or its fonts lack.
_LATEX: dict[str, str | int | None] = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "−": "$-$",
    "±": r"$\pm$",
    words.INCOMPARABLE: r"$^\dagger$",
}


def _escape(text: str) -> str:
    return text.translate(str.maketrans(_LATEX))


def _tabular(
    columns: str,
    rows: Iterable[Sequence[str] | None],
    notes: Iterable[str],
    last: str = "",
) -> str:
    """LaTeX of rows, whose first cells are plain text; None is a rule."""
    comment = r"% Generated by espnet_ext.bin.ser_score; needs \usepackage{booktabs}"
    lines = [comment, *(f"% {note}" for note in notes)]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    for row in rows:
        if row is None:
            lines.append(r"\midrule")
            continue
        name, *cells = row
        # After \\ a name that begins with [ or * would be read as its argument.
        first = "{}" * name.startswith(("[", "*")) + _escape(name)
        lines.append(" & ".join([first, *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", rf"{last}\end{{tabular}}"]) + "\n"


def terminal(report: TableReport) -> str:
    """The table for a terminal, or its matrices one below the other."""
    result, spec = report.result, report.result.spec
    title = spec.title + " (mean of folds)" * report.several_folds
    lines = [title]
    for metric in spec.metrics:
        name = f"{METRIC_NAMES[metric]}: trained on (rows), tested on (columns)"
        if named := heads(result, metric):
            lines += ["", name, *_terminal_grid(report, named)]
    if not spec.metrics:
        named = {column: spec.column_name(column) for column in spec.columns}
        lines += _terminal_grid(report, named)
    tested = f"{words.describe_set(report)}; " if report.one_set else ""
    lines.append(f"{tested}[95 % bootstrap interval]")
    if spec.metrics:
        lines[-1] += f"; {SEEN}: trained on other utterances of this corpus"
    if report.claims:
        lines += ["", f"What the {spec.source} claims, on this data:"]
        lines += [f"{c.words:28} {c.claim.says}" for c in report.claims]
    notes = words.warnings_of(report)
    if report.one_set:
        notes = [*words.limits_of_sets(report), *notes]
    return "\n".join([*lines, *(f"note: {text}" for text in notes)])


def _terminal_grid(report: TableReport, named: Mapping[Column, str]) -> list[str]:
    """Scores, intervals and the paper's values in some columns."""
    result, spec = report.result, report.result.spec
    width = max(15, *(len(head) + 2 for head in named.values()))
    label = max(len(name) for name in ("chance", *(r.name for r in spec.rows.values())))

    def line(name: str, cells: Iterable[str]) -> str:
        text = name.ljust(label + 2) + "".join(cell.ljust(width) for cell in cells)
        return text.rstrip()

    def score(row: str, column: Column, cell: Cell | None) -> str:
        seen = spec.metrics and cell and is_trained_on(spec, row, column.corpus)
        return printed(cell.mean.estimate if cell else None) + f" {SEEN}" * bool(seen)

    rule = "-" * (label + width * len(named))
    lines = [line("", named.values()), rule]
    for row, described in spec.rows.items():
        cells = {column: result.cells[row].get(column) for column in named}
        intervals = [ends(cell.mean) if cell else "" for cell in cells.values()]
        paper = [
            f"{spec.source} {described.paper[column]:.3f}"
            + words.INCOMPARABLE * bool(result.incomparable(column.corpus))
            if column in described.paper
            else ""
            for column in named
        ]
        lines += [
            line(described.name, (score(row, *item) for item in cells.items())),
            line("", (text.replace("0.", ".") for text in intervals)),
            *([line("", paper)] if any(paper) else []),
        ]
    chance = [printed(result.chance.get(column)) for column in named]
    return [*lines, rule, line("chance", chance)]

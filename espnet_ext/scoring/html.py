"""A table's results as one HTML file: no other file, no network, no script.

Figures are in it. It follows the reader's choice of light or dark, wide tables scroll
by themselves on a phone, and nothing is said by colour alone.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

from espnet_ext.scoring.claims import LEGEND, ClaimResult, Verdict
from espnet_ext.scoring.report import ends_text
from espnet_ext.scoring.table_report import (
    HARDWARE_HEADS,
    PAIR_HEADS,
    TableReport,
    condition_text,
    describe_run,
    describe_tests,
    detail_cells,
    detail_heads,
    duration,
    hardware_cells,
    hardware_total,
    how_tested,
    how_to_read,
    limits_of,
    pair_cells,
    paper_lines,
    printed,
    seeds_of,
    signed,
    warnings_of,
    with_interval,
)
from espnet_ext.scoring.table_scores import Cell
from espnet_ext.scoring.table_spec import Column

# Section -> what the page's navigation calls it.
_LINKS = {
    "table": "Table",
    "claims": "Claims",
    "comparisons": "Comparisons",
    "figures": "Figures",
    "hardware": "Where and how long",
    "runs": "Runs",
}

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c1c1c; --soft: #5c5c5c;
  --line: #d9d9d9; --card: #f5f6f8; --good: #00664c; --fair: #7a5300; --bad: #a83a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e8e8e8;
  --soft: #a9adb3; --line: #3a3f46; --card: #1e2227; --good: #4fd1a8; --fair: #f0b94a;
  --bad: #ff9466; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, li { max-width: 52rem; } .soft { color: var(--soft); font-size: 0.875rem; }
.warning { border-left: 4px solid var(--bad); background: var(--card);
  padding: 0.6rem 0.9rem; margin: 0.6rem 0; max-width: none; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); white-space: nowrap; }
tbody th { font-weight: 600; min-width: 8rem; }
.named tbody th { position: sticky; left: 0; background: var(--paper); }
td small { display: block; color: var(--soft); white-space: nowrap; }
td.wide { min-width: 16rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; display: block; background: #ffffff;
  border-radius: 6px; padding: 6px; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: 0.875rem; margin-top: 0.3rem; }
.verdict { font-weight: 700; white-space: nowrap; } .holds { color: var(--good); }
.sign { color: var(--fair); } .fails { color: var(--bad); }
code { font-size: 0.85em; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; } a { color: inherit; }
@media (max-width: 40rem) { figure { overflow-x: auto; }
  figure img { max-width: none; width: 46rem; } }
summary { cursor: pointer; }
"""

_VERDICTS = {
    Verdict.HOLDS: ("holds", "✓"),
    Verdict.IN_SIGN: ("sign", "~"),
    Verdict.UNDECIDED: ("sign", "~"),
    Verdict.FAILS: ("fails", "✗"),
    Verdict.UNTESTED: ("soft", "?"),
}


def format_html(report: TableReport, figures: Mapping[str, tuple[str, bytes]]) -> str:
    """Write the page.

    Args:
        report: The results.
        figures: Name -> (caption, PNG file).
    """
    title = _text(report.result.spec.title)
    rest = {name: figure for name, figure in figures.items() if name != "table"}
    sections = [
        *_section("table", _table_title(report), _scores(report)),
        *_figure(figures.get("table")),
        f'<p class="soft">{_text(how_to_read(report))}</p>',
        *_folds(report),
        *_section("claims", "The paper's claims", _claims(report)),
        *_section("comparisons", "Comparisons", _comparisons(report)),
        *_section(
            "figures",
            "Figures",
            [line for figure in rest.values() for line in _figure(figure)],
        ),
        *_section(
            "notes", "Notes", _list([*limits_of(report), *report.result.spec.notes])
        ),
        *_section("hardware", "Where and how long", _hardware(report)),
        *_section("runs", "Runs and environment", _runs(report)),
    ]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        _navigation(sections),
        "<ul>",
        *(f"<li>{_text(line)}</li>" for line in describe_tests(report)),
        f"<li>Seeds: {', '.join(map(str, seeds_of(report)))}</li></ul>",
        *(f'<p class="warning">{_text(w)}</p>' for w in warnings_of(report)),
        *sections,
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _navigation(lines: Sequence[str]) -> str:
    """Link to the sections that are there."""
    links = [
        f'<a href="#{name}">{title}</a>'
        for name, title in _LINKS.items()
        if any(line.startswith(f'<h2 id="{name}">') for line in lines)
    ]
    return f"<nav>{''.join(links)}</nav>"


def _text(text: str) -> str:
    return html.escape(text)


def _section(name: str, title: str, body: Sequence[str]) -> list[str]:
    return [f'<h2 id="{name}">{_text(title)}</h2>', *body] if body else []


def _list(items: Iterable[str]) -> list[str]:
    lines = [f"<li>{_text(item)}</li>" for item in items]
    return ["<ul>", *lines, "</ul>"] if lines else []


def _figure(figure: tuple[str, bytes] | None) -> list[str]:
    if figure is None:
        return []
    caption, image = figure
    data = base64.b64encode(image).decode()
    return [
        f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    ]


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Make a table that scrolls by itself; the first cell of a row names it."""
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    # A name stays in view while its row is scrolled, unless it is a whole sentence.
    kind = "scroll" if heads[0] == "claim" else "scroll named"
    lines = [f'<div class="{kind}"><table>', f"<thead><tr>{head}</tr></thead><tbody>"]
    for first, *others in rows:
        cells = "".join(
            cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in others
        )
        lines.append(f"<tr><th>{first}</th>{cells}</tr>")
    return [*lines, "</tbody></table></div>"]


def _table_title(report: TableReport) -> str:
    return "The table: mean of folds" if report.several_folds else "The table"


def _scores(report: TableReport) -> list[str]:
    spec, result = report.result.spec, report.result

    def cell_text(row: str, column: Column) -> str:
        cell = result.cells[row].get(column)
        paper = paper_lines(report, row, column)
        small = "".join(f"<small>{_text(line)}</small>" for line in paper)
        if cell is None:
            return small
        lines = [f"<b>{cell.mean.estimate:.3f}</b>"]
        lines.append(f"<small>{ends_text(cell.mean)}</small>")
        if cell.seed_deviation is not None:
            lines.append(f"<small>± {cell.seed_deviation:.3f} over seeds</small>")
        if cell.runs != cell.expected:
            lines.append(f"<small>{cell.runs} of {cell.expected} runs</small>")
        return "".join(lines) + small

    rows = [
        [_text(described.name), *(cell_text(row, column) for column in spec.columns)]
        for row, described in spec.rows.items()
    ]
    rows.append(["chance", *(printed(result.chance.get(c)) for c in spec.columns)])
    return _grid(["", *(spec.column_name(c) for c in spec.columns)], rows)


def _folds(report: TableReport) -> list[str]:
    """Pooled scores and those of each fold, folded away; nothing for one test set."""
    if not report.several_folds:
        return []
    spec, cells = report.result.spec, report.result.cells

    def pooled(cell: Cell | None) -> str:
        return "" if cell is None else _text(with_interval(cell.pooled))

    by_fold = [
        [
            f"{_text(described.name)}, {_text(spec.column_name(column))}",
            *(printed(cells[row][column].by_fold.get(n)) for n in spec.folds),
        ]
        for row, described in spec.rows.items()
        for column in spec.columns
        if column in cells[row]
    ]
    return [
        "<details><summary>Pooled over folds: the predictions of all folds scored once "
        "(other numbers than the means above)</summary>",
        *_grid(
            ["", *(spec.column_name(c) for c in spec.columns)],
            [
                [_text(d.name), *(pooled(cells[row].get(c)) for c in spec.columns)]
                for row, d in spec.rows.items()
            ],
        ),
        "</details><details><summary>Fold by fold</summary>",
        *_grid(["", *(f"fold {n}" for n in spec.folds)], by_fold),
        "</details>",
    ]


def _claims(report: TableReport) -> list[str]:
    if not report.claims:
        return []
    rows = [
        [_text(claim.claim.says), _verdict(claim), _conditions(report, claim)]
        for claim in report.claims
    ]
    return [
        f'<p class="soft">{_text(LEGEND)}</p>',
        *_grid(["claim", "verdict", "differences here (in the paper)"], rows),
    ]


def _verdict(claim: ClaimResult) -> str:
    name, mark = _VERDICTS[claim.verdict]
    return f'<td class="verdict {name}">{mark} {_text(claim.words)}</td>'


def _conditions(report: TableReport, claim: ClaimResult) -> str:
    lines = []
    for found in claim.conditions:
        paper = "" if found.paper is None else f" ({signed(found.paper)})"
        lines.append(_text(condition_text(report, found) + paper))
    return f'<td class="wide">{"<br>".join(lines)}</td>'


def _comparisons(report: TableReport) -> list[str]:
    """One verdict a comparison; every test behind it, folded away."""
    found = report.result.comparisons
    if not found:
        return []
    rows = []
    for comparison in found:
        cells = [_text(cell) for cell in pair_cells(report, comparison)]
        if comparison.finding in ("higher", "lower"):
            cells[-1] = f"<b>{cells[-1]}</b>"
        rows.append(cells)
    details = [[_text(cell) for cell in detail_cells(report, c)] for c in found]
    return [
        f'<p class="soft">{_text(how_tested(report))}</p>',
        *_grid(PAIR_HEADS, rows),
        "<details><summary>Each test, not corrected</summary>",
        *_grid(detail_heads(report), details),
        "</details>",
    ]


def _hardware(report: TableReport) -> list[str]:
    if not report.times:
        return []
    rows = [[_text(text) for text in hardware_cells(s)] for s in report.hardware]
    return [f"<p>{_text(hardware_total(report))}</p>", *_grid(HARDWARE_HEADS, rows)]


def _runs(report: TableReport) -> list[str]:
    environment = report.environment
    facts = {
        "made": environment.date,
        "versions": f"python {environment.python}, espnet {environment.espnet}, "
        f"pytorch {environment.torch}, numpy {environment.numpy}, espnet_ext "
        f"{environment.espnet_ext}",
        "git": environment.git,
        "hardware of this table": environment.hardware,
    }
    rows = []
    for record in report.records:
        time = report.times.get(record.key)
        there = record.predictions
        rows.append(
            [
                _text(describe_run(report, record.key)),
                "" if time is None else duration(time.seconds),
                "" if time is None or time.epochs is None else str(time.epochs),
                "" if time is None else _text(", ".join(time.hosts)),
                f"<code>{_text(str(there))}</code>" if there else "<b>missing</b>",
                f"<code>{_text(record.config)}</code>",
                f"<code>{_text(record.training[:16])}</code>",
            ]
        )
    heads = ["run", "took", "epochs", "on", "predictions", "config", "training"]
    return [
        *_list(f"{name}: {value}" for name, value in facts.items()),
        f"<details><summary>{len(rows)} runs</summary>",
        *_grid(heads, rows),
        "</details>",
    ]

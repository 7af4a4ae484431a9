"""RESULTS.md and the HTML page: sections and grids, and the templates they fill."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from espnet_ext.scoring import matrix, words
from espnet_ext.scoring.bootstrap import Comparison
from espnet_ext.scoring.claims import LEGEND
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.metrics import METRIC_NAMES
from espnet_ext.scoring.scores import Cell
from espnet_ext.scoring.spec import Column
from espnet_ext.scoring.text import duration, ends, p_text, printed, signed, with_ends
from espnet_ext.scoring.trainings import hardware_shares
from espnet_ext.scoring.verdicts import Basis
from espnet_ext.scoring.words import TableReport

Images = Mapping[str, tuple[str, bytes]]  # file's stem -> caption and PNG


Rows = Sequence[Mapping[str, str]]  # head -> cell; its lines are parted by newlines


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page."""

    title: str
    text: str = ""
    grid: Rows = ()
    legend: str = ""  # below the grid
    behind: Rows = ()  # every test, folded away
    lines: Sequence[str] = ()  # of a list
    folded: bool = False  # whether the HTML page shows it only on a click


def fill(template: str, report: TableReport, images: Images) -> str:
    """Fill ``results.md.j2``, as ESPnet's recipes have it, or ``report.html.j2``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    values: dict[str, Any] = {
        "title": report.result.spec.title,
        "made_with": asdict(report.environment),
        "tested": words.describe_tests(report),
        "warnings": words.warnings_of(report),
        "sections": [s for s in sections_of(report) if s.grid or s.lines],
    }
    filled = environment.get_template(template).render(images=images, **values)
    return filled.strip() + "\n"


def sections_of(report: TableReport) -> list[Section]:
    """Lay out a table, or models on one test set."""
    result = report.result
    title = "Mean of folds" if report.several_folds else "Scores"
    sections = [Section(title, "", _score_grid(report), words.how_to_read(report))]
    if result.spec.metrics:
        sections = _matrix_sections(report)
    if report.several_folds:
        text = (
            "The predictions of all folds put together and scored once: other numbers "
            "than the means above, and not what cross validation usually reports."
        )
        grid = _columns_grid(
            report,
            lambda row, column, cell: (
                [with_ends(cell.pooled)]
                if cell
                else words.paper_lines(report, row, column)
            ),
        )
        sections.append(Section("Pooled over folds", text, grid, folded=True))
        text, grid = "Mean over seeds.", _fold_grid(report)
        sections.append(Section("Fold by fold", text, grid, folded=True))
    cells = [cell for found in result.cells.values() for cell in found.values()]
    if report.one_set and any(cell.over_speakers for cell in cells):
        text = (
            "The same scores, with speakers drawn instead of utterances: what other "
            "speakers may give."
        )
        grid = _columns_grid(
            report,
            lambda row, column, cell: (
                [with_ends(cell.over_speakers)] if cell and cell.over_speakers else []
            ),
        )
        sections.append(Section("Intervals over speakers", text, grid))
    if result.comparisons:
        text, grid, behind = (
            words.how_tested(report),
            pair_grid(report),
            _test_grid(report),
        )
        sections.append(Section("Comparisons", text, grid, behind=behind))
    if report.claims:
        sections.append(Section("The paper's claims", LEGEND, _claim_grid(report)))
    notes = [*words.limits_of(report), *result.spec.notes]
    sections.append(Section("Notes", lines=notes))
    if report.times:
        text, grid = words.hardware_total(report), _hardware_grid(report)
        sections.append(Section("Where and how long", text, grid))
    return [*sections, Section("Runs", "", _run_grid(report), folded=True)]


def _matrix_sections(report: TableReport) -> list[Section]:
    """A section a metric: what was trained on down, what was tested on across."""
    result = report.result
    sections = []
    for metric in result.spec.metrics:
        if heads := matrix.heads(result, metric):
            name = METRIC_NAMES[metric] + ", mean of folds" * report.several_folds
            title = f"{name}: trained on (rows), tested on (columns)"
            sections.append(Section(title, "", _score_grid(report, heads)))
    legend = f"{matrix.LEGEND} {words.how_to_read(report)}"
    sections[-1] = replace(sections[-1], legend=legend)
    notes = matrix.label_notes(result, report.trained_labels)
    grid = matrix.label_grid(result)
    return [*sections, Section("Classes that are tested", "", grid, lines=notes)]


def _score_grid(
    report: TableReport, heads: Mapping[Column, str] | None = None
) -> list[dict[str, str]]:
    """The table itself: each cell's score, interval, spread over seeds and paper.

    `heads` are the columns of one matrix; without them, all columns.
    """
    spec = report.result.spec

    def lines(row: str, column: Column, cell: Cell | None) -> Iterable[str]:
        seen = heads is not None and matrix.is_trained_on(spec, row, column.corpus)
        yield printed(cell.mean.estimate) + f" {matrix.SEEN}" * seen if cell else ""
        if cell is not None:
            few = f" ({cell.runs} of {cell.expected} runs)"
            yield ends(cell.mean) + few * (cell.runs != cell.expected)
            if cell.seed_deviation is not None:
                yield f"± {cell.seed_deviation:.3f} over seeds"
        yield from words.paper_lines(report, row, column)

    return _columns_grid(report, lines, heads)


def _columns_grid(
    report: TableReport,
    lines: Callable[[str, Column, Cell | None], Iterable[str]],
    heads: Mapping[Column, str] | None = None,
) -> list[dict[str, str]]:
    spec, result = report.result.spec, report.result
    names = heads or {column: spec.column_name(column) for column in spec.columns}
    first = "trained on" if heads else "model"
    rows = [
        {first: row.name}
        | {
            name: "\n".join(lines(key, column, result.cells[key].get(column)))
            for column, name in names.items()
        }
        for key, row in spec.rows.items()
    ]
    chance = {name: printed(result.chance.get(c)) for c, name in names.items()}
    return [*rows, {first: "chance"} | chance]


def _fold_grid(report: TableReport) -> list[dict[str, str]]:
    """Each fold's scores."""
    spec, cells = report.result.spec, report.result.cells
    return [
        {"model": row.name, "score": spec.column_name(column)}
        | {f"fold {n}": printed(cells[key][column].by_fold.get(n)) for n in spec.folds}
        for key, row in spec.rows.items()
        for column in spec.columns
        if column in cells[key]
    ]


def pair_grid(report: TableReport) -> list[dict[str, str]]:
    """One verdict a comparison."""
    return [
        _pair_names(report, found)
        | {
            "difference": with_ends(found.result),
            "p (Holm)": p_text(found.p_holm),
            "verdict": found.words,
        }
        for found in report.result.comparisons
    ]


def _pair_names(report: TableReport, found: TableComparison) -> dict[str, str]:
    spec, pair = report.result.spec, found.pair
    return {"rows": spec.pair_name(pair), "score": spec.column_name(pair.column)}


def _test_grid(report: TableReport) -> list[dict[str, str]]:
    """Every test behind the verdicts."""
    comparisons = report.result.comparisons
    bases = [b for b in Basis if any(b in c.tests for c in comparisons)]

    def text(test: Comparison | None) -> str:
        return f"{ends(test, '+.3f')}, p {p_text(test.p)}" if test else "n/a"

    return [
        _pair_names(report, found)
        | {"verdict by": f"{found.how}, over {found.basis}"}
        | {f"over {basis}": text(found.tests.get(basis)) for basis in bases}
        | {"pooled": with_ends(found.pooled), "by seed": words.seed_tests(found)}
        for found in comparisons
    ]


def _claim_grid(report: TableReport) -> list[dict[str, str]]:
    """What the paper says, and what became of it."""
    return [
        {
            "claim": claim.claim.says,
            "verdict": f"**{claim.words}**",
            "differences here": "\n".join(
                words.condition_text(report, found) for found in claim.conditions
            ),
            "in the paper": "\n".join(signed(c.paper) for c in claim.conditions),
        }
        for claim in report.claims
    ]


def _hardware_grid(report: TableReport) -> list[dict[str, str]]:
    """What was trained on which kind of machine."""

    def listed(hosts: Sequence[str]) -> str:
        more = len(hosts) - 4
        return ", ".join(hosts[:4]) + f" and {more} more" * (more > 0)

    return [
        {
            "hardware": share.hardware,
            "software": share.software,
            "machines": listed(share.hosts),
            "trainings": str(share.trainings),
            "wall time": duration(share.seconds),
        }
        for share in hardware_shares(report.times.values())
    ]


def _run_grid(report: TableReport) -> list[dict[str, str]]:
    """Each run: what it took, and the files that it is of."""
    rows = []
    for run in report.records:
        time = report.times.get(run.key)
        rows.append(
            {
                "run": words.describe_run(report, run.key),
                "training took": duration(time.seconds) if time else "",
                "epochs": str(time.epochs) if time else "",
                "on": ", ".join(time.hosts) if time else "",
                "predictions": f"`{run.predictions or ''}`",
                "config": f"`{run.config}`",
                "training": f"`{run.training[:16]}`",
            }
        )
        rows[-1] |= {head: "" for head, text in rows[-1].items() if text == "``"}
        rows[-1]["predictions"] = rows[-1]["predictions"] or "**missing**"
    return rows

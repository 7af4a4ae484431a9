"""RESULTS.md and the HTML page: sections and grids, and the templates they fill."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from espnet_ext.scoring.claims import LEGEND, ClaimResult
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.runs import RunRecord
from espnet_ext.scoring.scores import Cell
from espnet_ext.scoring.spec import Column
from espnet_ext.scoring.text import (
    duration,
    ends,
    p_text,
    printed,
    signed,
    with_ends,
)
from espnet_ext.scoring.trainings import HardwareShare, hardware_shares
from espnet_ext.scoring.verdicts import Basis
from espnet_ext.scoring.words import (
    TableReport,
    condition_text,
    describe_run,
    describe_tests,
    hardware_total,
    how_tested,
    how_to_read,
    limits_of,
    paper_lines,
    seed_tests,
    warnings_of,
)

Images = Mapping[str, tuple[str, bytes]]  # file's stem -> caption and PNG


@dataclass(frozen=True, slots=True)
class Grid:
    """Heads and rows of a table; in pages, a cell's lines are parted by newlines."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def tabulate[T](items: Iterable[T], columns: Mapping[str, Callable[[T], str]]) -> Grid:
    """A row an item; `columns` has what stands below each head."""
    return Grid([*columns], [[of(item) for of in columns.values()] for item in items])


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page."""

    title: str
    text: str = ""
    grid: Grid | None = None
    legend: str = ""  # below the grid
    behind: Grid | None = None  # every test, folded away
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
        "tested": describe_tests(report),
        "warnings": warnings_of(report),
        "sections": [s for s in sections_of(report) if s.grid or s.lines],
    }
    filled = environment.get_template(template).render(images=images, **values)
    return filled.strip() + "\n"


def sections_of(report: TableReport) -> list[Section]:
    """Lay out a table, or models on one test set."""
    result = report.result
    title = "Mean of folds" if report.several_folds else "Scores"
    sections = [Section(title, "", _score_grid(report), how_to_read(report))]
    if report.several_folds:
        text = (
            "The predictions of all folds put together and scored once: other numbers "
            "than the means above, and not what cross validation usually reports."
        )
        grid = _columns_grid(
            report,
            lambda row, column, cell: (
                [with_ends(cell.pooled)] if cell else paper_lines(report, row, column)
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
        text, grid, behind = how_tested(report), _pair_grid(report), _test_grid(report)
        sections.append(Section("Comparisons", text, grid, behind=behind))
    if report.claims:
        sections.append(Section("The paper's claims", LEGEND, _claim_grid(report)))
    notes = [*limits_of(report), *result.spec.notes]
    sections.append(Section("Notes", lines=notes))
    if report.times:
        text, grid = hardware_total(report), _hardware_grid(report)
        sections.append(Section("Where and how long", text, grid))
    return [*sections, Section("Runs", "", _run_grid(report), folded=True)]


def _score_grid(report: TableReport) -> Grid:
    """The table itself: each cell's score, interval, spread over seeds and paper."""

    def lines(row: str, column: Column, cell: Cell | None) -> Iterable[str]:
        yield printed(cell.mean.estimate) if cell else ""
        if cell is not None:
            few = f" ({cell.runs} of {cell.expected} runs)"
            yield ends(cell.mean) + few * (cell.runs != cell.expected)
            if cell.seed_deviation is not None:
                yield f"± {cell.seed_deviation:.3f} over seeds"
        yield from paper_lines(report, row, column)

    return _columns_grid(report, lines)


def _columns_grid(
    report: TableReport, lines: Callable[[str, Column, Cell | None], Iterable[str]]
) -> Grid:
    spec, result = report.result.spec, report.result
    rows = []
    for key, row in spec.rows.items():
        cells = [(column, result.cells[key].get(column)) for column in spec.columns]
        rows.append([row.name, *("\n".join(lines(key, *cell)) for cell in cells)])
    rows.append(["chance", *(printed(result.chance.get(c)) for c in spec.columns)])
    return Grid(["model", *map(spec.column_name, spec.columns)], rows)


def _fold_grid(report: TableReport) -> Grid:
    """Each fold's scores."""
    spec, cells = report.result.spec, report.result.cells
    rows = [
        [
            row.name,
            spec.column_name(column),
            *(printed(cells[key][column].by_fold.get(n)) for n in spec.folds),
        ]
        for key, row in spec.rows.items()
        for column in spec.columns
        if column in cells[key]
    ]
    return Grid(["model", "score", *(f"fold {n}" for n in spec.folds)], rows)


def _pair_columns(
    report: TableReport,
) -> dict[str, Callable[[TableComparison], str]]:
    spec = report.result.spec
    return {
        "rows": lambda found: spec.pair_name(found.pair),
        "score": lambda found: spec.column_name(found.pair.column),
    }


def _pair_grid(report: TableReport) -> Grid:
    """One verdict a comparison."""
    columns = {
        **_pair_columns(report),
        "difference": lambda found: with_ends(found.result),
        "p (Holm)": lambda found: p_text(found.p_holm),
        "verdict": lambda found: found.words,
    }
    return tabulate(report.result.comparisons, columns)


def _test_grid(report: TableReport) -> Grid:
    """Every test behind the verdicts."""
    comparisons = report.result.comparisons

    def bounds(basis: Basis) -> Callable[[TableComparison], str]:
        def text(found: TableComparison) -> str:
            test = found.tests.get(basis)
            return f"{ends(test, '+.3f')}, p {p_text(test.p)}" if test else "n/a"

        return text

    bases = [b for b in Basis if any(b in c.tests for c in comparisons)]
    columns = {
        **_pair_columns(report),
        "verdict by": lambda found: f"{found.how}, over {found.basis}",
        **{f"over {basis}": bounds(basis) for basis in bases},
        "pooled": lambda found: with_ends(found.pooled),
        "by seed": seed_tests,
    }
    return tabulate(comparisons, columns)


def _claim_grid(report: TableReport) -> Grid:
    """What the paper says, and what became of it."""
    columns: dict[str, Callable[[ClaimResult], str]] = {
        "claim": lambda claim: claim.claim.says,
        "verdict": lambda claim: f"**{claim.words}**",
        "differences here": lambda claim: "\n".join(
            condition_text(report, found) for found in claim.conditions
        ),
        "in the paper": lambda claim: "\n".join(
            signed(found.paper) for found in claim.conditions
        ),
    }
    return tabulate(report.claims, columns)


def _hardware_grid(report: TableReport) -> Grid:
    """What was trained on which kind of machine."""

    def hosts(share: HardwareShare) -> str:
        more = len(share.hosts) - 4
        return ", ".join(share.hosts[:4]) + f" and {more} more" * (more > 0)

    columns: dict[str, Callable[[HardwareShare], str]] = {
        "hardware": lambda share: share.hardware,
        "software": lambda share: share.software,
        "machines": hosts,
        "trainings": lambda share: str(share.trainings),
        "wall time": lambda share: duration(share.seconds),
    }
    return tabulate(hardware_shares(report.times.values()), columns)


def _run_grid(report: TableReport) -> Grid:
    """Each run: what it took, and the files that it is of."""
    times = report.times

    def took(of: Callable[[Any], str]) -> Callable[[RunRecord], str]:
        return lambda run: of(times[run.key]) if run.key in times else ""

    def quoted(text: object, nothing: str = "") -> str:
        return f"`{text}`" if text else nothing

    columns: dict[str, Callable[[RunRecord], str]] = {
        "run": lambda run: describe_run(report, run.key),
        "training took": took(lambda time: duration(time.seconds)),
        "epochs": took(lambda time: str(time.epochs)),
        "on": took(lambda time: ", ".join(time.hosts)),
        "predictions": lambda run: quoted(run.predictions, "**missing**"),
        "config": lambda run: quoted(run.config),
        "training": lambda run: quoted(run.training[:16]),
    }
    return tabulate(report.records, columns)

"""A report as one page of sections, from which markdown and HTML are rendered."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from espnet_ext.scoring.claims import LEGEND
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.scores import Cell
from espnet_ext.scoring.spec import Column
from espnet_ext.scoring.text import (
    difference_text,
    duration,
    ends_signed,
    ends_text,
    p_text,
    printed,
    signed,
    with_interval,
)
from espnet_ext.scoring.trainings import Environment
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
    pair_name,
    paper_lines,
    seed_tests,
    warnings_of,
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Heads and rows in markdown; a cell's lines are parted by newlines."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


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


@dataclass(frozen=True, slots=True)
class Page:
    """RESULTS.md or the HTML page, figures aside."""

    title: str
    environment: Environment
    tested: Sequence[str]  # what the models were tested on
    warnings: Sequence[str]
    sections: Sequence[Section]


def make_page(report: TableReport) -> Page:
    """Lay out a table, or models on one test set."""
    result, spec = report.result, report.result.spec
    title = "Mean of folds" if report.several_folds else "Scores"
    sections = [Section(title, "", score_grid(report), how_to_read(report))]
    if report.several_folds:
        text = (
            "The predictions of all folds put together and scored once: other numbers "
            "than the means above, and not what cross validation usually reports."
        )
        grid = _columns_grid(
            report,
            lambda row, column, cell: (
                [with_interval(cell.pooled)]
                if cell
                else paper_lines(report, row, column)
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
                [with_interval(cell.over_speakers)]
                if cell and cell.over_speakers
                else []
            ),
        )
        sections.append(Section("Intervals over speakers", text, grid))
    if result.comparisons:
        text, grid, behind = how_tested(report), _pair_grid(report), _test_grid(report)
        sections.append(Section("Comparisons", text, grid, behind=behind))
    if report.claims:
        sections.append(Section("The paper's claims", LEGEND, _claim_grid(report)))
    sections.append(Section("Notes", lines=[*limits_of(report), *spec.notes]))
    if report.times:
        text, grid = hardware_total(report), _hardware_grid(report)
        sections.append(Section("Where and how long", text, grid))
    sections.append(Section("Runs", "", _run_grid(report), folded=True))
    tested = describe_tests(report)
    if not report.one_set:
        tested.append(f"seeds: {', '.join(map(str, report.seeds))}")
    warnings = warnings_of(report)
    return Page(spec.title, report.environment, tested, warnings, sections)


def score_grid(report: TableReport) -> Grid:
    """The table itself: each cell's score, interval, spread over seeds and paper."""

    def lines(row: str, column: Column, cell: Cell | None) -> Iterable[str]:
        yield "" if cell is None else printed(cell.mean.estimate)
        if cell is not None:
            ends = ends_text(cell.mean)
            if cell.runs != cell.expected:
                ends += f" ({cell.runs} of {cell.expected} runs)"
            yield ends
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
    return Grid(["model", *(spec.column_name(c) for c in spec.columns)], rows)


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


def _pair_grid(report: TableReport) -> Grid:
    """One verdict a comparison."""
    rows = [
        [
            pair_name(report, found.pair),
            report.result.spec.column_name(found.pair.column),
            difference_text(found.result),
            p_text(found.p_holm),
            found.words,
        ]
        for found in report.result.comparisons
    ]
    return Grid(("rows", "score", "difference", "p (Holm)", "verdict"), rows)


def _test_grid(report: TableReport) -> Grid:
    """Every test behind the verdicts."""
    comparisons = report.result.comparisons
    bases = [b for b in Basis if any(b in c.tests for c in comparisons)]

    def bounds(found: TableComparison, basis: Basis) -> str:
        test = found.tests.get(basis)
        return "n/a" if test is None else f"{ends_signed(test)}, p {p_text(test.p)}"

    rows = [
        [
            pair_name(report, found.pair),
            report.result.spec.column_name(found.pair.column),
            f"{found.how}, over {found.basis}",
            *(bounds(found, basis) for basis in bases),
            difference_text(found.pooled),
            seed_tests(found),
        ]
        for found in comparisons
    ]
    over = [f"over {basis}" for basis in bases]
    return Grid(["rows", "score", "verdict by", *over, "pooled", "by seed"], rows)


def _claim_grid(report: TableReport) -> Grid:
    """What the paper says, and what became of it."""
    rows = [
        [
            claim.claim.says,
            f"**{claim.words}**",
            "\n".join(condition_text(report, found) for found in claim.conditions),
            "\n".join(signed(found.paper) for found in claim.conditions),
        ]
        for claim in report.claims
    ]
    return Grid(("claim", "verdict", "differences here", "in the paper"), rows)


def _hardware_grid(report: TableReport) -> Grid:
    """What was trained on which kind of machine."""
    rows = []
    for share in report.hardware:
        hosts = ", ".join(share.hosts[:4])
        if len(share.hosts) > 4:
            hosts += f" and {len(share.hosts) - 4} more"
        numbers = (str(share.trainings), duration(share.seconds))
        rows.append([share.hardware, share.software, hosts, *numbers])
    return Grid(("hardware", "software", "machines", "trainings", "wall time"), rows)


def _run_grid(report: TableReport) -> Grid:
    """Each run: what it took, and the files that it is of."""
    rows = []
    for record in report.records:
        time = report.times.get(record.key)
        took = [duration(time.seconds), str(time.epochs)] if time else ["", ""]
        hosts = ", ".join(time.hosts) if time else ""
        files = (record.config, record.training[:16])
        rows.append(
            [
                *(describe_run(report, record.key), *took, hosts),
                f"`{record.predictions}`" if record.predictions else "**missing**",
                *(f"`{text}`" if text else "" for text in files),
            ]
        )
    took_heads = ("training took", "epochs", "on")
    return Grid(("run", *took_heads, "predictions", "config", "training"), rows)

"""A table's results as text: RESULTS.md, csv, json, LaTeX, and for a terminal.

Every writer takes the same `TableReport` and only writes it down.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from espnet_ext.scoring.bootstrap import Comparison, Interval
from espnet_ext.scoring.claims import LEGEND, ClaimResult, ConditionResult
from espnet_ext.scoring.names import class_name, code_notes, listed
from espnet_ext.scoring.report import (
    Environment,
    ends_signed,
    ends_text,
    p_text,
    without_nan,
)
from espnet_ext.scoring.table_runs import (
    HardwareShare,
    RunRecord,
    TrainingTime,
    hardware_shares,
)
from espnet_ext.scoring.table_scores import (
    Cell,
    RunKey,
    TableComparison,
    TableResult,
)
from espnet_ext.scoring.table_spec import CORPUS_NAMES, TABLE_METRICS, Column
from espnet_ext.scoring.verdicts import (
    HOW_TESTED,
    LEVEL,
    MIN_ROWS,
    MIN_SPEAKERS,
    SCOPES,
    Basis,
    describe_few,
    few_rows_note,
    too_few_resamples,
)


@dataclass(frozen=True, slots=True)
class TableReport:
    """Everything that a table's files say.

    Attributes:
        result: The scores.
        claims: What became of the paper's claims.
        records: The runs.
        times: What the finished trainings took.
        environment: What the table was made with.
    """

    result: TableResult
    claims: tuple[ClaimResult, ...]
    records: Sequence[RunRecord]
    times: Mapping[RunKey, TrainingTime]
    environment: Environment

    @property
    def several_folds(self) -> bool:
        """Whether mean of folds and pooled folds are two things."""
        return len(self.result.spec.folds) > 1

    @property
    def training_seconds(self) -> float:
        """Wall time of all trainings together."""
        return sum(time.seconds for time in self.times.values())

    @property
    def gpu_seconds(self) -> float:
        """The same, times the GPUs in use."""
        return sum(time.gpu_seconds for time in self.times.values())

    @property
    def hardware(self) -> list[HardwareShare]:
        """What was trained on which kind of machine."""
        return hardware_shares(self.times.values())


# ------------------------------------------------------------------------- wording


def printed(value: float | None) -> str:
    """Three decimals; a dash where there is nothing."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with sign; a dash where there is nothing."""
    return "-" if value is None or math.isnan(value) else f"{value:+.3f}"


def with_interval(interval: Interval) -> str:
    """A score and its interval."""
    if math.isnan(interval.estimate):
        return "-"
    return f"{interval.estimate:.3f} {ends_text(interval)}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


# Behind a value of the paper that is no yardstick here.
INCOMPARABLE = "†"


def paper_lines(report: TableReport, row: str, column: Column) -> list[str]:
    """The paper's value and the difference to it; nothing where it has none.

    A misprint's correction is given beside it, with its own difference. `INCOMPARABLE`
    marks values of another test set.
    """
    mark = INCOMPARABLE if report.result.incomparable(column.corpus) else ""
    described = report.result.spec.rows[row]
    cell = report.result.cells[row].get(column)
    found = []
    for name, value in (
        (report.result.spec.source, described.paper.get(column)),
        ("its V, A, D:", described.corrected.get(column)),
    ):
        if value is not None:
            text = f"{name} {value:.3f}{mark}"
            if cell is not None:
                text += f" ({signed(cell.mean.estimate - value)})"
            found.append(text)
    return found


def warnings_of(report: TableReport) -> list[str]:
    """What a reader must know before any number."""
    result = report.result
    found = []
    for corpus in result.spec.corpora:
        reason = result.incomparable(corpus)
        if reason is not None:
            name = CORPUS_NAMES.get(corpus, corpus)
            found.append(
                f'{name}: the values called "{result.spec.source}" are not comparable '
                f"(marked {INCOMPARABLE}): {reason}."
            )
    if result.missing:
        names = listed([describe_run(report, key) for key in result.missing])
        found.append(
            f"{len(result.missing)} of {len(report.records)} runs are missing: {names}."
            " Rows with fewer runs (marked with their number) are means over what "
            "is there; comparisons are on the folds and seeds that both rows have."
        )
    found += code_notes({describe_run(report, r.key): r.code for r in report.records})
    return found + too_few_resamples(result.tests, result.resamples)


def limits_of(report: TableReport) -> list[str]:
    """What the intervals and tests of this table cannot say."""
    result = report.result
    found = []
    for corpus, tested in result.test_sets.items():
        few = [
            text
            for fold, counts in tested.classes_by_fold.items()
            for text in describe_few(
                counts, f" in fold {fold}" if report.several_folds else ""
            )
        ]
        if few:
            found.append(f"{CORPUS_NAMES.get(corpus, corpus)}: {few_rows_note(few)}")
        if min(tested.by_fold.values()) < MIN_ROWS:
            found.append(
                f"{CORPUS_NAMES.get(corpus, corpus)}: a test set of fewer than "
                f"{MIN_ROWS} utterances has no interval that could be trusted."
            )
    if result.comparisons and len(seeds_of(report)) < 2:
        found.append(
            "One training for each row and fold: the comparisons are of these trained "
            "models. Whether one way to train is better than another, of which another "
            "seed is a part, takes several seeds (`--seeds 5`)."
        )
    return found


def describe_run(report: TableReport, key: RunKey) -> str:
    """Name a run."""
    text = report.result.spec.rows[key.row].name
    if report.several_folds:
        text += f" fold {key.fold}"
    return f"{text} seed {key.seed}"


def describe_tests(report: TableReport) -> list[str]:
    """One line for each corpus: what was tested."""
    lines = []
    for corpus, tested in report.result.test_sets.items():
        name = CORPUS_NAMES.get(corpus, corpus)
        text = f"{name}: {tested.utterances:,} test utterances"
        if len(tested.by_fold) > 1:
            sizes = ", ".join(f"{n}: {count}" for n, count in tested.by_fold.items())
            text += f" (folds {sizes})"
        if tested.speakers is not None:
            text += f", {tested.speakers} speakers"
        counts = ", ".join(
            f"{class_name(label)} {count}" for label, count in tested.classes.items()
        )
        lines.append(f"{text}; {counts}; fingerprint {tested.fingerprint}.")
    return lines


def pair_name(report: TableReport, comparison: TableComparison) -> str:
    """Name the two rows of a comparison."""
    rows = report.result.spec.rows
    pair = comparison.pair
    return f"{rows[pair.first].name} − {rows[pair.second].name}"


def seeds_of(report: TableReport) -> list[int]:
    """The seeds of the table."""
    return sorted({record.key.seed for record in report.records})


HOW_TO_READ = (
    "In brackets: 95 % bias-corrected percentile bootstrap over utterances, drawn "
    "within each fold ({resamples:,} resamples, seed {seed}; for UAR and macro-F1 "
    "within classes too). It speaks of other test utterances, not of other trainings. "
    "CCC is the mean of valence (V), arousal (A) and dominance (D). UAR and macro-F1 "
    "are means over the classes present in a fold's annotations; UAR (4) is over "
    "neutral, angry, happy and sad. Chance: always the most frequent class and the "
    "mean value."
)


def how_to_read(report: TableReport) -> str:
    """The legend of the scores."""
    result = report.result
    return HOW_TO_READ.format(resamples=result.resamples, seed=result.seed)


def how_tested(report: TableReport) -> str:
    """The legend of the comparisons."""
    result = report.result
    statistic = "the mean of folds" if report.several_folds else "the test set"
    text = HOW_TESTED.format(
        number=result.tests, level=LEVEL, resamples=result.resamples
    )
    text += f"Difference and test are of {statistic}."
    for basis in Basis:
        if any(found.basis is basis for found in result.comparisons):
            text += f" A verdict over {basis} is {SCOPES[basis]}."
    if all(found.basis is Basis.UTTERANCES for found in result.comparisons):
        text += (
            f" For a verdict over speakers, fewer than {MIN_SPEAKERS} in a test set "
            "are too few."
        )
    return text


def bounds(found: Comparison | None) -> str:
    """Interval and p value of a comparison that stands beside another."""
    if found is None:
        return "n/a"
    return f"{ends_signed(found)}, p {p_text(found.p)}"


def seed_tests(comparison: TableComparison) -> str:
    """McNemar's tests by seed: rows that only one model has right, and p."""
    return "; ".join(
        f"seed {test.seed}: {test.result.only_first} / {test.result.only_second}, "
        f"p {p_text(test.result.p_mid)}"
        for test in comparison.by_seed
    )


# ------------------------------------------------------------------------ markdown


def format_markdown(report: TableReport, plots: Mapping[str, str]) -> str:
    """RESULTS.md.

    Args:
        report: The results.
        plots: Caption -> path relative to RESULTS.md.
    """
    result, environment = report.result, report.environment
    lines = [
        "<!-- Generated by espnet_ext.bin.ser_table -->",
        "# RESULTS",
        "## Environments",
        f"- date: `{environment.date}`",
        f"- python version: `{environment.python}`",
        f"- espnet version: `espnet {environment.espnet}`",
        f"- pytorch version: `pytorch {environment.torch}`",
        f"- numpy version: `{environment.numpy}`",
        f"- espnet_ext version: `{environment.espnet_ext}`",
        f"- Git hash: `{environment.git}`",
        f"- hardware of this table: `{environment.hardware}`",
        "",
        f"## {result.spec.title}",
        *(f"- {line}" for line in describe_tests(report)),
        f"- seeds: {', '.join(map(str, seeds_of(report)))}",
        "",
    ]
    for warning in warnings_of(report):
        lines += [f"> **{warning}**", ""]
    statistic = "Mean of folds" if report.several_folds else "Scores"
    lines += [
        f"### {statistic}",
        *_markdown_cells(
            report,
            lambda row, column, cell: "<br>".join(
                part
                for part in (
                    with_interval(cell.mean) + _run_mark(cell),
                    _seed_mark(cell),
                    *paper_lines(report, row, column),
                )
                if part
            ),
        ),
        "",
        how_to_read(report),
        "",
    ]
    if report.several_folds:
        lines += [
            "### Pooled over folds",
            "The predictions of all folds put together and scored once: other numbers "
            "than the means above, and not what cross validation usually reports.",
            "",
            *_markdown_cells(
                report, lambda row, column, cell: with_interval(cell.pooled)
            ),
            "",
            "### Fold by fold",
            "Mean over seeds.",
            "",
            *_markdown_folds(report),
            "",
        ]
    if result.comparisons:
        lines += [
            "### Comparisons",
            how_tested(report),
            "",
            *_markdown_pairs(report),
            "",
        ]
    if report.claims:
        lines += ["### The paper's claims", *_markdown_claims(report), ""]
    notes = [*limits_of(report), *result.spec.notes]
    if notes:
        lines += ["### Notes", *(f"- {note}" for note in notes), ""]
    if report.times:
        lines += ["### Where and how long", *_markdown_hardware(report), ""]
    lines += ["### Runs", *_markdown_runs(report), ""]
    lines += [
        "### Files",
        "- [report.html](report.html): all of this with figures, in one file",
        "- [table.csv](table.csv), [comparisons.csv](comparisons.csv), "
        "[table.json](table.json): every metric of every row, unrounded",
        "- [table.tex](table.tex), [comparisons.tex](comparisons.tex): for a paper",
    ]
    if plots:
        lines += ["", "### Plots"]
        for caption, path in plots.items():
            lines += [f"![{caption}]({path})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _run_mark(cell: Cell) -> str:
    return (
        "" if cell.runs == cell.expected else f" ({cell.runs} of {cell.expected} runs)"
    )


def _seed_mark(cell: Cell) -> str:
    deviation = cell.seed_deviation
    return "" if deviation is None else f"± {deviation:.3f} over seeds"


def _markdown_cells(
    report: TableReport, text: Callable[[str, Column, Cell], str]
) -> list[str]:
    spec, result = report.result.spec, report.result
    lines = [
        "|model|" + "|".join(spec.column_name(c) for c in spec.columns) + "|",
        "|---|" + "---|" * len(spec.columns),
    ]
    for row, described in spec.rows.items():
        cells = [
            text(row, column, result.cells[row][column])
            if column in result.cells[row]
            else "<br>".join(paper_lines(report, row, column))
            for column in spec.columns
        ]
        lines.append(f"|{described.name}|" + "|".join(cells) + "|")
    chance = "|".join(printed(result.chance.get(c)) for c in spec.columns)
    return [*lines, f"|chance|{chance}|"]


def _markdown_folds(report: TableReport) -> list[str]:
    spec, result = report.result.spec, report.result
    lines = [
        "|model|score|" + "|".join(f"fold {n}" for n in spec.folds) + "|",
        "|---|---|" + "---|" * len(spec.folds),
    ]
    for row, described in spec.rows.items():
        for column in spec.columns:
            cell = result.cells[row].get(column)
            if cell is not None:
                values = "|".join(printed(cell.by_fold.get(n)) for n in spec.folds)
                lines.append(f"|{described.name}|{spec.column_name(column)}|{values}|")
    return lines


PAIR_HEADS = ("rows", "score", "difference", "p (Holm)", "verdict")


def pair_cells(report: TableReport, comparison: TableComparison) -> list[str]:
    """A line of the table of comparisons; its heads are `PAIR_HEADS`."""
    found = comparison.result
    return [
        pair_name(report, comparison),
        report.result.spec.column_name(comparison.pair.column),
        f"{signed(found.difference)} {ends_signed(found)}",
        p_text(comparison.p_holm),
        comparison.words,
    ]


def detail_heads(report: TableReport) -> list[str]:
    """Heads of what lies behind the verdicts."""
    bases = [b for b in Basis if any(b in c.tests for c in report.result.comparisons)]
    heads = ["rows", "score", "verdict by", *(f"over {basis}" for basis in bases)]
    return [*heads, "pooled", "by seed"]


def detail_cells(report: TableReport, comparison: TableComparison) -> list[str]:
    """What lies behind a verdict; the heads are `detail_heads`."""
    over = {f"over {basis}": test for basis, test in comparison.tests.items()}
    pooled = comparison.pooled
    return [
        *pair_cells(report, comparison)[:2],
        f"{comparison.how}, over {comparison.basis}",
        *(bounds(over.get(head)) for head in detail_heads(report)[3:-2]),
        f"{signed(pooled.difference)} {ends_signed(pooled)}",
        seed_tests(comparison),
    ]


def _markdown_pairs(report: TableReport) -> list[str]:
    found = report.result.comparisons
    return [
        *_markdown_grid(PAIR_HEADS, [pair_cells(report, c) for c in found]),
        "",
        "<details><summary>Each test, not corrected</summary>",
        "",
        *_markdown_grid(detail_heads(report), [detail_cells(report, c) for c in found]),
        "",
        "</details>",
    ]


def _markdown_grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["|" + "|".join(heads) + "|", "|---" * len(heads) + "|"]
    return lines + ["|" + "|".join(cells) + "|" for cells in rows]


def condition_text(report: TableReport, found: ConditionResult) -> str:
    """A condition's rows, its difference, and what was found."""
    spec, pair = report.result.spec, found.condition.pair
    text = (
        f"{spec.rows[pair.first].name} − {spec.rows[pair.second].name}, "
        f"{spec.column_name(pair.column)}: "
    )
    if found.difference is None or found.p_holm is None:
        return f"{text}{found.finding}"
    return (
        f"{text}{signed(found.difference)} [{signed(found.low)}, "
        f"{signed(found.high)}], {found.finding}, p {p_text(found.p_holm)}"
    )


def _markdown_claims(report: TableReport) -> list[str]:
    rows = [
        [
            claim.claim.says,
            f"**{claim.words}**",
            "<br>".join(condition_text(report, found) for found in claim.conditions),
            "<br>".join(signed(found.paper) for found in claim.conditions),
        ]
        for claim in report.claims
    ]
    heads = ("claim", "verdict", "differences here", "in the paper")
    return [LEGEND, "", *_markdown_grid(heads, rows)]


HARDWARE_HEADS = ("hardware", "software", "machines", "trainings", "wall time")


def hardware_cells(share: HardwareShare) -> list[str]:
    """A line of the table of hardware; its heads are `HARDWARE_HEADS`."""
    hosts = ", ".join(share.hosts[:4])
    if len(share.hosts) > 4:
        hosts += f" and {len(share.hosts) - 4} more"
    return [
        share.hardware,
        share.software,
        hosts,
        str(share.trainings),
        duration(share.seconds),
    ]


def hardware_total(report: TableReport) -> str:
    """One sentence on all trainings."""
    number = len(report.times)
    text = f"{number} training{'' if number == 1 else 's'} took "
    text += f"{duration(report.training_seconds)} (h:mm:ss) together"
    if report.gpu_seconds:
        text += f", with {duration(report.gpu_seconds)} of GPU time"
    return (
        f"{text}. Preparing the data, extracting features and predicting are not in it."
    )


def _markdown_hardware(report: TableReport) -> list[str]:
    return [
        hardware_total(report),
        "",
        *_markdown_grid(HARDWARE_HEADS, [hardware_cells(s) for s in report.hardware]),
    ]


def _markdown_runs(report: TableReport) -> list[str]:
    lines = [
        "|run|training took|epochs|on|predictions|config|training|",
        "|---|---|---|---|---|---|---|",
    ]
    for record in report.records:
        time = report.times.get(record.key)
        cells = [
            describe_run(report, record.key),
            "" if time is None else duration(time.seconds),
            "" if time is None or time.epochs is None else str(time.epochs),
            "" if time is None else ", ".join(time.hosts),
            f"`{record.predictions}`" if record.predictions else "**missing**",
            f"`{record.config}`" if record.config else "",
            f"`{record.training[:16]}`" if record.training else "",
        ]
        lines.append("|" + "|".join(cells) + "|")
    return lines


# ------------------------------------------------------------------ csv, json, LaTeX

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


def _six(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def format_csv(report: TableReport) -> str:
    """A line a row and metric, every metric; the columns are `CELL_COLUMNS`."""
    result, rows = report.result, []
    for key, described in result.spec.rows.items():
        for corpus in result.spec.corpora:
            comparable = "no" if result.incomparable(corpus) else "yes"
            for metric in TABLE_METRICS:
                column = Column(corpus, metric)
                cell, paper = result.cells[key].get(column), described.paper.get(column)
                if cell is None and paper is None:
                    continue
                numbers: list[object] = [""] * 9
                difference = None
                if cell is not None:
                    numbers = [
                        *map(_six, (cell.mean.estimate, cell.mean.low, cell.mean.high)),
                        _six(cell.pooled.estimate),
                        *map(_six, (cell.pooled.low, cell.pooled.high)),
                        _six(cell.seed_deviation),
                        *(cell.runs, cell.expected),
                    ]
                    difference = None if paper is None else cell.mean.estimate - paper
                rows.append(
                    [
                        *(key, described.name, corpus, metric, *numbers),
                        _six(result.chance.get(column)),
                        *(_six(paper), _six(difference)),
                        _six(described.corrected.get(column)),
                        comparable if paper is not None else "",
                    ]
                )
    return _csv(CELL_COLUMNS, rows)


def format_comparisons(report: TableReport) -> str:
    """A line a comparison; the columns are `PAIR_COLUMNS`."""
    rows = []
    for found in report.result.comparisons:
        pair, result, pooled = found.pair, found.result, found.pooled
        rows.append(
            [
                *(pair.first, pair.second, pair.column.corpus, pair.column.metric),
                *map(_six, (result.difference, result.low, result.high, result.p)),
                *(_six(found.p_holm), found.finding, found.basis, found.how),
                *(text for b in Basis for text in _bounds(found.tests.get(b))),
                *map(_six, (pooled.difference, pooled.low, pooled.high)),
                seed_tests(found),
            ]
        )
    return _csv(PAIR_COLUMNS, rows)


def _bounds(found: Comparison | None) -> list[str]:
    return [""] * 3 if found is None else [*map(_six, (found.low, found.high, found.p))]


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
                    str(column): {**asdict(cell), "seed_deviation": cell.seed_deviation}
                    for column, cell in result.cells[row].items()
                },
            }
            for row, described in result.spec.rows.items()
        },
        "chance": {str(column): value for column, value in result.chance.items()},
        "comparisons": [_pair_json(found) for found in result.comparisons],
        "claims": [
            {
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
            for claim in report.claims
        ],
        "runs": [_run_json(report, record) for record in report.records],
    }
    text = json.dumps(without_nan(content), indent=2, ensure_ascii=False)
    return text + "\n"


def _pair_json(found: TableComparison) -> dict[str, Any]:
    pair = found.pair
    names = {"first": pair.first, "second": pair.second, "column": str(pair.column)}
    return {
        **asdict(found),
        "pair": names,
        "basis": found.basis,
        "verdict": found.finding,
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


def format_latex(report: TableReport) -> str:
    r"""The table for a paper: a ``tabular`` of the ``booktabs`` package.

    Each row has a line of scores, one of intervals, one of the spread over seeds where
    there are several, and one of the paper's values with the difference to them.
    """
    result, spec = report.result, report.result.spec
    lines = [
        r"% Generated by espnet_ext.bin.ser_table; needs \usepackage{booktabs}",
        *(f"% {warning}" for warning in [*warnings_of(report), *limits_of(report)]),
        r"\begin{tabular}{l" + "c" * len(spec.columns) + "}",
        r"\toprule",
        _latex_line("Model", [_escape(spec.column_name(c)) for c in spec.columns]),
        r"\midrule",
    ]
    for row, described in spec.rows.items():
        cells = [result.cells[row].get(column) for column in spec.columns]
        scores = ["--" if c is None else f"{c.mean.estimate:.3f}" for c in cells]
        ends = ["" if c is None else _small(ends_text(c.mean)) for c in cells]
        spread = [
            ""
            if c is None or c.seed_deviation is None
            else _small(rf"$\pm$ {c.seed_deviation:.3f} over seeds")
            for c in cells
        ]
        paper = [
            "".join(_small(_escape(t)) for t in paper_lines(report, row, column)[:1])
            for column in spec.columns
        ]
        lines.append(_latex_line(described.name, scores))
        lines += [_latex_line("", part) for part in (ends, spread, paper) if any(part)]
    lines += [
        r"\midrule",
        _latex_line("Chance", [printed(result.chance.get(c)) for c in spec.columns]),
        r"\bottomrule",
    ]
    reasons = [r for corpus in spec.corpora if (r := result.incomparable(corpus))]
    if reasons:
        text = _small(_escape(f"{INCOMPARABLE} not comparable: {'; '.join(reasons)}"))
        width = len(spec.columns) + 1
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{{text}}} \\")
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def format_latex_comparisons(report: TableReport) -> str:
    r"""The comparisons for a paper: a ``tabular`` of the ``booktabs`` package."""
    lines = [
        r"% Generated by espnet_ext.bin.ser_table; needs \usepackage{booktabs}",
        f"% {how_tested(report)}",
        r"\begin{tabular}{llcrl}",
        r"\toprule",
        _latex_line("Models", ["Score", "Difference", r"$p_\mathrm{Holm}$", "Verdict"]),
        r"\midrule",
    ]
    for comparison in report.result.comparisons:
        found = comparison.result
        name, score, _, p, verdict = pair_cells(report, comparison)
        difference = f"${signed(found.difference)}$ "
        difference += _small(f"${ends_signed(found)}$")
        lines.append(_latex_line(name, [_escape(score), difference, f"${p}$", verdict]))
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


# ------------------------------------------------------------------------ terminal


def format_terminal(report: TableReport) -> str:
    """The table for a terminal: score, interval, and the paper's value."""
    result, spec = report.result, report.result.spec
    names = [spec.column_name(column) for column in spec.columns]
    width = max(15, *(len(name) + 2 for name in names))
    label = max(len(row.name) for row in spec.rows.values()) + 2
    rule = "-" * (label + width * len(names) - 2)
    lines = [spec.title]
    if report.several_folds:
        lines[0] += " (mean of folds)"
    lines += ["".ljust(label) + "".join(name.ljust(width) for name in names), rule]
    for row, described in spec.rows.items():
        upper, middle, lower = (
            described.name.ljust(label),
            "".ljust(label),
            "".ljust(label),
        )
        for column in spec.columns:
            cell, paper = result.cells[row].get(column), described.paper.get(column)
            upper += printed(cell.mean.estimate if cell else None).ljust(width)
            ends = "" if cell is None else ends_text(cell.mean)
            middle += ends.replace("0.", ".").ljust(width)
            mark = INCOMPARABLE if result.incomparable(column.corpus) else ""
            text = "" if paper is None else f"{spec.source} {paper:.3f}{mark}"
            lower += text.ljust(width)
        lines += [upper, middle] + ([lower] if lower.strip() else [])
    chance = "".join(printed(result.chance.get(c)).ljust(width) for c in spec.columns)
    lines += [rule, "chance".ljust(label) + chance]
    lines.append("[95 % bootstrap interval]")
    if report.claims:
        lines += ["", f"What the {spec.source} claims, on this data:"]
        lines += [f"{c.words:28} {c.claim.says}" for c in report.claims]
    lines += [f"note: {warning}" for warning in warnings_of(report)]
    return "\n".join(line.rstrip() for line in lines)

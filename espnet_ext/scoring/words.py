"""What a table's files say in words and grids, the same in markdown and HTML."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from espnet_ext.scoring.claims import ClaimResult, ConditionResult
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.names import class_counts, code_notes, corpus_name, listed
from espnet_ext.scoring.runs import RunKey, RunRecord
from espnet_ext.scoring.scores import Cell, TableResult
from espnet_ext.scoring.spec import Column, Pair
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
from espnet_ext.scoring.trainings import (
    Environment,
    HardwareShare,
    TrainingTime,
    hardware_shares,
)
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

# Behind a value of the paper that is no yardstick here.
INCOMPARABLE = "†"


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
    def seeds(self) -> list[int]:
        """The seeds of the table."""
        return sorted({record.key.seed for record in self.records})

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


@dataclass(frozen=True, slots=True)
class Grid:
    """Heads and rows of a table; a cell's lines are parted by newlines."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


# ------------------------------------------------------------------------ sentences


def describe_run(report: TableReport, key: RunKey) -> str:
    """Name a run."""
    text = report.result.spec.rows[key.row].name
    if report.several_folds:
        text += f" fold {key.fold}"
    return f"{text} seed {key.seed}"


def warnings_of(report: TableReport) -> list[str]:
    """What a reader must know before any number."""
    result = report.result
    found = [
        f'{corpus_name(corpus)}: the values called "{result.spec.source}" are not '
        f"comparable (marked {INCOMPARABLE}): {reason}."
        for corpus in result.spec.corpora
        if (reason := result.incomparable(corpus)) is not None
    ]
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
            found.append(f"{corpus_name(corpus)}: {few_rows_note(few)}")
        if min(tested.by_fold.values()) < MIN_ROWS:
            found.append(
                f"{corpus_name(corpus)}: a test set of fewer than {MIN_ROWS} "
                "utterances has no interval that could be trusted."
            )
    if result.comparisons and len(report.seeds) < 2:
        found.append(
            "One training for each row and fold: the comparisons are of these trained "
            "models. Whether one way to train is better than another, of which another "
            "seed is a part, takes several seeds (`--seeds 5`)."
        )
    return found


def describe_tests(report: TableReport) -> list[str]:
    """One line for each corpus: what was tested."""
    lines = []
    for corpus, tested in report.result.test_sets.items():
        text = f"{corpus_name(corpus)}: {tested.utterances:,} test utterances"
        if len(tested.by_fold) > 1:
            sizes = ", ".join(f"{n}: {count}" for n, count in tested.by_fold.items())
            text += f" (folds {sizes})"
        if tested.speakers is not None:
            text += f", {tested.speakers} speakers"
        counts = class_counts(tested.classes)
        lines.append(f"{text}; {counts}; fingerprint {tested.fingerprint}.")
    return lines


def how_to_read(report: TableReport) -> str:
    """The legend of the scores."""
    result = report.result
    return (
        "In brackets: 95 % bias-corrected percentile bootstrap over utterances, drawn "
        f"within each fold ({result.resamples:,} resamples, seed {result.seed}; for "
        "UAR and macro-F1 within classes too). It speaks of other test utterances, not "
        "of other trainings. CCC is the mean of valence (V), arousal (A) and dominance "
        "(D). UAR and macro-F1 are means over the classes present in a fold's "
        "annotations; UAR (4) is over neutral, angry, happy and sad. Chance: always "
        "the most frequent class and the mean value."
    )


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


def condition_text(report: TableReport, found: ConditionResult) -> str:
    """A condition's rows, its difference, and what was found."""
    pair = found.condition.pair
    column = report.result.spec.column_name(pair.column)
    text = f"{pair_name(report, pair)}, {column}: "
    if found.difference is None or found.p_holm is None:
        return f"{text}{found.finding}"
    return (
        f"{text}{signed(found.difference)} [{signed(found.low)}, "
        f"{signed(found.high)}], {found.finding}, p {p_text(found.p_holm)}"
    )


def pair_name(report: TableReport, pair: Pair) -> str:
    """Name the two rows of a pair."""
    rows = report.result.spec.rows
    return f"{rows[pair.first].name} − {rows[pair.second].name}"


def seed_tests(comparison: TableComparison) -> str:
    """McNemar's tests by seed: rows that only one model has right, and p."""
    return "; ".join(
        f"seed {test.seed}: {test.result.only_first} / {test.result.only_second}, "
        f"p {p_text(test.result.p_mid)}"
        for test in comparison.by_seed
    )


# ---------------------------------------------------------------------------- grids


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

    return _columns_grid(report, lambda *place: "\n".join(lines(*place)))


def pooled_grid(report: TableReport) -> Grid:
    """The scores of all folds' predictions put together."""
    return _columns_grid(
        report,
        lambda row, column, cell: (
            with_interval(cell.pooled)
            if cell
            else "\n".join(paper_lines(report, row, column))
        ),
    )


def _columns_grid(
    report: TableReport, text: Callable[[str, Column, Cell | None], str]
) -> Grid:
    spec, result = report.result.spec, report.result
    rows = [
        [row.name, *(text(key, c, result.cells[key].get(c)) for c in spec.columns)]
        for key, row in spec.rows.items()
    ]
    rows.append(["chance", *(printed(result.chance.get(c)) for c in spec.columns)])
    return Grid(["model", *(spec.column_name(c) for c in spec.columns)], rows)


def fold_grid(report: TableReport) -> Grid:
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


def pair_grid(report: TableReport) -> Grid:
    """One verdict a comparison."""
    return Grid(
        ("rows", "score", "difference", "p (Holm)", "verdict"),
        [
            [
                pair_name(report, found.pair),
                report.result.spec.column_name(found.pair.column),
                difference_text(found.result),
                p_text(found.p_holm),
                found.words,
            ]
            for found in report.result.comparisons
        ],
    )


def test_grid(report: TableReport) -> Grid:
    """Every test behind the verdicts."""
    comparisons = report.result.comparisons
    bases = [b for b in Basis if any(b in c.tests for c in comparisons)]

    def bounds(found: TableComparison, basis: Basis) -> str:
        test = found.tests.get(basis)
        return "n/a" if test is None else f"{ends_signed(test)}, p {p_text(test.p)}"

    return Grid(
        [
            "rows",
            "score",
            "verdict by",
            *(f"over {b}" for b in bases),
            "pooled",
            "by seed",
        ],
        [
            [
                pair_name(report, found.pair),
                report.result.spec.column_name(found.pair.column),
                f"{found.how}, over {found.basis}",
                *(bounds(found, basis) for basis in bases),
                difference_text(found.pooled),
                seed_tests(found),
            ]
            for found in comparisons
        ],
    )


def hardware_grid(report: TableReport) -> Grid:
    """What was trained on which kind of machine."""
    rows = []
    for share in report.hardware:
        hosts = ", ".join(share.hosts[:4])
        if len(share.hosts) > 4:
            hosts += f" and {len(share.hosts) - 4} more"
        numbers = (str(share.trainings), duration(share.seconds))
        rows.append([share.hardware, share.software, hosts, *numbers])
    return Grid(("hardware", "software", "machines", "trainings", "wall time"), rows)


def run_grid(report: TableReport) -> Grid:
    """Each run; the last three columns are a file (blank if missing) and inputs."""
    rows = []
    for record in report.records:
        time = report.times.get(record.key)
        rows.append(
            [
                describe_run(report, record.key),
                "" if time is None else duration(time.seconds),
                "" if time is None or time.epochs is None else str(time.epochs),
                "" if time is None else ", ".join(time.hosts),
                str(record.predictions or ""),
                record.config,
                record.training[:16],
            ]
        )
    heads = (
        "run",
        "training took",
        "epochs",
        "on",
        "predictions",
        "config",
        "training",
    )
    return Grid(heads, rows)

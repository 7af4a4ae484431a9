"""The sentences of a table's files, the same in all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from espnet_ext.scoring import verdicts
from espnet_ext.scoring.claims import ClaimResult, ConditionResult
from espnet_ext.scoring.comparisons import TableComparison
from espnet_ext.scoring.folds import ANY_CORPUS
from espnet_ext.scoring.names import class_name, code_notes, corpus_name, listed, plural
from espnet_ext.scoring.runs import RunKey, RunRecord
from espnet_ext.scoring.scores import TableResult
from espnet_ext.scoring.spec import Column
from espnet_ext.scoring.text import duration, p_text, signed
from espnet_ext.scoring.trainings import Environment, TrainingTime

# Behind a value of the paper that is no yardstick here.
INCOMPARABLE = "†"


@dataclass(frozen=True, slots=True)
class TableReport:
    """Everything that a table's files say."""

    result: TableResult
    claims: tuple[ClaimResult, ...]
    records: Sequence[RunRecord]
    times: Mapping[RunKey, TrainingTime]  # of the finished trainings
    environment: Environment
    corpora_of_set: tuple[str, ...] = ()  # only of models on one test set
    # Row -> class or `RATED` -> training utterances, where that is known.
    trained_labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def one_set(self) -> bool:
        """Whether it is of models on one test set, without a table's YAML."""
        return ANY_CORPUS in self.result.spec.corpora

    @property
    def several_folds(self) -> bool:
        """Whether mean of folds and pooled folds are different scores."""
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


def describe_run(report: TableReport, key: RunKey) -> str:
    """Name a run."""
    text = report.result.spec.rows[key.row].name
    if report.several_folds:
        text += f" fold {key.fold}"
    return text if report.one_set else f"{text} seed {key.seed}"


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
    if len(report.corpora_of_set) > 1:
        found.append(
            f"Scores are over {' + '.join(report.corpora_of_set)} together, whose "
            "scales may differ: --corpus NAME scores one alone."
        )
    found += code_notes({describe_run(report, r.key): r.code for r in report.records})
    return found + verdicts.too_few_resamples(result.tests, result.resamples)


def limits_of_sets(report: TableReport) -> list[str]:
    """What the test sets are too small for."""
    found = []
    for corpus, tested in report.result.test_sets.items():
        few = []
        for fold, counts in tested.classes_by_fold.items():
            few += verdicts.describe_few(
                counts, f" in fold {fold}" * report.several_folds
            )
        prefix = "" if report.one_set else f"{corpus_name(corpus)}: "
        if few:
            found.append(f"{prefix}{verdicts.few_rows_note(few)}")
        if min(tested.by_fold.values()) < verdicts.MIN_ROWS:
            found.append(
                f"{prefix}a test set of fewer than {verdicts.MIN_ROWS} utterances has "
                "no interval that could be trusted."
            )
    return found


def limits_of(report: TableReport) -> list[str]:
    """What the intervals and tests of this table cannot say."""
    found = limits_of_sets(report)
    if report.result.comparisons and len(report.seeds) < 2:
        found.append(
            "One training for each row and fold: the comparisons are of these trained "
            "models. Whether one way to train is better than another, of which another "
            "seed is a part, takes several seeds (`--seeds 5`)."
        )
    return found


def notes_of(report: TableReport) -> list[str]:
    """What a reader must know of one test set's intervals and tests."""
    result = report.result
    return limits_of_sets(report) + verdicts.too_few_resamples(
        result.tests, result.resamples
    )


def describe_set(report: TableReport) -> str:
    """The one test set in words."""
    tested = report.result.test_sets[ANY_CORPUS]
    text = f"{tested.utterances} utterances"
    if report.corpora_of_set:
        text += f" of {' + '.join(report.corpora_of_set)}"
    if tested.speakers is not None:
        text += f", {plural(tested.speakers, 'speaker')}"
    return text


def describe_tests(report: TableReport) -> list[str]:
    """One line for each corpus: what was tested; for a table, its seeds."""
    lines = []
    for corpus, tested in report.result.test_sets.items():
        name = corpus_name(corpus) or " + ".join(report.corpora_of_set) or "test set"
        text = f"{name}: {tested.utterances:,} test utterances"
        if len(tested.by_fold) > 1:
            sizes = ", ".join(f"{n}: {count}" for n, count in tested.by_fold.items())
            text += f" (folds {sizes})"
        if tested.speakers is not None:
            text += f", {tested.speakers} speakers"
        counts = ", ".join(f"{class_name(c)} {n}" for c, n in tested.classes.items())
        lines.append(f"{text}; {counts}; fingerprint {tested.fingerprint}.")
    if not report.one_set:
        lines.append(f"seeds: {', '.join(map(str, report.seeds))}")
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
    text = verdicts.HOW_TESTED.format(
        level=verdicts.LEVEL,
        number=result.tests,
        resamples=result.resamples,
        statistic="the mean of folds" if report.several_folds else "the test set",
    )
    bases = {found.basis for found in result.comparisons}
    for basis in (basis for basis in verdicts.Basis if basis in bases):
        text += f" A verdict over {basis} is {verdicts.SCOPES[basis]}."
    if bases <= {verdicts.Basis.UTTERANCES}:
        text += (
            f" For a verdict over speakers, fewer than {verdicts.MIN_SPEAKERS} in a "
            "test set are too few."
        )
    return text


def hardware_total(report: TableReport) -> str:
    """One sentence on all trainings."""
    gpu = f", with {duration(report.gpu_seconds)} of GPU time" * bool(
        report.gpu_seconds
    )
    return (
        f"{plural(len(report.times), 'training')} took "
        f"{duration(report.training_seconds)} (h:mm:ss) together{gpu}. Preparing the "
        "data, extracting features and predicting are not in it."
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
            gap = f" ({signed(cell.mean.estimate - value)})" if cell else ""
            found.append(f"{name} {value:.3f}{mark}{gap}")
    return found


def condition_text(report: TableReport, found: ConditionResult) -> str:
    """A condition's rows, its difference, and what was found."""
    pair, spec = found.condition.pair, report.result.spec
    text = f"{spec.pair_name(pair)}, {spec.column_name(pair.column)}: "
    if found.difference is None or found.p_holm is None:
        return f"{text}{found.finding}"
    return (
        f"{text}{signed(found.difference)} [{signed(found.low)}, "
        f"{signed(found.high)}], {found.finding}, p {p_text(found.p_holm)}"
    )


def seed_tests(comparison: TableComparison) -> str:
    """McNemar's tests by seed: rows that only one model has right, and p."""
    return "; ".join(
        f"seed {test.seed}: {test.result.only_first} / {test.result.only_second}, "
        f"p {p_text(test.result.p_mid)}"
        for test in comparison.by_seed
    )

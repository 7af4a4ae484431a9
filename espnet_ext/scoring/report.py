"""From predictions of several systems on one test set to RESULTS.md and its plots.

`build_report` computes everything as plain data; `format_table`, `format_markdown`,
`report_json` and `format_csv` only write it down, and `write_report` puts the files in
place. Two reports of the same inputs are equal but for `Environment`, which has a
section of its own everywhere.
"""

import csv
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_ext.errors import UserError
from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.bootstrap import Comparison, Interval
from espnet_ext.scoring.metrics import (
    ATTRIBUTES,
    METRICS,
    ccc,
    class_scores,
)
from espnet_ext.scoring.names import METRIC_NAMES, class_name, model_name
from espnet_ext.scoring.predictions import (
    TRUTH_TOLERANCE,
    UNKNOWN,
    Predictions,
    check_spelling,
)
from espnet_ext.scoring.verdicts import (
    HOW_TESTED,
    LEVEL,
    MCNEMAR,
    MIN_ROWS,
    MIN_SPEAKERS,
    SCOPES,
    STUDENT,
    SWAPPED,
    Basis,
    Judged,
    compare_scores,
    corrected,
    describe_few,
    few_rows_note,
    of_classes,
    too_few_resamples,
    without_interval,
)
from espnet_ext.utils.atomic import atomic_dir, atomic_write_text
from espnet_ext.utils.machine import processor_name
from espnet_ext.utils.packages import find_packages, in_words

# What is tested for each pair.
TESTED = ("ccc", "accuracy", "uar", "macro_f1")

_HIERARCHICAL = ("hierarchical_dc", "hierarchical_cd")
_REFERENCES = ("baseline_c", "baseline_d", "multitask")


@dataclass(frozen=True, slots=True)
class TestedPair(Judged):
    """One metric of two models on the same utterances.

    Attributes:
        first: Model whose score comes first in the difference.
        second: The model it is compared with.
        metric: One of `TESTED`.
    """

    first: str
    second: str
    metric: str


@dataclass(frozen=True, slots=True)
class Report:
    """Scores of all systems on one test set.

    Attributes:
        title: Headline.
        sources: Model -> predictions file.
        utterances: Rows of the test set.
        class_counts: Class -> rows annotated with it.
        corpora: Corpora of the test set.
        speakers: Number of speakers, None where some are unknown.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.
        scores: Model -> metric -> score with its 95 % interval over utterances.
        by_speaker: The same over speakers; empty with fewer than `MIN_SPEAKERS`.
        chance: Metric -> score of always saying the most frequent class and the mean.
        pairs: Comparisons of models.
        notes: What a reader must know before the scores.
    """

    title: str
    sources: dict[str, str]
    utterances: int
    class_counts: dict[str, int]
    corpora: tuple[str, ...]
    speakers: int | None
    resamples: int
    seed: int
    scores: dict[str, dict[str, Interval]]
    by_speaker: dict[str, dict[str, Interval]]
    chance: dict[str, float]
    pairs: tuple[TestedPair, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """What a result was made with; the only part that differs between equal runs."""

    date: str
    python: str
    espnet: str
    torch: str
    numpy: str
    espnet_ext: str
    git: str
    hardware: str


# ------------------------------------------------------------------------- alignment


def align(systems: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Bring systems to one order of utterances, one class list and one truth.

    Truth that one file leaves blank is taken from another that has it.

    Raises:
        UserError: The utterances, the classes or the truths of two files differ.
    """
    names = list(systems)
    first = systems[names[0]]
    for name in names[1:]:
        _same_utterances(first, systems[name])
    declared = [s for s in systems.values() if s.classes_declared]
    if declared:
        classes = declared[0].classes
    else:
        classes = tuple(sorted({c for s in systems.values() for c in s.classes}))
        check_spelling(f"{first.path} and the files beside it", classes)
    aligned = {name: s.with_classes(classes) for name, s in systems.items()}

    true_class = np.full(len(first.ids), -1)
    true = {name: np.full(len(first.ids), np.nan) for name in ATTRIBUTES}
    for system in aligned.values():
        both = (true_class >= 0) & (system.true_class >= 0)
        _same_truth(first, system, both & (true_class != system.true_class), "emotion")
        true_class = np.where(true_class < 0, system.true_class, true_class)
        for name, values in system.true.items():
            # NaN compares false: only rows that both know can differ.
            differs = np.abs(true[name] - values) > TRUTH_TOLERANCE
            _same_truth(first, system, differs, name)
            true[name] = np.where(np.isnan(true[name]), values, true[name])

    def known(column: str) -> tuple[str, ...]:
        rows = zip(*(getattr(s, column) for s in aligned.values()), strict=True)
        return tuple(
            next((value for value in row if value != UNKNOWN), UNKNOWN) for row in rows
        )

    return {
        name: replace(
            system,
            true_class=true_class,
            true=true,
            corpus=known("corpus"),
            speaker=known("speaker"),
            gender=known("gender"),
        )
        for name, system in aligned.items()
    }


def _same_utterances(first: Predictions, other: Predictions) -> None:
    if first.ids == other.ids:
        return
    ours, theirs = set(first.ids), set(other.ids)
    lacking = sorted(ours - theirs)
    holder, lacks, some = (
        (first, other, lacking) if lacking else (other, first, sorted(theirs - ours))
    )
    raise UserError(
        f"{lacks.path}: {len(some)} utterances missing that {holder.path} has, such as "
        f"{', '.join(some[:3])}: systems of one report must predict the same test set"
    )


def _same_truth(
    first: Predictions, other: Predictions, differs: NDArray[np.bool_], column: str
) -> None:
    if differs.any():
        utterance = first.ids[int(np.argmax(differs))]
        raise UserError(
            f"{other.path}: {utterance}: its annotated {column} differs from that in "
            f"{first.path} or a file between: score systems of one labelling together"
        )


# ----------------------------------------------------------------------- computation


def build_report(
    systems: Mapping[str, Predictions],
    title: str,
    resamples: int = 10_000,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Report:
    """Score systems on their common test set.

    Args:
        systems: Model -> predictions, in the order of the table.
        title: Headline.
        resamples: Bootstrap resamples; 1,000 do for intervals alone.
        seed: Seed of the resampling.
        pairs: Models to compare; None: each hierarchical model of the paper with its
            baselines and the multi-task model, as far as they are there.

    Raises:
        UserError: The files do not fit together (see `align`), or a pair is unknown.
    """
    systems = align(systems)
    if pairs is None:
        pairs = default_pairs(list(systems))
    for name in (name for pair in pairs for name in pair):
        if name not in systems:
            raise UserError(
                f"cannot compare {name!r}: no predictions of that name; there are "
                f"{', '.join(systems)}"
            )
    some = next(iter(systems.values()))
    speakers = None if UNKNOWN in some.speaker else len(set(some.speaker))
    enough = speakers is not None and speakers >= MIN_SPEAKERS

    estimates = {name: _estimates(system) for name, system in systems.items()}
    over_rows = _distributions(systems, resamples, seed, by_speaker=False)
    over_speakers = (
        _distributions(systems, resamples, seed, by_speaker=True) if enough else {}
    )
    return Report(
        title=title,
        sources={name: system.path for name, system in systems.items()},
        utterances=len(some.ids),
        class_counts={
            name: int(np.sum(some.true_class == index))
            for index, name in enumerate(some.classes)
        },
        corpora=tuple(sorted(set(some.corpus) - {UNKNOWN})),
        speakers=speakers,
        resamples=resamples,
        seed=seed,
        scores=_intervals(estimates, over_rows),
        by_speaker=_intervals(estimates, over_speakers) if enough else {},
        chance=_chance(some, {m for found in estimates.values() for m in found}),
        pairs=_test_pairs(
            systems,
            pairs,
            estimates,
            {Basis.UTTERANCES: over_rows, Basis.SPEAKERS: over_speakers},
            (resamples, seed),
        ),
    )


def default_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The paper's comparisons: each hierarchical model with what it must beat."""
    return [
        (first, second)
        for first in _HIERARCHICAL
        for second in _REFERENCES
        if first in names and second in names
    ]


def _estimates(system: Predictions) -> dict[str, float]:
    """Scores of the whole set, of what is predicted and annotated."""
    scores: dict[str, float] = {}
    if system.predicts_attributes:
        dims = _rated_dimensions(system)
        each = {}
        for name in dims:
            known = ~np.isnan(system.true[name])
            each[name] = ccc(system.true[name][known], system.pred[name][known])
        if len(dims) == len(ATTRIBUTES):
            scores["ccc"] = float(np.mean(list(each.values())))
        scores |= {f"ccc_{name}": value for name, value in each.items()}
    known = system.true_class >= 0
    if system.pred_class is not None and known.any():
        scores |= class_scores(system.true_class[known], system.pred_class[known])
    return scores


def _rated_dimensions(system: Predictions) -> list[str]:
    return [name for name in ATTRIBUTES if not np.isnan(system.true[name]).all()]


# Model -> metric -> the score in each resample, shape (B,).
_Distributions = dict[str, dict[str, NDArray[np.float64]]]


def _distributions(
    systems: Mapping[str, Predictions], resamples: int, seed: int, *, by_speaker: bool
) -> _Distributions:
    """Scores of every model in every resample, the same resamples for all models."""
    some = next(iter(systems.values()))
    # One stream a kind of score, so that a model more or less changes no interval.
    streams = np.random.default_rng((seed, int(by_speaker))).spawn(3)
    found: _Distributions = {name: {} for name in systems}

    raters = {n: s for n, s in systems.items() if s.predicts_attributes}
    dims = _rated_dimensions(some)
    if raters and dims:
        true = np.stack([some.true[dim] for dim in dims], axis=1)  # (N, D)
        rows = np.flatnonzero(~np.isnan(true).all(axis=1))
        pred = np.stack(
            [np.stack([s.pred[dim] for dim in dims], axis=1) for s in raters.values()]
        )  # (M, N, D)
        blocks = (
            bootstrap.resample_clusters(
                [some.speaker[row] for row in rows], resamples, streams[0]
            )
            if by_speaker
            else bootstrap.resample_utterances(len(rows), resamples, streams[0])
        )
        scores = bootstrap.ccc_distribution(true[rows], pred[:, rows], blocks)
        for model, name in enumerate(raters):
            drawn = {f"ccc_{d}": scores[:, model, i] for i, d in enumerate(dims)}
            if len(dims) == len(ATTRIBUTES):
                drawn["ccc"] = bootstrap.mean_ccc(scores[:, model])
            fewest = int((~np.isnan(true)).sum(axis=0).min())
            found[name] |= without_interval(drawn, (), fewest)

    pickers = {n: s.pred_class for n, s in systems.items() if s.pred_class is not None}
    rows = np.flatnonzero(some.true_class >= 0)
    if pickers and len(rows):
        truth = some.true_class[rows]
        said = np.stack([classes[rows] for classes in pickers.values()])  # (M, n)
        if by_speaker:
            drawn = bootstrap.class_distribution(
                truth,
                said,
                bootstrap.resample_clusters(
                    [some.speaker[row] for row in rows], resamples, streams[1]
                ),
            )
        else:
            # Means over classes within classes (a class of one row stays in); accuracy
            # over all rows, for the shares of the classes are part of it.
            drawn = bootstrap.class_distribution(
                truth, said, bootstrap.resample_within(truth, resamples, streams[1])
            )
            drawn["accuracy"] = bootstrap.class_distribution(
                truth,
                said,
                bootstrap.resample_utterances(len(rows), resamples, streams[2]),
            )["accuracy"]
        drawn = without_interval(drawn, np.bincount(truth).tolist(), len(truth))
        for model, name in enumerate(pickers):
            found[name] |= {metric: s[:, model] for metric, s in drawn.items()}
    return found


def _intervals(
    estimates: Mapping[str, Mapping[str, float]], drawn: _Distributions
) -> dict[str, dict[str, Interval]]:
    return {
        name: {
            metric: bootstrap.bias_corrected_interval(
                found[metric], drawn[name][metric]
            )
            for metric in METRICS
            if metric in found
        }
        for name, found in estimates.items()
    }


def _chance(some: Predictions, metrics: set[str]) -> dict[str, float]:
    """Scores of always answering the most frequent class and the mean values."""
    truth = some.true_class[some.true_class >= 0]
    chance: dict[str, float] = {}
    for name in ATTRIBUTES:
        chance[f"ccc_{name}"] = 0.0
    chance["ccc"] = 0.0
    if len(truth):
        guess = np.full(len(truth), np.bincount(truth).argmax())
        chance |= class_scores(truth, guess)
    return {metric: chance[metric] for metric in METRICS if metric in metrics}


def _test_pairs(
    systems: Mapping[str, Predictions],
    pairs: Sequence[tuple[str, str]],
    estimates: Mapping[str, Mapping[str, float]],
    drawn: Mapping[Basis, _Distributions],
    resampling: tuple[int, int],
) -> tuple[TestedPair, ...]:
    found = []
    for first, second in pairs:
        swapped = {
            basis: _swapped(systems[first], systems[second], basis, *resampling)
            for basis, scores in drawn.items()
            if scores
        }
        for metric in TESTED:
            if metric not in estimates[first] or metric not in estimates[second]:
                continue
            tests, how = {}, SWAPPED if of_classes(metric) else STUDENT
            for basis, swaps in swapped.items():
                exact = None
                if metric == "accuracy" and basis is Basis.UTTERANCES:
                    exact = _mcnemar(systems[first], systems[second])
                    how = how if Basis.SPEAKERS in swapped else MCNEMAR
                scores = drawn[basis]
                tests[basis] = compare_scores(
                    estimates[first][metric] - estimates[second][metric],
                    scores[first][metric] - scores[second][metric],
                    len(np.unique(_units(systems[first], basis))) - 1,
                    swaps.get(metric),
                    exact,
                )
            found.append(TestedPair(tests, how, 1.0, first, second, metric))
    p_values = corrected([pair.result.p for pair in found])
    return tuple(
        replace(pair, p_holm=p) for pair, p in zip(found, p_values, strict=True)
    )


def _units(system: Predictions, basis: Basis) -> NDArray:
    """What is drawn, of each row: its speaker or the row itself."""
    if basis is Basis.SPEAKERS:
        return np.asarray(system.speaker)
    return np.arange(len(system.ids))


def _swapped(
    first: Predictions, second: Predictions, basis: Basis, resamples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Differences of class scores with answers swapped; none without classes."""
    known = first.true_class >= 0
    if first.pred_class is None or second.pred_class is None or not known.any():
        return {}
    rng = np.random.default_rng((seed, 2 + list(Basis).index(basis)))
    return bootstrap.swapped_differences(
        first.true_class[known],
        first.pred_class[known][None],
        second.pred_class[known][None],
        bootstrap.swap_blocks(_units(first, basis)[known], resamples, rng),
    )


def _mcnemar(first: Predictions, second: Predictions) -> float:
    known = first.true_class >= 0
    right = [
        system.pred_class[known] == first.true_class[known]
        for system in (first, second)
        if system.pred_class is not None
    ]
    return bootstrap.mcnemar(right[0], right[1]).p_mid


def notes_of(report: Report) -> list[str]:
    """What a reader must know of this report's intervals and tests."""
    notes = []
    if few := describe_few(report.class_counts):
        notes.append(few_rows_note(few))
    if report.utterances < MIN_ROWS:
        notes.append(
            f"Fewer than {MIN_ROWS} utterances: there is no interval that could be "
            "trusted."
        )
    tests = sum(not np.isnan(pair.result.p) for pair in report.pairs)
    return notes + too_few_resamples(tests, report.resamples)


# ------------------------------------------------------------------------ environment


def read_environment(train_logs: Iterable[Path] = ()) -> Environment:
    """Versions of the packages, without importing any of them.

    Args:
        train_logs: Of the trainings. Beside each may lie `hardware.json`, which tells
            what it ran with; else it is what this environment imports.
    """
    trained = [_packages_of(log) for log in train_logs]
    names = ("espnet2", "torch", "espnet_ext")
    here = {name: p.record() for name, p in find_packages(names).items()}

    def version(name: str) -> str:
        ran = [in_words(packages[name]) for packages in trained if name in packages]
        if not ran and name in here:
            ran = [in_words(here[name])]
        return "; ".join(dict.fromkeys(ran)) or "not installed"

    return Environment(
        date=datetime.now().astimezone().strftime("%a %b %d %H:%M:%S %Z %Y"),
        python=platform.python_version(),
        espnet=version("espnet2"),
        torch=version("torch"),
        numpy=np.__version__,
        espnet_ext=version("espnet_ext"),
        git=_git_state(),
        hardware=f"{processor_name()}, {os.cpu_count()} logical cores",
    )


def _packages_of(train_log: Path) -> dict[str, Any]:
    """What the last start of a training has recorded of its packages."""
    try:
        text = train_log.with_name("hardware.json").read_text(encoding="utf-8")
        return dict(json.loads(text)["starts"][-1]["packages"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return {}  # of an older version, or none


def _git_state() -> str:
    """Commit of the source tree, and whether files differ from it."""
    here = str(Path(__file__).resolve().parent)

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", here, *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    try:
        # An installed copy may lie below some other project's repository.
        if not git("ls-files", Path(__file__).name):
            return "none"
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" (modified)" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "none"


# ---------------------------------------------------------------------------- writing


def format_table(report: Report) -> str:
    """The table for a terminal: a score and below it its interval."""
    metrics = [m for m in METRICS if m in report.chance]
    width = 15
    label = max([len("chance"), *(len(model_name(n)) for n in report.scores)]) + 2
    head = "".ljust(label) + "".join(METRIC_NAMES[m].ljust(width) for m in metrics)
    lines = [report.title, head.rstrip(), "-" * (label + width * len(metrics) - 2)]
    for name, scores in report.scores.items():
        upper, lower = model_name(name).ljust(label), "".ljust(label)
        for metric in metrics:
            interval = scores.get(metric)
            if interval is None:
                upper, lower = upper + "-".ljust(width), lower + " " * width
            else:
                ends = ends_text(interval).replace("0.", ".")
                upper += f"{interval.estimate:.3f}".ljust(width)
                lower += ends.ljust(width)
        lines += [upper.rstrip(), lower.rstrip()]
    chance = "".join(f"{report.chance[m]:.3f}".ljust(width) for m in metrics)
    lines += [lines[2], ("chance".ljust(label) + chance).rstrip()]
    lines.append(f"{_describe_set(report)}; [95 % bootstrap interval]")
    lines += [f"note: {note}" for note in notes_of(report)]
    return "\n".join(lines)


def ends_text(found: Interval) -> str:
    """An interval in brackets; a dash in them where there is none."""
    if np.isnan(found.low):
        return "[-]"
    return f"[{found.low:.3f}, {found.high:.3f}]"


def ends_signed(found: Comparison) -> str:
    """The same with signs, for a difference."""
    return "[-]" if np.isnan(found.low) else f"[{found.low:+.3f}, {found.high:+.3f}]"


def _describe_set(report: Report) -> str:
    text = f"{report.utterances} utterances"
    if report.corpora:
        text += f" of {' + '.join(report.corpora)}"
    if report.speakers is not None:
        text += f", {report.speakers} speaker{'' if report.speakers == 1 else 's'}"
    return text


def format_markdown(
    report: Report, environment: Environment, plots: Mapping[str, str]
) -> str:
    """RESULTS.md as ESPnet's recipes have it: environment, then tables.

    Args:
        report: The scores.
        environment: What they were made with.
        plots: Caption -> path relative to RESULTS.md.
    """
    counts = ", ".join(
        f"{class_name(name)} {count}" for name, count in report.class_counts.items()
    )
    lines = [
        "<!-- Generated by espnet_ext.bin.ser_score -->",
        "# RESULTS",
        "## Environments",
        *(
            f"- {label}: `{value}`"
            for label, value in (
                ("date", environment.date),
                ("python version", environment.python),
                ("espnet version", f"espnet {environment.espnet}"),
                ("pytorch version", f"pytorch {environment.torch}"),
                ("numpy version", environment.numpy),
                ("espnet_ext version", environment.espnet_ext),
                ("Git hash", environment.git),
                ("hardware", environment.hardware),
            )
        ),
        "",
        f"## {report.title}",
        f"Test set: {_describe_set(report)}" + (f" ({counts})." if counts else "."),
        "",
        *(line for note in report.notes for line in (f"> **{note}**", "")),
        *_markdown_scores(report, report.scores),
        "",
        f"In brackets: 95 % bias-corrected percentile bootstrap ({report.resamples} "
        f"resamples of utterances, seed {report.seed}; UAR and macro-F1 within "
        "classes). CCC is the mean of valence (V), arousal (A) and dominance (D). UAR "
        "and macro-F1 are means over the classes present in the annotations. Chance: "
        "always the most frequent class and the mean value.",
    ]
    for note in notes_of(report):
        lines += ["", f"**Note**: {note}"]
    if len(report.corpora) > 1:
        lines += [
            "",
            "**This set mixes corpora**, whose scales may differ: score each alone "
            "with `--corpus`.",
        ]
    if report.by_speaker:
        lines += [
            "",
            "### Intervals over speakers",
            f"The same scores, with the {report.speakers} speakers drawn instead of "
            "utterances: what other speakers may give.",
            "",
            *_markdown_scores(report, report.by_speaker),
        ]
    if report.pairs:
        lines += ["", "### Comparisons", *_markdown_pairs(report)]
    lines += ["", "### Files"]
    lines += [f"- {model_name(n)}: `{path}`" for n, path in report.sources.items()]
    lines.append(
        "- all numbers: [scores.json](scores.json), [scores.csv](scores.csv), "
        "[scores.tex](scores.tex)"
    )
    if plots:
        lines += ["", "### Plots"]
        for caption, path in plots.items():
            lines += [f"![{caption}]({path})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_scores(
    report: Report, scores: Mapping[str, Mapping[str, Interval]]
) -> list[str]:
    metrics = [m for m in METRICS if m in report.chance]
    lines = [
        "|model|" + "|".join(METRIC_NAMES[m] for m in metrics) + "|",
        "|---|" + "---|" * len(metrics),
    ]
    for name, found in scores.items():
        cells = [
            f"{found[m].estimate:.3f} {ends_text(found[m])}" if m in found else ""
            for m in metrics
        ]
        lines.append(f"|{model_name(name)}|" + "|".join(cells) + "|")
    chance = "|".join(f"{report.chance[m]:.3f}" for m in metrics)
    return [*lines, f"|chance|{chance}|"]


def _markdown_pairs(report: Report) -> list[str]:
    lines = [
        HOW_TESTED.format(
            number=len(report.pairs), level=LEVEL, resamples=report.resamples
        )
        + f"A verdict is {SCOPES[report.pairs[0].basis]}: that takes several seeds and "
        "`ser_table`.",
        "",
        "|models|metric|difference|p|p (Holm)|verdict|",
        "|---|---|---|---|---|---|",
    ]
    for pair in report.pairs:
        result = pair.result
        lines.append(
            f"|{model_name(pair.first)} − {model_name(pair.second)}|"
            f"{METRIC_NAMES[pair.metric]}|"
            f"{result.difference:+.3f} {ends_signed(result)}|"
            f"{p_text(result.p)} ({pair.how}, over {pair.basis})|"
            f"{p_text(pair.p_holm)}|{pair.words}|"
        )
    return lines


def p_text(value: float) -> str:
    """A p value; a dash where there is no test."""
    if np.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def report_json(report: Report, environment: Environment) -> str:
    """Everything in the report, numbers unrounded, keys as in `Report`."""
    content = {"environment": asdict(environment), **asdict(report)}
    content["pairs"] = [
        {**asdict(pair), "basis": pair.basis, "verdict": pair.finding}
        for pair in report.pairs
    ]
    content["notes"] = notes_of(report)
    text = json.dumps(without_nan(content), indent=2, ensure_ascii=False)
    return text + "\n"


def without_nan(value: Any) -> Any:
    """JSON has no nan: null."""
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def format_csv(report: Report) -> str:
    """One row a model and metric; speaker columns blank where there are too few."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["model", "metric", "score", "low", "high", "speaker_low", "speaker_high"]
    )
    for name, scores in report.scores.items():
        for metric, interval in scores.items():
            speaker = report.by_speaker.get(name, {}).get(metric)
            values = [interval.estimate, interval.low, interval.high]
            values += [] if speaker is None else [speaker.low, speaker.high]
            cells = ["" if np.isnan(v) else f"{v:.6f}" for v in values]
            writer.writerow([name, metric, *cells, *[""] * (5 - len(cells))])
    for metric, value in report.chance.items():
        writer.writerow(["chance", metric, f"{value:.6f}", "", "", "", ""])
    return text.getvalue()


def format_latex(report: Report) -> str:
    r"""The table for a paper: a ``tabular`` of the ``booktabs`` package.

    Each model has a line of scores and below it one of intervals, in small print.
    """
    metrics = [m for m in METRICS if m in report.chance]

    def line(name: str, cells: Sequence[str]) -> str:
        return " & ".join([name.replace("_", r"\_"), *cells]) + r" \\"

    lines = [
        r"% Generated by espnet_ext.bin.ser_score; needs \usepackage{booktabs}",
        *(f"% {note}" for note in notes_of(report)),
        r"\begin{tabular}{l" + "c" * len(metrics) + "}",
        r"\toprule",
        line("Model", [METRIC_NAMES[m] for m in metrics]),
        r"\midrule",
    ]
    for name, scores in report.scores.items():
        cells = [f"{scores[m].estimate:.3f}" if m in scores else "--" for m in metrics]
        ends = [
            rf"\scriptsize {ends_text(scores[m])}" if m in scores else ""
            for m in metrics
        ]
        lines += [line(model_name(name), cells), line("", ends)]
    lines += [
        r"\midrule",
        line("Chance", [f"{report.chance[m]:.3f}" for m in metrics]),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def write_report(
    report: Report,
    output: Path | str,
    figures: Mapping[str, tuple[str, object]] | None = None,
    train_logs: Iterable[Path] = (),
) -> list[Path]:
    """Write RESULTS.md, scores.json, .csv and .tex and plots/, each in one step.

    Args:
        report: The scores.
        output: Folder, made where it is missing.
        figures: File name without ending -> (caption, matplotlib figure). None writes
            no plots and leaves older ones alone.
        train_logs: Of the trainings, whose records tell the packages' versions.

    Returns:
        The files written, RESULTS.md first.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    environment = read_environment(train_logs)
    plots: dict[str, str] = {}
    if figures is not None:
        from matplotlib.figure import Figure

        from espnet_ext.scoring.plots import save_figure

        with atomic_dir(output / "plots") as folder:
            for stem, (caption, figure) in figures.items():
                assert isinstance(figure, Figure)
                save_figure(figure, folder / f"{stem}.png")
                plots[caption] = f"plots/{stem}.png"
    atomic_write_text(output / "scores.json", report_json(report, environment))
    atomic_write_text(output / "scores.csv", format_csv(report))
    atomic_write_text(output / "scores.tex", format_latex(report))
    # Last: who finds it finds all that it links to.
    atomic_write_text(
        output / "RESULTS.md", format_markdown(report, environment, plots)
    )
    names = ["RESULTS.md", "scores.json", "scores.csv", "scores.tex", *plots.values()]
    return [output / name for name in names]

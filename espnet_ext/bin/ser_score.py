#!/usr/bin/env python3
"""Score predictions of models on one test set, or of a table's runs.

With --predictions: a table with intervals, RESULTS.md, scores.json and plots.
With --table and --runs: over folds and seeds, with the paper's values and claims, as
RESULTS.md, csv, json, LaTeX, plots and an HTML page.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser

if TYPE_CHECKING:  # --help must not wait for numpy
    from espnet_ext.scoring.words import TableReport
    from espnet_ext.scoring.writers import Figures

EXAMPLES = """\
Examples:
  ser_score --predictions multitask=exp/multitask/test/predictions.csv --output out
  ser_score --predictions a=a.csv --predictions b=b.csv --compare a,b
      --reference data/test --output out
  ser_score --table conf/tables/table1.yaml --runs runs.csv --output out

espnet_ext/scoring/README.md documents the columns of predictions.csv and of runs.csv.
Files of other systems need the utterance and the predictions only, with --reference.
"""


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(__doc__, prog="ser_score")
    parser.formatter_class = _Formatter
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="where to write")
    add("--resamples", type=int, default=10_000, help="of the bootstrap")
    add("--seed", type=int, default=0, help="of the bootstrap")
    add("--plots", type=boolean, default=True, metavar="BOOL", help="draw plots")

    add = parser.add_argument_group("a table's runs").add_argument
    add("--table", type=Path, metavar="YAML", help="conf/tables/NAME.yaml")
    text = "those of its corpora that there are; without it, all"
    add("--corpora", nargs="+", metavar="NAME", help=text)
    text = "list of the runs, runs.csv; or the JSON that `./run.sh --table` writes: "
    text += "its steps that are finished when this starts"
    add("--runs", type=Path, metavar="FILE", help=text)

    add = parser.add_argument_group("models on one test set").add_argument
    for option, metavar, text in (
        (
            *("--predictions", "NAME=CSV"),
            "a model and its predictions.csv; repeat for more models, which must "
            "predict the same utterances",
        ),
        (
            *("--train_log", "NAME=PATH"),
            "train.log of a model, for the training curves; repeat for more models, "
            "or in order for a run that was resumed into another file",
        ),
        ("--attention", "NAME=PATH", "attention.npz of a model"),
    ):
        add(option, metavar=metavar, action="append", default=[], help=text)
    text = "set directory or list of ids that every file must cover exactly"
    add("--reference", type=Path, metavar="SETDIR", help=text)
    add("--corpus", metavar="NAME", help="score the rows of this corpus only")
    text = "test the difference of two models; without it, each hierarchical model "
    text += "against the baselines and multitask"
    add("--compare", action="append", metavar="NAME,NAME", help=text)
    text = "wav files of the utterances, drawn behind the attention"
    add("--wav_scp", type=Path, metavar="PATH", help=text)
    add("--title", default="Speech emotion recognition", help="headline")
    return parser


class _Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Shows defaults, and the examples line by line."""


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Score predictions from the command line."""
    args = get_parser().parse_args(cmd)
    if args.resamples < 100:
        raise UserError(f"--resamples {args.resamples}: take at least 100")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must not be negative")
    if (args.table is None) != (args.runs is None):
        raise UserError("--table and --runs go together: give both, or --predictions")
    if (args.table is None) == (not args.predictions):
        raise UserError("give either --predictions, or --table and --runs")
    if args.table is None:
        score_set(args)
    else:
        score_table(args)


def score_set(args: argparse.Namespace) -> None:
    """Score models on one test set."""
    files = _named("--predictions", args.predictions)
    for name, paths in files.items():
        if len(paths) > 1:
            raise UserError(f"--predictions: {name!r} is given twice; rename one")
    logs = _named("--train_log", args.train_log)
    attention = _named("--attention", args.attention)
    for option, given in (("--train_log", logs), ("--attention", attention)):
        for name in given:
            if name not in files:
                raise UserError(
                    f"{option}: no --predictions {name}=...; there are "
                    f"{', '.join(files)}"
                )

    # Late: --help must not wait for numpy and matplotlib.
    from espnet_ext.jobs.step import recorded_code
    from espnet_ext.scoring import one_set
    from espnet_ext.scoring.folds import ANY_CORPUS, align, select_corpus
    from espnet_ext.scoring.predictions import read_predictions
    from espnet_ext.scoring.reference import read_reference

    reference = read_reference(args.reference) if args.reference else None
    read = {name: read_predictions(path, reference) for name, [path] in files.items()}
    systems = align(read)
    if not any(system.classes_declared for system in read.values()):
        for name, system in systems.items():
            for label in system.never_annotated():
                print(
                    f"note: {name} predicts {label!r}, which no utterance is annotated "
                    "with. Misspelled? prob_ columns or --reference declare the classes"
                )
    corpus = args.corpus or ANY_CORPUS
    systems = {name: select_corpus(s, corpus) for name, s in systems.items()}
    report = one_set.score_set(
        systems,
        args.title,
        args.resamples,
        args.seed,
        _pairs(args.compare),
        {
            # Which code made its training and its predictions, if a recipe did.
            # (The classical baseline has no training, and is another program anyway.)
            name: " ".join(codes) if all(codes) else ""
            for name, [path] in files.items()
            for codes in [[*map(recorded_code, (path.parent.parent, path.parent))]]
        },
        {name: paths[-1] for name, paths in logs.items()},
    )
    figures = None
    if args.plots:
        from espnet_ext.scoring.figures import set_figures

        figures = set_figures(report.result, systems, logs, attention, args.wav_scp)
    _write(report, args.output, figures)


def score_table(args: argparse.Namespace) -> None:
    """Score the runs of a table."""
    from espnet_ext.scoring import scores
    from espnet_ext.scoring.claims import judge_claims
    from espnet_ext.scoring.runs import (
        count_training_labels,
        read_all_predictions,
        read_runs,
    )
    from espnet_ext.scoring.spec import load_table
    from espnet_ext.scoring.trainings import read_environment, training_times
    from espnet_ext.scoring.words import TableReport

    spec = load_table(args.table, args.corpora)
    listed: Path = args.runs
    missing: list[str] = []
    if args.runs.suffix == ".json":
        listed, missing = _list_finished(args.runs)
    records = read_runs(listed, spec)
    runs = read_all_predictions(records)
    keys = [record.key for record in records]
    result = scores.score_table(spec, runs, keys, args.resamples, args.seed)
    result = scores.without_empty_columns(result)
    logs = {record.key: record.train_log for record in records}
    report = TableReport(
        result=result,
        claims=judge_claims(result),
        records=records,
        times=training_times(logs),
        environment=read_environment(filter(None, logs.values())),
        trained_labels=count_training_labels(records) if spec.metrics else {},
    )
    figures = None
    if args.plots:
        from espnet_ext.scoring.figures import table_figures

        figures = table_figures(result, runs, records)
    _write(report, args.output, figures)
    for line in missing:
        print(line)


def _write(report: "TableReport", output: Path, figures: "Figures | None") -> None:
    """Write a report, print it, and list its files."""
    from espnet_ext.scoring.writers import terminal, write_report

    written = write_report(report, output, figures)
    print(terminal(report) + "\n")
    kinds = {".md": "table", ".html": "page", ".tex": "LaTeX", ".png": "plot"}
    for path in written:
        print(f"{kinds.get(path.suffix, 'numbers'):8} {path}")


def _list_finished(path: Path) -> tuple[Path, list[str]]:
    """Write runs.csv of a plan's steps; return it and a line for each missing run."""
    from espnet_ext.jobs.step import is_done, read_runs
    from espnet_ext.jobs.table import list_runs
    from espnet_ext.utils.atomic import atomic_write_text

    try:
        runs = read_runs(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such list of runs; `./run.sh --table` writes it"
        ) from None
    listed = path.with_suffix(".csv")
    atomic_write_text(listed, list_runs(runs))
    missing = []
    for steps in runs.values():
        if unfinished := [step for step in steps if not is_done(step)]:
            step = unfinished[0]
            missing.append(f"missing: {step.name} is not finished, see {step.log}")
    return listed, missing


def _named(option: str, texts: Sequence[str]) -> dict[str, list[Path]]:
    """Parse ``NAME=PATH`` options; a name may come again."""
    found: dict[str, list[Path]] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not (sign and path and name.replace("_", "").replace("-", "").isalnum()):
            raise UserError(
                f"{option} {text!r}: expected NAME=PATH, with a name of letters, "
                "digits, '_' and '-'"
            )
        found.setdefault(name, []).append(Path(path))
    return found


def _pairs(texts: Sequence[str] | None) -> list[tuple[str, str]] | None:
    if texts is None:
        return None
    pairs = []
    for text in texts:
        names = tuple(name.strip() for name in text.split(","))
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"--compare {text!r}: expected two names, 'A,B'")
        pairs.append((names[0], names[1]))
    return pairs


if __name__ == "__main__":
    main()

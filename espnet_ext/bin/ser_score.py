"""Score predictions: a table with intervals, RESULTS.md, scores.json and plots."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from espnet_ext.scoring.predictions import Predictions

EPILOG = """\
examples:
  ser_score --predictions multitask=exp/multitask/test/predictions.csv --output out
  ser_score --predictions a=a.csv --predictions b=b.csv --compare a,b \\
      --reference data/test --output out

The columns of predictions.csv are documented in espnet_ext/scoring/README.md; files of
other systems need the utterance and the predictions only, with --reference.
"""


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        prog="ser_score",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--predictions",
        action="append",
        required=True,
        metavar="NAME=CSV",
        help="a model and its predictions.csv; repeat for more models, which must "
        "predict the same utterances",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where to write"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="SETDIR",
        help="set directory or list of ids that every file must cover exactly",
    )
    parser.add_argument(
        "--corpus", metavar="NAME", help="score the rows of this corpus only"
    )
    parser.add_argument(
        "--compare",
        action="append",
        metavar="NAME,NAME",
        help="test the difference of two models; default: each hierarchical model "
        "against the baselines and multitask",
    )
    parser.add_argument(
        "--train_log",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="train.log of a model, for the training curves; repeat for more models, "
        "or in order for a run that was resumed into another file",
    )
    parser.add_argument(
        "--attention",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="attention.npz of a model",
    )
    parser.add_argument(
        "--wav_scp",
        type=Path,
        metavar="PATH",
        help="wav files of the utterances, drawn behind the attention",
    )
    parser.add_argument("--title", default="Speech emotion recognition")
    parser.add_argument(
        "--resamples", type=int, default=10_000, help="of the bootstrap [10000]"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument(
        "--plots",
        choices=("true", "false"),
        default="true",
        help="draw plots (default: true)",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Score predictions from the command line."""
    args = get_parser().parse_args(cmd)
    if args.resamples < 100:
        raise UserError(f"--resamples {args.resamples}: take at least 100")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must not be negative")
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

    from espnet_ext.scoring.names import code_notes
    from espnet_ext.scoring.predictions import read_predictions, read_reference
    from espnet_ext.scoring.report import (
        align,
        build_report,
        format_table,
        write_report,
    )

    reference = read_reference(args.reference) if args.reference else None
    read = {name: read_predictions(path, reference) for name, [path] in files.items()}
    systems = align(read)
    if not any(system.classes_declared for system in read.values()):
        for name, system in systems.items():
            for label in system.never_annotated():
                print(
                    f"note: {name} predicts {label!r}, which no utterance is annotated "
                    "with. Misspelt? prob_ columns or --reference declare the classes"
                )
    if args.corpus is not None:
        systems = {n: _of_corpus(s, args.corpus) for n, s in systems.items()}
    report = build_report(
        systems, args.title, args.resamples, args.seed, _pairs(args.compare)
    )
    report = replace(report, notes=tuple(code_notes(_codes(files))))
    print(format_table(report))
    for note in report.notes:
        print(f"note: {note}")
    if len(report.corpora) > 1:
        print(
            f"note: scores are over {' + '.join(report.corpora)} together; "
            "--corpus NAME scores one alone"
        )
    figures = None
    if args.plots == "true":
        from espnet_ext.scoring.figures import draw_figures

        figures = draw_figures(systems, report, logs, attention, args.wav_scp)
    train_logs = [path for paths in logs.values() for path in paths]
    table, *numbers = write_report(report, args.output, figures, train_logs)
    print(f"\ntable    {table}")
    for path in numbers:
        print(f"{'plot' if path.suffix == '.png' else 'numbers':8} {path}")


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


def _codes(predictions: Mapping[str, list[Path]]) -> dict[str, str]:
    """Read which code made each model's training and predictions, if a recipe did."""
    from espnet_ext.jobs.step import recorded_code

    folders = {name: path.parent for name, [path] in predictions.items()}
    return {
        name: f"{recorded_code(folder.parent)} {recorded_code(folder)}".strip()
        for name, folder in folders.items()
    }


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


def _of_corpus(system: "Predictions", corpus: str) -> "Predictions":
    import numpy as np

    keep = np.array([name == corpus for name in system.corpus])
    if not keep.any():
        raise UserError(
            f"{system.path}: no utterance of corpus {corpus!r}; there are "
            f"{', '.join(sorted(set(system.corpus)))}"
        )
    return system.select(keep)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Score the runs of a table: RESULTS.md, csv, json, LaTeX, figures and an HTML page."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error

EPILOG = """\
runs.csv has the columns row, fold, seed and predictions, and may have train_log,
config, training and code; predictions is blank of a run that is missing. `./run.sh
--table` writes it (exp/tables/runs/); with one of your own, any system is scored as a
table.
"""


def get_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        prog="ser_table",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--table", type=Path, required=True, help="conf/tables/NAME.yaml"
    )
    parser.add_argument(
        "--runs", type=Path, required=True, help="list of the runs, runs.csv"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where to write"
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, help="of the bootstrap [10000]"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap [0]")
    parser.add_argument(
        "--plots",
        choices=("true", "false"),
        default="true",
        help="draw figures [true]",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Score a table from the command line."""
    args = get_parser().parse_args(cmd)
    if args.resamples < 100:
        raise UserError(f"--resamples {args.resamples}: take at least 100")
    # Late: --help must not wait for numpy and matplotlib.
    from espnet_ext.scoring.claims import judge_claims
    from espnet_ext.scoring.html import format_html
    from espnet_ext.scoring.report import read_environment
    from espnet_ext.scoring.table_report import (
        TableReport,
        format_comparisons,
        format_csv,
        format_latex,
        format_latex_comparisons,
        format_markdown,
        format_terminal,
        table_json,
    )
    from espnet_ext.scoring.table_runs import (
        read_all_predictions,
        read_runs,
        training_time,
    )
    from espnet_ext.scoring.table_scores import score_table
    from espnet_ext.scoring.table_spec import load_table
    from espnet_ext.utils.atomic import atomic_write_text

    spec = load_table(args.table)
    records = read_runs(args.runs, spec)
    runs = read_all_predictions(records)
    result = score_table(
        spec, runs, [record.key for record in records], args.resamples, args.seed
    )
    report = TableReport(
        result=result,
        claims=judge_claims(result),
        records=records,
        times={r.key: training_time(r.train_log) for r in records if r.train_log},
        environment=read_environment(r.train_log for r in records if r.train_log),
    )
    figures: dict[str, tuple[str, bytes]] = {}
    if args.plots == "true":
        from espnet_ext.scoring.table_plots import draw_table_figures

        for name, (caption, figure) in draw_table_figures(
            result, runs, records
        ).items():
            figures[name] = (caption, png_of(figure))
    plots = write_plots(figures, args.output)
    for name, text in {
        "table.csv": format_csv(report),
        "comparisons.csv": format_comparisons(report),
        "table.json": table_json(report),
        "table.tex": format_latex(report),
        "comparisons.tex": format_latex_comparisons(report),
        "report.html": format_html(report, figures),
        # Last: who finds it finds all that it links to.
        "RESULTS.md": format_markdown(report, plots),
    }.items():
        atomic_write_text(args.output / name, text)
    print(format_terminal(report))
    for what, name in (
        ("table", "RESULTS.md"),
        ("page", "report.html"),
        ("numbers", "table.csv"),
        ("numbers", "table.json"),
        ("LaTeX", "table.tex"),
    ):
        print(f"{what:8} {args.output / name}")


def png_of(figure: object) -> bytes:
    """Draw a figure into memory; the same figure gives the same bytes."""
    from matplotlib.figure import Figure

    from espnet_ext.scoring.plots import DPI

    assert isinstance(figure, Figure)
    stream = io.BytesIO()
    figure.savefig(
        stream,
        format="png",
        dpi=DPI,
        facecolor="white",
        metadata={"Software": None},
    )
    return stream.getvalue()


def write_plots(figures: dict[str, tuple[str, bytes]], output: Path) -> dict[str, str]:
    """Write the figures; return caption -> path relative to the output."""
    if not figures:
        return {}
    from espnet_ext.utils.atomic import atomic_dir

    paths = {}
    with atomic_dir(output / "plots") as folder:
        for name, (caption, image) in figures.items():
            (folder / f"{name}.png").write_bytes(image)
            paths[caption] = f"plots/{name}.png"
    return paths


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Make a table of those of its runs that are finished: the last step of a table's plan.

Which are finished is found out when this starts, so that it can be queued together with
the runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.bin import ser_table
from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.jobs.step import is_done, read_runs
from espnet_ext.jobs.table import list_runs
from espnet_ext.utils.atomic import atomic_write_text


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="ser_tabulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--table", required=True, metavar="YAML", help="conf/tables/NAME.yaml"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        required=True,
        metavar="JSON",
        help="the steps of all runs, which `./run.sh --table` writes",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="where the table goes"
    )
    parser.add_argument("--resamples", default="10000", help="of the bootstrap [10000]")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """List the runs with ``ser_table``'s header, and call it."""
    args = get_parser().parse_args(cmd)
    try:
        runs = read_runs(args.runs)
    except FileNotFoundError:
        raise UserError(
            f"{args.runs}: no such list of runs; `./run.sh --table` writes it"
        ) from None
    listed = args.runs.with_suffix(".csv")
    atomic_write_text(listed, list_runs(runs))
    ser_table.main(
        [
            *("--table", args.table, "--runs", str(listed)),
            *("--output", args.output, "--resamples", args.resamples),
        ]
    )
    for steps in runs.values():
        for step in steps:
            if not is_done(step):
                print(f"missing: {step.name} is not finished, see {step.log}")
                break


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Run the stages of a recipe: what ``ser.sh`` calls."""

import os
import sys
from collections.abc import Sequence

from espnet_ext.errors import exit_on_user_error
from espnet_ext.jobs.options import get_parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Make the plan that the options ask for; run it, or only show it."""
    args = get_parser().parse_args(cmd)
    # Late: --help needs none of this.
    from espnet_ext.jobs.option_checks import (
        check_arguments,
        check_outputs,
        complete,
        forced_stages,
    )
    from espnet_ext.jobs.overview import print_plan
    from espnet_ext.jobs.run import run, show_status
    from espnet_ext.jobs.shell_files import read_shell_files
    from espnet_ext.jobs.work import plan_work, printed_config
    from espnet_ext.utils.packages import strangers

    for sentence in strangers():
        print(f"warning: {sentence}", file=sys.stderr)
    read_shell_files(args)
    complete(args, os.environ)
    check_arguments(args)
    if args.print_config is not None:
        print(printed_config(args), end="")
        return
    work = plan_work(args)
    check_outputs(work.recipes)
    if args.dry_run:
        print_plan(work.all_steps(), forced_stages(args))
    elif args.status:
        show_status(work.steps(), args)
    else:
        run(work, args)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Make the built-in corpora and the tiny HuBERT checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error

CORPORA = ("iemocap", "msp_podcast")


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the generator's options."""
    parser = argparse.ArgumentParser(
        prog="ser_make_mini",
        description="Write small corpora in the layouts of IEMOCAP_full_release and "
        "MSP-Podcast 1.8, spoken by espeak-ng, and an untrained HuBERT checkpoint of "
        "150k parameters. The same seed gives the same bytes. What exists is replaced "
        "once the new one is whole.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for IEMOCAP_full_release, MSP-PODCAST-1.8 and hubert_tiny",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything [0]")
    parser.add_argument(
        "--corpora",
        nargs="*",
        choices=CORPORA,
        default=CORPORA,
        help="which corpora to write [both]",
    )
    parser.add_argument(
        "--upstream",
        choices=("true", "false"),
        default="true",
        help="whether to write hubert_tiny [true]",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="factor on the number of utterances, 0.1 or more [1]",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Write what the options ask for."""
    args = get_parser().parse_args(cmd)
    # Late: --help must not wait for numpy.
    from espnet_ext.mini.generate import generate
    from espnet_ext.mini.size import MiniSize

    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give 0 or more")
    for path in generate(
        args.output,
        seed=args.seed,
        corpora=args.corpora,
        with_upstream=args.upstream == "true",
        size=MiniSize(args.scale),
    ):
        print(path)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Make the built-in corpora and the tiny HuBERT checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the generator's options."""
    parser = make_parser(
        "Write small corpora in the layouts of IEMOCAP_full_release and MSP-Podcast "
        "1.8, spoken by espeak-ng, and an untrained HuBERT checkpoint of 150k "
        "parameters. The same seed gives the same bytes. What exists is replaced once "
        "the new one is whole.",
        prog="ser_make_mini",
    )
    add = parser.add_argument
    text = "folder for IEMOCAP_full_release, MSP-PODCAST-1.8 and hubert_tiny"
    add("--output", type=Path, required=True, help=text)
    add("--seed", type=int, default=0, help="seed of everything")
    names = ["iemocap", "msp_podcast"]
    add(
        "--corpora", nargs="*", choices=names, default=names, help="which ones to write"
    )
    add("--upstream", type=boolean, default=True, help="whether to write hubert_tiny")
    text = "factor on the number of utterances, 0.1 or more"
    add("--scale", type=float, default=1.0, help=text)
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Write what the options ask for."""
    args = get_parser().parse_args(cmd)
    # Late: --help must not wait for numpy.
    from espnet_ext.mini.generate import generate

    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give 0 or more")
    for path in generate(
        args.output,
        seed=args.seed,
        corpora=args.corpora,
        upstream_too=args.upstream,
        scale=args.scale,
    ):
        print(path)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Fetch a corpus whose license allows it: resumed, checked and unpacked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser

if TYPE_CHECKING:
    import argparse


def get_parser() -> "argparse.ArgumentParser":
    """Build the parser of the program's options."""
    parser = make_parser(__doc__, prog="ser_fetch_corpus")
    add = parser.add_argument
    add("--corpus", required=True, help="emodb, ravdess, crema_d or meld")
    add("--output", type=Path, required=True, help="folder to make")
    add(
        "--accept_license",
        type=boolean,
        default=False,
        help="whether the corpus' license is accepted; asked for otherwise",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Fetch one corpus."""
    args = get_parser().parse_args(cmd)
    # Late: --help must not wait for it.
    from espnet_ext.corpora.download import (
        accept_license,
        download_corpus,
        source_of,
    )

    source = source_of(args.corpus)
    accept_license(source, args.accept_license)
    download_corpus(source, args.output)


if __name__ == "__main__":
    main()

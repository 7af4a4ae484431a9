#!/usr/bin/env python3
"""Read the labels of a corpus, check its audio and write its data directory."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.corpora import registry
from espnet_ext.errors import exit_on_user_error
from espnet_ext.utils.arguments import boolean, make_parser


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the preparation's options."""
    parser = make_parser(
        "Read the labels of a corpus and every audio file once, and write a data "
        "directory with raw labels and scales, and a summary of what is in it. "
        "Missing, unreadable, cut off, empty and too short recordings and those with "
        "samples that are no numbers are left out and listed (left_out.tsv); other "
        "rates, several channels, float samples and clipping are listed "
        "(audio_check.tsv). Audio is not copied.",
        prog="ser_prepare",
    )
    add = parser.add_argument
    add("--corpus", required=True, help=f"one of {', '.join(registry.CORPORA)}")
    add("--root", type=Path, required=True, help="the corpus as it was unpacked")
    add("--output", type=Path, required=True, help="the data directory to write")
    for name, default, text in (
        ("check_audio", True, "whether to read every file and write utt2dur"),
        ("strict", False, "whether an utterance that would be left out is an error"),
        ("compare_counts", True, "whether to compare with the corpus' true counts"),
    ):
        add(f"--{name}", type=boolean, default=default, help=text)
    text = "shorter recordings are left out"
    add("--min_seconds", type=float, default=0.1, help=text)
    text = "folder for audio that is taken out of videos; None is OUTPUT_audio"
    add("--audio_dir", type=Path, help=text)
    add("--nj", type=int, default=2, help="files read at once")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Prepare one corpus."""
    options = vars(get_parser().parse_args(cmd))
    corpus = registry.get_corpus(options.pop("corpus"))
    # Late: --help must not wait for numpy and soundfile.
    from espnet_ext.corpora.prepare import PrepareOptions, prepare

    root, output = options.pop("root"), options.pop("output")
    print(prepare(corpus, root, output, PrepareOptions(**options)), end="")
    print(f"written to {output}")


if __name__ == "__main__":
    main()

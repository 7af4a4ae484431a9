#!/usr/bin/env python3
"""Read the labels of a corpus, check its audio and write its data directory."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from espnet_ext.corpora import registry
from espnet_ext.corpora.corpus import Corpus
from espnet_ext.errors import UserError, exit_on_user_error
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
    add(
        "--corpus",
        required=True,
        help=f"one of {', '.join(registry.CORPORA)}; with --manifest a name for it",
    )
    add(
        "--root",
        type=Path,
        help="the corpus as it was unpacked; of a manifest, what its paths are "
        "relative to (None: its folder)",
    )
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
    add_manifest_options(parser)
    add(
        "--write_manifest",
        type=Path,
        metavar="CSV",
        help="also write what is prepared as a manifest",
    )
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Prepare one corpus."""
    args = get_parser().parse_args(cmd)
    # Late: --help must not wait for numpy and soundfile.
    from espnet_ext.corpora.prepare import PrepareOptions, prepare

    corpus, root = corpus_of(args)
    names = [field.name for field in fields(PrepareOptions)]
    options = PrepareOptions(**{name: getattr(args, name) for name in names})
    print(prepare(corpus, root, args.output, options), end="")
    print(f"written to {args.output}")
    if args.write_manifest is not None:
        from espnet_ext.corpora.datadir import read_data_dir
        from espnet_ext.corpora.manifest.corpus import write_manifest

        how = write_manifest(read_data_dir(args.output), args.write_manifest)
        print(f"manifest written; read it again with {how}")


def add_manifest_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a corpus that is a manifest."""
    group = parser.add_argument_group("a corpus of your own")
    group.add_argument(
        "--manifest",
        type=Path,
        help="csv, tsv or jsonl with a row for each recording; or a folder of another "
        "format (espnet_ext/corpora/README.md)",
    )
    group.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="THEIRS=OURS",
        help="names of its columns",
    )
    group.add_argument(
        "--attribute_scale",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="lowest and highest possible valence, arousal and dominance",
    )
    group.add_argument(
        "--labels",
        type=Path,
        help="class map; labels that it drops need not be in all parts of the split",
    )
    group.add_argument("--seed", type=int, default=0, help="of folds that are drawn")
    group.add_argument(
        "--shared_speakers",
        type=boolean,
        default=False,
        help="whether a speaker may be in two parts of the given split",
    )
    group.add_argument(
        "--test_only",
        type=boolean,
        default=False,
        help="whether all of it is tested and none trained on, whatever its split says",
    )


def corpus_of(args: argparse.Namespace) -> tuple[Corpus, Path]:
    """Return the corpus that is meant, a known one or a manifest, and its root."""
    if args.manifest is None:
        corpus = registry.get_corpus(args.corpus)
        if args.root is None:
            raise UserError(f"where is {args.corpus}? Give its folder with --root")
        root = args.root.absolute()
    else:
        from espnet_ext.corpora.manifest.corpus import manifest_corpus
        from espnet_ext.corpora.manifest.options import manifest_options

        corpus = manifest_corpus(args.manifest, args.corpus, manifest_options(args))
        root = args.manifest.absolute().parent
    if not root.is_dir():
        raise UserError(f"--root {args.root}: no such folder")
    return corpus, root


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Read a corpus and write its data directory."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet2.utils.types import str2bool

from espnet_ext.corpora import registry
from espnet_ext.corpora.corpus import LeftOut, Reading
from espnet_ext.errors import UserError, exit_on_user_error


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the preparation's options."""
    parser = argparse.ArgumentParser(
        prog="ser_prepare",
        description="Read the labels of a corpus, check its audio and write a data "
        "directory with raw labels and scales, and a summary of what is in it.",
    )
    parser.add_argument(
        "--corpus",
        required=True,
        metavar="NAME",
        help=f"one of {', '.join(registry.CORPORA)}",
    )
    parser.add_argument(
        "--root", type=Path, required=True, help="the corpus as it was unpacked"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="the data directory to write"
    )
    parser.add_argument(
        "--check_audio",
        type=str2bool,
        default=True,
        help="whether to read every file and write utt2dur [true]",
    )
    parser.add_argument(
        "--strict",
        type=str2bool,
        default=False,
        help="whether an utterance that would be left out ends the program [false]",
    )
    parser.add_argument(
        "--compare_counts",
        type=str2bool,
        default=True,
        help="whether to compare with the true counts of the corpus [true]",
    )
    parser.add_argument(
        "--audio_dir",
        type=Path,
        help="folder for audio that is taken out of videos (MELD) [OUTPUT_audio]",
    )
    parser.add_argument("--nj", type=int, default=2, help="files read at once [2]")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Prepare one corpus."""
    args = get_parser().parse_args(cmd)
    # Late: --help must not wait for numpy and soundfile.
    from espnet_ext.corpora import audio, datadir, summary

    corpus = registry.get_corpus(args.corpus)
    root = args.root.absolute()
    if not root.is_dir():
        raise UserError(f"--root {args.root}: no such folder")
    reading = corpus.read(root)
    labelled = [*reading.utterances.values()]
    labelled += [item.utterance for item in reading.left_out if item.utterance]
    release = summary.check_release(corpus, labelled) if args.compare_counts else None
    del labelled
    audio_dir = args.audio_dir or args.output.with_name(f"{args.output.name}_audio")
    utterances, failed = audio.extract_from_videos(
        reading.utterances.values(), audio_dir
    )
    reading = Reading(
        {u.id: u for u in utterances}, reading.left_out + failed, reading.notes
    )
    reports = {}
    if args.check_audio:
        reports = audio.check_audio(reading.utterances, args.nj)
        reading.left_out += audio.faults(reports, reading.utterances)
    refuse_if_strict(args.strict, reading.left_out)
    lost = {item.name for item in reading.left_out}
    scale = corpus.attribute_scale
    data = datadir.make_data_dir(
        (u for u in reading.utterances.values() if u.id not in lost),
        {i: r.seconds for i, r in reports.items() if i not in lost},
        {corpus.name: scale} if scale else {},
    )
    found = summary.summarize(data, reading.left_out, reading.notes, release)
    with datadir.replaced_dir(args.output, marker="wav.scp") as folder:
        datadir.write_data_files(folder, data)
        text = summary.write_summary(folder, found, reading.left_out)
        if args.check_audio:
            audio.write_audio_check(folder / "audio_check.tsv", reports)
    print(text, end="")
    if args.check_audio:
        print(audio.remarks_text(reports), end="")
        print(audio.shorter_than_labels(reports, reading.utterances), end="")
    print(f"written to {args.output}")


def refuse_if_strict(strict: bool, left_out: Sequence[LeftOut]) -> None:
    """Raise UserError if `strict` and something unexpected would be left out."""
    fatal = [item for item in left_out if not item.expected]
    if strict and fatal:
        first = "\n".join(f"  {i.where}: {i.name}: {i.reason}" for i in fatal[:20])
        raise UserError(
            f"{len(fatal)} utterances would be left out, and --strict is on:\n{first}\n"
            "put them right, or use --strict false to go on without them"
        )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Check every file of a data directory and keep the usable utterances."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet2.utils.types import str2bool

from espnet_ext.bin.ser_prepare import refuse_if_strict
from espnet_ext.errors import exit_on_user_error


def get_parser() -> argparse.ArgumentParser:
    """Build the parser of the check's options."""
    parser = argparse.ArgumentParser(
        prog="ser_check_audio",
        description="Read every audio file once. Missing, unreadable, cut off, empty "
        "and too short ones and such with samples that are no numbers are left out and "
        "told; other rates, several channels, float "
        "samples and clipping are told (audio_check.tsv). Audio is not copied.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the data directory to check"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the checked data directory to write, with utt2dur",
    )
    parser.add_argument(
        "--strict",
        type=str2bool,
        default=False,
        help="whether an unusable file ends the program [false]",
    )
    parser.add_argument(
        "--min_seconds",
        type=float,
        default=0.1,
        help="shorter recordings are left out [0.1]",
    )
    parser.add_argument("--nj", type=int, default=2, help="files read at once [2]")
    return parser


@exit_on_user_error
def main(cmd: Sequence[str] | None = None) -> None:
    """Check one data directory."""
    args = get_parser().parse_args(cmd)
    # Late: --help must not wait for numpy and soundfile.
    from espnet_ext.corpora import audio, datadir, summary

    data = datadir.read_data_dir(args.data)
    before = summary.read_summary(args.data)
    reports = audio.check_audio(data.utterances, args.nj, args.min_seconds)
    faults = audio.faults(reports, data.utterances)
    refuse_if_strict(args.strict, faults)
    left_out = summary.read_left_out(args.data) + faults
    good = [id_ for id_, report in reports.items() if not report.fault]
    checked = datadir.make_data_dir(
        (data.utterances[id_] for id_ in good),
        {id_: reports[id_].seconds for id_ in good},
        data.scales,
    )
    found = summary.summarize(checked, left_out, before.get("notes", ()))
    found["release"] = before.get("release")
    with datadir.replaced_dir(args.output, marker="wav.scp") as folder:
        datadir.write_data_files(folder, checked)
        text = summary.write_summary(folder, found, left_out)
        audio.write_audio_check(folder / "audio_check.tsv", reports)
    print(text, end="")
    print(audio.remarks_text(reports), end="")
    print(audio.shorter_than_labels(reports, data.utterances), end="")
    print(f"written to {args.output}")


if __name__ == "__main__":
    main()

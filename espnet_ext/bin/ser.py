#!/usr/bin/env python3
"""Use a trained model: predict recordings, follow long ones, pack it for others."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UserError, describe_os_error
from espnet_ext.utils.arguments import boolean, make_parser

INPUTS = (
    "Recordings: files, folders, - (standard input), wav.scp, or a list "
    "(.txt, .csv, .tsv, .jsonl)"
)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser; cheap."""
    parser = make_parser(__doc__, prog="ser")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )

    predict = add("predict", "Class and attributes of each recording")
    timeline = add("timeline", "Emotion over time in long recordings")
    embed = add("embed", "The vectors E_D and E_C of each recording (.npz)")
    info = add("info", "What a model was made of")
    serve = add("serve", "Answer over HTTP (needs the extra: serve)")
    demo = add("demo", "A page to record or drop files on (needs the extra: demo)")
    pack = add("pack", "Make one file of a trained model, for others")
    upload = add("upload", "Upload a package to the Hugging Face Hub")
    export = add("export", "Make one ONNX graph of a model (needs the extra: export)")
    for command in (predict, timeline, embed):
        command.add_argument("inputs", nargs="+", metavar="AUDIO", help=INPUTS)
    for command in (predict, timeline, embed, info, serve, demo, export):
        command.add_argument(
            "--model",
            required=True,
            help="Package (zip or folder), folder of a training, or Hugging Face tag",
        )
        command.add_argument(
            "--upstream", help="Name or folder, in the place of the model's own"
        )
    for command in (predict, timeline, embed, info, serve, demo):
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    for command in (predict, timeline, embed, serve, demo):
        command.add_argument(
            "--dtype",
            default="float32",
            help="Of the upstream: float32 (the numbers of the training) or bfloat16",
        )
    predict.add_argument(
        "--format", choices=["table", "jsonl", "csv"], default="table", help="Of rows"
    )
    predict.add_argument(
        "--resume",
        type=boolean,
        default=False,
        help="Go on with --output: recordings that it holds are not repeated",
    )
    predict.add_argument(
        "--scores",
        choices=["raw", "calibrated"],
        default="raw",
        help="raw as in predictions.csv, or with the package's temperature",
    )
    timeline.add_argument(
        "--format",
        choices=["table", "jsonl", "csv", "rttm"],
        default="table",
        help="table and rttm: segments; jsonl: summary and segments; csv: every step",
    )
    timeline.add_argument("--window", type=float, default=4.0, help="Seconds seen")
    timeline.add_argument("--hop", type=float, default=1.0, help="Seconds of a step")
    for command in (predict, timeline):
        command.add_argument(
            "--output", type=Path, help="File; without it, standard output"
        )
    embed.add_argument("--output", type=Path, required=True, help="The .npz file")
    info.add_argument("--format", choices=["table", "json"], default="table", help="")
    for command, port in ((serve, 8000), (demo, 7860)):
        command.add_argument("--host", default="127.0.0.1", help="Address to listen on")
        command.add_argument(
            "--port", type=int, default=port, help="Port to listen on; 0: a free one"
        )
        command.add_argument(
            "--max_mb", type=float, default=100, help="Largest upload in megabytes"
        )
        command.add_argument(
            "--max_seconds", type=float, default=3600, help="Longest recording"
        )
    serve.add_argument(
        "--max_waiting", type=int, default=16, help="Requests at a time; more get 503"
    )
    pack.add_argument(
        "experiments",
        type=Path,
        nargs="+",
        metavar="EXP",
        help="Folder of a finished training; several (folds, seeds of one model) "
        "become an ensemble",
    )
    pack.add_argument("--output", type=Path, required=True, help="The .zip file")
    export.add_argument(
        "--output", type=Path, required=True, help="Folder, or a .zip file"
    )
    upload.add_argument("package", type=Path, help="The .zip file of ser pack")
    upload.add_argument(
        "--hf_repo", required=True, metavar="OWNER/NAME", help="Made if it is not there"
    )
    upload.add_argument("--output", type=Path, help="JSON file for where it went")
    for command in (pack, upload, export):
        command.add_argument(
            "--licence_ack",
            type=boolean,
            default=False,
            help="true: licenses of the training corpora allow to hand out the model",
        )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run a command.

    Exit status: 0 all good, 1 some recordings failed, 2 nothing could be started.

    Example:
        ``ser predict --model exp/mini_paper5/iemocap_5fold_1/multitask_seed0 a.wav``
    """
    args = get_parser().parse_args(cmd)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A path may have bytes that the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    # Late: this brings what a command needs, and --help does not.
    from espnet_ext.inference import commands

    try:
        failed = getattr(commands, args.command)(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output (`| head`) went away: nothing to say to it.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; --resume true goes on with --output", file=sys.stderr)
        sys.exit(130)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

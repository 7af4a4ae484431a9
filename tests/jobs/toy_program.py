"""A real program for the executor's tests: writes a file, slowly or not at all."""

import argparse
import os
import sys
import time
from pathlib import Path

from espnet_ext.errors import UserError, exit_on_user_error


@exit_on_user_error
def main(cmd=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    parser.add_argument("--text", default="hello")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--fail", choices=["user", "bug", "exit"])
    args = parser.parse_args(cmd)
    print("1/3epoch started")
    print("GPUs:", os.environ.get("CUDA_VISIBLE_DEVICES"))
    if args.fail == "user":
        raise UserError("spk1.wav: unreadable; convert it to 16 kHz PCM")
    if args.fail == "bug":
        raise RuntimeError("a bug")
    if args.fail == "exit":
        sys.exit(7)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "calls").open("a").write("called\n")
    time.sleep(args.seconds)
    (args.output / "result").write_text(args.text)

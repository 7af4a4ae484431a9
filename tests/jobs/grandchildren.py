"""A program that starts others, as a distributed training does: each writes a file."""

import argparse
import multiprocessing
import os
import time
from pathlib import Path


def write_on(path):
    """Add a line every 10 ms, for half a minute."""
    for _ in range(3000):
        with path.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(0.01)


def main(cmd=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    output = parser.parse_args(cmd).output
    output.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=write_on, args=(output / str(n),)) for n in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()

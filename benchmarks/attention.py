"""A layer of attention with relative positions on a CPU: ESPnet's and in blocks.

Forward and backward in training, with dropout, at the paper's width (64 units, 8
heads), 32 rows. The two are interleaved; CPU time of one thread is compared, which
other work on the machine touches least, and the median over rounds is given.

    python benchmarks/attention.py --rounds 7
"""

import argparse
import statistics
import time

import torch
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    RelPositionMultiHeadedAttention,
)

from espnet_ext.encoders.block_attention import BlockAttention

ROWS, WIDTH, HEADS = 32, 64, 8


def seconds(attention, frames):
    """CPU seconds of one forward and backward of full rows."""
    x = torch.randn(ROWS, frames, WIDTH, requires_grad=True)
    positions = torch.randn(1, 2 * frames - 1, WIDTH)
    mask = torch.ones(ROWS, 1, frames, dtype=torch.bool)
    start = time.process_time()
    attention(x, x, x, positions, mask).square().sum().backward()
    return time.process_time() - start


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 250, 600])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    theirs = RelPositionMultiHeadedAttention(HEADS, WIDTH, 0.1).train()
    ours = BlockAttention.of(theirs).train()
    print("| frames | ESPnet's, s | in blocks, s | times as fast (least to most) |")
    print("|-|-|-|-|")
    for frames in args.frames:
        taken = {theirs: [], ours: []}
        for number in range(args.rounds + 1):
            for attention in (theirs, ours):
                taken[attention].append(seconds(attention, frames))
            if number == 0:  # the first allocates
                taken = {theirs: [], ours: []}
        ratios = [a / b for a, b in zip(taken[theirs], taken[ours], strict=True)]
        print(
            f"| {frames} | {statistics.median(taken[theirs]):.3f} | "
            f"{statistics.median(taken[ours]):.3f} | {statistics.median(ratios):.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f}) |"
        )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What a training step keeps for its backward pass, per batch, on a CPU.

Prints gigabytes that autograd holds once the forward pass is done, each memory block
once, without parameters and without the features themselves.

    python benchmarks/kept_for_backward.py --config conf/train_hierarchical_dc.yaml
"""

import argparse

import torch
from torch import Tensor

from espnet_ext.tasks.config import read_config
from espnet_ext.tasks.ser import SERTask

BATCHES = ((16, 3.9), (16, 10.0), (16, 34.0), (1, 600.0))  # rows, seconds
STATES, WIDTH = 25, 1024


def main() -> None:
    """Measure each of `BATCHES`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="conf/train_hierarchical_dc.yaml")
    options = parser.parse_args()
    args = SERTask.get_parser().parse_args([])
    for name, value in read_config(options.config).items():
        setattr(args, name, value)
    args.class_list = ["neu", "ang", "hap", "sad", "dis"]
    args.frontend_conf = {"input_size": WIDTH, "num_layers": STATES}
    model = SERTask.build_model(args).train()
    print("| rows | seconds each | GB kept |")
    print("|-|-|-|")
    for rows, seconds in BATCHES:
        kept = kept_bytes(model, rows, round(50 * seconds))
        print(f"| {rows} | {seconds:g} | {kept / 1e9:.2f} |")


def kept_bytes(model: torch.nn.Module, rows: int, frames: int) -> int:
    """Run a forward pass and add up what it keeps."""
    # All rows and frames are one and the same: this takes no memory worth counting.
    states = torch.zeros(1, STATES, WIDTH, dtype=torch.half).expand(frames, -1, -1)
    blocks = {p.untyped_storage().data_ptr(): 0 for p in model.parameters()}
    blocks[states.untyped_storage().data_ptr()] = 0

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        blocks.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(
            [states] * rows,
            torch.full((rows,), frames),
            emotion=torch.zeros(rows, 1, dtype=torch.long),
            attributes=torch.rand(rows, 3),
        )
    return sum(blocks.values())


if __name__ == "__main__":
    main()

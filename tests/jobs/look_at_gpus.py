"""A program that looks for GPUs as ESPnet's trainer does, and uses one if told to."""

import argparse
import json
import os
from pathlib import Path


def main(cmd=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    parser.add_argument("--ngpu", type=int, default=0)
    args = parser.parse_args(cmd)
    import torch
    from espnet2.train import trainer

    seen = {
        "available": torch.cuda.is_available(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "amp": str(trainer.autocast_args.get("dtype")),
    }
    if args.ngpu:
        seen["device"] = str(torch.ones(2).to("cuda").device)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "seen.json").write_text(json.dumps(seen))

"""The task's own options, its defaults of ESPnet's, and what does not go together."""

import argparse

import torch
from espnet2.torch_utils.initialize import INITIALIZATIONS
from espnet2.utils.types import str2bool, str_or_none

from espnet_ext.errors import UserError
from espnet_ext.tasks.config import ADDED_BY_ESPNET
from espnet_ext.tasks.model import DEFAULTS
from espnet_ext.train.trainer import SEED_STRIDE


def add_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add options and defaults to ESPnet's parser; return their group in the help."""
    parser.get_default("required").append("class_list")
    parser.set_defaults(
        # Batches drawn anew every epoch, see train/sampler.py.
        iterator_type="task",
        batch_type="length",
        batch_bins=3125,
        min_batch_size=16,
        # Cached features are read faster than they travel between processes.
        num_workers=0,
        # ESPnet's attention plots know only its own attention classes.
        num_att_plot=0,
        # A picture of every statistic after every epoch costs seconds each time;
        # the curves are in TensorBoard and in train.log.
        use_matplotlib=False,
        # One process a GPU: a concordance of DataParallel's shares is not exact.
        multiprocessing_distributed=True,
        resume=True,
        best_model_criterion=[("valid", "loss", "min")],
    )
    group = parser.add_argument_group("Task related")
    group.add_argument(
        "--class_list",
        type=str_or_none,
        help="File with the name of each emotion class, one a line",
    )
    group.add_argument(
        "--init",
        type=lambda x: str_or_none(x.lower()),
        choices=[*INITIALIZATIONS, None],
        help="The initialization method; none leaves torch's own",
    )
    group.add_argument(
        "--corpus_sampling",
        choices=["natural", "balanced"],
        default="natural",
        help="natural: every utterance once an epoch. balanced: smaller corpora repeat "
        "until all are as large as the largest. With --iterator_type task, where "
        "--batch_type is length (--batch_bins bounds rows x longest row, in frames of "
        "the features or in samples of audio), sorted (--batch_size rows of similar "
        "length) or unsorted; --min_batch_size is the floor on the rows over all ranks "
        "and stronger than --batch_bins",
    )
    group.add_argument(
        "--max_batch_frames",
        type=int,
        default=30_000,
        help="Most rows x longest row of a batch, in frames of the features (of audio: "
        "of its upstream): bounds the memory and is stronger than --min_batch_size; a "
        "larger --batch_bins counts in its place. With --iterator_type task",
    )
    group.add_argument(
        "--resident",
        choices=["auto", "none", "ram", "device"],
        default="auto",
        help="Hold cached features in memory: in RAM, on the device that trains, or "
        "auto: there if they take at most --resident_gb and leave room (a third of a "
        "GPU's memory, on a CPU half of what is free). With --iterator_type task",
    )
    group.add_argument(
        "--resident_gb",
        type=float,
        help="Most that --resident auto takes for a set, in each process "
        "(default: 4 on a CPU, no such bound on a GPU)",
    )
    group.add_argument(
        "--conv_norm",
        choices=["batch", "layer"],
        default=DEFAULTS["conv_norm"],
        help="Norm in the conformer's convolution: ESPnet's BatchNorm, or a norm "
        "of each frame that sees neither padding nor batch mates",
    )
    group.add_argument(
        "--sync_batchnorm",
        type=str2bool,
        default=False,
        help="BatchNorm statistics over all GPUs instead of each one's own",
    )
    # So that ESPnet's parser takes the config.yaml of an experiment again.
    for name in ADDED_BY_ESPNET:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return group


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that cannot work here, each with what to do."""
    if args.accum_grad != 1:
        raise UserError(
            f"accum_grad is {args.accum_grad}, but the concordance of several small "
            "batches is not that of one large batch; leave it at 1 and raise "
            "batch_bins or min_batch_size"
        )
    if args.ngpu > 1 and not args.multiprocessing_distributed:
        raise UserError(
            f"ngpu is {args.ngpu} without multiprocessing_distributed, but a "
            "concordance must be over the whole batch; set it to true"
        )
    if args.ngpu > torch.cuda.device_count():
        raise UserError(
            f"ngpu is {args.ngpu}, but torch sees {torch.cuda.device_count()} GPUs "
            "here; lower --ngpu, or look at CUDA_VISIBLE_DEVICES"
        )
    if not 0 <= args.seed < SEED_STRIDE:
        raise UserError(f"seed is {args.seed}; choose one from 0 to 9999")
    if args.max_epoch >= SEED_STRIDE:
        raise UserError(f"max_epoch is {args.max_epoch}; 9999 is the most")
    drawn_by_task = "task" in (args.iterator_type, args.valid_iterator_type)
    if drawn_by_task and args.num_iters_per_epoch is not None:
        raise UserError(
            "num_iters_per_epoch would drop utterances from an epoch; leave it out, or "
            "give iterator_type: sequence"
        )

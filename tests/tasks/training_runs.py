"""Trainings of the tests: run them, read what they left behind."""

import socket

import torch
import torch.multiprocessing as mp
from espnet2.train.reporter import Reporter
from tiny_corpus import (
    training_args,
)

from espnet_ext.tasks.ser import SERTask


def train(folder, output, model="hierarchical_dc", **options):
    SERTask.main(cmd=training_args(folder, output, model, **options))
    return output


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def statistics(output, phase="valid"):
    """Statistics by epoch, as the checkpoint has them."""
    reporter = Reporter()
    reporter.load_state_dict(load(output / "checkpoint.pth")["reporter"])
    return {epoch: stats[phase] for epoch, stats in reporter.stats.items()}


def assert_same_parameters(a, b):
    a, b = load(a), load(b)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def main_of_rank(rank, port, args):
    SERTask.main(
        cmd=[
            *args,
            *("--dist_world_size", "2", "--dist_rank", str(rank)),
            *("--dist_backend", "gloo", "--dist_master_addr", "127.0.0.1"),
            *("--dist_master_port", str(port), "--multiprocessing_distributed", "no"),
        ]
    )


def run_two_ranks(args):
    port = free_port()
    context = mp.get_context("fork")
    ranks = [context.Process(target=main_of_rank, args=(r, port, args)) for r in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]


RESUME = {
    "max_epoch": 4,
    "min_batch_size": 8,
    "batch_bins": 10,
    "scheduler_conf": "warmup_steps=10",
    "decoder_conf": ["dropout_rate=0.2"],
    "keep_nbest_models": 2,
}


def infer_args(corpus, trained, output, **options):
    args = ["--train_config", trained / "config.yaml", "--output", output]
    args += ["--model_file", trained / "valid.ccc.ave.pth"]
    args += ["--set", corpus / "test", "--store", corpus / "store"]
    for name, value in options.items():
        args += [f"--{name}", value]
    return [str(arg) for arg in args]

"""How much memory long clips take, in training and at inference.

The peak is that of a forked process: what this one holds already does not count.
"""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_corpus import (
    make_features,
    make_utterances,
    training_args,
    write_sets,
    write_store,
)

from espnet_ext.bin.ser_infer import main as infer
from espnet_ext.tasks.ser import SERTask

GB = 10**9
OPTIONS = {
    "max_epoch": 1,
    "use_tensorboard": "false",
    "keep_nbest_models": 1,
    "resident": "none",
}


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith(key + ":")).split()[1])


def peak_of(function, *args):
    """Most bytes that a call takes beside what is there, with what it reads mapped."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def measured():
        torch.set_num_threads(1)
        before = status("VmRSS")
        function(*args)
        sender.send(status("VmHWM") - before)

    process = context.Process(target=measured)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def make_long(folder, frames, layers, dim, count=5):
    """A corpus with one clip of so many frames among short ones."""
    records = make_utterances(count)
    features = make_features(records, layers=layers, dim=dim, frames=(200, 300))
    first, *others = records
    repeated = -(-frames // len(features[first]))
    features[first] = np.tile(features[first].astype(np.float16), (repeated, 1, 1))
    features[first] = features[first][:frames]
    write_store(folder / "store", features)
    write_sets(folder, records, train=(list(records), "both"), valid=(others, "both"))
    write_sets(folder, records, test=([first, *others[:2]], "both"))


def train_command(folder, **options):
    return training_args(folder, folder / "exp", "hierarchical_dc", **options)


def infer_command(folder):
    exp = folder / "exp"
    return [
        *("--train_config", str(exp / "config.yaml")),
        *("--model_file", str(exp / "1epoch.pth")),
        *("--set", str(folder / "test"), "--store", str(folder / "store")),
        *("--output", str(exp / "test")),
    ]


@pytest.mark.slow
def test_a_minute_among_short_clips(tmp_path):
    """With whole score matrices the training alone takes 3.4 GB."""
    make_long(tmp_path, frames=3000, layers=2, dim=16)
    command = train_command(tmp_path, **OPTIONS)
    assert peak_of(lambda: SERTask.main(cmd=command)) < 1.3 * GB
    assert peak_of(infer, infer_command(tmp_path)) < 0.5 * GB


@pytest.mark.slow
def test_ten_minutes(tmp_path):
    """The paper's width, all 25 states; one head, which only takes less time.

    Of 4 GB, what importing takes (0.9 GB) is there before.
    """
    peak_of(make_long, tmp_path, 30_000, 25, 1024)
    options = {**OPTIONS, "encoder_conf": ["attention_heads=1"]}
    command = train_command(tmp_path, **options)
    assert peak_of(lambda: SERTask.main(cmd=command)) < 3.1 * GB
    assert peak_of(infer, infer_command(tmp_path)) < 3.1 * GB

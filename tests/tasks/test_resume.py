"""Kills and resuming: a training that is continued ends as one that never stopped."""

import os
import signal
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import yaml
from espnet2.train import trainer as espnet_trainer
from espnet2.train.reporter import Reporter
from tiny_corpus import (
    small,
    training_args,
)
from training_runs import RESUME, assert_same_parameters, load, statistics, train

from espnet_ext.bin.ser_train import main as ser_train
from espnet_ext.errors import UserError
from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.trainer import SERTrainer


def run_forked(function, *args, timeout=120):
    """Run function(*args) in a forked process; return its exit code."""
    process = mp.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join(timeout)
    return process.exitcode


def kill_during_save(args, number):
    """Train until the given call of torch.save, write half of it, and die."""
    save, calls = torch.save, 0

    def dying_save(obj, f, *rest, **options):
        nonlocal calls
        calls += 1
        save(obj, f, *rest, **options)
        if calls == number:
            os.truncate(f, os.path.getsize(f) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = dying_save
    SERTask.main(cmd=args)


def kill_during_unlink(args, name):
    """Train until a file of this name is removed, and die right after."""
    unlink = Path.unlink

    def dying_unlink(self, *rest, **options):
        unlink(self, *rest, **options)
        if self.name == name and calls.append(name) is None and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    calls = []
    Path.unlink = dying_unlink
    SERTask.main(cmd=args)


def kill_in_epoch(args, epoch):
    """Train until the given epoch's second batch, and die."""
    from espnet_ext.train.iterator import EpochIterator, SERIterFactory

    build = SERIterFactory.build_iter

    def dying_build(self, number, shuffle=None):
        iterator = build(self, number, shuffle)
        if number == epoch and self.drawer.shuffle:
            iterator.__class__ = DyingIterator
        return iterator

    class DyingIterator(EpochIterator):
        def __iter__(self):
            yield next(super().__iter__())
            os.kill(os.getpid(), signal.SIGKILL)

    SERIterFactory.build_iter = dying_build
    SERTask.main(cmd=args)


# Saves: checkpoint and model of epochs 1 to 4 are numbers 1 to 8, the average is 9, and
# 10 the average with its own BatchNorm statistics.
@pytest.mark.parametrize(
    ("kill", "when"),
    [
        *((kill_during_save, number) for number in (1, 2, 5, 6, 7, 8, 9, 10)),
        (kill_during_unlink, "latest.pth"),
        (kill_during_unlink, "valid.ccc.best.pth"),
        (kill_in_epoch, 3),
    ],
)
def test_a_kill_changes_nothing(corpus, uninterrupted, tmp_path, kill, when):
    output = tmp_path / "exp"
    args = training_args(corpus, output, "hierarchical_dc", **small(**RESUME))
    assert run_forked(kill, args, when) == -signal.SIGKILL
    SERTask.main(cmd=args)
    for name in ("4epoch.pth", "valid.ccc.ave_2best.pth", "valid.ccc.ave.pth"):
        assert_same_parameters(output / name, uninterrupted / name)
    names = {path.name for path in uninterrupted.iterdir()}
    assert {path.name for path in output.iterdir()} == names
    for link in ("latest.pth", "valid.ccc.best.pth", "valid.ccc.ave.pth"):
        assert (output / link).readlink() == (uninterrupted / link).readlink()


def test_a_truncated_checkpoint_costs_one_epoch(corpus, uninterrupted, tmp_path):
    output = tmp_path / "exp"
    short = small(**{**RESUME, "max_epoch": 3})
    train(corpus, output, **short)
    os.truncate(output / "checkpoint.pth", 1000)
    train(corpus, output, **small(**RESUME))
    assert_same_parameters(output / "4epoch.pth", uninterrupted / "4epoch.pth")
    assert statistics(output).keys() == statistics(uninterrupted).keys()


def test_unreadable_checkpoints_are_an_error(corpus, tmp_path):
    train(corpus, tmp_path, **small(max_epoch=2))
    for name in ("checkpoint.pth", "checkpoint.previous.pth"):
        os.truncate(tmp_path / name, 1000)
    with pytest.raises(UserError, match=r"checkpoint\.pth cannot be read"):
        train(corpus, tmp_path, **small(max_epoch=2))


def test_a_finished_training_is_left_alone(corpus, uninterrupted):
    def times():
        names = ("checkpoint.pth", "4epoch.pth")
        return [(uninterrupted / name).stat().st_mtime_ns for name in names]

    before = times()
    train(corpus, uninterrupted, **small(**RESUME))
    assert times() == before


def test_max_steps_end_the_training(corpus, tmp_path):
    # 32 utterances, 8 a batch: 4 steps an epoch, and 9 steps in the third epoch.
    options = small(max_epoch=20, max_steps=9, batch_bins=10, min_batch_size=8)
    options |= {"scheduler_conf": "warmup_steps=4"}
    train(corpus, tmp_path / "whole", **options)
    assert len(statistics(tmp_path / "whole")) == 3
    (optimizer,) = load(tmp_path / "whole" / "checkpoint.pth")["optimizers"]
    assert {int(s["step"]) for s in optimizer["state"].values()} == {12}
    # Going on is the same, and a lower max_epoch comes first.
    train(corpus, tmp_path / "parts", **options | {"max_epoch": 2})
    assert len(statistics(tmp_path / "parts")) == 2
    train(corpus, tmp_path / "parts", **options)
    for name in ("3epoch.pth", "valid.ccc.ave.pth"):
        assert_same_parameters(tmp_path / "parts" / name, tmp_path / "whole" / name)


def test_an_early_stop_is_left_alone(corpus, tmp_path):
    # The learning rate is zero: nothing improves, so patience runs out.
    options = small(max_epoch=20, optim_conf="lr=0.0", scheduler="none", patience=1)
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 3
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 3


def test_patience_counts_from_the_end_of_the_warm_up(corpus, tmp_path):
    # 2 steps an epoch: the warm-up ends in epoch 3, patience 1 runs out in epoch 5.
    options = small(max_epoch=20, optim_conf="lr=0.0", patience=1, batch_bins=10)
    options |= {"scheduler_conf": "warmup_steps=6", "min_batch_size": 16}
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 5
    train(corpus, tmp_path, **options)
    assert len(statistics(tmp_path)) == 5


def test_a_checkpoint_of_another_model_is_refused(corpus, tmp_path):
    train(corpus, tmp_path, "multitask", **small(max_epoch=1))
    with pytest.raises(UserError, match="does not fit this configuration"):
        train(corpus, tmp_path, "hierarchical_dc", **small(max_epoch=2))


def test_a_checkpoint_is_loaded_to_the_cpu(tmp_path, monkeypatch):
    """On a GPU, Adam waits twice a parameter and step for counters that lie there."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    states = {
        "model": model.state_dict(),
        "reporter": Reporter().state_dict(),
        "optimizers": [optimizer.state_dict()],
        "schedulers": [None],
        "scaler": None,
    }
    torch.save(states, tmp_path / "checkpoint.pth")
    places = []
    safe_load = espnet_trainer.safe_torch_load

    def load_and_tell(path, map_location):
        places.append(map_location)
        return safe_load(path, map_location=map_location)

    monkeypatch.setattr(espnet_trainer, "safe_torch_load", load_and_tell)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    fresh = torch.optim.Adam(model.parameters())
    SERTrainer.resume(
        checkpoint=tmp_path / "checkpoint.pth",
        model=model,
        reporter=Reporter(),
        optimizers=[fresh],
        schedulers=[None],
        scaler=None,
        ngpu=1,
    )
    assert places == ["cpu"]
    assert {state["step"].item() for state in fresh.state.values()} == {1}


def test_a_saved_configuration_trains_the_same_again(corpus, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    options = small(max_epoch=2, loss_conf=["class_weights=balanced"])
    train(corpus, first, **options)
    ser_train(["--config", str(first / "config.yaml"), "--output_dir", str(again)])
    assert_same_parameters(first / "2epoch.pth", again / "2epoch.pth")
    changed = load_yaml(first / "config.yaml") ^ load_yaml(again / "config.yaml")
    assert {key for key, _ in changed} <= {"config", "output_dir"}


def load_yaml(path):
    content = yaml.safe_load(path.read_text())
    return {(key, str(value)) for key, value in content.items()}

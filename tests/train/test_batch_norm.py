"""BatchNorm's statistics against numpy over all frames at once, on one rank and two."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.train.batch_norm import set_statistics

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ser"))
from test_distributed import run_ranks
from test_model import batch, build

BATCHES = [batch(rows=5, seed=3), batch(rows=4, seed=4), batch(rows=7, seed=5)]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def norms(model: ESPnetSERModel):
    found = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(found) == 2
    return found


def one_by_one(data):
    """Each utterance alone, so that there is no padding at all."""
    for row, length in enumerate(data["speech_lengths"]):
        yield {
            "speech": data["speech"][row : row + 1, :length],
            "speech_lengths": length[None],
        }


def frames_seen(model, norm, batches):
    """What the norm gets in evaluation: (frames, C)."""
    seen = []
    model.eval()
    with (
        norm.register_forward_hook(lambda _, args, __: seen.append(args[0])),
        torch.no_grad(),
    ):
        for data in batches:
            model.predict(data["speech"], data["speech_lengths"])
    return np.concatenate(
        [x.double().numpy().transpose(0, 2, 1).reshape(-1, x.size(1)) for x in seen]
    )


@pytest.mark.parametrize("padding", [False, True])
def test_each_norm_has_mean_and_variance_of_what_it_gets(padding):
    model = build()
    set_statistics(model, BATCHES, padding=padding)
    assert not model.training
    batches = BATCHES if padding else [u for b in BATCHES for u in one_by_one(b)]
    for norm in norms(model):
        frames = frames_seen(model, norm, batches)
        np.testing.assert_allclose(norm.running_mean, frames.mean(0), atol=1e-6)
        np.testing.assert_allclose(norm.running_var, frames.var(0, ddof=1), rtol=1e-5)


def test_what_the_statistics_were_before_does_not_matter():
    model, other = build(), build()
    for norm in norms(other):
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(7.0)
    for each in (model, other):
        each.train()
        set_statistics(each, BATCHES, padding=False)
    for ours, theirs in zip(norms(model), norms(other), strict=True):
        assert torch.equal(ours.running_mean, theirs.running_mean)
        assert torch.equal(ours.running_var, theirs.running_var)


def test_training_goes_on_as_if_nothing_had_happened():
    model, other = build(), build()
    set_statistics(other, BATCHES, padding=False)
    for each in (model, other):
        torch.manual_seed(0)
        each.train()
        each(**BATCHES[0])[0].backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert ours.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


def rows_of(rank, data):
    part = {name: value[rank::2] for name, value in data.items()}
    return part | {"speech": part["speech"][:, : part["speech_lengths"].max()]}


def set_on_rank(rank, path):
    model = build()
    set_statistics(model, [rows_of(rank, data) for data in BATCHES], padding=False)
    torch.save(model.state_dict(), f"{path}/{rank}.pth")


def test_two_ranks_get_what_one_gets(tmp_path):
    run_ranks(set_on_rank, tmp_path)
    one = build()
    set_statistics(one, BATCHES, padding=False)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    for name, value in one.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)

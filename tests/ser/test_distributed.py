"""Two gloo ranks are one process: loss, gradients, parameters after ten steps."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_model import NAN, batch, build, freeze_norms, take
from torch.nn.parallel import DistributedDataParallel

from espnet_ext.ser.distributed import gather_rows

STEPS = 10


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def run_ranks(function, *args):
    """Run function(rank, *args) in two forked processes that form a gloo group."""
    context = mp.get_context("fork")
    port = free_port()
    processes = [
        context.Process(target=_rank, args=(rank, port, function, args))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


def _rank(rank, port, function, args):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    function(rank, *args)
    dist.destroy_process_group()


def make_model(part):
    """Whole model with dropout 0 and frozen norms, or dropout-free decoder alone."""
    model = build("dc", dropout=0.0)
    freeze_norms(model)
    if part == "decoder":
        for parameter in model.parameters():
            parameter.requires_grad = False
        for parameter in model.decoder.parameters():
            parameter.requires_grad = True
    return model


def make_batches(case):
    batches = []
    for step in range(STEPS):
        data = batch(9, seed=step)  # 5 and 4 rows
        if case == "label-less rank":
            data["emotion"][1::2] = -1
            data["attributes"][1::2] = NAN
        elif case == "a kind a rank":
            data["emotion"][1::2] = -1
            data["attributes"][0::2] = NAN
        elif case == "one labeled row":
            data["attributes"][1:] = NAN
        batches.append(data)
    return batches


def train(model, batches, path):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    losses = []
    for data in batches:
        optimizer.zero_grad()
        loss, _, _ = model(**data)
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.item())
    module = getattr(model, "module", model)
    torch.save({"model": module.state_dict(), "losses": losses}, path)


def train_rank(rank, part, case, folder):
    model = DistributedDataParallel(make_model(part), broadcast_buffers=False)
    shares = [take(data, slice(rank, None, 2)) for data in make_batches(case)]
    train(model, shares, folder / f"rank{rank}.pth")


@pytest.mark.parametrize("part", ["whole", "decoder"])
@pytest.mark.parametrize(
    "case", ["even", "label-less rank", "a kind a rank", "one labeled row"]
)
def test_two_ranks_are_one_process(part, case, tmp_path):
    train(make_model(part), make_batches(case), tmp_path / "one.pth")
    run_ranks(train_rank, part, case, tmp_path)
    one = torch.load(tmp_path / "one.pth")
    for rank in (0, 1):
        other = torch.load(tmp_path / f"rank{rank}.pth")
        assert other["losses"] == pytest.approx(one["losses"], abs=1e-5)
        for name, value in one["model"].items():
            torch.testing.assert_close(
                other["model"][name], value, rtol=0, atol=1e-5, msg=name
            )


def gather_rank(rank):
    rows = torch.arange(6.0).view(3, 2)[rank:] + 10 * rank  # 3 rows and 2 rows
    rows.requires_grad_()
    everything = gather_rows(rows)
    expected = torch.tensor(
        [[0.0, 1], [2, 3], [4, 5], [12, 13], [14, 15]], dtype=torch.float32
    )
    assert torch.equal(everything, expected)
    everything.square().sum().backward()
    # Twice the own gradient: DistributedDataParallel takes the mean of two ranks.
    assert torch.equal(rows.grad, 2 * 2 * rows.detach())


def test_gather_rows():
    run_ranks(gather_rank)


def test_one_process_gathers_nothing():
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows

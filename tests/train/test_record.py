"""The record of where a training ran: real trainings, killed and resumed."""

import json
import multiprocessing as mp
import os
import platform
import signal
import socket
import sys
from importlib import metadata
from pathlib import Path

import espnet2
import pytest
import torch

from espnet_ext.errors import UserError
from espnet_ext.scoring.hardware import FILE, read_starts
from espnet_ext.tasks.ser import SERTask
from espnet_ext.train.record import open_record, this_machine

sys.path.append(str(Path(__file__).parents[1] / "tasks"))
from tiny_corpus import make_corpus, small, training_args
from training_runs import run_two_ranks

OPTIONS = {"scheduler": "none", "min_batch_size": 8, "batch_bins": 10}
MACHINE = {
    "host": "node1",
    "cpu": "Some CPU",
    "cores": 8,
    "threads": 2,
    "gpus": ["Some GPU"],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def arguments(corpus, output, **options):
    return training_args(
        corpus,
        output,
        "baseline_c",
        **small(**(OPTIONS | {"resume": "true"}), **options),
    )


def read(folder):
    return json.loads((folder / FILE).read_text())["starts"]


def kill_in_epoch(args, epoch):
    """Train until the record says that the epoch has begun, and die."""
    from espnet_ext.train.record import TrainingRecord

    begin = TrainingRecord.begin_epoch

    def dying_begin(self, number):
        begin(self, number)
        if number == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    TrainingRecord.begin_epoch = dying_begin
    SERTask.main(cmd=args)


def test_a_training_says_where_and_how_long(corpus, tmp_path):
    SERTask.main(cmd=arguments(corpus, tmp_path, max_epoch=2))
    (start,) = read(tmp_path)
    assert (start["first_epoch"], start["last_epoch"]) == (1, 2)
    assert start["torch"] == torch.__version__
    assert start["python"] == platform.python_version()
    assert start["cuda"] is None
    packages = start["packages"]
    assert packages["torch"]["folder"] == str(Path(torch.__file__).parent)
    assert packages["espnet2"]["folder"] == str(Path(espnet2.__file__).parent)
    assert packages["espnet2"]["version"] == metadata.version("espnet")
    assert packages["espnet2"]["own"]
    assert start["seconds"] > 0
    (machine,) = start["machines"]
    assert machine["host"] == socket.gethostname()
    assert machine["threads"] == torch.get_num_threads()
    assert machine["gpus"] == []
    cpu = Path("/proc/cpuinfo")
    assert not cpu.is_file() or machine["cpu"] in cpu.read_text()

    # A finished training is left alone, and so is its record.
    before = (tmp_path / FILE).read_bytes()
    SERTask.main(cmd=arguments(corpus, tmp_path, max_epoch=2))
    assert (tmp_path / FILE).read_bytes() == before
    # More epochs are another start, and the first one stays as it was.
    SERTask.main(cmd=arguments(corpus, tmp_path, max_epoch=3))
    first, second = read(tmp_path)
    assert first == start
    assert (second["first_epoch"], second["last_epoch"]) == (3, 3)
    # To begin again is to forget.
    SERTask.main(cmd=[*arguments(corpus, tmp_path, max_epoch=1), "--resume", "false"])
    assert [start["first_epoch"] for start in read(tmp_path)] == [1]


def test_a_killed_training_keeps_what_it_took(corpus, tmp_path):
    args = arguments(corpus, tmp_path, max_epoch=3)
    process = mp.get_context("fork").Process(target=kill_in_epoch, args=(args, 3))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (killed,) = read(tmp_path)
    assert (killed["first_epoch"], killed["last_epoch"]) == (1, 2)
    assert killed["seconds"] > 0
    (tmp_path / f".tmp-{FILE}-0123abcd").write_text("half of a rec")
    SERTask.main(cmd=args)
    first, second = read(tmp_path)
    assert first == killed
    assert (second["first_epoch"], second["last_epoch"]) == (3, 3)
    assert not list(tmp_path.glob(f".tmp-{FILE}-*"))


def test_all_ranks_are_in_the_record(corpus, tmp_path):
    run_two_ranks(arguments(corpus, tmp_path, max_epoch=1))
    (start,) = read(tmp_path)
    assert [m["host"] for m in start["machines"]] == [socket.gethostname()] * 2


def test_a_training_that_fails_is_recorded_too(tmp_path):
    record = open_record(tmp_path, [MACHINE], resume=True)
    record.save()
    assert not (tmp_path / FILE).exists()  # nothing has begun
    record.begin_epoch(1)
    (start,) = read(tmp_path)
    assert start["last_epoch"] is None
    assert start["machines"][0]["gpus"] == ["Some GPU"]
    assert start["cuda"] == torch.version.cuda


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"starts": 3', "null"])
def test_a_record_that_cannot_be_read_stops_nothing(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    record = open_record(tmp_path, [MACHINE], resume=True)
    record.begin_epoch(4)
    assert [start["first_epoch"] for start in read(tmp_path)] == [4]


def test_scoring_reads_what_training_writes(tmp_path):
    assert read_starts(tmp_path) == []
    open_record(tmp_path, [MACHINE], resume=True).begin_epoch(1)
    assert read_starts(tmp_path) == read(tmp_path)
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(UserError, match=r"hardware\.json is not the record of a train"):
        read_starts(tmp_path)


def test_gpus_are_those_that_are_used(monkeypatch):
    names = {0: "First", 1: "Second"}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    assert this_machine(0)["gpus"] == []
    assert this_machine(1)["gpus"] == ["Second"]  # of this rank
    assert this_machine(2)["gpus"] == ["First", "Second"]

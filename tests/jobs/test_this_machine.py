import pytest

from espnet_ext.errors import UserError
from espnet_ext.jobs.machine import (
    format_size,
    gpus_of_runs,
    parse_size,
    visible_gpus,
)

GB = 2**30


@pytest.mark.parametrize(
    ("ngpu", "visible", "dealt"),
    [
        (0, "0123", []),
        (1, "012", ["0", "1", "2"]),
        (2, "0123", ["0,1", "2,3"]),
        (2, "567", ["5,6"]),  # one is left over
        (2, "", []),  # none to be seen: the program itself says so
    ],
)
def test_gpus_of_runs(ngpu, visible, dealt):
    assert gpus_of_runs(ngpu, list(visible)) == dealt


def test_too_few_gpus_are_named():
    with pytest.raises(UserError, match="--ngpu 4, but this machine offers 2: 0, 1"):
        gpus_of_runs(4, ["0", "1"])


def test_the_environment_says_which_gpus_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f2c")
    assert visible_gpus() == ["3", "GPU-8f2c"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_device_files_are_counted_as_cuda_counts(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(tmp_path) == []
    for name in ("nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_gpus(tmp_path) == ["0"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 * GB),
        ("800M", 800 * 2**20),
        ("4000", 4000 * 2**20),
        ("1.5gb", 1.5 * GB),
    ],
)
def test_sizes_are_read_as_slurm_reads_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "4X", "-1G"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(UserError, match="is no size of memory"):
        parse_size(text)


def test_sizes_are_written():
    assert format_size(int(1.25 * GB)) == "1.2 GB"

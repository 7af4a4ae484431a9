"""Saves that are all or nothing; kills themselves are in tests/tasks/test_ser.py."""

import io
import resource

import pytest
import torch

from espnet_ext.errors import UserError
from espnet_ext.train.checkpoint import PREVIOUS, atomic_saves, load_checkpoint


def test_a_failing_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "1epoch.pth"
    with atomic_saves():
        torch.save({"a": torch.ones(2)}, path)
        with pytest.raises(Exception, match="pickle"):
            torch.save({"a": lambda: None}, path)
    assert load_checkpoint(path)["a"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["1epoch.pth"]


def test_the_last_but_one_checkpoint_stays(tmp_path):
    path = tmp_path / "checkpoint.pth"
    with atomic_saves():
        for epoch in (1, 2, 3):
            torch.save({"epoch": epoch}, path)
    assert load_checkpoint(path)["epoch"] == 3
    assert load_checkpoint(tmp_path / PREVIOUS)["epoch"] == 2


def test_torch_save_is_itself_again(tmp_path):
    original = torch.save

    def interrupted():
        with atomic_saves():
            assert torch.save is not original
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.save is original


def test_streams_are_left_alone():
    stream = io.BytesIO()
    with atomic_saves():
        torch.save({"a": 1}, stream)
    stream.seek(0)
    assert torch.load(stream) == {"a": 1}


def test_what_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "checkpoint.pth"
    assert load_checkpoint(path) is None
    for content in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(content)
        assert load_checkpoint(path) is None


def test_a_full_disk_is_named_and_the_old_file_kept(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 1}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # To torch's writer a file that may not grow fails as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(UserError, match=r"checkpoint\.pth could not be written"),
            atomic_saves(),
        ):
            torch.save({"weights": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

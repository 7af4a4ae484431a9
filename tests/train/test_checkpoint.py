"""Saves that are all or nothing; kills themselves are in tests/tasks/test_ser.py."""

import resource

import pytest
import torch

from espnet_ext.errors import UserError
from espnet_ext.train.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    full_disk_named,
    prepare_resume,
    read_checkpoint,
    save_model,
    set_aside,
)


def test_a_failing_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "1epoch.pth"
    save_model({"a": torch.ones(2)}, path)
    with pytest.raises(Exception, match="pickle"):
        save_model({"a": lambda: None}, path)
    assert read_checkpoint(path)["a"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["1epoch.pth"]


def test_the_last_but_one_checkpoint_stays(tmp_path):
    for epoch in (1, 2, 3):
        set_aside(tmp_path)
        torch.save({"epoch": epoch}, tmp_path / CHECKPOINT)
    assert read_checkpoint(tmp_path / CHECKPOINT)["epoch"] == 3
    assert read_checkpoint(tmp_path / PREVIOUS)["epoch"] == 2


def test_what_cannot_be_read_is_none(tmp_path):
    path = tmp_path / CHECKPOINT
    assert read_checkpoint(path) is None
    for content in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(content)
        assert read_checkpoint(path) is None


def test_half_of_the_first_checkpoint_is_no_training(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04")
    prepare_resume(tmp_path, [], 1)
    assert list(tmp_path.iterdir()) == []
    # After a saved epoch it is one that is lost.
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04")
    (tmp_path / "1epoch.pth").touch()
    with pytest.raises(UserError, match="there is no earlier one to fall back to"):
        prepare_resume(tmp_path, [], 1)


def test_a_full_disk_is_named_and_the_epoch_before_kept(tmp_path):
    torch.save({"epoch": 1}, tmp_path / CHECKPOINT)
    set_aside(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # To torch's writer a file that may not grow fails as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(UserError, match=r"could not be written; \d+ MiB are free"),
            full_disk_named(tmp_path),
        ):
            torch.save({"weights": torch.zeros(100_000)}, tmp_path / CHECKPOINT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_checkpoint(tmp_path / CHECKPOINT) is None
    assert read_checkpoint(tmp_path / PREVIOUS) == {"epoch": 1}


def test_other_faults_of_a_training_are_no_full_disk(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), full_disk_named(tmp_path):
        raise RuntimeError("shapes do not match")

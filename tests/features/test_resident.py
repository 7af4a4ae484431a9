"""Features held in memory: the same batches as from the store."""

import numpy as np
import pytest
import torch
from espnet2.train.distributed_utils import DistributedOption

from espnet_ext.bin.ser_extract import main as extract
from espnet_ext.errors import UserError
from espnet_ext.features import resident
from espnet_ext.features.resident import ResidentFeatures, Room, hold, size_of
from espnet_ext.features.store import FeatureStore
from espnet_ext.tasks.ser import SERTask

CPU = torch.device("cpu")


@pytest.fixture
def store(corpus):
    extract(corpus.command())
    return FeatureStore(corpus.store)


@pytest.fixture
def task_args(corpus, store):
    """Make parsed arguments of a training on half of the store."""
    labels = corpus.folder / "utt2class"
    labels.write_text("".join(f"{u} {i % 5}\n" for i, u in enumerate(store.ids[:7])))
    classes = corpus.folder / "classes"
    classes.write_text("neu\nang\nhap\nsad\ndis\n")

    def make(**options):
        args = ["--output_dir", str(corpus.folder / "exp")]
        args += ["--class_list", str(classes), "--min_batch_size", "2"]
        args += ["--batch_bins", "150"]
        for part in ("train", "valid"):
            for triple in (f"{corpus.store},speech,ser_features", f"{labels},emotion"):
                triple += "" if "ser_features" in triple else ",text_int"
                args += [f"--{part}_data_path_and_name_and_type", triple]
        for name, value in options.items():
            args += [f"--{name}", str(value)]
        return SERTask.get_parser().parse_args(args)

    return make


def batches_of(args, mode="train"):
    factory = SERTask.build_iter_factory(args, DistributedOption(), mode)
    return [batch for epoch in (1, 2) for batch in factory.build_iter(epoch)]


@pytest.mark.parametrize("mode", ["train", "valid"])
@pytest.mark.parametrize("residence", ["ram", "device", "auto"])
def test_the_same_batches(task_args, residence, mode):
    expected = batches_of(task_args(resident="none"), mode)
    found = batches_of(task_args(resident=residence), mode)
    assert len(found) == len(expected) > 2
    for (ids, batch), (other_ids, other) in zip(found, expected, strict=True):
        assert ids == other_ids
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def test_values_and_size(store):
    ids = list(store.ids[2:6])
    held = ResidentFeatures(store, ids, CPU, "train")
    assert list(held) == ids
    for utterance in ids:
        assert held[utterance].dtype == torch.float16
        np.testing.assert_array_equal(held[utterance].numpy(), store[utterance])
    assert size_of(store, ids) == sum(store[u].nbytes for u in ids)


def test_auto_minds_its_bound(store):
    ids = list(store.ids)
    need = size_of(store, ids) / 1e9
    assert hold(store, ids, Room("auto", need * 1.01, 0, 0), "train") is not None
    assert hold(store, ids, Room("auto", need * 0.99, 0, 0), "train") is None
    assert hold(store, ids, Room("auto", 10, 0, 2), "train") is None  # workers
    assert hold(store, ids, Room("none", 10, 0, 0), "train") is None


@pytest.mark.parametrize(
    ("free", "gigabytes", "held", "why"),
    [
        (79e9, None, True, "at most 52.3 GB (of 79.0 GB free 26.7 are kept"),
        (62.6e9, None, False, "at most 35.9 GB (of 62.6 GB free 26.7 are kept"),
        (20e9, None, False, "at most 0.0 GB (of 20.0 GB free"),
        (79e9, 35.9, False, "at most 35.9 GB (--resident_gb)"),
        (79e9, 36.1, True, "at most 36.1 GB (--resident_gb)"),
    ],
)
def test_auto_decides_by_the_gpus_free_memory(
    monkeypatch, caplog, free, gigabytes, held, why
):
    """36 GB: IEMOCAP's training set, 25 states of 1024 in fp16; 80 GB: the GPU."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free), int(80e9)))
    monkeypatch.setattr(resident, "size_of", lambda store, ids: int(36e9))
    monkeypatch.setattr(
        resident, "ResidentFeatures", lambda store, ids, device, where: device
    )
    with caplog.at_level("INFO"):
        found = hold(None, ["a"], Room("auto", gigabytes, 1, 0), "train")
    assert found == (torch.device("cuda") if held else None)
    (record,) = caplog.records
    where = "held on cuda" if held else "read from the store"
    assert f"[train] resident: auto: 36.00 GB of features are {where}" in record.message
    assert why in record.message


def test_no_bound_is_four_gigabytes_on_a_cpu(store, monkeypatch):
    monkeypatch.setattr(resident, "_free_bytes", lambda device: 10**12)
    ids = list(store.ids)
    for need, held in ((3.9e9, True), (4.1e9, False)):
        monkeypatch.setattr(resident, "size_of", lambda store, ids, n=need: n)
        found = hold(store, ids, Room("auto", None, 0, 0), "train")
        assert (found is not None) == held


def test_no_room(store, monkeypatch):
    monkeypatch.setattr(resident, "_free_bytes", lambda device: 1000)
    ids = list(store.ids)
    assert hold(store, ids, Room("auto", 10, 0, 0), "train") is None
    with pytest.raises(UserError, match=r"resident: ram needs .* are free"):
        hold(store, ids, Room("ram", 10, 0, 0), "train")


def test_workers_cannot_share(task_args):
    with pytest.raises(UserError, match="set num_workers to 0"):
        batches_of(task_args(resident="device", num_workers=1))


def test_audio_is_not_held(task_args, corpus):
    args = task_args(resident="ram")
    audio = (str(corpus.data / "wav.scp"), "speech", "sound")
    args.train_data_path_and_name_and_type[0] = audio
    args.train_shape_file = [str(corpus.store / "speech_shape")]
    with pytest.raises(UserError, match="resident: ram is for cached features"):
        batches_of(args)

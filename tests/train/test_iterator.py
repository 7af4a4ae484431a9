import warnings
from collections import Counter

import numpy as np
import pytest
import torch

from espnet_ext.errors import UserError
from espnet_ext.train.dataset import collate
from espnet_ext.train.iterator import BatchDrawer, SERIterFactory
from espnet_ext.train.sampler import BatchRule


class Features(torch.utils.data.Dataset):
    """Utterance n has n frames that say n."""

    def __init__(self, lengths):
        self.lengths = lengths

    def __getitem__(self, utt):
        n = self.lengths[utt]
        return utt, {
            "speech": np.full((n, 2), n, dtype=np.float16),
            "emotion": np.array([n % 5]),
        }


@pytest.fixture
def lengths():
    rng = np.random.default_rng(0)
    return {f"u{i:03d}": int(n) for i, n in enumerate(rng.integers(5, 50, 101))}


def factory(lengths, rank=0, world_size=1, shuffle=True, **options):
    drawer = BatchDrawer(
        lengths, BatchRule(200, None, 16), seed=3, shuffle=shuffle, corpora={}
    )
    return SERIterFactory(
        Features(lengths), drawer, collate, rank, world_size, **options
    )


def rows(factory, epoch):
    return [ids for ids, _ in factory.build_iter(epoch)]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batches_of_one_process(lengths, world_size):
    one = rows(factory(lengths), 4)
    shares = [rows(factory(lengths, rank, world_size), 4) for rank in range(world_size)]
    assert {len(share) for share in shares} == {len(one)}
    for step, batch in enumerate(one):
        together = [utt for share in shares for utt in share[step]]
        assert Counter(together) == Counter(batch)
        counts = [len(share[step]) for share in shares]
        assert max(counts) - min(counts) <= 1


def test_workers_load_the_same(lengths):
    assert rows(factory(lengths), 1) == rows(factory(lengths, num_workers=2), 1)


def test_an_epoch_depends_on_its_number_alone(lengths):
    once = factory(lengths)
    sequence = [rows(once, epoch) for epoch in (1, 2, 3)]
    assert rows(factory(lengths), 3) == sequence[2]
    assert sequence[0] != sequence[1]


def test_validation_batches_stay(lengths):
    fixed = factory(lengths, shuffle=False)
    assert rows(fixed, 1) == rows(fixed, 2)


def test_half_precision_reaches_the_batch(lengths):
    ids, batch = next(iter(factory(lengths).build_iter(1)))
    assert batch["speech"].dtype == torch.float16
    for row, utt in enumerate(ids):
        n = lengths[utt]
        assert batch["speech_lengths"][row] == n
        assert (batch["speech"][row, :n] == n).all()
        assert (batch["speech"][row, n:] == 0).all()
        assert batch["emotion"][row].tolist() == [n % 5]


def test_hidden_states_are_neither_padded_nor_copied():
    states = [np.zeros((n, 3, 2), np.float16) for n in (4, 2)]
    states[1].flags.writeable = False  # as those of a mapped file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, batch = collate([("a", {"speech": states[0]}), ("b", {"speech": states[1]})])
    assert batch["speech_lengths"].tolist() == [4, 2]
    for row, array in zip(batch["speech"], states, strict=True):
        assert row.data_ptr() == array.ctypes.data


def test_more_ranks_than_utterances():
    with pytest.raises(UserError, match="2 utterances cannot be shared by 3 ranks"):
        factory({"a": 5, "b": 6}, 0, 3)


def test_balancing_is_logged(lengths, caplog):
    caplog.set_level("INFO")
    corpora = {utt: "a" if i < 30 else "b" for i, utt in enumerate(lengths)}
    drawer = BatchDrawer(
        lengths, BatchRule(200, None, 16), 0, True, corpora, balanced=True
    )
    SERIterFactory(Features(lengths), drawer, collate).log_summary("train")
    assert "a: 30 utterances x 2.37, b: 71 utterances x 1.00" in caplog.text
    drawn = Counter(corpora[utt] for batch in drawer.draw(1) for utt in batch)
    assert drawn == {"a": 71, "b": 71}

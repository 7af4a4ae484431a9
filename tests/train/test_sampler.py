from collections import Counter

import numpy as np
import pytest

from espnet_ext.train.sampler import (
    BatchRule,
    balance_corpora,
    draw_batches,
    far_longer,
    padding_share,
)


@pytest.fixture
def lengths():
    rng = np.random.default_rng(0)
    # Durations of acted speech: a few hundred frames, a long tail.
    values = np.clip(rng.lognormal(5.2, 0.6, 1000), 29, 1700).astype(int)
    return {f"u{i:04d}": int(n) for i, n in enumerate(values)}


def draw(lengths, rule, epoch, seed=7):
    return draw_batches(
        lengths, sorted(lengths), rule, np.random.default_rng([seed, epoch])
    )


RULES = [
    BatchRule(3125, None, 16),
    BatchRule(21000, None, 16),
    BatchRule(None, 32, 16),
    BatchRule(None, 20, 20, by_length=False),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 33, 1000])
def test_every_utterance_once_and_the_floor_holds(lengths, rule, count):
    some = dict(list(lengths.items())[:count])
    for epoch in (1, 2, 3):
        batches = draw(some, rule, epoch)
        assert Counter(u for b in batches for u in b) == Counter(list(some))
        assert min(len(b) for b in batches) >= min(rule.min_rows, count)


@pytest.mark.parametrize("rule", RULES[:3])
def test_bounds_hold_above_the_floor(lengths, rule):
    for batch in draw(lengths, rule, 1):
        if len(batch) >= 2 * rule.min_rows:
            continue  # the tail may be up to twice the floor
        longest = max(lengths[u] for u in batch)
        assert rule.has_room(len(batch), longest)


LIMITED = [
    BatchRule(3125, None, 16, limit_frames=30_000),
    BatchRule(None, 32, 16, limit_frames=30_000),
    BatchRule(None, 20, 20, by_length=False, limit_frames=30_000),
]


@pytest.mark.parametrize("rule", LIMITED)
@pytest.mark.parametrize("count", [0, 1, 4, 15, 17, 1000])
def test_no_floor_is_above_the_limit(lengths, rule, count):
    """Clips of ten minutes and less among short ones: fewer rows, and none is lost."""
    long = {"x1": 30_000, "x2": 16_000, "x3": 15_000, "x4": 7500, "x5": 2500}
    some = {**dict(list(lengths.items())[:count]), **long}
    for epoch in (1, 2, 3):
        batches = draw(some, rule, epoch)
        assert Counter(u for b in batches for u in b) == Counter(list(some))
        for batch in batches:
            assert len(batch) * max(some[u] for u in batch) <= 30_000


def test_the_limit_changes_no_ordinary_batch(lengths):
    free, limited = BatchRule(3125, None, 16), LIMITED[0]
    for epoch in (1, 2, 3):
        assert draw(lengths, limited, epoch) == draw(lengths, free, epoch)


def test_a_rank_always_has_a_row():
    rule = BatchRule(3125, None, 16, limit_frames=30_000, fewest_rows=2)
    batches = draw({f"x{i}": 29_000 for i in range(6)}, rule, 1)
    assert [len(batch) for batch in batches] == [2, 2, 2]


def test_what_is_far_longer_than_the_rest():
    lengths = {f"u{i}": 200 for i in range(20)} | {"a": 2001, "b": 6000, "c": 2000}
    assert far_longer(lengths, at_least=1000) == ["b", "a"]
    assert far_longer(lengths, at_least=3000) == ["b"]
    assert far_longer({}, at_least=3000) == []


def test_membership_is_drawn_anew_every_epoch(lengths):
    def mates(epoch):
        return {frozenset(batch) for batch in draw(lengths, RULES[0], epoch)}

    assert not mates(1) & mates(2)
    assert mates(1) == mates(1)


def test_seeds_differ(lengths):
    assert draw(lengths, RULES[0], 1, seed=1) != draw(lengths, RULES[0], 1, seed=2)


def test_lengths_are_similar(lengths):
    similar = padding_share(draw(lengths, RULES[0], 1), lengths)
    arbitrary = padding_share(
        draw(lengths, BatchRule(None, 16, 16, by_length=False), 1), lengths
    )
    assert similar < 0.2 < arbitrary


def test_batches_are_not_sorted_by_length(lengths):
    longest = [lengths[batch[0]] for batch in draw(lengths, RULES[0], 1)]
    assert np.corrcoef(longest, np.arange(len(longest)))[0, 1] ** 2 < 0.3


def test_fixed_cut_without_a_generator(lengths):
    batches = draw_batches(lengths, sorted(lengths), RULES[0])
    assert batches == draw_batches(lengths, sorted(lengths), RULES[0])


def test_corpora_mix_within_batches(lengths):
    corpora = {utt: "ab"[i % 2] for i, utt in enumerate(lengths)}
    for batch in draw(lengths, RULES[0], 1):
        assert {corpora[utt] for utt in batch} == {"a", "b"}


def test_balancing_repeats_the_smaller_corpus():
    corpora = {f"a{i}": "a" for i in range(10)} | {f"b{i}": "b" for i in range(25)}
    ids = sorted(corpora)
    draws = [balance_corpora(ids, corpora, np.random.default_rng(s)) for s in (1, 2)]
    for balanced in draws:
        counts = Counter(balanced)
        assert set(counts) == set(ids)
        assert sum(n for u, n in counts.items() if corpora[u] == "a") == 25
        assert {n for u, n in counts.items() if corpora[u] == "a"} == {2, 3}
        assert {n for u, n in counts.items() if corpora[u] == "b"} == {1}
    assert draws[0] != draws[1]

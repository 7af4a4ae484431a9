import pytest

from espnet_ext.corpora import splits
from espnet_ext.corpora.splits import Scheme, Split, SplitOptions, make_split, sample
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError


def people(spec: str) -> dict[str, Utterance]:
    """Two utterances of each speaker of ``m1 f2 ...``."""
    return {
        f"{speaker}-{number}": Utterance(
            f"{speaker}-{number}", "x", "emodb", speaker, speaker[0], UNKNOWN, "sad"
        )
        for speaker in spec.split()
        for number in range(2)
    }


def test_sample_is_a_property_of_id_and_seed():
    ids = [f"u{index}" for index in range(1000)]
    drawn = sample(ids, 100, seed=3)
    assert list(drawn) == sorted(drawn)
    assert drawn == sample(reversed(ids), 100, seed=3)
    assert set(drawn) < set(sample(ids, 101, seed=3))
    # Without one utterance at most one other comes in.
    fewer = sample([i for i in ids if i != drawn[0]], 100, seed=3)
    assert len(set(fewer) - set(drawn)) == 1
    # Drawn evenly: of 200 seeds each utterance is in a tenth.
    hits = sum("u7" in sample(ids, 100, seed) for seed in range(200))
    assert 8 <= hits <= 34  # 20 expected, standard deviation 4.2


def test_groups_have_equal_shares_of_gender():
    groups = splits.speaker_groups(people("m1 m2 m3 m4 f1 f2 f3 f4"), 2)
    assert [sorted(group) for group in groups] == [
        ["f1", "f2", "m1", "m2"],
        ["f3", "f4", "m3", "m4"],
    ]


def test_groups_where_nothing_divides():
    groups = splits.speaker_groups(people("m1 m2 m3 f1 f2"), 5)
    assert sorted(speaker for group in groups for speaker in group) == [
        "f1",
        "f2",
        "m1",
        "m2",
        "m3",
    ]
    assert {len(group) for group in groups} == {1}
    with pytest.raises(UserError, match="5 speakers cannot be divided into 6"):
        splits.speaker_groups(people("m1 m2 m3 f1 f2"), 6)


def scheme_of(split: Split, folds: int = 1, unseen: bool = True) -> Scheme:
    return Scheme(lambda data, options: split, folds, "a test", unseen)


DATA = people("m1 f1 m2")


def test_a_test_speaker_in_training_is_an_error():
    split = Split(("m1-0", "f1-0"), ("f1-1",), ("m1-1",))
    with pytest.raises(UserError, match="test speakers are also in train: m1"):
        make_split(scheme_of(split), DATA, SplitOptions())
    assert make_split(scheme_of(split, unseen=False), DATA, SplitOptions()) == split


def test_unknown_speakers_are_not_shared():
    data = {
        id_: Utterance(id_, "x", "emodb", UNKNOWN, "f", UNKNOWN, "sad") for id_ in "abc"
    }
    split = Split(("a",), ("b",), ("c",))
    assert make_split(scheme_of(split), data, SplitOptions()) == split


def test_other_faults():
    with pytest.raises(UserError, match="valid set is empty"):
        make_split(scheme_of(Split(("m1-0",), (), ("f1-0",))), DATA, SplitOptions())
    twice = Split(("m1-0",), ("m1-0",), ("f1-0",))
    with pytest.raises(UserError, match="m1-0 is both in train and in valid"):
        make_split(scheme_of(twice), DATA, SplitOptions())
    for fold in (0, 6):
        with pytest.raises(UserError, match="folds 1 to 5"):
            make_split(scheme_of(twice, folds=5), DATA, SplitOptions(fold=fold))

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from corpora import iemocap_tree, msp_tree
from espnet_ext.bin import ser_make_sets, ser_prepare
from espnet_ext.corpora import sets
from espnet_ext.corpora.datadir import make_data_dir, read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.splits import SplitOptions
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

PAPER5 = Path(__file__).parents[2] / "conf" / "labels" / "paper5.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Checked data directories of small copies of the two corpora."""
    folder = tmp_path_factory.mktemp("data")
    roots = {
        "iemocap": iemocap_tree.small_tree(folder / "IEMOCAP_full_release"),
        "msp_podcast": msp_tree.small_tree(folder / "MSP-PODCAST-1.8"),
    }
    long = roots["iemocap"] / "Session4/sentences/wav/Ses04F_impro01"
    (long / "Ses04F_impro01_F000.wav").write_bytes(iemocap_tree.wav_bytes(16000 * 31))
    for name, root in roots.items():
        output = str(folder / name)
        ser_prepare.main(["--corpus", name, "--root", str(root), "--output", output])
    return folder


def make(data, output, *options, corpora=("iemocap",)):
    ser_make_sets.main(
        [
            *("--data", *(str(data / name) for name in corpora)),
            *("--labels", str(PAPER5), "--output", str(output)),
            *options,
        ]
    )
    return {part: read_data_dir(output / part) for part in ("train", "valid", "test")}


def make_both(data, output, *options):
    return make(
        data,
        output,
        *("--scheme", "iemocap_5fold", "msp_podcast_subset", "--fold", "5"),
        *("--subset_train", "4", "--subset_valid", "3"),
        *options,
        corpora=("iemocap", "msp_podcast"),
    )


def fails(capsys, *args, **kwargs) -> str:
    with pytest.raises(SystemExit) as end:
        make(*args, **kwargs)
    assert end.value.code == 1
    assert not args[1].exists()
    return capsys.readouterr().err


class TestOneCorpus:
    def test_files(self, data, tmp_path, capsys):
        made = make(data, tmp_path / "sets", "--scheme", "iemocap_5fold", "--fold", "2")
        # 20 utterances a session, four of each label, and exc is dropped.
        sizes = {part: len(found.utterances) for part, found in made.items()}
        assert sizes == {"train": 56, "valid": 8, "test": 16}
        out = capsys.readouterr().out
        assert (
            "2 validation speakers are also training speakers (Ses01F, Ses01M)" in out
        )
        folder = tmp_path / "sets" / "test"
        assert (folder / "classes").read_text() == "neu\nang\nhap\nsad\ndis\n"
        own = dict(row.split() for row in (folder / "emotion").read_text().splitlines())
        classes = [
            row.split() for row in (folder / "utt2class").read_text().splitlines()
        ]
        assert [id_ for id_, _ in classes] == sorted(own)
        index = {"neu": "0", "ang": "1", "hap": "2", "sad": "3"}
        assert all(number == index[own[id_]] for id_, number in classes)

    def test_manifests(self, data, tmp_path):
        made = make(data, tmp_path / "sets", "--scheme", "iemocap_5fold")
        for part, found in made.items():
            rows = (tmp_path / "sets" / f"{part}.txt").read_text().splitlines()
            assert [row.split()[0] for row in rows] == list(found.utterances)
        assert rows[0] == "Ses01F_impro01_F000 Ses01F neu"
        summary = json.loads((tmp_path / "sets" / "split.json").read_text())
        assert summary["test"]["classes"] == dict(neu=4, ang=4, hap=4, sad=4, dis=0)
        assert summary["options"]["split"]["fold"] == 1

    def test_speaker_disjoint(self, data, tmp_path, capsys):
        scheme = "iemocap_5fold_speaker_disjoint"
        made = make(data, tmp_path / "sets", "--scheme", scheme)
        assert "no validation speaker is a training speaker" in capsys.readouterr().out
        sizes = {part: len(found.utterances) for part, found in made.items()}
        assert sizes == {"train": 48, "valid": 16, "test": 16}

    def test_long_clips_leave_train_and_valid_only(self, data, tmp_path):
        long = "Ses04F_impro01_F000"
        options = ("--scheme", "iemocap_5fold", "--max_seconds", "30", "--fold")
        assert long not in make(data, tmp_path / "1", *options, "1")["train"].utterances
        assert long in make(data, tmp_path / "4", *options, "4")["test"].utterances

    def test_unit_scale(self, data, tmp_path):
        made = make(
            data,
            tmp_path / "sets",
            *("--scheme", "iemocap_5fold", "--attribute_scale", "unit"),
        )
        u = made["test"].utterances["Ses01F_impro01_F000"]  # 2.5 3.0 3.5 of 1 to 5
        assert (u.valence, u.arousal, u.dominance) == (0.375, 0.5, 0.625)
        assert made["test"].scales == {"iemocap": (0.0, 1.0)}


class TestBothCorpora:
    def test_prefixes_and_sizes(self, data, tmp_path):
        made = make_both(data, tmp_path / "sets")
        counts = {
            part: [
                sum(u.corpus == name for u in found.utterances.values())
                for name in ("iemocap", "msp_podcast")
            ]
            for part, found in made.items()
        }
        assert counts == {"train": [56, 4], "valid": [8, 3], "test": [16, 5]}
        for found in made.values():
            for id_, u in found.utterances.items():
                assert id_.startswith(f"{u.corpus}-")

    @pytest.mark.parametrize("labels", ["discrete", "continuous"])
    def test_labels_that_training_shows(self, data, tmp_path, labels):
        other = {"discrete": "continuous", "continuous": "discrete"}[labels]
        shown = ("--train_labels", f"iemocap={labels}", f"msp_podcast={other}")
        made = make_both(data, tmp_path / "sets", *shown)
        for part, found in made.items():
            rows = (tmp_path / "sets" / part / "utt2class").read_text().splitlines()
            classes = {row.split()[0]: row.split()[1] for row in rows}
            for id_, u in found.utterances.items():
                kind = labels if u.corpus == "iemocap" else other
                kind = "both" if part == "test" else kind
                assert (u.emotion == UNKNOWN) == (kind == "continuous")
                assert (classes[id_] == "-1") == (kind == "continuous")
                values = (u.valence, u.arousal, u.dominance)
                assert [math.isnan(v) for v in values] == [kind == "discrete"] * 3

    def test_a_corpus_that_is_only_tested(self, data, tmp_path):
        made = make_both(data, tmp_path / "sets", "--train_labels", "iemocap=none")
        trained = {u.corpus for u in made["train"].utterances.values()}
        tested = {u.corpus for u in made["test"].utterances.values()}
        assert (trained, tested) == ({"msp_podcast"}, {"iemocap", "msp_podcast"})

    def test_legacy_order(self, data, tmp_path, capsys):
        plain = make_both(data, tmp_path / "plain")["test"].utterances
        assert "EXCHANGED" not in capsys.readouterr().out
        swapped = make_both(data, tmp_path / "legacy", "--legacy_va_order", "true")
        assert "!!! WARNING: --legacy_va_order is on" in capsys.readouterr().out
        for id_, u in swapped["test"].utterances.items():
            before = plain[id_]
            values = (before.valence, before.arousal, before.dominance)
            if u.corpus == "msp_podcast":
                assert values == (5.833333, 4.2, 3.4)
                values = (4.2, 5.833333, 3.4)
            assert (u.valence, u.arousal, u.dominance) == values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheme", "six_fold"), "no split scheme is named 'six_fold'"),
        (("--scheme", "iemocap_5fold", "--fold", "6"), "--fold 6"),
        (("--scheme", "msp_podcast"), "no --scheme of iemocap"),
        (("--scheme", "iemocap_5fold", "msp_podcast"), "--scheme names msp_podcast"),
        (("--scheme", "iemocap_5fold", "iemocap_5fold"), "two schemes"),
        (
            ("--scheme", "iemocap_5fold", "--train_labels", "meld=none"),
            "labels names meld",
        ),
        (("--scheme", "iemocap_5fold", "--train_labels", "iemocap"), "CORPUS=LABELS"),
        (
            ("--scheme", "iemocap_5fold", "--train_labels", "iemocap=none"),
            "train set is empty",
        ),
        (("--scheme", "iemocap_5fold", "--legacy_va_order", "true"), "no data of msp"),
    ],
)
def test_options_that_do_not_fit(data, tmp_path, capsys, options, message):
    assert message in fails(capsys, data, tmp_path / "sets", *options)


def test_same_corpus_twice(data, tmp_path, capsys):
    options = ("--scheme", "iemocap_5fold")
    twice = ("iemocap", "iemocap")
    error = fails(capsys, data, tmp_path / "sets", *options, corpora=twice)
    assert "two data directories of iemocap" in error


def test_other_folders_are_not_replaced(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        make(data, data / "iemocap", "--scheme", "iemocap_5fold")
    assert "holds other files" in capsys.readouterr().err
    assert (data / "iemocap" / "wav.scp").exists()


def record(**attributes) -> Utterance:
    return Utterance(
        "a", "a.wav", "iemocap", "Ses01F", "f", "Session1", "neu", **attributes
    )


def test_clipping_keeps_missing_values():
    outside = record(valence=5.5, arousal=0.5, dominance=3.0)
    missing = replace(outside, id="b", valence=math.nan)
    data = make_data_dir([outside, missing], None, {"iemocap": (1.0, 5.0)})
    options = sets.SetOptions(["iemocap_5fold"], clip_attributes=True)
    found = sets.change_attributes(data, "iemocap", options).utterances
    values = found["a"]
    assert (values.valence, values.arousal, values.dominance) == (5.0, 1.0, 3.0)
    assert math.isnan(found["b"].valence)
    assert found["b"].arousal == 1.0


def test_shared_test_speakers_are_told_loudly():
    class_map = load_class_map(PAPER5)

    def part(id_: str, speaker: str):
        return make_data_dir([replace(record(), id=id_, speaker=speaker)])

    made = {
        "train": part("a", "Ann"),
        "valid": part("b", UNKNOWN),
        "test": part("c", "Ann"),
    }
    text = sets.sets_text(sets.describe_sets(made, class_map), class_map)
    assert "!!! WARNING: 1 test speakers are also in train: Ann" in text
    assert "in valid" not in text
    assert "no validation speaker is a training speaker" in text


def test_scale_must_be_known():
    data = make_data_dir([record(valence=1.0, arousal=1.0, dominance=1.0)])
    for change in ("unit_attributes", "clip_attributes"):
        options = sets.SetOptions(["iemocap_5fold"], **{change: True})
        with pytest.raises(UserError, match="scale is not known"):
            sets.change_attributes(data, "iemocap", options)


def test_write_set_shows_one_kind_of_labels(tmp_path):
    data = make_data_dir([record(valence=1.0, arousal=2.0, dominance=3.0)])
    class_map = load_class_map(PAPER5)
    for labels, attributes, number in (
        ("both", "1.0 2.0 3.0", 0),
        ("continuous", "1.0 2.0 3.0", -1),
        ("discrete", "nan nan nan", 0),
    ):
        sets.write_set(data, ["a"], class_map, tmp_path / labels, labels)
        assert (tmp_path / labels / "attributes").read_text() == f"a {attributes}\n"
        assert (tmp_path / labels / "utt2class").read_text() == f"a {number}\n"
    with pytest.raises(UserError, match="no kind of labels"):
        sets.write_set(data, ["a"], class_map, tmp_path / "x", "some")
    with pytest.raises(UserError, match="the set is empty"):
        sets.write_set(data, [], class_map, tmp_path / "x")


def test_a_subset_as_large_as_another_corpus_sets(data):
    class_map = load_class_map(PAPER5)
    iemocap = sets.keep_classes(read_data_dir(data / "iemocap"), class_map)
    train = [i for i in iemocap.utterances if i.startswith("Ses01")][:5]
    valid = [i for i in iemocap.utterances if i.startswith("Ses04M")][:2]
    test = [i for i in iemocap.utterances if i.startswith("Ses05")]
    options = sets.SetOptions(
        schemes=("iemocap_5fold", "msp_podcast_subset"),
        split=SplitOptions(fold=5),
        subset_like="iemocap",
        train_labels={"iemocap": "none"},
    )
    made = sets.make_sets(
        [iemocap.select([*train, *valid, *test]), read_data_dir(data / "msp_podcast")],
        class_map,
        options,
    )
    for part, size in (("train", 5), ("valid", 2)):
        corpora = [u.corpus for u in made[part].utterances.values()]
        assert corpora == ["msp_podcast"] * size


def test_a_subset_like_nothing_is_named(data, tmp_path, capsys):
    text = fails(
        capsys,
        *(data, tmp_path / "x", "--scheme", "iemocap_5fold"),
        *("--subset_like", "msp_podcast"),
    )
    assert "--subset_like names msp_podcast, of which there is no --data" in text


def test_a_subset_takes_all_where_there_are_fewer(data):
    class_map = load_class_map(PAPER5)
    both = [read_data_dir(data / name) for name in ("iemocap", "msp_podcast")]
    options = sets.SetOptions(
        schemes=("iemocap_5fold", "msp_podcast_subset"),
        split=SplitOptions(fold=5),
        subset_like="iemocap",
    )
    made = sets.make_sets(both, class_map, options)
    drawn = [u.id for u in made["train"].utterances.values() if u.corpus != "iemocap"]
    kept = sets.keep_classes(both[1], class_map).utterances.values()
    assert len(drawn) == sum(u.split == "train" for u in kept)
    assert len(drawn) < len(made["train"].utterances) / 2


BOTH = ("iemocap", "msp_podcast")


def test_each_corpus_may_have_its_own_fold_or_be_tested_whole(data, tmp_path):
    options = ("--scheme", "iemocap_5fold", "msp_podcast_whole", "--fold", "2", "1")
    shown = ("--train_labels", "msp_podcast=none")
    made = make(data, tmp_path / "sets", *options, *shown, corpora=BOTH)
    alone = make(data, tmp_path / "one", "--scheme", "iemocap_5fold", "--fold", "2")
    whole = read_data_dir(data / "msp_podcast")
    kept = sets.keep_classes(whole, load_class_map(PAPER5)).utterances
    assert set(made["test"].utterances) == {
        *(f"iemocap-{i}" for i in alone["test"].utterances),
        *(f"msp_podcast-{i}" for i in kept),
    }
    for part in ("train", "valid"):
        assert set(made[part].utterances) == {
            f"iemocap-{i}" for i in alone[part].utterances
        }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fold", "1", "1"), "msp_podcast is tested as a whole: write none"),
        (("--fold", "1", "1", "1"), "--fold: 3 folds for 2 schemes"),
        (("--fold", "6", "1"), "has folds 1 to 5"),
    ],
)
def test_folds_that_do_not_fit_are_named(data, tmp_path, capsys, options, message):
    schemes = ("--scheme", "iemocap_5fold", "msp_podcast_whole")
    said = fails(capsys, data, tmp_path / "x", *schemes, *options, corpora=BOTH)
    assert message in said

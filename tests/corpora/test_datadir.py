import math
from dataclasses import replace

import pytest

from espnet_ext.corpora.datadir import (
    combine,
    make_data_dir,
    read_data_dir,
    replaced_dir,
    write_data_dir,
)
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

ANN = Utterance(
    id="b-2",
    wav="/a folder/b.wav",
    corpus="iemocap",
    speaker="Ses01F",
    gender="f",
    split="Session1",
    emotion="neu",
    valence=2.5,
    arousal=1 / 3,
    dominance=5.5,
)
BOB = Utterance("a-1", "/a.wav", "iemocap", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
FILES = (
    *("wav.scp", "utt2spk", "spk2utt", "utt2gender", "utt2corpus", "utt2split"),
    *("utt2dur", "emotion", "attributes", "attribute_scale"),
)


@pytest.fixture
def data_dir(tmp_path):
    path = tmp_path / "data"
    write_data_dir(path, [ANN, BOB], {"a-1": 1.25, "b-2": 2.0}, {"iemocap": (1, 5)})
    return path


def test_files(data_dir):
    content = {name: (data_dir / name).read_text() for name in FILES}
    assert sorted(path.name for path in data_dir.iterdir()) == sorted(FILES)
    assert content == {
        "wav.scp": "a-1 /a.wav\nb-2 /a folder/b.wav\n",
        "utt2spk": "a-1 <unk>\nb-2 Ses01F\n",
        "spk2utt": "<unk> a-1\nSes01F b-2\n",
        "utt2gender": "a-1 <unk>\nb-2 f\n",
        "utt2corpus": "a-1 iemocap\nb-2 iemocap\n",
        "utt2split": "a-1 <unk>\nb-2 Session1\n",
        "utt2dur": "a-1 1.250000\nb-2 2.000000\n",
        "emotion": "a-1 <unk>\nb-2 neu\n",
        "attributes": "a-1 nan nan nan\nb-2 2.5 0.3333333333333333 5.5\n",
        "attribute_scale": "iemocap 1 5\n",
    }


def test_reads_what_was_written(data_dir):
    data = read_data_dir(data_dir)
    assert list(data.utterances) == ["a-1", "b-2"]
    assert data.utterances["b-2"] == ANN
    assert math.isnan(data.utterances["a-1"].valence)
    assert data.durations == {"a-1": 1.25, "b-2": 2.0}
    assert data.scales == {"iemocap": (1.0, 5.0)}


def test_durations_may_be_absent(tmp_path):
    write_data_dir(tmp_path / "data", {"x": ANN})
    assert not (tmp_path / "data" / "utt2dur").exists()
    assert read_data_dir(tmp_path / "data").durations == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "a b"}, "without blanks"),
        ({"speaker": ""}, "without blanks"),
        ({"emotion": "very sad"}, "without blanks"),
        ({"gender": "female"}, "gender"),
        ({"wav": "a\nb"}, "audio path"),
        ({"valence": math.inf}, "infinite"),
    ],
)
def test_what_the_files_cannot_hold(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        write_data_dir(tmp_path / "data", [replace(ANN, **change)])
    assert list(tmp_path.iterdir()) == []


def test_twice_none_and_other_durations(tmp_path):
    with pytest.raises(UserError, match="b-2 occurs twice"):
        make_data_dir([ANN, ANN])
    with pytest.raises(UserError, match="no utterances"):
        make_data_dir([])
    with pytest.raises(UserError, match="a-1: has a duration"):
        make_data_dir([ANN], {"a-1": 1.0})


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("utt2spk", "a-1 x\n", 2),
        ("utt2spk", "a-1 x\nb-3 y\n", 2),
        ("utt2spk", "a-1 x\nb-2 y\nc z\n", 3),
        ("emotion", "a-1 x\nb-2\n", 2),
        ("wav.scp", "b-2 /b.wav\na-1 /a.wav\n", 2),
        ("wav.scp", "a-1 /b.wav\na-1 /a.wav\n", 2),
        ("attributes", "a-1 1 2 3\nb-2 1 2\n", 2),
        ("attributes", "a-1 1 two 3\nb-2 1 2 3\n", 1),
        ("utt2dur", "a-1 long\nb-2 1\n", 1),
        ("utt2dur", "", 1),
        ("emotion", "a-1 \0\nb-2 x\n", 1),
        ("attribute_scale", "iemocap 1\n", 1),
    ],
)
def test_broken_files_are_told_with_their_line(data_dir, name, content, line):
    (data_dir / name).write_text(content)
    with pytest.raises(UserError) as error:
        read_data_dir(data_dir)
    assert str(error.value).startswith(f"{data_dir / name}:{line}: ")


def test_missing_folder_and_file(data_dir):
    with pytest.raises(UserError, match="no such data directory"):
        read_data_dir(data_dir / "none")
    (data_dir / "emotion").unlink()
    with pytest.raises(UserError, match="emotion: No such file"):
        read_data_dir(data_dir)


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        write_data_dir(tmp_path, [ANN])
    with pytest.raises(UserError, match="is a file"):
        replaced_dir(tmp_path / "thesis.txt", "wav.scp")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_combination_has_prefixes(data_dir):
    one = read_data_dir(data_dir)
    two = make_data_dir(
        [replace(ANN, corpus="emodb", speaker="03")], {"b-2": 3.0}, None
    )
    both = combine([one, two])
    assert list(both.utterances) == ["emodb-b-2", "iemocap-a-1", "iemocap-b-2"]
    assert [u.speaker for u in both.utterances.values()] == [
        "emodb-03",
        UNKNOWN,
        "iemocap-Ses01F",
    ]
    assert both.durations["emodb-b-2"] == 3.0
    assert both.scales == {"iemocap": (1.0, 5.0)}

from pathlib import Path

import pytest

from corpora import iemocap_tree as tree
from corpora.iemocap_tree import Line, write_dialog
from espnet_ext.corpora import iemocap
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.sets import keep_classes
from espnet_ext.corpora.splits import SplitOptions, make_split
from espnet_ext.errors import UserError

LABELS = Path(__file__).parents[2] / "conf" / "labels"


def label_file(root: Path, dialog: str) -> Path:
    return root / f"Session{dialog[4]}/dialog/EmoEvaluation/{dialog}.txt"


def wav_file(root: Path, id_: str) -> Path:
    dialog = id_.rpartition("_")[0]
    return root / f"Session{id_[4]}/sentences/wav/{dialog}/{id_}.wav"


class TestRealSize:
    def test_every_count_of_the_release(self, real_iemocap):
        _, data = real_iemocap
        utterances = read_data_dir(data).utterances
        assert len(utterances) == 10039
        for session, counts in tree.COUNTS.items():
            of_session = [
                u for u in utterances.values() if u.split == f"Session{session}"
            ]
            found = [sum(u.emotion == e for u in of_session) for e in tree.EMOTIONS]
            assert found == counts
            assert sum(u.gender == "f" for u in of_session) == tree.WOMEN[session]
            assert {u.speaker for u in of_session} == {
                f"Ses0{session}F",
                f"Ses0{session}M",
            }
            assert (
                len({u.id.rpartition("_")[0] for u in of_session})
                == (tree.DIALOGS[session])
            )

    @pytest.mark.parametrize("fold", tree.FOLDS)
    def test_released_fold_sizes(self, real_iemocap, fold):
        _, path = real_iemocap
        data = keep_classes(
            read_data_dir(path), load_class_map(LABELS / "paper5.yaml")
        ).utterances
        scheme = iemocap.CORPUS.schemes["iemocap_5fold"]
        split = make_split(scheme, data, SplitOptions(fold=fold))
        sizes = (len(split.train), len(split.valid), len(split.test))
        assert sizes == tree.FOLDS[fold]
        side = f"Ses0{fold - 1 or 5}M"
        assert {id_[:6] for id_ in split.valid} == {side}
        assert {data[id_].gender for id_ in split.valid} == {"f", "m"}

    @pytest.mark.parametrize("fold", tree.FOLDS)
    @pytest.mark.parametrize("name", iemocap.CORPUS.schemes)
    def test_nobody_of_the_test_fold_is_trained_on(self, real_iemocap, name, fold):
        data = read_data_dir(real_iemocap[1]).utterances
        scheme = iemocap.CORPUS.schemes[name]
        split = make_split(scheme, data, SplitOptions(fold=fold))
        speakers = {
            part: {data[id_].speaker for id_ in ids}
            for part, ids in split.parts().items()
        }
        assert speakers["test"] == {f"Ses0{fold}F", f"Ses0{fold}M"}
        assert not speakers["test"] & (speakers["train"] | speakers["valid"])
        disjoint = name.endswith("speaker_disjoint")
        assert disjoint == speakers["valid"].isdisjoint(speakers["train"])
        assert sum(map(len, split.parts().values())) == 10039

    def test_random_fifth(self, real_iemocap):
        data = read_data_dir(real_iemocap[1]).utterances
        scheme = iemocap.CORPUS.schemes["iemocap_5fold_random20"]
        first = make_split(scheme, data, SplitOptions(fold=1, seed=1))
        again = make_split(scheme, data, SplitOptions(fold=1, seed=1))
        other = make_split(scheme, data, SplitOptions(fold=1, seed=2))
        assert first == again
        assert first.valid != other.valid
        assert len(first.valid) == round(0.2 * (10039 - 1819))

    def test_brackets_outside_the_scale_are_kept(self, real_iemocap):
        utterances = read_data_dir(real_iemocap[1]).utterances
        for id_, (emotion, vad) in tree.OUTSIDE.items():
            u = utterances[id_]
            assert u.emotion == emotion
            assert (u.valence, u.arousal, u.dominance) == vad


def test_small_tree_with_hidden_files_and_other_formats(small_iemocap):
    reading = iemocap.read(small_iemocap)
    assert len(reading.utterances) == 100
    assert not reading.left_out
    found = reading.utterances["Ses02M_impro01_F003"]  # CR line ends
    # The prefix letter is not the speaker.
    assert (found.speaker, found.gender, found.split) == ("Ses02F", "f", "Session2")
    assert found.emotion == "sad"
    assert (found.valence, found.arousal, found.dominance) == (2.5, 3.0, 3.5)
    assert Path(found.wav).is_file()


def test_the_folder_around_the_release_will_do(small_iemocap):
    assert len(iemocap.read(small_iemocap.parent).utterances) == 100


def test_dialogs_whose_names_begin_alike(tmp_path):
    write_dialog(tmp_path, [Line("Ses05M_script01_1_F000")])
    write_dialog(tmp_path, [Line("Ses05M_script01_1b_F000", "sad")])
    utterances = iemocap.read(tmp_path).utterances
    assert utterances["Ses05M_script01_1_F000"].emotion == "neu"
    assert utterances["Ses05M_script01_1b_F000"].emotion == "sad"


def test_line_of_the_other_dialog(tmp_path):
    path = write_dialog(tmp_path, [Line("Ses05M_script01_1_F000")])
    text = path.read_text().replace("script01_1_F000", "script01_1b_F000")
    path.write_text(text)
    with pytest.raises(UserError, match=r"script01_1\.txt:3: .* no utterance of"):
        iemocap.read(tmp_path)


def test_label_without_audio_is_told(small_iemocap):
    wav_file(small_iemocap, "Ses01F_impro01_M000").unlink()
    reading = iemocap.read(small_iemocap)
    (left_out,) = reading.left_out
    assert left_out.name == "Ses01F_impro01_M000"
    assert left_out.where.endswith("Ses01F_impro01.txt:10")
    assert len(reading.utterances) == 99


def test_free_comments_in_any_encoding(small_iemocap):
    path = label_file(small_iemocap, "Ses01F_impro01")
    path.write_bytes(path.read_bytes().replace(b"mildly", b"m\xefldly \x92"))
    assert len(iemocap.read(small_iemocap).utterances) == 100


def broken(text: bytes, case: str) -> bytes:
    lines = text.split(b"\n")
    return {
        "empty": b"",
        "blank": b"\n\n",
        "header only": b"\n".join(lines[:2]) + b"\n",
        "binary": b"\0\1\2\3" * 50,
        "utf-16": text.decode().encode("utf-16"),
        "cut in a label": text[: text.index(b"neu") + 1],
        "cut in a rating": text[: text.rindex(b"aggravated")],
        "cut between lines": b"\n".join(lines[:9]) + b"\n",
        "twice": b"\n".join(lines + lines[2:9]),
        "label": text.replace(b"\tneu\t", b"\tn\xefu\t"),
        "bracket": text.replace(b"[2.5000, ", b"[2.5000; ", 1),
        "two values": text.replace(b"[2.5000, 3.0000, ", b"[2.5000, ", 1),
        "session": text.replace(b"Ses01F_impro01", b"Ses02F_impro01"),
    }[case]


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("empty", 1),
        ("blank", 1),
        ("header only", 2),
        ("binary", 1),
        ("utf-16", 1),
        ("cut in a label", 3),
        ("cut in a rating", 71),
        ("cut between lines", 9),
        ("twice", 74),
        ("label", 3),
        ("bracket", 3),
        ("two values", 3),
        ("session", 3),
    ],
)
def test_broken_label_file(small_iemocap, case, line):
    path = label_file(small_iemocap, "Ses01F_impro01")
    path.write_bytes(broken(path.read_bytes(), case))
    with pytest.raises(UserError) as error:
        iemocap.read(small_iemocap)
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_audio_without_label_names_the_file(small_iemocap):
    extra = wav_file(small_iemocap, "Ses01F_impro01_F099")
    extra.write_bytes(tree.SHORT)
    with pytest.raises(UserError, match=rf"impro01\.txt:72: .*{extra.name}"):
        iemocap.read(small_iemocap)


def test_audio_folder_without_label_file(small_iemocap):
    label_file(small_iemocap, "Ses03M_impro01").unlink()
    with pytest.raises(UserError, match=r"Ses03M_impro01\.txt: no label file"):
        iemocap.read(small_iemocap)


def test_dialog_in_the_folder_of_another_session(tmp_path):
    write_dialog(tmp_path, [Line("Ses01F_impro01_F000")])
    (tmp_path / "Session1").rename(tmp_path / "Session2")
    with pytest.raises(UserError, match=r"Ses01F_impro01\.txt:3: .* session 2"):
        iemocap.read(tmp_path)


@pytest.mark.parametrize("missing", ["dialog/EmoEvaluation", "sentences/wav"])
def test_missing_folder(small_iemocap, missing):
    (small_iemocap / "Session4" / missing).rename(small_iemocap / "away")
    with pytest.raises(UserError, match=missing):
        iemocap.read(small_iemocap)


def test_no_sessions(tmp_path):
    with pytest.raises(UserError, match="IEMOCAP_full_release"):
        iemocap.read(tmp_path)

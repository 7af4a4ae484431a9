"""CREMA-D, RAVDESS, EmoDB and MELD."""

import shutil
import stat
from collections import Counter

import numpy as np
import pytest
import soundfile as sf

from corpora import open_trees as trees
from corpora.iemocap_tree import SHORT
from espnet_ext.bin import ser_prepare
from espnet_ext.corpora import crema_d, emodb, meld, ravdess
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.splits import SplitOptions, make_split
from espnet_ext.corpora.summary import check_release
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError


def speakers(data, ids):
    return {data[id_].speaker for id_ in ids}


def all_folds(corpus, name, data):
    scheme = corpus.schemes[name]
    return [
        make_split(scheme, data, SplitOptions(fold=fold))
        for fold in range(1, scheme.folds + 1)
    ]


class TestCremaD:
    def test_read(self, tmp_path):
        reading = crema_d.read(trees.crema_d_tree(tmp_path / "CREMA-D"))
        assert len(reading.utterances) == 91 * 12 + 1
        u = reading.utterances["1002_IEO_HAP_XX"]
        assert (u.speaker, u.gender, u.emotion) == ("1002", "m", "HAP")
        assert reading.utterances["1040_ITH_SAD_X"].emotion == "SAD"

    def test_split_is_by_actor(self, tmp_path):
        data = crema_d.read(trees.crema_d_tree(tmp_path / "CREMA-D")).utterances
        (split,) = all_folds(crema_d.CORPUS, "crema_d", data)
        parts = [speakers(data, ids) for ids in split.parts().values()]
        assert list(map(len, parts)) == [63, 9, 19]
        assert len(set.union(*parts)) == 91
        # The usual validation set has 738 = 9 * 82 utterances, so all of nine actors.
        shuffled = [str(actor) for actor in range(1001, 1092)]
        np.random.RandomState(0).shuffle(shuffled)
        assert parts[1] == set(shuffled[63:72])

    def test_true_counts(self):
        data = [
            Utterance(f"{e}{n}", "x", "crema_d", "1001", "f", UNKNOWN, e)
            for e, count in trees.CREMA_D_COUNTS.items()
            for n in range(count)
        ]
        assert len(data) == 7442
        assert check_release(crema_d.CORPUS, data).differing == ()

    def test_without_the_table_of_actors(self, tmp_path):
        root = trees.crema_d_tree(tmp_path / "CREMA-D", actors=3)
        (root / "VideoDemographics.csv").unlink()
        reading = crema_d.read(root)
        assert {u.gender for u in reading.utterances.values()} == {UNKNOWN}
        assert "genders are unknown" in reading.notes[0]

    def test_other_table_of_actors(self, tmp_path):
        root = trees.crema_d_tree(tmp_path / "CREMA-D", actors=3)
        (root / "VideoDemographics.csv").write_text("Actor,Gender\n1001,f\n")
        with pytest.raises(UserError, match=r"VideoDemographics\.csv:1: "):
            crema_d.read(root)


class TestRavdess:
    def test_read(self, tmp_path):
        reading = ravdess.read(trees.ravdess_tree(tmp_path / "RAVDESS"))
        assert (
            check_release(ravdess.CORPUS, reading.utterances.values()).differing == ()
        )
        assert not reading.left_out  # the song is no part of the speech
        u = reading.utterances["03-01-05-01-02-01-12"]
        assert (u.speaker, u.gender, u.emotion) == ("Actor_12", "f", "angry")

    def test_folds_are_of_four_actors(self, tmp_path):
        data = ravdess.read(trees.ravdess_tree(tmp_path / "RAVDESS")).utterances
        splits = all_folds(ravdess.CORPUS, "ravdess_6fold", data)
        tested = [sorted(speakers(data, split.test)) for split in splits]
        numbers = [[int(name[-2:]) for name in fold] for fold in tested]
        assert numbers == [list(range(first, first + 4)) for first in range(1, 24, 4)]
        for split in splits:
            known = speakers(data, split.train) | speakers(data, split.valid)
            assert not speakers(data, split.test) & known
            assert not speakers(data, split.valid) & speakers(data, split.train)

    def test_the_same_recording_in_two_folders(self, tmp_path):
        root = trees.ravdess_tree(tmp_path / "RAVDESS")
        shutil.copytree(root / "Actor_01", root / "copy" / "Actor_01")
        with pytest.raises(UserError, match=r"03-01-01.*the same utterance as"):
            ravdess.read(root)


class TestEmodb:
    def test_read(self, tmp_path):
        reading = emodb.read(trees.emodb_tree(tmp_path / "EmoDB"))
        assert check_release(emodb.CORPUS, reading.utterances.values()).differing == ()
        u = reading.utterances["03a01Fa"]
        assert (u.speaker, u.gender, u.emotion) == ("03", "m", "happy")

    def test_folds(self, tmp_path):
        data = emodb.read(trees.emodb_tree(tmp_path / "EmoDB")).utterances
        splits = all_folds(emodb.CORPUS, "emodb_5fold", data)
        for split in splits:
            genders = Counter(
                {u.speaker: u.gender for u in map(data.get, split.test)}.values()
            )
            assert genders == {"m": 1, "f": 1}
        assert sum(len(split.test) for split in splits) == 535
        alone = all_folds(emodb.CORPUS, "emodb_loso", data)
        assert [len(speakers(data, split.test)) for split in alone] == [1] * 10
        assert set.union(*(speakers(data, s.test) for s in alone)) == set(
            trees.EMODB_SPEAKERS
        )

    def test_name_without_a_label(self, tmp_path):
        root = trees.emodb_tree(tmp_path / "EmoDB")
        (root / "wav" / "03a01Xa.wav").write_bytes(SHORT)
        (left_out,) = emodb.read(root).left_out
        assert left_out.name == "03a01Xa"


@pytest.mark.parametrize("corpus", [crema_d, ravdess, emodb])
def test_nothing_there(tmp_path, corpus):
    with pytest.raises(UserError, match="no recordings like"):
        corpus.read(tmp_path)


class TestMeld:
    def test_true_counts(self, tmp_path):
        root = trees.meld_tree(tmp_path / "MELD.Raw")
        reading = meld.read(root)
        assert len(reading.utterances) == 13706
        check = check_release(meld.CORPUS, reading.utterances.values())
        assert check.differing == ()
        u = reading.utterances["dev_dia0_utt0"]
        assert (u.speaker, u.split, u.emotion) == ("Mrs._Green", "dev", "neutral")
        (split,) = all_folds(meld.CORPUS, "meld", reading.utterances)
        sizes = list(map(len, split.parts().values()))
        assert sizes == [9988, 1108, 2610]

    def test_row_without_a_file_and_file_without_a_row(self, tmp_path):
        root = trees.meld_tree(tmp_path / "MELD.Raw", share=20)
        folder = root / trees.MELD_FOLDERS["dev"]
        (folder / "dia0_utt0.wav").rename(folder / "dia99_utt0.wav")
        row, file = meld.read(root).left_out
        assert row.where == f"{root / 'dev_sent_emo.csv'}:2"
        assert (row.reason, file.reason) == (
            "label without audio",
            "audio without a label",
        )

    @pytest.mark.parametrize(
        ("old", "new", "line"),
        [
            (",joy,", ",glee,", 25),
            (",0,1\n", ",0,0\n", 3),
            (",0,1\n", ",0\n", 3),
            ("Dialogue_ID", "Dialog", 1),
        ],
    )
    def test_broken_table(self, tmp_path, old, new, line):
        root = trees.meld_tree(tmp_path / "MELD.Raw", share=20)
        path = root / "dev_sent_emo.csv"
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(UserError) as error:
            meld.read(root)
        assert str(error.value).startswith(f"{path}:{line}: ")

    def test_videos_need_ffmpeg(self, tmp_path, monkeypatch, capsys):
        root = trees.meld_tree(tmp_path / "MELD.Raw", suffix=".mp4", share=100)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SystemExit) as end:
            ser_prepare.main(command(root, tmp_path / "data"))
        assert end.value.code == 1
        assert "needs ffmpeg" in capsys.readouterr().err
        assert not (tmp_path / "data").exists()

    def test_videos_are_converted_once(self, tmp_path, monkeypatch, capsys):
        root = trees.meld_tree(tmp_path / "MELD.Raw", suffix=".mp4", share=100)
        bad = root / trees.MELD_FOLDERS["train"] / "dia0_utt3.mp4"
        bad.write_bytes(b"broken")
        log = write_converter(tmp_path / "bin", tmp_path / "log")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        ser_prepare.main(command(root, tmp_path / "data"))
        assert "ffmpeg cannot read the video" in capsys.readouterr().out
        data = read_data_dir(tmp_path / "data").utterances
        assert "train_dia0_utt3" not in data
        wav = data["train_dia0_utt0"].wav
        assert wav == str(tmp_path / "data_audio" / "train_dia0_utt0.wav")
        assert sf.info(wav).samplerate == 16000
        calls = len(log.read_text().splitlines())
        assert calls == len(data) + 1
        ser_prepare.main(command(root, tmp_path / "data"))
        assert len(log.read_text().splitlines()) == calls + 1  # the broken one again


def command(root, output):
    return ["--corpus", "meld", "--root", str(root), "--output", str(output)]


def write_converter(folder, log):
    """A program of ffmpeg's name and options; its videos are wav files already."""
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> {log}\n'
        'while [ "$1" != -i ]; do shift; done\n'
        "input=$2\n"
        "for output; do :; done\n"
        'if [ "$(head -c 4 "$input")" != RIFF ]; then\n'
        '    echo "moov atom not found" >&2; exit 1\n'
        "fi\n"
        'cp "$input" "$output"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return log

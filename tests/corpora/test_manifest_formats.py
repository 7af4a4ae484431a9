import json

import pytest

from espnet_ext.corpora.manifest.corpus import manifest_corpus
from espnet_ext.corpora.manifest.reader import ManifestOptions
from espnet_ext.errors import UserError

from .manifest_files import read, speech_rows, write_csv, write_jsonl

# ---- Kaldi and ESPnet


def write_kaldi(folder, rows, **files):
    """Write a data directory of rows; further files by name."""
    folder.mkdir()
    names = [str(row["path"]).removesuffix(".wav") for row in rows]
    columns = {
        "wav.scp": [f"/wav/{row['path']}" for row in rows],
        "utt2spk": [row["speaker"] for row in rows],
        "emotion": [row["emotion"] for row in rows],
    }
    for name, values in columns.items():
        lines = [f"{n} {v}\n" for n, v in zip(names, values, strict=True)]
        (folder / name).write_text("".join(lines))
    for name, text in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)
    return folder


def test_a_kaldi_directory(tmp_path):
    rows = speech_rows()
    names = [str(row["path"]).removesuffix(".wav") for row in rows]
    folder = write_kaldi(
        tmp_path / "data",
        rows,
        attributes="".join(f"{n} 1 nan {i / 4 + 1}\n" for i, n in enumerate(names)),
        attribute_scale="any 1 5\n",
        spk2gender="".join(f"s{i} {'fm'[i % 2]}\n" for i in range(6)),
    )
    found = read(folder)
    assert found.attribute_scale == (1, 5)
    utterance = found.reading.utterances["s1_angry"]
    assert (utterance.wav, utterance.gender) == ("/wav/s1_angry.wav", "m")
    assert (utterance.valence, utterance.dominance) == (1.0, 1.5)
    assert found.folds == 5


def test_segments_are_pieces(tmp_path):
    rows = speech_rows()
    names = [str(row["path"]).removesuffix(".wav") for row in rows]
    lines = [f"{n} long {i} {i + 0.5}\n" for i, n in enumerate(names)]
    lines[-1] = f"{names[-1]} long 11 -1\n"
    folder = write_kaldi(
        tmp_path / "data", rows, wav_scp="long /wav/l.wav\n", segments="".join(lines)
    )
    found = read(folder).reading.utterances
    assert found["s0_sad"].wav == "/wav/l.wav#t=1,1.5"
    assert found["s5_sad"].wav == "/wav/l.wav#t=11"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"wav_scp": "s0_sad sph2pipe -f wav a.sph |\n"},
            r"wav.scp:1: s0_sad is the output of a command .*write the recordings",
        ),
        ({"segments": "s0_sad other 0 1\n"}, "segments:1: wav.scp has no recording"),
        ({"attributes": "s0_sad 1 2\n"}, "attributes:1: 2 values instead of V A D"),
    ],
)
def test_a_kaldi_line_at_fault_is_named(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        read(write_kaldi(tmp_path / "data", speech_rows(), **files))


# ---- EmoBox


def write_emobox(folder, rows, folds, keys=("key", "wav", "emo"), name_map=None):
    """Write a corpus of EmoBox whose folds test the given speakers."""
    lines = [
        {keys[0]: f"my-{r['path'][:-4]}", keys[1]: f"downloads/{r['path']}"}
        | {keys[2]: r["emotion"], "length": 1.5, "channel": 1}
        for r in rows
    ]
    for number, tested in enumerate(folds, start=1):
        fold = folder / f"fold_{number}"
        fold.mkdir(parents=True)
        test = [r["speaker"] in tested for r in rows]
        for part, wanted in (("test", True), ("train", False)):
            chosen = [x for x, t in zip(lines, test, strict=True) if t == wanted]
            write_jsonl(fold / f"my_{part}_fold_{number}.jsonl", chosen)
    stm = [
        f"my-{r['path'][:-4]} 1 {s} 0 1.5 <id=x,spk={s},emotion=y> y\n"
        for r in rows
        for s in [r["speaker"]]
    ]
    (folder / "data.seg.wrd.stm").write_text("".join(stm))
    (folder / (name_map or "label_map.json")).write_text(
        json.dumps({"Angry": "Anger", "sad": "Sadness"})
    )
    return folder


@pytest.mark.parametrize("keys", [("key", "wav", "emo"), ("key", "audio", "label")])
@pytest.mark.parametrize("name_map", ["label_map.json", "label_dict.json"])
def test_folds_of_emobox(tmp_path, keys, name_map):
    folds = [{"s0", "s1"}, {"s2", "s3"}, {"s4"}]
    folder = tmp_path / "EmoBox" / "data" / "my"
    found = read(write_emobox(folder, speech_rows(), folds, keys, name_map))
    utterances = found.reading.utterances
    assert found.folds == 3
    assert found.labels == ("Anger", "Sadness")
    assert utterances["my-s0_sad"].wav == f"{tmp_path}/EmoBox/downloads/s0_sad.wav"
    parts = {u.speaker: u.split for u in utterances.values()}
    assert parts == {
        **{"s0": "fold1", "s1": "fold1", "s2": "fold2", "s3": "fold2"},
        **{"s4": "fold3", "s5": "train"},
    }


def test_one_fold_of_emobox_is_a_split_and_shared_speakers_are_said(tmp_path):
    folder = tmp_path / "data" / "my"
    write_emobox(folder, speech_rows(8), [{"s6", "s7"}])
    found = read(folder)
    assert found.folds == 0
    parts = {u.split for u in found.reading.utterances.values()}
    assert parts == {"train", "valid", "test"}
    train = folder / "fold_1" / "my_train_fold_1.jsonl"
    lines = train.read_text().replace("s0_sad", "s0_sad2")
    train.write_text(lines)
    stm = folder / "data.seg.wrd.stm"
    stm.write_text(
        stm.read_text().replace("s0_sad", "s0_sad2").replace("spk=s0", "spk=s6")
    )
    notes = read(folder).reading.notes
    assert any("!!! WARNING" in note and "s6" in note for note in notes)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "fold_1/my_test_fold_1.jsonl",
            "angry",
            "shy",
            ":1: the label map has no 'shy'",
        ),
        ("fold_1/my_test_fold_1.jsonl", '"wav"', '"w"', ":1: neither wav nor audio"),
        ("fold_2/my_test_fold_2.jsonl", "s2_angry", "s0_angry", "tested in two folds"),
        ("label_map.json", "{", "", "label_map.json: not JSON"),
    ],
)
def test_a_fault_in_emobox_is_named(tmp_path, file, old, new, message):
    folds = [{"s0", "s1"}, {"s2", "s3"}, {"s4", "s5"}]
    folder = write_emobox(tmp_path / "my", speech_rows(), folds)
    path = folder / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert file in str(error.value)


def test_a_fold_of_emobox_without_training_is_named(tmp_path):
    folder = write_emobox(tmp_path / "my", speech_rows(), [{"s0"}])
    (folder / "fold_1" / "my_train_fold_1.jsonl").unlink()
    with pytest.raises(UserError, match="fold_1: no file like NAME_train_fold_1"):
        read(folder)


# ---- Hugging Face


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_audio_folder(tmp_path, kind):
    rows = [{"file_name": r["path"], **r} for r in speech_rows()]
    rows = [{n: v for n, v in row.items() if n != "path"} for row in rows]
    write = write_csv if kind == "csv" else write_jsonl
    write(tmp_path / f"metadata.{kind}", rows)
    utterances = read(tmp_path).reading.utterances
    assert utterances["s3_sad"].wav == f"{tmp_path}/s3_sad.wav"


def test_an_audio_folder_with_a_folder_for_each_part(tmp_path):
    for part, first in (("train", 0), ("validation", 4), ("test", 8)):
        (tmp_path / part).mkdir()
        rows = [
            {"file_name": r["path"], "label": r["emotion"], "speaker_id": r["speaker"]}
            for r in speech_rows()[first : first + 4]
        ]
        write_csv(tmp_path / part / "metadata.csv", rows)
    found = read(tmp_path)
    utterance = found.reading.utterances["validation_s2_sad"]
    assert utterance.wav == f"{tmp_path}/validation/s2_sad.wav"
    assert (utterance.split, found.folds) == ("valid", 0)


def test_a_folder_of_no_format_is_named(tmp_path):
    with pytest.raises(UserError, match=r"wav.scp.*fold_1.*metadata.csv.*db.yaml"):
        read(tmp_path)


# ---- audformat


def test_audformat_without_the_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "audformat", None)
    (tmp_path / "db.yaml").write_text("name: my\n")
    with pytest.raises(UserError, match=r"pip install .espnet_ext\[audformat\]"):
        read(tmp_path)


def test_a_manifest_is_a_corpus(tmp_path):
    rows = [{**row, "valence": 2} for row in speech_rows()]
    path = write_csv(tmp_path / "my.csv", rows)
    options = ManifestOptions(check_files=False, attribute_scale=(1, 5))
    corpus = manifest_corpus(path, "my", options)
    assert (corpus.name, tuple(corpus.labels)) == ("my", ("angry", "sad"))
    assert corpus.attribute_scale == (1, 5)
    assert len(corpus.read(tmp_path).utterances) == 12

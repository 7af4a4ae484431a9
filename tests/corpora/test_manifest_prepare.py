"""From a manifest to sets: the programs between, pieces of recordings, class maps."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from espnet_ext.bin import ser_make_sets, ser_prepare
from espnet_ext.corpora.audio import load_waveform, measure_seconds
from espnet_ext.corpora.audio_check import check_file
from espnet_ext.corpora.datadir import read_data_dir
from espnet_ext.corpora.labels import load_class_map
from espnet_ext.corpora.manifest.corpus import write_class_map
from espnet_ext.corpora.manifest.reader import read_manifest
from espnet_ext.corpora.pieces import part_piece, piece_path
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.errors import UserError
from espnet_ext.features.extract import digest_file, find_recordings, size_and_time

from .manifest_files import ManifestOptions, read, speech_rows, write_csv, write_wavs

ROOT = Path(__file__).parents[2]


def prepare(tmp_path, *words):
    options = ["--corpus", "my", "--output", tmp_path / "data" / "my", *words]
    ser_prepare.main(list(map(str, options)))
    return read_data_dir(tmp_path / "data" / "my")


@pytest.fixture
def corpus(tmp_path):
    """A manifest with both kinds of labels, each missing in one row."""
    rows = [{**r, "valence": 1 + i / 3} for i, r in enumerate(speech_rows())]
    rows[0]["emotion"] = ""
    rows[1]["valence"] = ""
    write_wavs(tmp_path, rows)
    return write_csv(tmp_path / "my.csv", rows)


def test_a_manifest_becomes_a_data_directory(tmp_path, corpus, capsys):
    data = prepare(tmp_path, "--manifest", corpus, "--attribute_scale", 1, 5)
    assert len(data.utterances) == len(data.durations) == 12
    assert data.scales == {"my": (1.0, 5.0)}
    assert {u.split for u in data.utterances.values()} == {
        f"fold{i}" for i in range(1, 6)
    }
    assert "5 folds drawn by 6 speakers" in capsys.readouterr().out


def test_sets_of_a_manifest_keep_what_has_attributes_alone(tmp_path, corpus):
    data = prepare(tmp_path, "--manifest", corpus, "--attribute_scale", 1, 5)
    found = read(corpus, attribute_scale=(1, 5))
    labels = tmp_path / "my.yaml"
    write_class_map(found, "my", labels)
    parts = {}
    for fold in range(1, 6):
        words = ["--data", tmp_path / "data" / "my", "--labels", labels]
        words += ["--scheme", "my", "--fold", fold, "--output", tmp_path / "sets"]
        ser_make_sets.main(list(map(str, words)))
        for part in ("train", "valid", "test"):
            folder = tmp_path / "sets" / part
            lines = (folder / "utt2class").read_text().splitlines()
            parts.setdefault(part, []).append(dict(map(str.split, lines)))
            assert (folder / "classes").read_text() == "angry\nsad\n"
    tested = {utt: index for fold in parts["test"] for utt, index in fold.items()}
    assert tested.keys() == data.utterances.keys()
    assert tested["s0_angry"] == "-1"
    assert tested["s1_angry"] == "0"
    for fold in range(5):
        sizes = [len(parts[part][fold]) for part in parts]
        assert sum(sizes) == 12


def test_extraction_takes_the_same_utterances(tmp_path, corpus):
    prepare(tmp_path, "--manifest", corpus, "--attribute_scale", 1, 5)
    labels = tmp_path / "my.yaml"
    text = "classes: [a]\nown:\n  my: {angry: a, sad: null}\n"
    labels.write_text(text)
    found = find_recordings(tmp_path / "data" / "my", labels)
    # s0_angry has no emotion, but a valence; sad is dropped.
    assert sorted(found) == [f"s{i}_angry" for i in range(6)]


def test_a_written_manifest_is_the_same_corpus_again(tmp_path, corpus):
    first = prepare(
        *(tmp_path, "--manifest", corpus, "--attribute_scale", 1, 5),
        *("--write_manifest", tmp_path / "again.csv"),
    )
    again = read_manifest(
        tmp_path / "again.csv", "my", ManifestOptions(attribute_scale=(1, 5))
    )

    def comparable(utterances):
        return {i: str(u) for i, u in utterances.items()}

    assert comparable(again.reading.utterances) == comparable(first.utterances)


def test_languages_are_kept(tmp_path):
    rows = [{**r, "lang": "de" if i % 2 else ""} for i, r in enumerate(speech_rows())]
    write_wavs(tmp_path, rows)
    path = write_csv(tmp_path / "my.csv", rows)
    words = ("--manifest", path, "--write_manifest", tmp_path / "again.csv")
    first = prepare(tmp_path, *words)
    lines = (tmp_path / "data" / "my" / "utt2lang").read_text().splitlines()
    assert lines[:2] == ["s0_angry <unk>", "s0_sad de"]
    again = read(tmp_path / "again.csv").reading.utterances
    languages = {i: u.language for i, u in first.utterances.items()}
    assert languages == {i: u.language for i, u in again.items()}
    prepare(tmp_path, "--manifest", write_csv(path, speech_rows()))
    assert not (tmp_path / "data" / "my" / "utt2lang").exists()


def test_a_class_map_of_common_names_makes_sets_of_a_manifest(tmp_path):
    rows = speech_rows(emotions=("Anger", "hap", "N", "sadness", "dis", "fear"))
    write_wavs(tmp_path, rows)
    labels = ROOT / "conf" / "labels" / "paper5.yaml"
    path = write_csv(tmp_path / "my.csv", rows)
    prepare(tmp_path, "--manifest", path, "--labels", labels)
    words = ["--data", tmp_path / "data" / "my", "--labels", labels]
    words += ["--scheme", "my", "--output", tmp_path / "sets"]
    ser_make_sets.main(list(map(str, words)))
    lines = (tmp_path / "sets" / "test" / "utt2class").read_text().split()
    found = {lines[i].rpartition("_")[2]: lines[i + 1] for i in range(0, len(lines), 2)}
    assert found == {"N": "0", "Anger": "1", "hap": "2", "sadness": "3", "dis": "4"}


def test_a_known_corpus_can_be_written_as_a_manifest(tmp_path):
    names = [f"{s}a01{e}a" for s in ("03", "08", "09") for e in "WN"]
    rows = [{"path": f"wav/{name}.wav"} for name in names]
    write_wavs(tmp_path / "emodb", rows)
    words = ["--corpus", "emodb", "--root", tmp_path / "emodb", "--output"]
    words += [tmp_path / "data", "--write_manifest", tmp_path / "emodb.csv"]
    ser_prepare.main(list(map(str, words)))
    found = read_manifest(tmp_path / "emodb.csv", "my", ManifestOptions())
    assert sorted(found.reading.utterances) == sorted(names)
    utterance = found.reading.utterances["03a01Wa"]
    assert (utterance.speaker, utterance.gender) == ("03", "m")
    assert utterance.emotion == "anger"
    header = (tmp_path / "emodb.csv").read_text().splitlines()
    assert header[0] == "path,id,speaker,gender,emotion"
    assert header[1].startswith("emodb/wav/03a01Na.wav,")


def test_a_root_is_needed_for_a_known_corpus(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ser_prepare.main(["--corpus", "emodb", "--output", str(tmp_path / "data")])
    assert "Give its folder with --root" in capsys.readouterr().err


# ---- Class maps


def own(emotion, **attributes):
    return Utterance("u", "/u.wav", "my", "s", "f", "train", emotion, **attributes)


def write_map(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return path


def test_a_class_map_of_a_manifest(tmp_path):
    text = "classes: [x, y]\nown:\n  my: {angry: x, sad: y, shy: null}\n"
    found = load_class_map(write_map(tmp_path, text))
    assert [found.index_of(own(e)) for e in ("angry", "sad", "shy", "<unk>")] == [
        *(0, 1, -1, -1)
    ]
    assert found.keeps(own("angry"))
    assert not found.keeps(own("shy", valence=1.0))
    assert found.keeps(own("<unk>", valence=1.0))
    assert not found.keeps(own("<unk>"))
    with pytest.raises(UserError, match="own: my: no line for sleepy"):
        found.class_of(own("sleepy"))


def test_labels_that_are_no_words_to_yaml(tmp_path):
    rows = [
        {**r, "emotion": {"angry": "no", "sad": "1:2"}[r["emotion"]]}
        for r in speech_rows()
    ]
    found = read(write_csv(tmp_path / "my.csv", rows))
    write_class_map(found, "my", tmp_path / "my.yaml")
    labels = load_class_map(tmp_path / "my.yaml")
    assert labels.classes == ("1:2", "no")
    assert labels.class_of(own("no")) == "no"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [a]\nown: {}\n", "'own' must name"),
        ("classes: [a]\nown:\n  my: {x: b}\n", "my: x: unknown class 'b'"),
        ("classes: {a: angry}\nowned:\n  my: {x: a}\n", "owned is unknown"),
        ("classes: [a]\n", "expected names and values"),
    ],
)
def test_a_class_map_at_fault_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_class_map(write_map(tmp_path, text))


# ---- Pieces


@pytest.fixture
def long_recording(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * 16000)
    sf.write(tmp_path / "long.wav", noise, 16000)
    sf.write(tmp_path / "long.flac", noise, 16000)
    return tmp_path


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 1.5), (1.25, 2.5), (3.0, 4.0), (2.5, math.nan), (0, 4)]
)
def test_a_piece_is_what_lies_between(long_recording, kind, start, end):
    path = f"{long_recording}/long.{kind}"
    whole = load_waveform(path)
    piece = piece_path(path, start, end)
    stop = None if math.isnan(end) else round(end * 16000)
    expected = whole[round(start * 16000) : stop]
    np.testing.assert_array_equal(load_waveform(piece), expected)
    assert measure_seconds(piece) == pytest.approx(len(expected) / 16000)
    report = check_file("u", piece)
    assert (report.fault, report.seconds) == ("", pytest.approx(len(expected) / 16000))


def test_a_piece_of_an_encoding_that_cannot_seek(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * 16000)
    sf.write(tmp_path / "gsm.wav", noise, 16000, subtype="GSM610")
    path = str(tmp_path / "gsm.wav")
    whole = load_waveform(path)
    piece = load_waveform(piece_path(path, 0.5, 1.0))
    np.testing.assert_array_equal(piece, whole[8000:16000])


def test_a_piece_that_ends_after_its_recording_is_a_fault(long_recording):
    path = piece_path(f"{long_recording}/long.wav", 3.5, 5.0)
    report = check_file("u", path)
    assert report.fault == "the piece ends after its recording"
    assert "3.5 to 5 s of 4.000 s" in report.detail
    with pytest.raises(UserError, match="ends after its recording"):
        load_waveform(path)
    assert check_file("u", piece_path(f"{long_recording}/long.wav", 9, 10)).fault
    assert check_file("u", piece_path(f"{long_recording}/none.wav", 1, 2)).fault


@pytest.mark.parametrize("path", ["/a#t=b.wav", "/a.wav", "/a#t=1.wav", "/x#t="])
def test_other_paths_are_no_pieces(path):
    assert part_piece(path) == (path, 0.0, math.inf)


def test_another_piece_of_the_same_file_is_another_recording(long_recording):
    path = f"{long_recording}/long.wav"
    names = [path, f"{path}#t=1,2", f"{path}#t=2,3"]
    assert len({digest_file(name) for name in names}) == 3
    assert len({size_and_time(name) for name in names}) == 3
    assert {size for size, _ in map(size_and_time, names)} == {
        (long_recording / "long.wav").stat().st_size
    }

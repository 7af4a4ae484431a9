import csv
import json
import re
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from espnet_ext.corpora import msp_podcast as reader
from espnet_ext.mini import msp_podcast

LETTERS = set("NHASDXUCFO")


@pytest.fixture(scope="module")
def rows(msp_root) -> dict[str, dict[str, str]]:
    with open(msp_root / "Labels" / "labels_concensus.csv", newline="") as stream:
        return {row["FileName"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def blocks(msp_root) -> dict[str, list[str]]:
    text = (msp_root / "Labels" / "labels.txt").read_text()
    blocks = [block.strip().split("\n") for block in text.split("\n\n")]
    return {head.split(";")[0]: [head, *workers] for head, *workers in blocks}


def test_every_split_has_every_class(rows):
    found = defaultdict(set)
    for row in rows.values():
        found[row["Split_Set"]].add(row["EmoClass"])
    assert set(found) == {"Train", "Validation", "Test1", "Test2"}
    assert all(classes == LETTERS for classes in found.values())


def test_activation_stands_before_valence(msp_root):
    first = (msp_root / "Labels" / "labels_concensus.csv").read_text().split("\n")[0]
    assert first == "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"


def test_consensus_is_what_the_workers_say(rows, blocks):
    line = re.compile(
        r"(WORKER\d{7,8}); ([\w-]+); ([\w,]*); "
        r"A:(\d)\.0{6}; V:(\d)\.0{6}; D:(\d)\.0{6};"
    )
    digits = set()
    assert set(blocks) == set(rows)
    for name, (head, *lines) in blocks.items():
        row = rows[name]
        workers = [line.fullmatch(text).groups() for text in lines]
        digits |= {len(worker[0]) - len("WORKER") for worker in workers}
        mean = np.array([worker[3:] for worker in workers], float).mean(axis=0)
        stated = [float(row[key]) for key in ("EmoAct", "EmoVal", "EmoDom")]
        np.testing.assert_allclose(stated, mean, atol=5e-7)
        a, v, d = mean
        emotion = row["EmoClass"]
        assert head == f"{name}; {emotion}; A:{a:.6f}; V:{v:.6f}; D:{d:.6f};"
        words = Counter(worker[1].split("-")[0] for worker in workers).most_common()
        tied = len(words) > 1 and words[0][1] == words[1][1]
        assert (emotion == "X") == tied
        # The first letter is the code, but for surprise.
        code = {"Surprise": "U"}.get(words[0][0], words[0][0][0])
        assert tied or emotion == code
    assert digits == {7, 8}


def test_the_consensus_as_json_agrees(msp_root, rows):
    path = msp_root / "Labels" / "labels_concensus.json"
    consensus = json.loads(path.read_text())
    assert set(consensus) == set(rows)
    for name, row in rows.items():
        for key, value in row.items():
            if key in ("EmoAct", "EmoVal", "EmoDom"):
                assert consensus[name][key] == float(value)
            elif key != "FileName":
                assert consensus[name][key] == value


@pytest.mark.parametrize("name", ["labels_concensus.json", "labels.txt"])
def test_every_label_file_is_read_to_the_same_records(msp_root, tmp_path, name):
    for path in msp_root.iterdir():
        if path.name != "Labels":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "Labels").mkdir()
    (tmp_path / "Labels" / name).symlink_to(msp_root / "Labels" / name)
    read = reader.read(tmp_path).utterances
    found = {id_: replace(u, wav="") for id_, u in read.items()}
    csv_read = reader.read(msp_root).utterances
    assert found == {id_: replace(u, wav="") for id_, u in csv_read.items()}


def test_lists_agree_with_the_labels(msp_root, rows):
    lines = (msp_root / "Partitions.txt").read_text().split("\n")
    pairs = [line.split("; ") for line in lines if ";" in line]
    assert {name: split for split, name in pairs} == {
        name: row["Split_Set"] for name, row in rows.items()
    }
    assert any(line and ";" not in line for line in lines)
    genders, speakers = {}, {}
    for line in (msp_root / "Speaker_ids.txt").read_text().split("\n"):
        if line.startswith("Speaker_"):
            speaker, gender = line.split(";")
            genders[speaker.removeprefix("Speaker_")] = gender.strip()
        elif line:
            name, speaker = line.split(";")
            speakers[name] = speaker.strip()
    for name, row in rows.items():
        assert speakers[name] == row["SpkrID"]
        assert genders.get(row["SpkrID"], "Unknown") == row["Gender"]


def test_no_known_speaker_is_in_two_splits(rows):
    splits = defaultdict(set)
    for row in rows.values():
        splits[row["SpkrID"]].add(row["Split_Set"])
    assert len(splits.pop("Unknown")) > 1
    assert all(len(split) == 1 for split in splits.values())
    known = [row for row in rows.values() if row["Split_Set"] == "Test1"]
    assert {row["Gender"] for row in known} == {"Male", "Female"}


def test_audio(msp_root, rows):
    assert {path.name for path in (msp_root / "Audios").iterdir()} == set(rows)
    for name in rows:
        info = soundfile.info(msp_root / "Audios" / name)
        odd = name == "MSP-PODCAST_1023_0235.wav"
        assert (info.samplerate, info.channels) == ((44100, 2) if odd else (16000, 1))
        assert 0.7 < info.duration < 3
    assert "MSP-PODCAST_1023_0235.wav" in rows
    assert not (msp_root / "Transcripts").exists()
    assert (msp_root / "readme.txt").is_file()
    assert "espeak-ng" in (msp_root / "LICENSE.txt").read_text()


def test_the_reader_of_the_licensed_corpus_reads_it(msp_root, rows):
    reading = reader.read(msp_root)
    assert not reading.left_out
    assert len(reading.utterances) == len(rows)
    for utterance in reading.utterances.values():
        row = rows[f"{utterance.id}.wav"]
        assert utterance.split == row["Split_Set"].lower()
        assert utterance.emotion == row["EmoClass"]
        assert utterance.valence == float(row["EmoVal"])
        assert utterance.arousal == float(row["EmoAct"])
        assert utterance.dominance == float(row["EmoDom"])


def test_full_size():
    segments = msp_podcast.plan(0, 1.0)
    assert len(segments) == 792
    five = Counter(s.podcast.split for s in segments if s.emotion in "NHASD")
    assert five == {"Train": 350, "Validation": 90, "Test1": 120, "Test2": 40}
    assert [s.name for s in segments] == sorted({s.name for s in segments})


def test_plurality():
    assert msp_podcast.plurality(["N", "H", "N"]) == "N"
    assert msp_podcast.plurality(["N", "H"]) == "X"

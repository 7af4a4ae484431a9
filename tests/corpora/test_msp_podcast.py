import math
from collections import Counter

import pytest

from corpora import msp_tree as tree
from corpora.msp_tree import Row, rows, write_audio, write_csv, write_json, write_text
from espnet_ext.corpora import msp_podcast
from espnet_ext.corpora.audio import load_waveform
from espnet_ext.corpora.audio_check import check_audio
from espnet_ext.corpora.splits import SplitOptions, make_split
from espnet_ext.corpora.summary import check_release
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError


def expected(found: list[Row]) -> dict[str, tuple]:
    splits = {
        "development": "validation",
        "Development": "validation",
        "Test": "test1",
        "TEST_2": "test2",
    }
    return {
        row.file.removesuffix(".wav"): (
            row.emotion,
            row.valence,
            row.arousal,
            row.dominance,
            row.speaker.replace("Unknown", UNKNOWN),
            {"Male": "m", "Female": "f"}.get(row.gender, UNKNOWN),
            splits.get(row.split, row.split.lower()),
        )
        for row in found
    }


def as_tuple(u: Utterance) -> tuple:
    attributes = (u.valence, u.arousal, u.dominance)
    return (u.emotion, *attributes, u.speaker, u.gender, u.split)


@pytest.mark.parametrize(
    ("labels", "audio", "splits"),
    [
        ("label/labels_concensus", "Audio", ("Train", "Validation", "Test")),  # 1.6
        ("Labels/labels_concensus", "Audios", ("Train", "Validation", "Test1")),
        ("labels/labels_concensus", "Audios", ("Train", "Validation", "Test1")),
        ("Labels/labels_consensus", "Audios", ("Train", "Development", "TEST_2")),
        ("LABELS/Labels_Consensus", "audios", ("train", "development", "test1")),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_every_spelling(tmp_path, labels, audio, splits, kind):
    found = rows(splits)
    write = write_csv if kind == "csv" else write_json
    write(tmp_path / f"{labels}.{kind}", found)
    write_audio(tmp_path, found, audio)
    reading = msp_podcast.read(tmp_path)
    read = {id_: as_tuple(u) for id_, u in reading.utterances.items()}
    assert read == expected(found)
    assert "1.6 to 1.9" in reading.notes[0] or "concensus" not in labels


def test_arousal_stands_before_valence(tmp_path):
    row = Row(tree.name(1, 8), arousal=2.0, valence=5.0, dominance=3.0)
    write_csv(tmp_path / "Labels" / "labels_consensus.csv", [row], newline="\r\n")
    write_audio(tmp_path, [row])
    (u,) = msp_podcast.read(tmp_path).utterances.values()
    assert (u.valence, u.arousal, u.dominance) == (5.0, 2.0, 3.0)


def test_columns_in_another_order(tmp_path):
    path = tmp_path / "Labels" / "labels_consensus.csv"
    row = Row(tree.name(1, 8))
    write_csv(path, [row])
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(reversed(cells)) for cells in lines) + "\n")
    write_audio(tmp_path, [row])
    (u,) = msp_podcast.read(tmp_path).utterances.values()
    assert as_tuple(u) == expected([row])[u.id]


@pytest.mark.parametrize("path", ["Labels.txt", "Labels/labels.txt"])
def test_text_labels_of_the_first_releases(tmp_path, path):
    found = rows()
    write_text(tmp_path, tmp_path / path, found)
    write_audio(tmp_path, found)
    reading = msp_podcast.read(tmp_path)
    read = {id_: as_tuple(u) for id_, u in reading.utterances.items()}
    assert read == expected(found)
    assert "1.0 to 1.5" in reading.notes[0]


def test_lists_of_the_first_releases_in_another_letter_case(tmp_path):
    found = rows()
    write_text(tmp_path, tmp_path / "Labels" / "labels.txt", found)
    write_audio(tmp_path, found)
    for path in (tmp_path / "Partitions.txt", tmp_path / "Speaker_ids.txt"):
        path.write_text(path.read_text().lower())
        path.rename(path.with_name(path.name.upper()))
    reading = msp_podcast.read(tmp_path)
    read = {id_: as_tuple(u) for id_, u in reading.utterances.items()}
    assert read == expected(found)


def test_csv_before_json_before_text(tmp_path):
    happy, sad, angry = ([Row(tree.name(1, 8), emotion)] for emotion in "HSA")
    write_audio(tmp_path, happy)
    folder = tmp_path / "Labels"
    paths = (
        write_csv(folder / "labels_concensus.csv", happy),
        write_json(folder / "labels_consensus.json", sad),
        write_text(tmp_path, folder / "labels.txt", angry),
    )
    for path, emotion in zip(paths, "HSA", strict=True):
        (u,) = msp_podcast.read(tmp_path).utterances.values()
        assert u.emotion == emotion
        path.unlink()


def test_two_label_folders(tmp_path):
    found = rows()
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "readme.txt").write_text("old")
    write_csv(tmp_path / "labels" / "labels_concensus.csv", found)
    write_audio(tmp_path, found)
    assert len(msp_podcast.read(tmp_path).utterances) == len(found)


def test_outlier_is_stereo_and_converted_on_reading(small_msp):
    utterances = msp_podcast.read(small_msp).utterances
    outlier = utterances["MSP-PODCAST_1023_0235"]
    report = check_audio({outlier.id: outlier})[outlier.id]
    assert not report.fault
    assert [remark.split(" (")[0] for remark in report.remarks] == [
        "rate 44100",
        "2 channels",
    ]
    assert load_waveform(outlier.wav).shape == (16000,)


def test_missing_wav_of_release_2(small_msp):
    path = small_msp / "Labels" / "labels_concensus.csv"
    lines = path.read_text().splitlines()
    for missing in ("MSP-PODCAST_1909_1017", "MSP-PODCAST_1909_1018"):
        lines.append(f"{missing}.wav,N,4,4,4,12,Male,Train")
    path.write_text("\n".join(lines) + "\n")
    reading = msp_podcast.read(small_msp)
    known, unknown = reading.left_out
    assert (known.name, known.expected) == ("MSP-PODCAST_1909_1017", True)
    assert (unknown.name, unknown.expected) == ("MSP-PODCAST_1909_1018", False)
    assert known.where == f"{path}:{len(lines) - 1}"


@pytest.mark.parametrize("partition", ["Test3; {}", ""])
def test_test3_has_audio_only(small_msp, partition):
    name = "MSP-PODCAST_test3_0001.wav" if not partition else tree.name(7, 7)
    write_audio(small_msp, [Row(name)])
    (small_msp / "Partitions.txt").write_text(f"A remark\n{partition.format(name)}\n")
    u = msp_podcast.read(small_msp).utterances[name.removesuffix(".wav")]
    assert (u.split, u.emotion, u.speaker) == ("test3", UNKNOWN, UNKNOWN)
    assert all(map(math.isnan, (u.valence, u.arousal, u.dominance)))


def test_other_audio_without_label_is_told(small_msp):
    write_audio(small_msp, [Row("MSP-PODCAST_0099_0001.wav")])
    reading = msp_podcast.read(small_msp)
    (left_out,) = reading.left_out
    assert left_out.reason == "audio without a label"
    assert left_out.where.endswith("Audios/MSP-PODCAST_0099_0001.wav")
    assert len(reading.utterances) == 41


CSV_FAULTS = {
    "empty": (lambda text: "", 1),
    "no columns": (lambda text: text.replace("EmoVal", "Valence"), 1),
    "cut off": (lambda text: text[:-20], 42),
    "binary": (lambda text: text.replace("Male", "\0\1", 1), 2),
    "emotion": (lambda text: text.replace(",U,", ",Z,", 1), 5),
    "number": (lambda text: text.replace("5.833333", "5.8.3", 1), 2),
    "split": (lambda text: text.replace("Validation", "Holdout", 1), 12),
    "gender": (lambda text: text.replace("Male", "M.", 1), 2),
    "name": (lambda text: text.replace("0001_0003.wav", "0001_0003", 1), 5),
    "twice": (lambda text: text + text.splitlines()[1] + "\n", 43),
    "quote": (lambda text: text.replace("MSP-PODCAST_0001_0002", '"MSP', 1), 42),
}


@pytest.mark.parametrize("case", CSV_FAULTS)
def test_broken_csv(small_msp, case):
    path = small_msp / "Labels" / "labels_concensus.csv"
    change, line = CSV_FAULTS[case]
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        msp_podcast.read(small_msp)
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_csv_that_is_not_utf8(small_msp):
    path = small_msp / "Labels" / "labels_concensus.csv"
    path.write_bytes(path.read_bytes().replace(b"Female", b"F\xe9male", 1))
    with pytest.raises(UserError, match=r"csv:3: not UTF-8"):
        msp_podcast.read(small_msp)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"EmoClass": "U"', '"EmoClass": "Z"', 29),
        ('"EmoVal"', '"Val"', 2),
        ("MSP-PODCAST_0001_0001", "MSP-PODCAST_0001_0000", 11),
        ("\n}", "\n", 271),
    ],
)
def test_broken_json(tmp_path, old, new, line):
    found = rows()
    path = write_json(tmp_path / "Labels" / "labels_consensus.json", found)
    write_audio(tmp_path, found)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError) as error:
        msp_podcast.read(tmp_path)
    assert str(error.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("MSP-PODCAST_0001_0000.wav; A; A:4", "MSP-PODCAST_0001_0000.wav; A; X:4", 1),
        ("V:5.833333; D:3.400000;\nWORKER", "V:5.833333; D:3.400000\nWORKER", 1),
        ("MSP-PODCAST_0001_0001", "MSP-PODCAST_0001_0000", 5),
        ("WORKER0000002; Neutral; ; A:3.000000; V:3.000000; D:4.000000;", "WORK", 3),
    ],
)
def test_broken_text(tmp_path, old, new, line):
    found = rows()
    path = write_text(tmp_path, tmp_path / "Labels" / "labels.txt", found)
    write_audio(tmp_path, found)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as error:
        msp_podcast.read(tmp_path)
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_no_labels_or_no_audio(tmp_path):
    with pytest.raises(UserError, match="labels_consensus"):
        msp_podcast.read(tmp_path)
    write_csv(tmp_path / "Labels" / "labels_consensus.csv", rows())
    with pytest.raises(UserError, match="Audios"):
        msp_podcast.read(tmp_path)


def utterances_of(counts: dict[str, str]) -> dict[str, Utterance]:
    """Records with so many of each emotion in each split."""
    made: dict[str, Utterance] = {}
    for split, text in counts.items():
        for item in text.split():
            for _ in range(int(item[1:])):
                id_ = f"MSP-PODCAST_{len(made):06d}"
                made[id_] = Utterance(
                    id_, "x.wav", "msp_podcast", f"{split}-1", "f", split, item[0]
                )
    return made


def release_1_8() -> dict[str, Utterance]:
    """The counts of 1.8 of the table of facts; test2 and the rest of train follow."""
    whole = Counter(
        N=26009, H=14285, X=14199, U=4084, C=3644, A=3218, S=2649, D=2593, F=1544, O=817
    )
    parts = {
        "train": "N16518 H8564 A1839 S1680 D1363",
        "validation": "N2529 H1320 A621 D441 S302 X2587",
        "test1": "N4702 H3475 D709 A622 S505 X2955 U1029 C736 F367 O226",
    }
    for text in parts.values():
        whole -= Counter({item[0]: int(item[1:]) for item in text.split()})
    parts["test2"] = " ".join(f"{e}{n}" for e, n in whole.items())
    return utterances_of(parts)


def test_release_1_8_is_recognized_and_gives_the_papers_sizes():
    data = release_1_8()
    assert len(data) == 73042
    check = check_release(msp_podcast.CORPUS, data.values())
    assert check.release == "MSP-Podcast 1.8"
    assert check.differing == ()
    five = {id_: u for id_, u in data.items() if u.emotion in "NAHSD"}
    split = make_split(msp_podcast.CORPUS.schemes["msp_podcast"], five, SplitOptions())
    assert len(split.test) == 10013  # the paper
    assert len(split.valid) == 5213
    assert len(split.train) == 29964  # the paper has 29,965: one D more, see the facts


def test_subset_is_drawn_once_and_for_all():
    data = utterances_of({"train": "N4000 A500", "validation": "N600", "test1": "N50"})
    scheme = msp_podcast.CORPUS.schemes["msp_podcast_subset"]
    split = make_split(scheme, data, SplitOptions())
    assert list(map(len, (split.train, split.valid, split.test))) == [3161, 389, 50]
    assert split == make_split(scheme, data, SplitOptions(seed=0))
    assert split.train != make_split(scheme, data, SplitOptions(seed=1)).train
    fewer = make_split(scheme, data, SplitOptions(subset_train=100))
    assert set(fewer.train) < set(split.train)
    with pytest.raises(UserError, match="cannot draw 9000"):
        make_split(scheme, data, SplitOptions(subset_train=9000))

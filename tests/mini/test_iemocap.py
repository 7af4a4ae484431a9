import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_ext.corpora import iemocap as reader
from espnet_ext.mini import iemocap

LABELS = {"neu", "ang", "hap", "exc", "sad", "fru", "fea", "sur", "dis", "oth", "xxx"}
CODES = {
    "Neutral": "neu",
    "Anger": "ang",
    "Happiness": "hap",
    "Excited": "exc",
    "Sadness": "sad",
    "Frustration": "fru",
    "Fear": "fea",
    "Surprise": "sur",
    "Disgust": "dis",
    "Other": "oth",
}
HEAD = re.compile(
    r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(\S+)\t(\w{3})"
    r"\t\[(\d\.\d{4}), (\d\.\d{4}), (\d\.\d{4})\]"
)
SCORES = re.compile(r"A-E\d:\tval (\d); act (\d); dom  (\d);\t\(.*\)")


def label_files(root: Path) -> list[Path]:
    files = root.glob("Session*/dialog/EmoEvaluation/*.txt")
    return sorted(path for path in files if not path.name.startswith("."))


def blocks(root: Path):
    """Yield head (a match) and rater lines of every utterance."""
    for path in label_files(root):
        text = path.read_text(errors="replace")
        header, *rest = text.replace("\r", "").strip().split("\n\n")
        assert header == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
        for block in rest:
            head, *raters = block.split("\n")
            yield HEAD.fullmatch(head), raters


def test_brackets_are_the_means_of_the_external_raters(iemocap_root):
    for head, raters in blocks(iemocap_root):
        rows = [m.groups() for m in map(SCORES.fullmatch, raters) if m]
        assert len(rows) >= 2
        mean = np.array(rows, dtype=float).mean(axis=0)
        assert head.groups()[4:] == tuple(f"{value:.4f}" for value in mean)


def test_labels_are_the_majority_of_the_votes(iemocap_root):
    for head, raters in blocks(iemocap_root):
        votes = [
            {CODES[word] for word in line.split("\t")[1].rstrip(";").split("; ")}
            for line in raters
            if line.startswith("C-E")
        ]
        counts = Counter(code for vote in votes for code in vote)
        winners = [code for code, n in counts.items() if n > len(votes) / 2]
        assert head[4] == (winners[0] if len(winners) == 1 else "xxx")


def test_every_session_has_every_label_and_both_recordings(iemocap_root):
    found = defaultdict(set)
    for head, _ in blocks(iemocap_root):
        found[head[3][4]].add((head[4], head[3][5], head[3][-4]))
    assert set(found) == set("12345")
    for session in found.values():
        assert {label for label, _, _ in session} == LABELS
        for recording in "FM":
            assert {who for _, side, who in session if side == recording} == set("FM")


def test_full_size_is_balanced_over_recordings():
    takes = iemocap.plan(0, 1.0)
    assert len(takes) == 870
    five = ("neu", "ang", "hap", "sad", "dis")
    counts = Counter((t.dialog[4], t.dialog[5], t.emotion) for t in takes)
    for session in "12345":
        assert sum(counts[session, s, e] for s in "FM" for e in five) == 128
        for emotion in five:
            women, men = (counts[session, side, emotion] for side in "FM")
            assert abs(women - men) <= 4


@pytest.mark.parametrize(
    ("dialog", "emotion", "dimension", "value"),
    [
        ("Ses03M_impro07", "exc", 5, "5.5000"),
        ("Ses02M_script02_2", "neu", 7, "0.5000"),
        ("Ses01M_script03_1", "xxx", 7, "0.5000"),
    ],
)
def test_brackets_out_of_range(iemocap_root, dialog, emotion, dimension, value):
    found = [
        head
        for head, _ in blocks(iemocap_root)
        if head[3].startswith(f"{dialog}_") and head[4] == emotion
    ]
    assert value in [head[dimension] for head in found]


def test_odd_files(iemocap_root):
    names = {path.stem for path in label_files(iemocap_root)}
    assert {"Ses03M_impro05a", "Ses03M_impro05b"} < names
    assert "Ses03M_impro05" not in names
    assert {"Ses05M_script01_1", "Ses05M_script01_1b"} < names
    doubles = list(iemocap_root.rglob("._*"))
    assert {path.suffix for path in doubles} == {".txt", ".wav"}
    assert all(path.read_bytes()[:4] == b"\0\5\x16\7" for path in doubles)
    raw = {path.stem: path.read_bytes() for path in label_files(iemocap_root)}
    assert b"\r\n" in raw["Ses02F_impro01"]
    assert b"\r" not in raw["Ses01F_impro01"]
    with pytest.raises(UnicodeDecodeError):
        raw["Ses04M_impro02"].decode()
    text = b"".join(raw.values()).decode(errors="replace")
    assert "\tval ; act ; dom  ;\t()" in text
    assert re.search(r"C-[FM]1:\t;\t\(\)", text)
    assert re.search(r"C-E\d:\t\w+; \w+;\t", text)
    assert "espeak-ng" in (iemocap_root / "LICENSE.txt").read_text()
    assert (iemocap_root / "README.txt").is_file()


def test_audio_and_transcripts_fit_the_labels(iemocap_root):
    for head, _ in blocks(iemocap_root):
        dialog = head[3].rpartition("_")[0]
        session = iemocap_root / f"Session{dialog[4]}"
        wav = session / "sentences" / "wav" / dialog / f"{head[3]}.wav"
        info = soundfile.info(wav)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert float(head[2]) - float(head[1]) == pytest.approx(info.duration, abs=2e-4)
        assert 0.7 < info.duration < 3
        transcript = session / "dialog" / "transcriptions" / f"{dialog}.txt"
        start, end = float(head[1]), float(head[2])
        line = f"{head[3]} [{start:08.4f}-{end:08.4f}]: "
        assert transcript.read_text().count(line) == 1


def test_the_reader_of_the_licensed_corpus_reads_it(iemocap_root):
    reading = reader.read(iemocap_root)
    assert not reading.left_out
    expected = {head[3]: head for head, _ in blocks(iemocap_root)}
    assert set(reading.utterances) == set(expected)
    for utterance in reading.utterances.values():
        head = expected[utterance.id]
        assert utterance.emotion == head[4]
        vad = (utterance.valence, utterance.arousal, utterance.dominance)
        assert vad == tuple(map(float, head.groups()[4:]))
        assert utterance.speaker == f"Ses0{utterance.id[4]}{utterance.id[-4]}"
        soundfile.info(utterance.wav)
    assert len({u.speaker for u in reading.utterances.values()}) == 10


def test_majority():
    assert iemocap.majority([("neu",), ("neu", "sad"), ("ang",)]) == "neu"
    assert iemocap.majority([("neu",), ("sad",), ("ang",)]) == "xxx"
    # Half is no majority, and two majorities are none.
    assert iemocap.majority([("neu",), ("neu",), ("ang",), ("sad",)]) == "xxx"
    assert iemocap.majority([("neu", "sad"), ("neu", "sad"), ("ang",)]) == "xxx"

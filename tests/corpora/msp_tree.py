"""MSP-Podcast trees for the tests, in the layout of release 1.8."""

import csv
from dataclasses import dataclass
from pathlib import Path

from corpora.iemocap_tree import SHORT, wav_bytes

HEADER = [
    "FileName",
    "EmoClass",
    "EmoAct",
    "EmoVal",
    "EmoDom",
    "SpkrID",
    "Gender",
    "Split_Set",
]


@dataclass
class Row:
    """One labelled file."""

    file: str
    emotion: str = "N"
    arousal: float = 4.2
    valence: float = 5.833333
    dominance: float = 3.4
    speaker: str = "127"
    gender: str = "Female"
    split: str = "Train"

    def cells(self) -> list[str]:
        return [
            self.file,
            self.emotion,
            f"{self.arousal:g}" if self.arousal == 4.2 else str(self.arousal),
            str(self.valence),
            str(self.dominance),
            self.speaker,
            self.gender,
            self.split,
        ]


def name(podcast: int, segment: int) -> str:
    return f"MSP-PODCAST_{podcast:04d}_{segment:04d}.wav"


def rows(split_names: tuple[str, ...] = ("Train", "Validation", "Test1")) -> list[Row]:
    """Ten rows a split, of every emotion, with known and unknown speakers."""
    made = []
    for podcast, split in enumerate(split_names, start=1):
        for segment, emotion in enumerate("ASHUFDCNOX"):
            unknown = segment == 9
            made.append(
                Row(
                    name(podcast, segment),
                    emotion,
                    speaker="Unknown" if unknown else str(100 * podcast + segment),
                    gender="Unknown" if unknown else ("Male", "Female")[segment % 2],
                    split=split,
                )
            )
    return made


def write_audio(root: Path, found: list[Row], folder: str = "Audios") -> Path:
    audio = root / folder
    audio.mkdir(parents=True, exist_ok=True)
    for row in found:
        (audio / row.file).write_bytes(SHORT)
    return audio


def write_csv(path: Path, found: list[Row], newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream, lineterminator=newline)
        writer.writerow(HEADER)
        writer.writerows(row.cells() for row in found)
    return path


def small_tree(root: Path) -> Path:
    """Release 1.8 in small, with the stereo 44.1 kHz outlier."""
    found = [*rows(("Train", "Validation", "Test1", "Test2"))]
    found.append(Row("MSP-PODCAST_1023_0235.wav", "H"))
    write_csv(root / "Labels" / "labels_concensus.csv", found)
    audio = write_audio(root, found)
    (audio / "._MSP-PODCAST_0001_0000.wav").write_bytes(b"\0\5\x16\7")
    outlier = wav_bytes(44100, rate=44100, channels=2)
    (audio / "MSP-PODCAST_1023_0235.wav").write_bytes(outlier)
    return root

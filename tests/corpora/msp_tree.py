"""MSP-Podcast trees for the tests, in the layout of any release."""

import csv
import json
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
    """One labeled file."""

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


def write_json(path: Path, found: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {r.file: dict(zip(HEADER[1:], r.cells()[1:], strict=True)) for r in found}
    path.write_text(json.dumps(content, indent=1))
    return path


def write_text(root: Path, path: Path, found: list[Row]) -> Path:
    """The three text files of 1.0 to 1.5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in found:
        lines += [
            f"{row.file}; {row.emotion}; A:{row.arousal:f}; V:{row.valence:f}; "
            f"D:{row.dominance:f};",
            "WORKER00000001; Other-confused; Concerned,Confused; A:3.000000; "
            "V:3.000000; D:4.000000;",
            "WORKER0000002; Neutral; ; A:3.000000; V:3.000000; D:4.000000;",
            "",
        ]
    path.write_text("\n".join(lines) + "\n")
    partitions = [f"{row.split}; {row.file}" for row in found]
    (root / "Partitions.txt").write_text(
        "\n".join(["Partitions of the corpus", "", *partitions]) + "\n"
    )
    genders = sorted({(r.speaker, r.gender) for r in found if r.speaker != "Unknown"})
    (root / "Speaker_ids.txt").write_text(
        "".join(f"Speaker_{s}; {g}\n" for s, g in genders)
        + "".join(f"{row.file};{row.speaker} \n" for row in found)
    )
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

"""MELD: dialogs of the series "Friends", as videos with tables of labels.

Root (``MELD.Raw``, with the archives in it unpacked)::

    train_sent_emo.csv   dev_sent_emo.csv   test_sent_emo.csv
    train_splits/dia0_utt0.mp4
    dev_splits_complete/dia0_utt0.mp4
    output_repeated_splits_test/dia0_utt0.mp4

The tables have a line an utterance; the columns that are used are::

    Speaker,Emotion,Dialogue_ID,Utterance_ID
    Phoebe,sadness,0,0

A table may also lie in the folder of its videos. Where a wav file of the same name is
beside a video, it is taken; otherwise ffmpeg extracts the audio at preparation. The id
is ``train_dia0_utt0``, for dialogs are counted anew in each part. The same actors speak
in all parts. There are no attributes.

License GPL-3.0. Reference: S. Poria et al., "MELD: a multimodal multi-party dataset for
emotion recognition in conversations", ACL 2019.
"""

import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, LeftOut, Reading, check_label
from espnet_ext.corpora.listing import AUDIO, find_child, find_folder, list_files
from espnet_ext.corpora.splits import published_parts
from espnet_ext.corpora.textio import table_rows
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

NAME = "meld"
LABELS = {
    **{"neutral": "neutral", "joy": "happy", "surprise": "surprised"},
    **{"anger": "angry", "sadness": "sad", "disgust": "disgusted", "fear": "fearful"},
}
FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}

_FILE = re.compile(r"dia\d+_utt\d+", re.IGNORECASE)


def read(root: Path) -> Reading:
    """Read the three tables under `root`; the records name wav files or videos.

    Raises:
        UserError: With file and line, for anything in a table that does not fit, an
            utterance that occurs twice, or a missing table or folder.
    """
    reading = Reading()
    for split, name in FOLDERS.items():
        folder = find_folder(root, name)
        if folder is None:
            raise UserError(
                f"{root / name}: no such folder; unpack {split}.tar.gz of MELD"
            )
        name = f"{split}_sent_emo.csv"
        table = find_child(root, name) or find_child(folder, name)
        if table is None:
            raise UserError(
                f"{root / name}: no such file; it comes with MELD's repository"
            )
        _read_split(table, folder, split, reading)
    return reading


def _read_split(table: Path, folder: Path, split: str, reading: Reading) -> None:
    # The test folder also has whole scenes, final_videos_testdia0_utt0.mp4.
    audio = {
        name.lower(): path
        for name, path in list_files(folder, (*AUDIO, ".mp4")).items()
        if _FILE.fullmatch(name)
    }
    seen: set[str] = set()
    for where, row in table_rows(table, ("Emotion", "Dialogue_ID", "Utterance_ID")):
        numbers = row["Dialogue_ID"], row["Utterance_ID"]
        if not all(number.isdecimal() for number in numbers):
            raise UserError(
                f"{where}: Dialogue_ID and Utterance_ID must be numbers, not {numbers}"
            )
        name = f"dia{numbers[0]}_utt{numbers[1]}"
        if name in seen:
            raise UserError(f"{where}: {name} has a label already")
        seen.add(name)
        check_label(row["Emotion"], LABELS, where)
        id_, wav = f"{split}_{name}", str(audio.get(name, folder / name))
        # "Mrs. Green" is a speaker: an id in the data directory has no blanks.
        speaker = "_".join(row.get("Speaker", "").split()) or UNKNOWN
        utterance = Utterance(id_, wav, NAME, speaker, UNKNOWN, split, row["Emotion"])
        if name in audio:
            reading.utterances[id_] = utterance
        else:
            lost = LeftOut(id_, "label without audio", where, utterance)
            reading.left_out.append(lost)
    for name in sorted(audio.keys() - seen):
        lost = LeftOut(f"{split}_{name}", "audio without a label", str(audio[name]))
        reading.left_out.append(lost)


# Utterances with a video, in the order neutral joy surprise anger sadness disgust fear.
_COUNTS = {
    "train": (4709, 1743, 1205, 1109, 683, 271, 268),
    "dev": (469, 163, 150, 153, 111, 22, 40),
    "test": (1256, 402, 281, 345, 208, 68, 50),
}


CORPUS = Corpus(
    name=NAME,
    display="MELD",
    read=read,
    labels=LABELS,
    releases={
        "MELD": {
            (): 13706,
            **{(split,): sum(counts) for split, counts in _COUNTS.items()},
            **{
                (split, label): count
                for split, counts in _COUNTS.items()
                for label, count in zip(LABELS, counts, strict=True)
            },
        }
    },
    schemes={
        "meld": published_parts(
            "train", "dev", "test", "official train, dev and test (they share speakers)"
        ),
    },
)

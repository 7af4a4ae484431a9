"""RAVDESS, speech: 24 actors speak two sentences in eight emotions.

Root (``Audio_Speech_Actors_01-24``)::

    Actor_12/03-01-05-01-02-01-12.wav

The fields of a name are modality (03 audio only), channel (01 speech, 02 song),
emotion, intensity, statement, repetition and actor; odd actors are men. Song, where it
was unpacked beside the speech, is not read. 48 kHz, resampled on reading. There are no
attributes.

License CC BY-NC-SA 4.0. Reference: S. Livingstone and F. Russo, "The Ryerson
audio-visual database of emotional speech and song (RAVDESS)", PLoS ONE 13(5), 2018.
"""

import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, Reading, read_file_names
from espnet_ext.corpora.listing import list_files, walk_folders
from espnet_ext.corpora.splits import speaker_folds
from espnet_ext.corpora.utterance import UNKNOWN, Utterance

NAME = "ravdess"
_WORDS = "neutral calm happy sad angry fearful disgust surprised"
EMOTIONS = {f"0{number}": word for number, word in enumerate(_WORDS.split(), start=1)}

_FILE = re.compile(rf"03-01-({'|'.join(EMOTIONS)})-\d\d-\d\d-\d\d-(\d\d)")
_FOLDER = re.compile(r"actor_\d\d", re.IGNORECASE)
_SONG = "03-02-"


def read(root: Path) -> Reading:
    """Read the recordings under `root`; everything is in their names.

    Raises:
        UserError: No recordings, or a recording that occurs twice (in two copies of a
            folder).
    """
    files = [
        (name, path)
        for folder in walk_folders(root)
        if _FOLDER.fullmatch(folder.name.strip())
        for name, path in list_files(folder).items()
        if not name.startswith(_SONG)
    ]
    none = f"{root}: no recordings like Actor_12/03-01-05-01-02-01-12.wav"
    return read_file_names(files, _FILE, _record, none)


def _record(wav: str, match: re.Match[str]) -> Utterance:
    emotion, actor = match.groups()
    gender, speaker = "fm"[int(actor) % 2], f"Actor_{actor}"
    return Utterance(match[0], wav, NAME, speaker, gender, UNKNOWN, EMOTIONS[emotion])


CORPUS = Corpus(
    name=NAME,
    display="RAVDESS",
    read=read,
    # All but one are common names already.
    labels={label: label for label in EMOTIONS.values()} | {"disgust": "disgusted"},
    releases={
        "RAVDESS (speech)": {
            (): 1440,
            **{(label,): 192 for label in EMOTIONS.values() if label != "neutral"},
            ("neutral",): 96,
        }
    },
    schemes={
        "ravdess_6fold": speaker_folds(6, "test four actors, valid four others"),
    },
)

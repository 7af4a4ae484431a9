"""RAVDESS, speech: 24 actors speak two sentences in eight emotions.

Root (``Audio_Speech_Actors_01-24``)::

    Actor_12/03-01-05-01-02-01-12.wav

The fields of a name are modality (03 audio only), channel (01 speech, 02 song),
emotion, intensity, statement, repetition and actor; odd actors are men. Song, where it
was unpacked beside the speech, is not read. 48 kHz, resampled on reading. There are no
attributes.

Licence CC BY-NC-SA 4.0. Reference: S. Livingstone and F. Russo, "The Ryerson
audio-visual database of emotional speech and song (RAVDESS)", PLoS ONE 13(5), 2018.
"""

import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, Reading, read_file_names
from espnet_ext.corpora.listing import list_files, walk_folders
from espnet_ext.corpora.splits import (
    Scheme,
    Split,
    SplitOptions,
    Utterances,
    speaker_folds,
)
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

NAME = "ravdess"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
FOLDS = 6

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
        path
        for folder in walk_folders(root)
        if _FOLDER.fullmatch(folder.name.strip())
        for path in list_files(folder).values()
        if not path.name.startswith(_SONG)
    ]
    reading = read_file_names(files, _FILE, _record)
    if not reading.utterances:
        raise UserError(f"{root}: no recordings like Actor_12/03-01-05-01-02-01-12.wav")
    return reading


def _record(path: Path, match: re.Match[str]) -> Utterance:
    emotion, actor = match.groups()
    return Utterance(
        id=path.stem,
        wav=str(path),
        corpus=NAME,
        speaker=f"Actor_{actor}",
        gender="m" if int(actor) % 2 else "f",
        split=UNKNOWN,
        emotion=EMOTIONS[emotion],
    )


def six_fold(utterances: Utterances, options: SplitOptions) -> Split:
    """Test on actors 4k-3 to 4k, validate on the four before them."""
    return speaker_folds(utterances, FOLDS, options.fold)


CORPUS = Corpus(
    name=NAME,
    read=read,
    labels=tuple(EMOTIONS.values()),
    releases={
        "RAVDESS (speech)": {
            (): 1440,
            **{(label,): 192 for label in EMOTIONS.values() if label != "neutral"},
            ("neutral",): 96,
        }
    },
    schemes={
        "ravdess_6fold": Scheme(
            six_fold, folds=FOLDS, description="test four actors, valid four others"
        ),
    },
)

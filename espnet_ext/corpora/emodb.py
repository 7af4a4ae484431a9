"""EmoDB, the Berlin database of emotional speech: ten actors, seven emotions.

Root::

    wav/03a01Fa.wav       speaker 03, text a01, emotion F (happy), version a

The letter of the emotion is that of its German name: W anger (Wut), L boredom
(Langeweile), E disgust (Ekel), A fear (Angst), F happy (Freude), T sad (Trauer),
N neutral. There are no attributes.

License CC BY 4.0. Reference: F. Burkhardt et al., "A database of German emotional
speech", Interspeech 2005.
"""

import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, Reading, read_file_names
from espnet_ext.corpora.listing import find_folder, list_files
from espnet_ext.corpora.splits import speaker_folds
from espnet_ext.corpora.utterance import UNKNOWN, Utterance

NAME = "emodb"
EMOTIONS = {
    **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
    **{"F": "happy", "T": "sad", "N": "neutral"},
}
LABELS = {
    **{"anger": "angry", "boredom": "bored", "disgust": "disgusted", "fear": "fearful"},
    **{"happy": "happy", "sad": "sad", "neutral": "neutral"},
}
_COUNTS = (127, 81, 46, 69, 71, 62, 79)  # in the order of LABELS
# From the corpus' own documentation.
_GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "m")
_GENDERS |= dict.fromkeys(("08", "09", "13", "14", "16"), "f")

_FILE = re.compile(rf"(\d\d)[ab]\d\d([{''.join(EMOTIONS)}])[a-z]")


def read(root: Path) -> Reading:
    """Read the recordings under `root`; everything is in their names.

    Raises:
        UserError: No recordings.
    """
    files = list_files(find_folder(root, "wav"))
    none = f"{root}: no recordings like wav/03a01Fa.wav"
    return read_file_names(files.items(), _FILE, _record, none)


def _record(wav: str, match: re.Match[str]) -> Utterance:
    speaker, emotion = match.groups()
    gender = _GENDERS.get(speaker, UNKNOWN)
    return Utterance(match[0], wav, NAME, speaker, gender, UNKNOWN, EMOTIONS[emotion])


CORPUS = Corpus(
    name=NAME,
    display="EmoDB",
    read=read,
    labels=LABELS,
    releases={
        "EmoDB": {
            (): 535,
            **{(n,): count for n, count in zip(LABELS, _COUNTS, strict=True)},
        }
    },
    schemes={
        "emodb_5fold": speaker_folds(5, "test a man and a woman, valid two others"),
        "emodb_loso": speaker_folds(10, "test one speaker, valid another"),
    },
)

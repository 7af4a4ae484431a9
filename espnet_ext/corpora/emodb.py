"""EmoDB, the Berlin database of emotional speech: ten actors, seven emotions.

Root::

    wav/03a01Fa.wav       speaker 03, text a01, emotion F (happy), version a

The letter of the emotion is that of its German name: W anger (Wut), L boredom
(Langeweile), E disgust (Ekel), A fear (Angst), F happy (Freude), T sad (Trauer),
N neutral. There are no attributes.

Licence CC BY 4.0. Reference: F. Burkhardt et al., "A database of German emotional
speech", Interspeech 2005.
"""

import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, Reading, read_file_names
from espnet_ext.corpora.listing import find_folder, list_files
from espnet_ext.corpora.splits import (
    Scheme,
    Split,
    SplitOptions,
    Utterances,
    speaker_folds,
)
from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

NAME = "emodb"
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
# From the corpus' own documentation.
MEN = frozenset({"03", "10", "11", "12", "15"})
WOMEN = frozenset({"08", "09", "13", "14", "16"})

_FILE = re.compile(rf"(\d\d)[ab]\d\d([{''.join(EMOTIONS)}])[a-z]")


def read(root: Path) -> Reading:
    """Read the recordings under `root`; everything is in their names.

    Raises:
        UserError: No recordings.
    """
    reading = read_file_names(
        list_files(find_folder(root, "wav")).values(), _FILE, _record
    )
    if not reading.utterances:
        raise UserError(f"{root}: no recordings like wav/03a01Fa.wav")
    return reading


def _record(path: Path, match: re.Match[str]) -> Utterance:
    speaker, emotion = match.groups()
    return Utterance(
        id=path.stem,
        wav=str(path),
        corpus=NAME,
        speaker=speaker,
        gender="m" if speaker in MEN else "f" if speaker in WOMEN else UNKNOWN,
        split=UNKNOWN,
        emotion=EMOTIONS[emotion],
    )


def five_fold(utterances: Utterances, options: SplitOptions) -> Split:
    """Test on a man and a woman, validate on the two before them."""
    return speaker_folds(utterances, 5, options.fold)


def leave_one_speaker_out(utterances: Utterances, options: SplitOptions) -> Split:
    """Test on one speaker, validate on the one before."""
    return speaker_folds(utterances, len(MEN | WOMEN), options.fold)


CORPUS = Corpus(
    name=NAME,
    read=read,
    labels=tuple(EMOTIONS.values()),
    releases={
        "EmoDB": {
            (): 535,
            ("anger",): 127,
            ("boredom",): 81,
            ("neutral",): 79,
            ("happy",): 71,
            ("fear",): 69,
            ("sad",): 62,
            ("disgust",): 46,
        }
    },
    schemes={
        "emodb_5fold": Scheme(
            five_fold, folds=5, description="test a man and a woman, valid two others"
        ),
        "emodb_loso": Scheme(
            leave_one_speaker_out,
            folds=10,
            description="test one speaker, valid another",
        ),
    },
)

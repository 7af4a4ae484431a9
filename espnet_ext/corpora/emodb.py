"""EmoDB, the Berlin database of emotional speech: ten actors, seven emotions.

Root::

    wav/03a01Fa.wav       speaker 03, text a01, emotion F (happy), version a

The letter of the emotion is that of its German name: W anger (Wut), L boredom
(Langeweile), E disgust (Ekel), A fear (Angst), F happy (Freude), T sad (Trauer),
N neutral. There are no attributes.

Licence CC BY 4.0. Reference: F. Burkhardt et al., "A database of German emotional
speech", Interspeech 2005.
"""

import math
import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, LeftOut, Reading
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

_FILE = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


def read(root: Path) -> Reading:
    """Read the recordings under `root`; everything is in their names.

    Raises:
        UserError: No recordings, or an emotion that the corpus does not have.
    """
    folder = root / "wav"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the root of EmoDB")
    reading = Reading()
    for path in sorted(folder.glob("*.wav")):
        if path.name.startswith("."):
            continue
        match = _FILE.fullmatch(path.stem)
        if match is None:
            reading.left_out.append(
                LeftOut(path.stem, "name without a label", str(path))
            )
            continue
        speaker, _, emotion, _ = match.groups()
        if emotion not in EMOTIONS:
            raise UserError(f"{path}: unknown emotion {emotion!r} in the name")
        reading.utterances[path.stem] = Utterance(
            id=path.stem,
            wav=str(path),
            corpus=NAME,
            speaker=speaker,
            gender="m" if speaker in MEN else "f" if speaker in WOMEN else UNKNOWN,
            split=UNKNOWN,
            emotion=EMOTIONS[emotion],
            valence=math.nan,
            arousal=math.nan,
            dominance=math.nan,
        )
    if not reading.utterances:
        raise UserError(f"{folder}: no recordings like 03a01Fa.wav")
    return reading


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

"""CREMA-D: 91 actors speak twelve sentences in six emotions.

Root::

    AudioWAV/1001_DFA_ANG_XX.wav       actor, sentence, emotion, level (LO MD HI XX)
    AudioWAV/1040_ITH_SAD_X.wav        one name of the release has a short level
    VideoDemographics.csv              "ActorID","Age","Sex","Race","Ethnicity"

The label is the emotion that the actor was asked for. There are no attributes. The
audio is in git-lfs: without ``git lfs pull`` the files are pointers, which the audio
check tells.

License ODbL 1.0. Reference: H. Cao et al., "CREMA-D: crowd-sourced emotional multimodal
actors dataset", IEEE Transactions on Affective Computing 5(4), 2014.
"""

import re
from pathlib import Path

from espnet_ext.corpora.corpus import Corpus, Reading, read_file_names
from espnet_ext.corpora.listing import find_child, find_folder, list_files
from espnet_ext.corpora.splits import (
    Scheme,
    Split,
    SplitOptions,
    Utterances,
    split_by_speakers,
)
from espnet_ext.corpora.textio import table_rows
from espnet_ext.corpora.utterance import UNKNOWN, Utterance

NAME = "crema_d"
LABELS = {
    **{"ANG": "angry", "DIS": "disgusted", "FEA": "fearful"},
    **{"HAP": "happy", "NEU": "neutral", "SAD": "sad"},
}

_FILE = re.compile(rf"(\d{{4}})_[A-Z]{{3}}_({'|'.join(LABELS)})_[A-Z]{{1,2}}")
_GENDERS = {"male": "m", "female": "f"}

# Left out by the usual split: one clip with an odd name, and three that are the same
# recording as another clip with another label.
_NOT_IN_USUAL_SPLIT = frozenset(
    {"1040_ITH_SAD_X", "1006_TIE_NEU_XX", "1013_WSI_DIS_XX", "1017_IWW_FEA_XX"}
)


def read(root: Path) -> Reading:
    """Read the recordings under `root`; all but the gender is in their names.

    Raises:
        UserError: No recordings, or a table of actors that does not fit.
    """
    genders = _genders(find_child(root, "VideoDemographics.csv"))

    def record(wav: str, match: re.Match[str]) -> Utterance:
        actor, emotion = match.groups()
        gender = genders.get(actor, UNKNOWN)
        return Utterance(match[0], wav, NAME, actor, gender, UNKNOWN, emotion)

    files = list_files(find_folder(root, "AudioWAV"))
    none = f"{root}: no recordings like AudioWAV/1001_DFA_ANG_XX.wav"
    reading = read_file_names(files.items(), _FILE, record, none)
    if not genders:
        reading.notes.append("no VideoDemographics.csv, so genders are unknown")
    return reading


def _genders(path: Path | None) -> dict[str, str]:
    """Return the gender of each actor, as far as the table is there."""
    rows = [] if path is None else table_rows(path, ("ActorID", "Sex"))
    return {r["ActorID"]: _GENDERS.get(r["Sex"].lower(), UNKNOWN) for _, r in rows}


def usual(utterances: Utterances, options: SplitOptions) -> Split:
    """Split the actors 70/10/20, as TensorFlow Datasets' ``crema_d`` does.

    The sorted actors are shuffled by NumPy's legacy generator with seed 0. Of all
    emotions the parts have 5144, 738 and 1556 utterances.
    """
    del options
    import numpy as np  # late: --help must not wait for it

    actors = sorted({u.speaker for u in utterances.values()})
    np.random.RandomState(0).shuffle(actors)
    first, second = int(0.7 * len(actors)), int(0.8 * len(actors))
    kept = {i: u for i, u in utterances.items() if i not in _NOT_IN_USUAL_SPLIT}
    return split_by_speakers(kept, valid=actors[first:second], test=actors[second:])


CORPUS = Corpus(
    name=NAME,
    display="CREMA-D",
    read=read,
    labels=LABELS,
    releases={
        "CREMA-D": {
            (): 7442,
            ("NEU",): 1087,
            **{(label,): 1271 for label in LABELS if label != "NEU"},
        }
    },
    schemes={
        "crema_d": Scheme(usual, folds=1, description="63, 9 and 19 of the 91 actors"),
    },
)

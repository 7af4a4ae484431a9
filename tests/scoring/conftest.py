"""Small predictions files."""

from pathlib import Path

import pytest

HEADER = (
    "utterance,corpus,speaker,gender,emotion,emotion_pred,prob_neu,prob_ang,"
    "valence,arousal,dominance,valence_pred,arousal_pred,dominance_pred"
)
ROWS = [
    "u1,mini,s1,f,neu,neu,0.900000,0.100000,1,2,3,2,2,3",
    "u2,mini,s1,f,ang,neu,0.600000,0.400000,2,3,4,3,3,3",
    "u3,mini,s2,m,neu,neu,0.700000,0.300000,3,4,5,4,4,4",
]


@pytest.fixture
def write_csv(tmp_path):
    """Write rows under a header and return the path."""

    def write(rows=ROWS, header=HEADER, name="predictions.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def set_dir(tmp_path):
    """Write a set directory of three utterances and return the path."""
    folder = tmp_path / "test"
    folder.mkdir()
    for name, text in {
        "utt2spk": "u1 s1\nu2 s1\nu3 s2\n",
        "utt2gender": "u1 f\nu2 f\nu3 m\n",
        "utt2corpus": "u1 mini\nu2 mini\nu3 mini\n",
        "classes": "neu\nang\n",
        "utt2class": "u1 0\nu2 1\nu3 0\n",
        "attributes": "u1 1 2 3\nu2 2 3 4\nu3 3 4 nan\n",
    }.items():
        (folder / name).write_text(text)
    return folder

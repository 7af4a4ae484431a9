"""What the trees of both built-in corpora share: their size, their files' format."""

import textwrap
from pathlib import Path

import numpy as np

from espnet_ext.mini.speech import SAMPLE_RATE

# Goes into every generated tree.
LICENSE = """\
The speech was generated with espeak-ng (https://github.com/espeak-ng/espeak-ng), a
synthesizer under GPL-3.0 that only the generator calls; no part of its code or data
is in this folder. Sentences, labels and recordings may be used under Apache-2.0.
"""


def readme(layout: str, corpus: str) -> str:
    """Return the start of a tree's readme."""
    warning = (
        f"This is not the {corpus} corpus and holds nothing of it: the voices are "
        "synthetic, the sentences were written for this purpose, the labels are drawn "
        "by a random generator and the voices follow the labels. It is for trying out "
        "and testing software; nothing about people can be learned from it."
    )
    head = f"A small corpus in the layout of {layout}, made by ser_make_mini."
    return f"{head}\n\n{textwrap.fill(warning, 86)}\n"


def scaled(full: int, scale: float) -> int:
    """Scale a number of utterances; at least one remains."""
    return max(1, round(full * scale))


def write_text(path: Path, text: str, newline: str = "\n") -> None:
    """Write Latin-1, as the old label files are; make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", newline).encode("latin-1"))


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write 16-bit PCM, (samples,) or (samples, channels) int16; make the folder."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")

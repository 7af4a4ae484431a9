"""What the trees of both built-in corpora share: their size, their files' format."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.mini.speech import SAMPLE_RATE

# Goes into every generated tree.
LICENSE = """\
The speech was generated with espeak-ng (https://github.com/espeak-ng/espeak-ng), a
synthesizer under GPL-3.0 that only the generator calls; no part of its code or data
is in this folder. Sentences, labels and recordings may be used under Apache-2.0.
"""

_SMALLEST = 0.1


@dataclass(frozen=True, slots=True)
class MiniSize:
    """Size of a generated corpus.

    Attributes:
        scale: Factor on the number of utterances of each label; 1 is the built-in
            corpus, tests take less. Every label of each session or split stays
            present.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not _SMALLEST <= self.scale <= 100:
            raise UserError(
                f"scale {self.scale} is not between {_SMALLEST} and 100: below, the "
                "dialogs of a session could not all be filled"
            )

    def count(self, full: int) -> int:
        """Scale a number of utterances; at least one remains."""
        return max(1, round(full * self.scale))


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write 16-bit PCM, (samples,) or (samples, channels) int16; make the folder."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")

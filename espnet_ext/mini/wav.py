"""Writes a 16-bit wav and its folder."""

from pathlib import Path

import numpy as np

from espnet_ext.mini.speech import SAMPLE_RATE


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write 16-bit PCM.

    Args:
        path: File to write; its folder is made.
        samples: Shape (samples,) or (samples, channels), int16.
        rate: Sampling rate in Hz.
    """
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")

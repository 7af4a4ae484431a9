"""Where a recording is loud enough to be speech.

A gate on the level, no detector of voices: steady noise and music pass it. It keeps
pauses and silence from being given an emotion.
"""

import numpy as np

from espnet_ext.corpora.audio import RATE

FRAME = RATE // 50  # samples; 20 ms, whatever the frames of the features

# dB below full scale. Frames up to 35 dB below the loudest one may be speech, the gate
# being between these two: soft recordings are heard, noise beside loud speech is not.
_BELOW_LOUDEST = 35.0
_LOWEST_GATE = -60.0
_HIGHEST_GATE = -45.0


def frame_levels(wave: np.ndarray) -> np.ndarray:
    """Level of each 20 ms frame in dB below full scale (RMS).

    Args:
        wave: (n,) 16 kHz.

    Returns:
        (ceil(n / 320),); a last, shorter frame counts as if it were silent behind.
    """
    padded = np.pad(wave, (0, -len(wave) % FRAME)).reshape(-1, FRAME)
    power = np.einsum("ij,ij->i", padded, padded, dtype=np.float64) / FRAME
    return 10 * np.log10(power + 1e-12)


def is_speech(levels: np.ndarray) -> np.ndarray:
    """Tell which frames of a recording may be speech.

    Args:
        levels: (T,) of the whole recording, by `frame_levels`.

    Returns:
        (T,) of bool.
    """
    if not len(levels):
        return np.zeros(0, bool)
    gate = np.clip(levels.max() - _BELOW_LOUDEST, _LOWEST_GATE, _HIGHEST_GATE)
    return levels > gate

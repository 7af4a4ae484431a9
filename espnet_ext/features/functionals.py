"""One vector an utterance: statistics over time of cepstra and pitch.

The same vector is what the classical baseline reads (`espnet_ext.classical`) and, as an
upstream that gives a single frame, what a network of the preset `small` does.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espnet_ext.corpora.audio import RATE
from espnet_ext.features.mfcc import OneAtATime, mfcc_frames

PERCENTILES = (5, 25, 50, 75, 95)
LOUD_DB = 35.0  # below the loudest frame; what is quieter is silence
VOICED = 0.5  # of `pitch_frames`' correlation
OCTAVE_COST = 0.01
FEWEST = 5  # frames in a part that is described by itself
DIM = 2 * (3 + len(PERCENTILES)) * 62 + 1

Floats = NDArray[np.float64]


def summarize_frames(frames: NDArray) -> Floats:
    """Return mean, standard deviation, percentiles and skewness over time.

    Args:
        frames: (T, D), or hidden states (T, L, D), of which the mean over L counts.

    Returns:
        (8 D,): means, deviations, five percentiles, then skewness (0 where a column
        does not change).
    """
    values = np.asarray(frames, dtype=np.float64)
    if values.ndim == 3:
        values = values.mean(axis=1)  # (T, D)
    mean, deviation = values.mean(0), values.std(0)
    percentiles = np.percentile(values, PERCENTILES, axis=0)  # (5, D)
    cubes = ((values - mean) ** 3).mean(0)
    constant = deviation < 1e-6 * (1 + np.abs(mean))
    skewness = np.where(constant, 0, cubes / np.where(constant, 1, deviation) ** 3)
    return np.concatenate([mean, deviation, *percentiles, skewness])


def pitch_frames(wave: Tensor, num_frames: int) -> Tensor:
    """Return energy, pitch and voicing of `num_frames` windows of 40 ms, 10 ms apart.

    Pitch is the lag of the highest autocorrelation of 60 to 500 Hz, divided by that of
    the window, where an octave costs 0.01 (Boersma 1993, "Accurate short-term analysis
    of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound",
    eq. 9 and 26), without a search for a smooth path.

    Args:
        wave: (n,) at 16 kHz.
        num_frames: T.

    Returns:
        (T, 3): energy in dB, natural logarithm of the pitch in Hz, and the correlation
        there, near 1 where there is voice and 0 in silence.
    """
    step, width = RATE // 100, RATE // 25
    padded = torch.nn.functional.pad(wave.float(), (width // 2, width))
    padded = torch.nn.functional.pad(
        padded, (0, max(0, num_frames * step + width - len(padded)))
    )
    windows = padded.unfold(0, width, step)[:num_frames]  # (T, W)
    windows = windows - windows.mean(1, keepdim=True)
    hann = torch.hann_window(width)
    own = _autocorrelation(hann[None])
    of_frames = _autocorrelation(windows * hann)  # (T, W / 2)
    # 1e-4: silence is not voice.
    ratio = of_frames / (of_frames[:, :1] + 1e-4) / (own / own[:, :1])
    shortest, longest = RATE // 500, RATE // 60
    lags = torch.arange(shortest, longest)
    # Twice the period correlates as well as the period.
    lag = (ratio[:, lags] - OCTAVE_COST * lags.log2()).argmax(1)
    voicing = ratio[:, lags].gather(1, lag[:, None])[:, 0]
    energy = 10 * torch.log10(windows.square().mean(1) + 1e-10)
    pitch = torch.log(RATE / (lag + shortest))
    return torch.stack([energy, pitch, voicing.clamp(0, 1)], dim=1)


def _autocorrelation(rows: Tensor) -> Tensor:
    """Return the autocorrelation (N, W / 2) of rows (N, W) at lags 0, 1, ..."""
    width = rows.size(1)
    spectrum = torch.fft.rfft(rows, 2 * width).abs().square()
    return torch.fft.irfft(spectrum)[:, : width // 2]


def functionals(wave: Tensor) -> Floats:
    """Return what `summarize_frames` says of the loud frames and of the voiced ones.

    Frames are 20 cepstra with first and second differences (`mfcc_frames`), logarithm
    of the pitch, and voicing.

    Args:
        wave: (n,) at 16 kHz.

    Returns:
        (`DIM`,): 496 of the loud frames, 496 of the voiced ones among them (of all loud
        ones where too few are), and the voiced share.
    """
    cepstra = mfcc_frames(wave)  # (T, 60)
    energy, *pitch = pitch_frames(wave, len(cepstra)).T
    frames = torch.cat([cepstra, torch.stack(pitch, 1)], dim=1).numpy()  # (T, 62)
    loud = (energy > energy.max() - LOUD_DB).numpy()
    voiced = loud & (pitch[1] > VOICED).numpy()
    share = voiced.sum() / loud.sum()
    if voiced.sum() < FEWEST:
        voiced = loud
    parts = [summarize_frames(frames[part]) for part in (loud, voiced)]
    return np.concatenate([*parts, [share]])


class FunctionalsUpstream(OneAtATime):
    """`functionals` of an utterance, as its only frame."""

    dim = DIM
    min_samples = 400  # a window
    frame_shift = RATE  # space and shards are counted in frames: one a second or fewer
    # There are no weights; this stands for the settings above.
    weights = hashlib.sha256(
        f"functionals {PERCENTILES} {LOUD_DB} {VOICED} {FEWEST}".encode()
    ).hexdigest()

    def states(self, wave: Tensor) -> list[Tensor]:
        """Compute the vector (1, `DIM`)."""
        vector = torch.from_numpy(functionals(wave.cpu()))  # (DIM,)
        return [vector[None].to(wave.device)]

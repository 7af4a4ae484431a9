"""Cepstra as an upstream: nothing to fetch, and what classical baselines read."""

import hashlib
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from espnet_ext.corpora.audio import RATE


def mfcc_frames(wave: Tensor) -> Tensor:
    """Return 20 mel cepstra with first and second differences, 100 frames a second.

    Kaldi's (``torchaudio.compliance.kaldi.mfcc``): 80 mel bins, no dither, and as many
    frames as there are steps of 10 ms.

    Args:
        wave: (n,) at 16 kHz.

    Returns:
        (T, 60).
    """
    from torchaudio.compliance import kaldi
    from torchaudio.functional import compute_deltas

    cepstra = kaldi.mfcc(
        wave[None].float(),
        sample_frequency=RATE,
        num_ceps=20,
        num_mel_bins=80,
        snip_edges=False,
    ).T  # (20, T)
    first = compute_deltas(cepstra)
    return torch.cat([cepstra, first, compute_deltas(first)]).T


class OneAtATime:
    """An upstream that computes utterance by utterance, whatever they have in common.

    Its defaults are those of features without weights.
    """

    num_states = 1
    dim: int
    min_samples: int  # that give a frame
    frame_shift = 160  # samples from a frame to the next
    weights: str  # hash of what decides the numbers
    normalize: bool | None = None  # of the waveform; None: its own affair

    def to(self, device: torch.device | str) -> Self:
        """Move to a device, if there is something to move, and return self."""
        return self

    def states(self, wave: Tensor) -> list[Tensor]:
        """Compute all hidden states (T, D) of a waveform (n,)."""
        raise NotImplementedError

    @torch.no_grad()
    def extract(
        self, waves: Sequence[Tensor], layers: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Compute (L, T, D) of each waveform; see `upstream.ExactUpstream.extract`."""
        runs = (self.states(wave) for wave in waves)
        return [torch.stack([states[i].to(dtype) for i in layers]) for states in runs]


class MfccUpstream(OneAtATime):
    """`mfcc_frames` as an upstream."""

    dim = 60
    min_samples = 400  # a window
    # There are no weights; this stands for the settings above.
    weights = hashlib.sha256(b"kaldi mfcc, 80 bins, 20 cepstra, deltas").hexdigest()

    def states(self, wave: Tensor) -> list[Tensor]:
        """Compute the cepstra (T, 60)."""
        return [mfcc_frames(wave)]

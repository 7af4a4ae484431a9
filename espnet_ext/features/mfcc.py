"""Cepstra as an upstream: nothing to fetch, and what classical baselines read."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError

NAMES = ("mfcc",)


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


class MfccUpstream:
    """`mfcc_frames` of one utterance at a time.

    Args:
        name: One of `NAMES`.

    Raises:
        UserError: Another name.
    """

    num_states = 1
    dim = 60
    min_samples = 400  # a window
    # There are no weights; this stands for the settings above.
    weights = hashlib.sha256(b"kaldi mfcc, 80 bins, 20 cepstra, deltas").hexdigest()

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise UserError(f"kaldi has no upstream {name!r}; it has mfcc, functionals")
        self.normalize: bool | None = None

    def to(self, device: torch.device | str) -> "MfccUpstream":
        """Return self: there is nothing to move."""
        return self

    @torch.no_grad()
    def extract(
        self, waves: Sequence[Tensor], layers: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Compute cepstra; see `upstream.Upstream.extract`."""
        return [mfcc_frames(wave)[None].to(dtype) for wave in waves]  # (1, T, 60)

"""openSMILE's eGeMAPSv02 low-level descriptors as an upstream.

25 descriptors, 100 frames a second: loudness, spectral slopes, four cepstra, pitch,
jitter, shimmer, formants (Eyben et al. 2016, "The Geneva Minimalistic Acoustic
Parameter Set (GeMAPS) for voice research and affective computing").

The library is an extra, ``pip install "espnet_ext[egemaps]"``. Its licence is
audEERING's research licence, which does not allow commercial use, also not of features
extracted with it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError

NAMES = ("eGeMAPSv02",)


def load_opensmile(level: str) -> Any:
    """Return openSMILE's extractor of eGeMAPSv02.

    Args:
        level: ``LowLevelDescriptors`` or ``Functionals``.

    Raises:
        UserError: The library is not installed.
    """
    try:
        import opensmile
    except ImportError as error:
        raise UserError(
            f"eGeMAPS needs the package opensmile ({error}): pip install "
            '"espnet_ext[egemaps]". Its licence allows research, not commercial use'
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel[level],
    )


class OpenSmileUpstream:
    """The low-level descriptors, one utterance at a time, on the CPU.

    Args:
        name: One of `NAMES`.

    Raises:
        UserError: Another name, or the library is not installed.
    """

    num_states = 1
    frame_shift = 160

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise UserError(f"opensmile has no upstream {name!r}; it has {NAMES[0]}")
        self.smile = load_opensmile("LowLevelDescriptors")
        self.min_samples = 960  # one frame of 60 ms, the longest window
        self.normalize: bool | None = None
        self.dim = len(self.smile.feature_names)
        # Without weights: what decides the numbers is the set and its version.
        import opensmile

        what = f"{name} {opensmile.__version__} {self.smile.feature_names}"
        self.weights = hashlib.sha256(what.encode()).hexdigest()

    def to(self, device: torch.device | str) -> "OpenSmileUpstream":
        """Return self: it computes on the CPU."""
        return self

    def extract(
        self, waves: Sequence[Tensor], layers: Sequence[int], dtype: torch.dtype
    ) -> list[Tensor]:
        """Compute descriptors; see `upstream.Upstream.extract`."""
        result = []
        for wave in waves:
            table = self.smile.process_signal(wave.cpu().numpy(), RATE)
            values = torch.from_numpy(table.to_numpy("float32", copy=True))  # (T, 25)
            result.append(values[None].to(wave.device, dtype))  # (1, T, 25)
        return result

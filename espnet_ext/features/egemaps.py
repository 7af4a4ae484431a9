"""openSMILE's eGeMAPSv02 low-level descriptors as an upstream.

25 descriptors, 100 frames a second: loudness, spectral slopes, four cepstra, pitch,
jitter, shimmer, formants (Eyben et al. 2016, "The Geneva Minimalistic Acoustic
Parameter Set (GeMAPS) for voice research and affective computing").

The library is an extra, ``pip install "espnet_ext[egemaps]"``. Its license is
audEERING's research license, which does not allow commercial use, also not of features
extracted with it.
"""

import hashlib
from typing import Any

import torch
from torch import Tensor

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.features.mfcc import OneAtATime

NAME = "eGeMAPSv02"


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
            '"espnet_ext[egemaps]". Its license allows research, not commercial use'
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel[level],
    )


class OpenSmileUpstream(OneAtATime):
    """The low-level descriptors of `NAME`; a UserError says that the library lacks."""

    min_samples = 960  # one frame of 60 ms, the longest window

    def __init__(self) -> None:
        self.smile = load_opensmile("LowLevelDescriptors")
        self.dim = len(self.smile.feature_names)
        # Without weights: what decides the numbers is the set and its version.
        import opensmile

        what = f"{NAME} {opensmile.__version__} {self.smile.feature_names}"
        self.weights = hashlib.sha256(what.encode()).hexdigest()

    def states(self, wave: Tensor) -> list[Tensor]:
        """Compute the descriptors (T, 25)."""
        table = self.smile.process_signal(wave.cpu().numpy(), RATE)
        values = table.to_numpy("float32", copy=True)
        return [torch.from_numpy(values).to(wave.device)]

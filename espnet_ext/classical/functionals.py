"""One vector an utterance: statistics of its frames over time.

``mfcc`` needs nothing but what the package needs anyway: statistics of cepstra and
pitch over loud and voiced frames (`features.functionals`). ``egemaps`` is openSMILE's
own set of 88 functionals (Eyben et al. 2016, "The Geneva Minimalistic Acoustic
Parameter Set"); its library is an extra with a license of its own. ``store`` takes
whatever a feature store holds.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.features.egemaps import load_opensmile
from espnet_ext.features.functionals import Floats, functionals, summarize_frames

KINDS = ("mfcc", "egemaps", "store")


def read_functionals(
    kind: str, ids: Iterable[str], speech: Mapping[str, NDArray]
) -> dict[str, Floats]:
    """Return one vector for each utterance.

    Args:
        kind: One of `KINDS`.
        ids: The utterances.
        speech: Audio (n,) at 16 kHz, for ``store`` features (T, D) or (T, L, D).

    Raises:
        UserError: An unknown kind, a missing library, or values that are not finite.
    """
    if kind not in KINDS:
        raise UserError(f"functionals is {kind!r}; choose from {', '.join(KINDS)}")
    if kind == "egemaps":
        smile = load_opensmile("Functionals")
        made = {u: smile.process_signal(speech[u], RATE).values[0] for u in ids}
    elif kind == "mfcc":
        import torch

        waves = ((u, torch.from_numpy(np.array(speech[u], np.float32))) for u in ids)
        made = {u: functionals(wave) for u, wave in waves}
    else:
        made = {u: summarize_frames(speech[u]) for u in ids}
    for utterance, vector in made.items():
        if not np.isfinite(vector).all():
            raise UserError(f"the {kind} functionals of {utterance} are not finite")
    return {utterance: np.asarray(v, np.float64) for utterance, v in made.items()}

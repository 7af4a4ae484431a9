"""What a model predicts for one utterance, as plain arrays."""

from dataclasses import dataclass

import numpy as np

from espnet_ext.attributes import ATTRIBUTES


@dataclass(frozen=True, slots=True)
class UtterancePrediction:
    """What the model predicts for one utterance.

    Attributes:
        id: the utterance.
        probabilities: (K,) float64, None without a discrete branch.
        attributes: (3,) float64, None without a continuous branch.
        embeddings: E_D and E_C by branch, float32.
        attention: SAP weights (T,) by branch, float32. Where each attribute has a
            pooling of its own: their mean, and ``continuous_valence`` and so on.
        probabilities_spread: (K,) standard deviation over the members of an ensemble,
            None of a single model.
        attributes_spread: (3,), likewise.
    """

    id: str
    probabilities: np.ndarray | None
    attributes: np.ndarray | None
    embeddings: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    probabilities_spread: np.ndarray | None = None
    attributes_spread: np.ndarray | None = None


def name_attention(branch: str, heads: np.ndarray) -> dict[str, np.ndarray]:
    """Name the weights (H, T) of a branch's poolings, as in `UtterancePrediction`."""
    if len(heads) == 1:
        return {branch: heads[0]}
    names = [f"{branch}_{attribute}" for attribute in ATTRIBUTES]
    return {branch: heads.mean(axis=0), **dict(zip(names, heads, strict=True))}

"""Prediction of a whole set, with numbers that do not depend on how it is batched.

Padding and batch mates change float32 results in the seventh digit, which shows in the
sixth printed decimal. So features are made for each utterance alone, and everything
after them runs in float64.

Memory grows with the frames of a batch: hidden states are read from their file piece by
piece (`features.layer_sum`), attention is computed in blocks
(`encoders.block_attention`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.utils.tensors import as_tensor


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
    """

    id: str
    probabilities: np.ndarray | None
    attributes: np.ndarray | None
    embeddings: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]


def predict_utterances(
    model: ESPnetSERModel,
    speech: Mapping[str, np.ndarray],
    batches: Sequence[Sequence[str]],
    device: str = "cpu",
) -> Iterator[UtterancePrediction]:
    """Predict utterances batch by batch.

    Args:
        model: a trained model; it is put into evaluation mode and float64 (the
            frontend stays as it is).
        speech: features (T, D), (T, L, D) or audio (n,) of each utterance.
        batches: the utterances to predict, those of a batch together.
        device: "cpu" or "cuda".
    """
    model.eval().to(device).double()
    model.frontend.float()
    for batch in batches:
        yield from _predict_batch(model, speech, batch, device)


@torch.no_grad()
def _predict_batch(
    model: ESPnetSERModel,
    speech: Mapping[str, np.ndarray],
    ids: Sequence[str],
    device: str,
) -> Iterator[UtterancePrediction]:
    feats = []
    for utt in ids:
        alone = as_tensor(speech[utt]).to(device)[None]  # (1, T, ...)
        rows, n = model.extract_feats(alone, torch.tensor([alone.size(1)]).to(device))
        feats.append(rows[0, : n[0]])  # (T, D)
    lengths = torch.tensor([len(rows) for rows in feats], device=device)  # (B,)
    padded = pad_sequence(feats, batch_first=True)  # (B, T, D)
    hidden, lengths = model.encode(padded, lengths)
    output = model.decode(hidden, lengths)
    probabilities = None if output.logits is None else output.logits.softmax(dim=-1)
    for row, utt in enumerate(ids):
        attention: dict[str, np.ndarray] = {}
        for branch, values in output.attention.items():
            heads = values[row, :, : lengths[row]].float().cpu().numpy()  # (H, T)
            attention[branch] = heads[0] if len(heads) == 1 else heads.mean(axis=0)
            if len(heads) > 1:
                names = [f"{branch}_{attribute}" for attribute in ATTRIBUTES]
                attention |= zip(names, heads, strict=True)
        embeddings = output.embeddings.items()
        yield UtterancePrediction(
            id=utt,
            probabilities=_row(probabilities, row),
            attributes=_row(output.attributes, row),
            embeddings={name: e[row].float().cpu().numpy() for name, e in embeddings},
            attention=attention,
        )


def _row(values: Tensor | None, row: int) -> np.ndarray | None:
    return None if values is None else values[row].double().cpu().numpy()

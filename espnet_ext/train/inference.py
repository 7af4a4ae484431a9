"""Prediction of a whole set, with numbers that do not depend on how it is batched.

Padding and batch mates change float32 results in the seventh digit, which shows in the
sixth printed decimal. So features are made for each utterance alone, and everything
after them runs in float64.

Memory grows with the frames of a batch: hidden states are read from their file piece by
piece (`features.layer_sum`), attention is computed in blocks
(`encoders.block_attention`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from espnet_ext.ser.model import ESPnetSERModel
from espnet_ext.train.prediction import UtterancePrediction, name_attention
from espnet_ext.utils.tensors import as_tensor


def predict_utterances(
    model: ESPnetSERModel,
    speech: Mapping[str, np.ndarray],
    batches: Sequence[Sequence[str]],
    device: str = "cpu",
) -> Iterator[UtterancePrediction]:
    """Predict utterances, those of a batch together.

    The model is put into evaluation mode and float64 (the frontend stays as it is).
    `speech` has features (T, D), (T, L, D) or audio (n,) by utterance.
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
            attention |= name_attention(branch, heads)
        found = output.embeddings.items()
        embeddings = {name: e[row].float().cpu().numpy() for name, e in found}
        classes, attributes = (
            None if values is None else values[row].double().cpu().numpy()
            for values in (probabilities, output.attributes)
        )
        yield UtterancePrediction(utt, classes, attributes, embeddings, attention)

"""The weighted sum of hidden states, without a wide copy of them.

A batch of all 25 states in 16 bits is large already (0.4 GB for 160 s of speech at
width 1024); written out in fp32 and in another order, as a plain ``einsum`` does, it
costs more time than the conformer that follows. Here a piece of the frames is widened
at a time, and padding is not touched at all.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Numbers that are widened at once: small enough for a processor's cache, large enough
# to keep a GPU busy.
_PIECE_ON_CPU = 1 << 20
_PIECE_ON_GPU = 1 << 26


def weighted_sum(
    states: Tensor, lengths: Sequence[int], weights: Tensor, layer_norm: bool
) -> Tensor:
    """Compute ``sum_l w_l h_l`` of each frame; gradients reach the weights only.

    Args:
        states: (B, T, L, D), any float precision.
        lengths: Frames of each row; what is behind them gives zeros.
        weights: (L,) fp32.
        layer_norm: Normalise each state over D first.

    Returns:
        (B, T, D) fp32.
    """
    return _WeightedSum.apply(states, tuple(lengths), weights, layer_norm)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        lengths: tuple[int, ...],
        weights: Tensor,
        layer_norm: bool,
    ) -> Tensor:
        ctx.save_for_backward(states)
        ctx.lengths, ctx.layer_norm = lengths, layer_norm
        batch, frames, _, dim = states.shape
        out = states.new_zeros((batch, frames, dim), dtype=torch.float32)
        # A product with weights that want a gradient would copy the states transposed.
        weights = weights.detach()
        with torch.autocast(states.device.type, enabled=False):
            for row, here, piece in _pieces(states, lengths, layer_norm):
                out[row, here] = weights @ piece  # (t, D)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, None]:
        (states,) = ctx.saved_tensors
        total = gradient.new_zeros(states.shape[2], dtype=torch.float32)  # (L,)
        with torch.autocast(states.device.type, enabled=False):
            for row, here, piece in _pieces(states, ctx.lengths, ctx.layer_norm):
                part = gradient[row, here].float()  # (t, D)
                total += (piece * part[:, None]).sum((0, 2))
        return None, None, total, None


def _pieces(
    states: Tensor, lengths: Sequence[int], layer_norm: bool
) -> Iterator[tuple[int, slice, Tensor]]:
    """Give row, frames and their states (t, L, D) in fp32, piece by piece."""
    on_cpu = states.device.type == "cpu"
    most = _PIECE_ON_CPU if on_cpu else _PIECE_ON_GPU
    step = max(1, most // (states.shape[2] * states.shape[3]))
    for row, length in enumerate(lengths):
        for start in range(0, length, step):
            here = slice(start, min(start + step, length))
            piece = states[row, here].float()
            if layer_norm:
                piece = F.layer_norm(piece, piece.shape[-1:])
            yield row, here, piece

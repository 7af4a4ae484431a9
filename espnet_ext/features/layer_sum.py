"""The weighted sum of hidden states, without a wide copy of them.

A batch of all 25 states in 16 bits is large (0.4 GB for 160 s of speech at width 1024);
a plain ``einsum`` writes it out in fp32, which takes longer than the conformer that
follows. Here a piece of the frames is widened at a time, and padding never.
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
    rows: Sequence[Tensor], frames: int, weights: Tensor, layer_norm: bool
) -> Tensor:
    """Compute ``sum_l w_l h_l`` of each frame; gradients reach the weights only.

    Args:
        rows: B arrays (t, L, D), any float precision.
        frames: T, at least the longest t; the result (B, T, D), fp32, is zero behind t.
        weights: (L,) fp32.
        layer_norm: Normalize each state over D first.
    """
    return _WeightedSum.apply(weights, frames, layer_norm, *rows)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, frames: int, layer_norm: bool, *rows: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*rows)
        ctx.layer_norm = layer_norm
        shape = (len(rows), frames, rows[0].shape[-1])
        out = weights.new_zeros(shape, dtype=torch.float32)
        # A product with weights that want a gradient would copy the states transposed.
        weights = weights.detach()
        with torch.autocast(weights.device.type, enabled=False):
            for row, here, piece in _pieces(rows, layer_norm):
                out[row, here] = weights @ piece  # (t, D)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows = ctx.saved_tensors
        total = gradient.new_zeros(rows[0].shape[1], dtype=torch.float32)  # (L,)
        with torch.autocast(gradient.device.type, enabled=False):
            for row, here, piece in _pieces(rows, ctx.layer_norm):
                part = gradient[row, here].float()  # (t, D)
                total += (piece * part[:, None]).sum((0, 2))
        return total, None, None, *(None for _ in rows)


def _pieces(
    rows: Sequence[Tensor], layer_norm: bool
) -> Iterator[tuple[int, slice, Tensor]]:
    """Give row, frames and their states (t, L, D) in fp32, piece by piece."""
    most = _PIECE_ON_CPU if rows[0].device.type == "cpu" else _PIECE_ON_GPU
    step = max(1, most // (rows[0].shape[1] * rows[0].shape[2]))
    for row, states in enumerate(rows):
        for start in range(0, len(states), step):
            here = slice(start, min(start + step, len(states)))
            piece = states[here].to(
                torch.float32, memory_format=torch.contiguous_format
            )
            if layer_norm:
                piece = F.layer_norm(piece, piece.shape[-1:])
            yield row, here, piece

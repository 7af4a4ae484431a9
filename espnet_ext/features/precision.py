"""Bring hidden states to the precision of a store and back.

The online frontend uses the same functions, so that its numbers are those of a store.
"""

import torch
from torch import Tensor


def storage_dtype(dtype: str) -> torch.dtype:
    """Return the precision in which states are collected for a store of `dtype`."""
    return torch.float32 if dtype == "int8" else getattr(torch, dtype)


def quantize(states: Tensor) -> tuple[Tensor, Tensor]:
    """Round to 8 bits with a scale per state and channel.

    Args:
        states: (L, T, D) fp32.

    Returns:
        int8 (L, T, D) in -127..127, and the scale, fp32 (L, D): states are
        approximately ``int8 * scale``.
    """
    scale = states.abs().amax(dim=1) / 127  # (L, D)
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (states / divisor[:, None]).round().to(torch.int8), scale


def dequantize(states: Tensor, scale: Tensor) -> Tensor:
    """Undo `quantize`: fp16 (L, T, D), as a store gives it."""
    return (states.float() * scale[:, None]).half()


def reads_finite(states: Tensor, scale: Tensor | None) -> bool:
    """Say whether a store that holds these gives finite numbers.

    Args:
        states: (L, T, D).
        scale: (L, D) with int8, which is read as fp16 and so must fit into that.
    """
    largest = states if scale is None else (127 * scale).half()
    return bool(torch.isfinite(largest).all())

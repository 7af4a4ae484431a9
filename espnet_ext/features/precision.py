"""Hidden states in the precision of a store; the online frontend rounds the same."""

import torch
from torch import Tensor


def storage_dtype(dtype: str) -> torch.dtype:
    """Return the precision in which states are collected for a store of `dtype`."""
    return torch.float32 if dtype == "int8" else getattr(torch, dtype)


def quantize(states: Tensor) -> tuple[Tensor, Tensor]:
    """Round fp32 (L, T, D) to 8 bits with a scale per state and channel.

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
    """Tell whether (L, T, D), read from a store, gives finite numbers.

    int8 has a scale (L, D) and is read as fp16, so it must fit into that.
    """
    largest = states if scale is None else (127 * scale).half()
    return bool(torch.isfinite(largest).all())

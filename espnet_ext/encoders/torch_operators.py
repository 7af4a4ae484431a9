"""Two operators that torch has without a public name, each with its public equal.

Torch's own take one pass over memory, the public ones three or more.
"""

import torch
from torch import Tensor


def public_softmax_gradient(gradient: Tensor, weights: Tensor) -> Tensor:
    """Gradient of softmax scores: w (dw - sum w dw), both (..., n)."""
    return weights * (gradient - (weights * gradient).sum(-1, keepdim=True))


def public_keep_above(numbers: Tensor, levels: Tensor, limit: int) -> Tensor:
    """Set `numbers` to zero where `levels`, of the same shape, are at most `limit`."""
    return numbers.masked_fill(levels <= limit, 0)


def _torch_softmax_gradient(gradient: Tensor, weights: Tensor) -> Tensor:
    return torch._softmax_backward_data(gradient, weights, -1, weights.dtype)


def _torch_keep_above(numbers: Tensor, levels: Tensor, limit: int) -> Tensor:
    levels = levels.to(numbers.dtype)
    return torch.ops.aten.threshold_backward(numbers, levels, limit)


softmax_gradient = (
    _torch_softmax_gradient
    if hasattr(torch, "_softmax_backward_data")
    else public_softmax_gradient
)
keep_above = (
    _torch_keep_above
    if hasattr(torch.ops.aten, "threshold_backward")
    else public_keep_above
)

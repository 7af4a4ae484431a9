"""A frozen linear layer with its weights in the order that the processor wants.

oneDNN computes from weights in blocks. A plain layer rearranges them at every call, or
(in fp32) leaves a fifth of the processor unused; weights that never change are
rearranged once. The product is the same, summed in another order.

The operators are private to torch, and only this module uses them. Where they are
missing, `F.linear` computes instead.
"""

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Rows that a rearrangement is asked for; measured equally good for 50 to 3000.
_TYPICAL_ROWS = 2048


class Linear(nn.Module):
    """``x W^T + b`` for a frozen W (out, in), with a GELU (exact, erf) if wanted.

    `dtype` is the precision of the product; the input is cast to it.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.gelu = gelu
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        # The weight in blocks; `weight` is None then.
        self._blocks: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, out) in `dtype` from (N, in)."""
        x = x.to(self.dtype)
        if self.weight is not None and x.device.type == "cpu" and _can(self.dtype):
            self._blocks, self.weight = _in_blocks(self.weight), None
        if self._blocks is not None:
            return _blocked_product(x, self._blocks, self.bias, self.gelu)
        assert self.weight is not None
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.gelu else y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Linear":
        """Undo the rearrangement before the layer moves to another device."""
        if self._blocks is not None:
            self.weight, self._blocks = self._blocks.to_dense(), None
        super()._apply(fn, recurse)
        return self


def frozen_norm(weights: Mapping[str, Tensor], name: str, eps: float) -> nn.LayerNorm:
    """Make a layer norm with the weights of that name."""
    norm = nn.LayerNorm(len(weights[f"{name}.weight"]), eps=eps)
    norm.weight = nn.Parameter(weights[f"{name}.weight"], requires_grad=False)
    norm.bias = nn.Parameter(weights[f"{name}.bias"], requires_grad=False)
    return norm


def _in_blocks(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)


def _blocked_product(
    x: Tensor, blocks: Tensor, bias: Tensor | None, gelu: bool
) -> Tensor:
    kind, algorithm = ("gelu", "none") if gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(x, blocks, bias, kind, [], algorithm)


@functools.cache
def _can(dtype: torch.dtype) -> bool:
    """Try whether this processor and this torch can compute with blocks."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.eye(16, dtype=dtype)
    try:
        product = _blocked_product(weight, _in_blocks(weight), None, False)
    except (AttributeError, RuntimeError):  # unknown operator; not with this precision
        return False
    return torch.equal(product, weight)

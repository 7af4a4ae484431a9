"""A frozen linear layer with its weights in the order that the processor wants.

oneDNN computes a matrix product from weights in blocks. A plain layer brings them into
blocks at every call, or (in fp32) does without and leaves a fifth of the processor
unused; weights that never change are rearranged once. The result is the same product,
summed in another order.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Rows that a rearrangement is asked for; measured equally good for 50 to 3000.
_TYPICAL_ROWS = 2048


class Linear(nn.Module):
    """``x W^T + b`` for a frozen W, with a GELU if wanted.

    Args:
        weight: W (out, in).
        bias: b (out,), or None.
        dtype: Precision of the product; the input is cast to it.
        gelu: Apply the (exact, erf) GELU to the result.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.gelu = gelu
        self.weight: Tensor | None
        self.bias: Tensor | None
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        self._blocks: Tensor | None = (
            None  # the weight, rearranged; then `weight` is None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, out) in `dtype` from (N, in)."""
        x = x.to(self.dtype)
        if self._blocks is None and x.device.type == "cpu" and _has_blocks(self.dtype):
            assert self.weight is not None
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(
                self.weight, _TYPICAL_ROWS
            )
            self.weight = None
        if self._blocks is not None:
            return _blocked_product(x, self._blocks, self.bias, self.gelu)
        assert self.weight is not None
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.gelu else y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Linear":
        """Undo the rearrangement before the layer moves to another device."""
        if self._blocks is not None:
            self.weight = self._blocks.to_dense()
            self._blocks = None
        super()._apply(fn, recurse)
        return self


def _blocked_product(
    x: Tensor, blocks: Tensor, bias: Tensor | None, gelu: bool
) -> Tensor:
    kind, algorithm = ("gelu", "none") if gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(x, blocks, bias, kind, [], algorithm)


@functools.cache
def _has_blocks(dtype: torch.dtype) -> bool:
    """Say whether this processor and this torch can do it, by trying.

    The operators are those that torch.compile uses for frozen models.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.eye(16, dtype=dtype)
    try:
        blocks = torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)
        return torch.equal(_blocked_product(weight, blocks, None, False), weight)
    except (AttributeError, RuntimeError):  # unknown operator; not with this precision
        return False

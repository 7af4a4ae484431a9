"""Attention as torch traces it, and as the graph computes it: block by block.

For torch it is one opaque operator, since its exporter knows loops only by private
means. In the graph it is a Scan over blocks of queries, so that memory grows with a
recording's length and not with its square.
"""

# mypy: disable-error-code="no-untyped-call, untyped-decorator, type-arg, misc"

from typing import Any

import torch
from onnxscript import FLOAT, INT64, graph, opset18, script
from onnxscript.values import Opset
from torch import Tensor
from torch.nn import functional as F

OPSET = 18  # of ONNX; torch's own translations are written in it

op: Any = opset18
_own = Opset("espnet_ext", 1)
_BLOCK = 128  # queries whose scores are held at a time; `_by_distance_in_graph` has it


def attend(
    q: Tensor, k: Tensor, v: Tensor, position: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Attend, to (H, T, d).

    Args:
        q: (H, T, d) queries, scaled.
        k: (H, T, d) keys.
        v: (H, T, d) values.
        position: None, or what adds its product to the scores: factors of each query
            (H, T, e) and of each distance (H, e, 2 T - 1), query minus key from T - 1
            down to 1 - T.
    """
    total = q.shape[1]
    count = (total + _BLOCK - 1) // _BLOCK
    keys = k.mT.contiguous()  # (H, d, T)
    if position is None:
        y = attend_blocks(_in_blocks(q, count), keys, v)  # (N, H, B, d)
    else:
        starts = torch.arange(count)[:, None] * _BLOCK  # (N, 1)
        queries, distances = position
        padded = F.pad(distances, (_BLOCK, 0))  # (H, e, B + 2 T - 1)
        blocks = _in_blocks(q, count), _in_blocks(queries, count)
        y = attend_blocks_by_distance(*blocks, starts, keys, v, padded)
    return y.transpose(0, 1).flatten(1, 2)[:, :total]


def _in_blocks(x: Tensor, count: int) -> Tensor:
    """Cut (H, T, e) into (N, H, B, e), with zeros behind the end."""
    x = F.pad(x, (0, 0, 0, count * _BLOCK - x.shape[1]))
    return x.unflatten(1, (count, _BLOCK)).transpose(0, 1).contiguous()


@torch.library.custom_op("espnet_ext::attend_blocks", mutates_args=())
def attend_blocks(q: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    """Attend with queries (N, H, B, d) to keys (H, d, T) and values (H, T, d)."""
    return (q @ keys).softmax(-1) @ v


@torch.library.custom_op("espnet_ext::attend_blocks_by_distance", mutates_args=())
def attend_blocks_by_distance(
    q: Tensor,
    queries: Tensor,
    starts: Tensor,
    keys: Tensor,
    v: Tensor,
    distances: Tensor,
) -> Tensor:
    """Attend with scores of the distance added to those of the content.

    As `attend_blocks`, with `queries` (N, H, B, e), each block's first query (N, 1) and
    `distances` (H, e, B + 2 T - 1), the first B being zeros.
    """
    size, total = q.shape[2], keys.shape[2]
    place = torch.arange(total) - torch.arange(size)[:, None]  # (B, T) key - query
    place = total + size - 1 - starts[..., None] + place  # (N, B, T)
    place = place[:, None].expand(-1, q.shape[1], -1, -1)
    by_distance = (queries @ distances).gather(3, place)
    return (q @ keys + by_distance).softmax(-1) @ v


@attend_blocks.register_fake
def _(q: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(q)


@attend_blocks_by_distance.register_fake
def _(
    q: Tensor,
    queries: Tensor,
    starts: Tensor,
    keys: Tensor,
    v: Tensor,
    distances: Tensor,
) -> Tensor:
    return torch.empty_like(q)


@script(_own, default_opset=op)
def _in_graph(q: FLOAT[...], keys: FLOAT[...], v: FLOAT[...]) -> FLOAT[...]:
    @graph()
    def block(part: FLOAT[...]) -> FLOAT[...]:
        return op.MatMul(op.Softmax(op.MatMul(part, keys), axis=-1), v)

    return op.Scan(q, body=block, num_scan_inputs=1)


@script(_own, default_opset=op)
def _by_distance_in_graph(
    q: FLOAT[...],
    queries: FLOAT[...],
    starts: INT64[...],
    keys: FLOAT[...],
    v: FLOAT[...],
    distances: FLOAT[...],
) -> FLOAT[...]:
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    two = op.Constant(value_ints=[2])
    size = op.Constant(value_ints=[128])
    heads = op.Shape(keys, start=0, end=1)
    total = op.Shape(keys, start=2, end=3)
    row = total + size - two  # of scores by distance, less one

    @graph()
    def block(part: FLOAT[...], factors: FLOAT[...], start: INT64[...]) -> FLOAT[...]:
        begin = total - start
        near = op.Slice(distances, begin, begin + row + one, two)
        products = op.MatMul(factors, near)  # (H, B, T + B - 1)
        # Query r meets key j in column B - 1 - r + j: read as rows that are one shorter
        # from B - 1 on, that is column j of row r.
        flat = op.Reshape(products, op.Concat(heads, size * (row + one), axis=0))
        kept = op.Slice(flat, size - one, size - one + size * row, one)
        shifted = op.Reshape(kept, op.Concat(heads, size, row, axis=0))
        by_distance = op.Slice(shifted, zero, total, two)
        scores = op.MatMul(part, keys) + by_distance  # (H, B, T)
        return op.MatMul(op.Softmax(scores, axis=-1), v)

    return op.Scan(q, queries, starts, body=block, num_scan_inputs=3)


TRANSLATIONS: dict[Any, Any] = {
    torch.ops.espnet_ext.attend_blocks.default: _in_graph,
    torch.ops.espnet_ext.attend_blocks_by_distance.default: _by_distance_in_graph,
}

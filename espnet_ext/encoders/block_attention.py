"""Self-attention with relative positions: faster on a CPU, and of any length anywhere.

Values and gradients are those of ESPnet's ``RelPositionMultiHeadedAttention`` (Dai et
al. 2019, arXiv 1901.02860, section 3.3), which stays in charge on a GPU as long as its
score matrices are small. With 64 units and 8 heads a head has 8 channels, so that
nearly all time goes into score matrices that are written, shifted, masked, dropped and
copied whole. Here one row's block of queries is carried through all of it while it is
in the processor's cache, the shift is a view, keys behind a row's end are never
computed, and products with 8 columns are taken the way round that the BLAS is fast at.

Memory grows with the frames and not with their square: what the gradient needs of a
block is kept if all of it is small, else computed again. Dropout has ESPnet's rate and
not its random numbers: a decision takes 16 random bits instead of a float.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    RelPositionMultiHeadedAttention,
)
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from espnet_ext.encoders.torch_operators import keep_above, softmax_gradient

# Scores of a block: 2 MB in fp32, in a processor's cache; enough to keep a GPU busy.
_BLOCK_ON_CPU = 1 << 19
_BLOCK_ON_GPU = 1 << 24
# Queries of a block at least: sums over all keys are read and written once a block.
_FEWEST_QUERIES = 16
# Scores of a batch up to which ESPnet's own code, which keeps five copies, may run.
_DENSE = 1 << 26
# Scores of a batch that are kept for the gradient: 0.4 GB with their dropout in fp32.
_KEPT = 1 << 26


def use_block_attention(encoder: nn.Module) -> None:
    """Replace an ESPnet encoder's attention in place; its weights and names stay.

    Encoders without relative positions, and those with ``use_sdpa``, stay as they are.
    """
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            # Not its subclasses, which may compute something else.
            if type(child) is RelPositionMultiHeadedAttention and not (
                child.use_sdpa or child.zero_triu
            ):
                setattr(parent, name, BlockAttention.of(child))


class BlockAttention(RelPositionMultiHeadedAttention):
    """ESPnet's attention with relative positions, computed block by block."""

    @classmethod
    def of(cls, other: RelPositionMultiHeadedAttention) -> "BlockAttention":
        """Take over the parameters of `other`, themselves and not copies."""
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.__dict__.update(other.__dict__)
        return new

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, pos_emb: Tensor, mask: Tensor
    ) -> Tensor:
        """Attend: queries, keys, values and what is returned are (B, T, D).

        `pos_emb` (1, 2 T - 1, D) is of the distances T - 1 down to 1 - T, `mask`
        (B, 1, T) is True on real frames.
        """
        keys = _keys_that_count(query, key, pos_emb, mask, self.h)
        if keys is None:
            return super().forward(query, key, value, pos_emb, mask)
        q, k, v = self.forward_qkv(query, key, value)  # (B, H, T, d)
        p = self.linear_pos(pos_emb[0]).unflatten(-1, (self.h, self.d_k))
        p = p.transpose(0, 1)  # (H, 2 T - 1, d)
        dtype = torch.promote_types(q.dtype, torch.float32)
        tensors = [t.to(dtype) for t in (q, k, v, p, self.pos_bias_u, self.pos_bias_v)]
        dropout = self.dropout_rate if self.training else 0.0
        with torch.autocast(query.device.type, enabled=False):
            out = _RelativeAttention.apply(
                *tensors, *keys, dropout, torch.is_grad_enabled()
            )  # (B, H, T, d)
        return self.linear_out(out.transpose(1, 2).flatten(2).to(v.dtype))


def _keys_that_count(
    query: Tensor, key: Tensor, pos_emb: Tensor, mask: Tensor | None, heads: int
) -> tuple[Sequence[int], Tensor | None] | None:
    """Return which keys count, or None if this is a case for ESPnet's code.

    Returns:
        The first so many of each of B rows, and, (B, T), which of these are padding;
        None for none.
    """
    rows, frames, _ = query.shape
    if mask is None or mask.shape[1] != 1:
        return None
    if len(pos_emb) != 1 or frames != key.shape[1]:
        return None
    if query.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        real = mask[:, 0].bool().numpy()  # (B, T)
        lengths = real.sum(1)  # (B,)
        is_behind = (real == (np.arange(frames) < lengths[:, None])).all()
        wide = query.dtype in (torch.float32, torch.float64)
        if wide and is_behind and lengths.all():
            return lengths.tolist(), None
    if rows * heads * frames**2 <= _DENSE:
        return None
    # A GPU is not asked how long the rows are: that would be waiting for it.
    return [frames] * rows, ~mask[:, 0].bool()


@dataclass(frozen=True, slots=True)
class _Block:
    """Some `queries` of a row, its first `n` keys, and the `distances` they have."""

    row: int
    queries: slice
    n: int
    distances: slice

    def aligned(self, by_distance: Tensor) -> Tensor:
        """View scores by distance (H, m, m + n - 1) as scores by key (H, m, n).

        Query r of the block meets key j at the distance that stands in column
        m - 1 - r + j: one column to the left in each further line of the matrix.
        """
        heads, m, columns = by_distance.shape
        strides = (m * columns, columns - 1, 1)
        return by_distance.as_strided((heads, m, self.n), strides, m - 1)


def _blocks(q: Tensor, lengths: Sequence[int]) -> Iterator[_Block]:
    """Cut every row into equal blocks of queries, so that a block's scores fit."""
    _, heads, frames, _ = q.shape
    most = _BLOCK_ON_CPU if q.device.type == "cpu" else _BLOCK_ON_GPU
    for row, n in enumerate(lengths):
        count = -(-heads * frames * n // most)
        size = max(-(-frames // count), _FEWEST_QUERIES)
        for start in range(0, frames, size):
            stop = min(start + size, frames)
            distances = slice(frames - stop, frames - start + n - 1)
            yield _Block(row, slice(start, stop), n, distances)


class _RelativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        p: Tensor,
        bias_u: Tensor,
        bias_v: Tensor,
        lengths: Sequence[int],
        padding: Tensor | None,
        dropout: float,
        wants_gradient: bool,
    ) -> Tensor:
        coin = _Coin(dropout, q.device)
        scores = _Scores(q, k, p, bias_u, bias_v, padding)
        scaled = v * coin.factor
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        keep = wants_gradient and q[0, :, :, 0].numel() * sum(lengths) <= _KEPT
        saved = []
        for i, block in enumerate(_blocks(q, lengths)):
            weights = scores.weights(block)  # (H, m, n)
            bits = coin.toss(i, weights.shape)
            values = scaled[block.row, :, : block.n].mT  # (H, d, n)
            mixed = torch.bmm(values, coin.drop(weights, bits).mT)  # (H, d, m)
            out[block.row, :, block.queries] = mixed.mT
            if keep:
                saved += [weights, bits]
        ctx.save_for_backward(q, k, v, p, bias_u, bias_v, *saved)
        ctx.lengths, ctx.padding, ctx.coin = lengths, padding, coin
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            gradients = _gradients(ctx, gradient * ctx.coin.factor)
        return *gradients, None, None, None, None


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of q, k, v, p and both biases from that of the output."""
    q, k, v, p, bias_u, bias_v, *saved = ctx.saved_tensors
    coin: _Coin = ctx.coin
    scores = _Scores(q, k, p, bias_u, bias_v, ctx.padding)
    d_content, d_position = torch.empty_like(q), torch.empty_like(q)
    # Transposed, as the products below give them.
    d_k, d_v = torch.zeros_like(k.mT), torch.zeros_like(v.mT)  # (B, H, d, T)
    d_p = torch.zeros_like(p.mT)  # (H, d, 2 T - 1)
    by_distance = q.new_zeros(0)
    for i, block in enumerate(_blocks(q, ctx.lengths)):
        row, here, n = block.row, block.queries, block.n
        if saved:
            weights, bits = saved[2 * i : 2 * i + 2]
        else:
            weights = scores.weights(block)  # (H, m, n)
            bits = coin.toss(i, weights.shape)
        incoming = gradient[row, :, here]  # (H, m, d)
        d_v[row, :, :, :n] += torch.bmm(incoming.mT, coin.drop(weights, bits))
        d_weights = torch.bmm(incoming, v[row, :, :n].mT)  # (H, m, n)
        d_scores = softmax_gradient(coin.drop(d_weights, bits), weights)
        d_content[row, :, here] = torch.bmm(k[row, :, :n].mT, d_scores.mT).mT
        d_k[row, :, :, :n] += torch.bmm(scores.by_content[row, :, here].mT, d_scores)
        heads, m, _ = d_scores.shape
        shape = heads, m, m + n - 1
        if by_distance.shape != shape:  # else its margins are still zero
            by_distance = q.new_zeros(shape)
        block.aligned(by_distance).copy_(d_scores)
        there = block.distances
        d_position[row, :, here] = torch.bmm(p[:, there].mT, by_distance.mT).mT
        d_p[:, :, there] += torch.bmm(scores.by_position[row, :, here].mT, by_distance)
    d_content *= scores.scale
    d_position *= scores.scale
    d_u, d_w = d_content.sum((0, 2)), d_position.sum((0, 2))  # (H, d)
    return d_content.add_(d_position), d_k.mT, d_v.mT, d_p.mT, d_u, d_w


class _Scores:
    """What the scores of every block are made of."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        p: Tensor,
        bias_u: Tensor,
        bias_v: Tensor,
        padding: Tensor | None,
    ) -> None:
        self.scale = q.shape[-1] ** -0.5
        self.by_content = (q + bias_u[:, None]) * self.scale  # (B, H, T, d)
        self.by_position = (q + bias_v[:, None]) * self.scale  # (B, H, T, d)
        self.k, self.p, self.padding = k, p, padding

    def weights(self, block: _Block) -> Tensor:
        """Compute a block's attention weights (H, m, n)."""
        row, here = block.row, block.queries
        keys = self.k[row, :, : block.n].mT  # (H, d, n)
        distances = self.p[:, block.distances].mT  # (H, d, m + n - 1)
        scores = torch.bmm(self.by_content[row, :, here], keys)  # (H, m, n)
        scores += block.aligned(torch.bmm(self.by_position[row, :, here], distances))
        if self.padding is not None:
            lowest = torch.finfo(scores.dtype).min
            scores.masked_fill_(self.padding[row, : block.n], lowest)
        return torch.softmax(scores, -1)


class _Coin:
    """Dropout whose decisions are 16 random bits each, and can be drawn again."""

    def __init__(self, rate: float, device: torch.device) -> None:
        # A number is dropped if its bits, read as a signed integer, are at most this.
        self.limit = round(rate * (1 << 16)) - (1 << 15) - 1
        self.drops_nothing = self.limit < -(1 << 15)
        kept = ((1 << 15) - 1 - self.limit) / (1 << 16)
        self.factor = 1 / kept if kept else 0.0
        self.device = device
        if not self.drops_nothing:
            # Of the host's generator, so that nothing waits for a GPU.
            (self.seed,) = torch.randint(1 << 62, (1,)).tolist()
            self.generator = torch.Generator(device)

    def toss(self, number: int, shape: torch.Size) -> Tensor:
        """Draw the bits, int16, of a block by its number."""
        if self.drops_nothing:
            return torch.empty(0, dtype=torch.int16, device=self.device)
        self.generator.manual_seed(self.seed + number)
        count = -(-shape.numel() // 4)
        words = torch.empty(count, dtype=torch.int64, device=self.device)
        # From the least number on and without an upper bound: all 64 bits are drawn.
        least = torch.iinfo(torch.int64).min
        words.random_(least, None, generator=self.generator)
        return words.view(torch.int16)[: shape.numel()].view(shape)

    def drop(self, numbers: Tensor, bits: Tensor) -> Tensor:
        """Set to zero what the bits say; the factor is the caller's to apply."""
        if self.drops_nothing:
            return numbers
        return keep_above(numbers, bits, self.limit)

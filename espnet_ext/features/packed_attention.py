"""Attention of packed utterances, each within itself.

Utterances of similar lengths go through one call: padded to the longest of the group,
with a mask that gives no weight to what is not the utterance's own, which changes
nothing beyond rounding. A GPU wants few calls, a CPU no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# Bound on the pairs of a query and a key whose masks are held at once, in a group of
# utterances and (times the heads, in WavLM only) in one call.
MASK_PAIRS = 1 << 22
# All but cuDNN's, which an H100 would prefer in bf16 and which builds a graph for each
# new shape: here nearly every call has one.
BACKENDS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Group:
    """Utterances that attend in one call."""

    start: int  # row of the packed matrix where the first of them begins
    rows: Tensor  # (B, T) all rows; past an utterance's end, its last one again
    own: Tensor | None  # (B, T) True where the row is its own; None if all are
    places: Tensor  # (n,) where `own` is True, counted through all B * T


def group_lengths(
    lengths: Sequence[int], similar: float, device: torch.device
) -> list[Group]:
    """Put utterances of similar lengths (frames, in the packed order) together.

    A group's shortest has at least the share `similar` of its longest one's frames; 1
    groups equal lengths only.
    """
    count = torch.tensor(lengths)
    starts = count.cumsum(0) - count
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        if (
            lengths[number] < similar * longest
            or not groups
            or (len(groups[-1]) + 1) * longest**2 > MASK_PAIRS
        ):
            groups.append([])
        groups[-1].append(number)
    return [_make_group(starts[group], count[group], device) for group in groups]


def _make_group(starts: Tensor, count: Tensor, device: torch.device) -> Group:
    """Make the group of utterances with these first rows (B,) and frames (B,)."""
    place = torch.arange(int(count.max()))  # (T,)
    rows = starts[:, None] + torch.minimum(place, count[:, None] - 1)  # (B, T)
    own = place < count[:, None]  # (B, T)
    places = own.flatten().nonzero()[:, 0]  # here, since a GPU would have to wait
    return Group(
        int(starts[0]),
        rows.to(device),
        None if bool(own.all()) else own.to(device),
        places.to(device),
    )


def attend(
    qkv: Tensor, groups: Sequence[Group], gate: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Attend within each utterance, to (N, H * d).

    Args:
        qkv: (N, 3, H, d) queries, keys and values.
        groups: Of `group_lengths`.
        gate: (N, H) factor of each query's position bias, or None (WavLM only).
        bias: (H, 2 * M - 1) by distance, M at least any length, or None.
    """
    y = qkv.new_empty(len(qkv), *qkv.shape[2:])  # (N, H, d)
    with sdpa_kernel(BACKENDS):
        for group in groups:
            single = len(group.rows) == 1  # a slice, which copies nothing
            here = slice(group.start, group.start + group.rows.shape[1])
            part = qkv[None, here] if single else qkv[group.rows]  # (B, T, 3, H, d)
            gates = None
            if gate is not None:
                gates = gate[None, here] if single else gate[group.rows]  # (B, T, H)
            z = _attend_group(part, group.own, gates, bias)  # (B, T, H, d)
            if single:
                y[here] = z[0]
            else:
                target = group.rows.flatten()[group.places]
                y[target] = z.flatten(0, 1)[group.places]
    return y.flatten(1)


def _attend_group(
    qkv: Tensor, own: Tensor | None, gate: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Attend: (B, T, H, d) from (B, T, 3, H, d), `own` (B, T) and `gate` (B, T, H)."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, d)
    keys = None if own is None else own[:, None, None]  # (B, 1, 1, T)
    if bias is None or gate is None:
        z = F.scaled_dot_product_attention(q, k, v, keys)  # (B, H, T, d)
        return z.transpose(1, 2)
    rows, total = q.shape[0], q.shape[2]
    middle = bias.shape[1] // 2  # distance 0
    # Row r of `windows` holds distances r - (T - 1) to r: query T - 1 - r.
    windows = bias[:, middle - total + 1 : middle + total].unfold(1, total, 1)
    parts = []
    step = max(1, MASK_PAIRS // (rows * total))
    for start in range(0, total, step):
        stop = min(start + step, total)
        here = windows[:, total - stop : total - start].flip(1)  # (H, queries, T)
        factor = gate[:, start:stop].transpose(1, 2)[..., None]  # (B, H, queries, 1)
        mask = (here * factor).to(q.dtype)  # (B, H, queries, T)
        if keys is not None:
            mask = mask.masked_fill(~keys, -torch.inf)
        parts.append(F.scaled_dot_product_attention(q[:, :, start:stop], k, v, mask))
    return torch.cat(parts, dim=2).transpose(1, 2)

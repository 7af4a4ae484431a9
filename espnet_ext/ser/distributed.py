"""What all ranks have together: rows, so that a loss over them is one process' loss.

A concordance of each rank's rows is not the batch's concordance. Predictions are a few
numbers a row, so every rank gathers all of them and computes the same loss.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Stack rows (n, C) of all ranks, of which n may differ, to (N, C), in rank order.

    The gradient of a loss over the result is right under DistributedDataParallel, which
    *averages* gradients: this rank's own rows carry world_size times their gradient and
    the others' rows none. No collective runs in the backward pass.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    world_size, rank = dist.get_world_size(), dist.get_rank()
    own_count = torch.tensor([rows.size(0)], device=rows.device)
    counts = [torch.zeros_like(own_count) for _ in range(world_size)]
    dist.all_gather(counts, own_count)
    most = int(max(counts))
    padded = rows.detach().new_zeros(most, rows.size(1))  # (most, C)
    padded[: rows.size(0)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(gathered, padded)
    parts = [part[: int(n)] for part, n in zip(gathered, counts, strict=True)]
    # Same value, gradient times world_size.
    parts[rank] = rows.detach() + world_size * (rows - rows.detach())
    return torch.cat(parts)  # (N, C)


def gather_objects[T](own: T) -> list[T]:
    """List what every rank has, in their order; all ranks must call this."""
    if not dist.is_initialized():
        return [own]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return gathered


def is_first_rank() -> bool:
    """Return whether this process is the only one or the first."""
    return not dist.is_initialized() or dist.get_rank() == 0

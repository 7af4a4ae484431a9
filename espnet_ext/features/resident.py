"""Features of a whole set held in memory: the machine's, or the GPU's.

From a GPU's own memory nothing travels in an epoch, which otherwise moves every hidden
state over the bus.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from espnet_ext.errors import UserError
from espnet_ext.features.joint_store import AnyStore
from espnet_ext.utils.machine import free_memory

# With ``auto``: what stays free of a GPU's memory for the model and its batches, when
# all sets are held, and the bound of a set on a CPU, where the page cache does as well.
SHARE_KEPT = 1 / 3
GIGABYTES_ON_CPU = 4.0

Residence = Literal["auto", "none", "ram", "device"]


class ResidentFeatures(dict[str, Tensor]):
    """Features (T, D) or (T, L, D) of a set's utterances, one tensor on `device`.

    `where` is the name of the set, for the progress bar.
    """

    def __init__(
        self, store: AnyStore, ids: Sequence[str], device: torch.device, where: str
    ) -> None:
        first = torch.from_numpy(store[ids[0]].copy())
        frames = [store.num_frames(utterance) for utterance in ids]
        shape = (sum(frames), *first.shape[1:])
        held = torch.empty(shape, dtype=first.dtype, device=device)  # (N, [L,] D)
        super().__init__(zip(ids, held.split(frames), strict=True))
        self.device = device
        for utterance in tqdm(ids, desc=f"features of {where} to {device}"):
            self[utterance].copy_(torch.from_numpy(store[utterance].copy()))


@dataclass(frozen=True)
class Room:
    """How features may be held in memory."""

    residence: Residence  # "auto": on the device if they fit, else as they come
    gigabytes: float | None  # most for a set with "auto"; None: 4 on a CPU
    ngpu: int
    num_workers: int  # loader processes; residence needs 0


def hold(
    store: AnyStore, ids: Sequence[str], room: Room, where: str
) -> ResidentFeatures | None:
    """Hold the features of a set in memory, or leave them in the store (None).

    With ``auto`` a line of the log says which, and why; else a UserError says why they
    cannot be held.
    """
    if room.residence == "none":
        return None
    need = size_of(store, ids)
    device = torch.device("cuda" if room.ngpu else "cpu")
    if room.residence == "auto":
        limit, why = _limit(room, device)
        if room.num_workers > 0:
            limit, why = 0.0, f"num_workers is {room.num_workers}, not 0"
        holds = need <= limit
        logging.info(
            f"[{where}] resident: auto: {need / 1e9:.2f} GB of features are "
            f"{f'held on {device}' if holds else 'read from the store'}: {why}"
        )
        if not holds:
            return None
    elif room.num_workers > 0:
        raise UserError(
            f"resident: {room.residence} with num_workers: {room.num_workers}; "
            "resident features are read by the training process itself: set "
            "num_workers to 0"
        )
    if room.residence == "ram":
        device = torch.device("cpu")
    free = _free_bytes(device)
    if need > free:
        raise UserError(
            f"resident: {room.residence} needs {need / 1e9:.2f} GB of memory for the "
            f"features of {where}, and {free / 1e9:.2f} GB are free; use resident: "
            "auto or none, or a store with fewer layers"
        )
    return ResidentFeatures(store, ids, device, where)


def size_of(store: AnyStore, ids: Sequence[str]) -> int:
    """Bytes that the features of these utterances take in memory."""
    width = store[ids[0]].dtype.itemsize
    frames = sum(store.num_frames(utterance) for utterance in ids)
    return frames * store.num_layers * store.dim * width


def _limit(room: Room, device: torch.device) -> tuple[float, str]:
    """Bytes that ``auto`` gives to a set, and the reason in words."""
    free = _free_bytes(device)
    gigabytes = room.gigabytes
    if device.type == "cuda":
        kept = SHARE_KEPT * torch.cuda.mem_get_info()[1]
        limit = max(free - kept, 0.0)
        why = f"of {free / 1e9:.1f} GB free {kept / 1e9:.1f} are kept for training"
    else:
        limit = free / 2
        why = f"half of {free / 1e9:.1f} GB free"
        gigabytes = GIGABYTES_ON_CPU if gigabytes is None else gigabytes
    if gigabytes is not None and gigabytes * 1e9 < limit:
        return gigabytes * 1e9, f"at most {gigabytes:g} GB (--resident_gb)"
    return limit, f"at most {limit / 1e9:.1f} GB ({why})"


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info()[0] if device.type == "cuda" else free_memory()

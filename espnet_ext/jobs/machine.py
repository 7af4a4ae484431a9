"""What processes on this machine share: its GPUs and its memory."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from espnet_ext.errors import UserError

# The rest is for the page cache, which serves the features, and for other programs.
SHARE = 0.9

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

# With both, torch counts no GPU and does not ask CUDA, so that a process can fork.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


@contextmanager
def hidden_gpus() -> Iterator[None]:
    """Hide the GPUs from what is imported: ESPnet and others look for them then."""
    before = {name: os.environ.get(name) for name in HIDDEN}
    os.environ.update(HIDDEN)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def gpus_of_runs(ngpu: int, visible: Sequence[str]) -> list[str]:
    """Part GPUs among runs of `ngpu` each, as ``CUDA_VISIBLE_DEVICES`` has them.

    Raises:
        UserError: If there are some, but fewer than one run needs.
    """
    if ngpu == 0 or not visible:
        return []
    if len(visible) < ngpu:
        raise UserError(
            f"--ngpu {ngpu}, but this machine offers {len(visible)}: "
            + ", ".join(visible)
        )
    whole = len(visible) // ngpu * ngpu
    return [",".join(visible[n : n + ngpu]) for n in range(0, whole, ngpu)]


def visible_gpus(devices: Path = Path("/dev")) -> list[str]:
    """Names of the GPUs that this run may use, without starting CUDA.

    CUDA counts what it finds from 0 on: in a container that is given nothing but
    ``/dev/nvidia3``, that is GPU 0.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(n) for n, _ in enumerate(devices.glob("nvidia[0-9]*"))]


def parse_size(text: str) -> int:
    """Read a size as Slurm's ``--mem`` takes it: ``4G``, or megabytes; in bytes.

    Raises:
        UserError: If it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise UserError(f"{text!r} is no size of memory; write it like 800M or 4G")
    return int(float(found[1]) * _UNITS[found[2] or "M"])


def format_size(size: int) -> str:
    """Write a number of bytes as people say it."""
    return f"{size / 2**30:.1f} GB"

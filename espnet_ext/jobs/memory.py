"""How much memory processes on this machine may use together."""

import re

from espnet_ext.errors import UserError

# The rest is for the page cache, which serves the features, and for other programs.
SHARE = 0.9

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Read a size as Slurm's ``--mem`` takes it (``4G``; without a unit megabytes).

    Returns:
        Bytes.

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

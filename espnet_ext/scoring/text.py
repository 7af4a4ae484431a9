"""How numbers are written, the same in every file."""

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

from espnet_ext.scoring.bootstrap import Comparison, Interval


def printed(value: float | None, form: str = ".3f", nothing: str = "-") -> str:
    """Write a number; `nothing` where there is none."""
    return nothing if value is None or math.isnan(value) else format(value, form)


signed = partial(printed, form="+.3f")
six = partial(printed, form=".6f", nothing="")  # as in csv files


def ends(found: Interval | Comparison, form: str = ".3f") -> str:
    """An interval in brackets; a dash in them where there is none."""
    if math.isnan(found.low):
        return "[-]"
    return f"[{found.low:{form}}, {found.high:{form}}]"


def with_ends(found: Interval | Comparison) -> str:
    """A score, or a difference with its sign, and its interval."""
    if isinstance(found, Comparison):
        return f"{signed(found.difference)} {ends(found, '+.3f')}"
    if math.isnan(found.estimate):
        return "-"
    return f"{printed(found.estimate)} {ends(found)}"


def p_text(value: float) -> str:
    """A p value; a dash where there is no test."""
    return "<0.001" if value < 0.001 else printed(value)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def plain(value: Any) -> Any:
    """Make what JSON has: null in place of nan, objects in place of dataclasses."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

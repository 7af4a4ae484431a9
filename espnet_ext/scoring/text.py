"""How numbers are written, the same in every file."""

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from espnet_ext.scoring.bootstrap import Comparison, Interval


def printed(value: float | None) -> str:
    """Three decimals; a dash where there is nothing."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with sign; a dash where there is nothing."""
    return "-" if value is None or math.isnan(value) else f"{value:+.3f}"


def six(value: float | None) -> str:
    """Six decimals, as in csv files; nothing where there is nothing."""
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def ends_text(found: Interval) -> str:
    """An interval in brackets; a dash in them where there is none."""
    if math.isnan(found.low):
        return "[-]"
    return f"[{found.low:.3f}, {found.high:.3f}]"


def ends_signed(found: Comparison) -> str:
    """The same with signs, for a difference."""
    return "[-]" if math.isnan(found.low) else f"[{found.low:+.3f}, {found.high:+.3f}]"


def difference_text(found: Comparison) -> str:
    """A difference and its interval."""
    return f"{signed(found.difference)} {ends_signed(found)}"


def with_interval(interval: Interval) -> str:
    """A score and its interval."""
    if math.isnan(interval.estimate):
        return "-"
    return f"{interval.estimate:.3f} {ends_text(interval)}"


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

"""The training curves in ESPnet's train.log.

ESPnet's reporter writes one line an epoch (``Reporter.log_message``)::

    [host] 2026-01-01 10:00:00,000 (trainer:392) INFO: 3epoch results: [train]
    iter_time=0.002, loss=1.204, optim0_lr0=1.000e-03, time=5.1 seconds, [valid]
    loss=1.310, ccc=0.431, time=0.9 seconds, total_count=12

(on one line). Only numbers are read; spans of time such as ``1 minute and 2 seconds``
are not.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import UserError

_SUMMARY = re.compile(r"\b(\d+)epoch results: (.*)$", re.M)
_SECTION = re.compile(r"\[([^\]\s=]+)\] ([^\[]*)")
_NUMBER = re.compile(r"([\w./-]+)=([-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan|inf))(?=,|\s*$)")


@dataclass(frozen=True, slots=True)
class Curve:
    """One statistic over the epochs at which it was logged."""

    epochs: tuple[int, ...]
    values: tuple[float, ...]


def read_train_log(paths: Sequence[Path | str]) -> dict[str, Curve]:
    """Read the epoch summaries of one training.

    Args:
        paths: The logs of one run in the order they were written (one, or several
            where a resumed run began a new file). An epoch that comes again, after a
            resume or a new start in the same file, replaces itself and all later ones.

    Returns:
        ``"<section>/<statistic>"``, such as ``"valid/ccc"``, -> its curve.

    Raises:
        UserError: A file is missing, or no epoch has been summed up in any of them.
    """
    epochs: dict[int, dict[str, float]] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise UserError(f"{path}: no such training log")
        text = path.read_text(encoding="utf-8", errors="replace")
        # A killed run can leave half a line; what does not match is not a summary.
        for found in _SUMMARY.finditer(text):
            epoch = int(found[1])
            epochs = {n: stats for n, stats in epochs.items() if n < epoch}
            epochs[epoch] = {
                f"{section}/{name}": float(number)
                for section, body in _SECTION.findall(found[2])
                for name, number in _NUMBER.findall(body)
                if math.isfinite(float(number))  # a gap in a curve, not a point
            }
    if not epochs:
        raise UserError(
            f"{', '.join(map(str, paths))}: no finished epoch ('...epoch results: "
            "...') in the log"
        )
    names = dict.fromkeys(name for stats in epochs.values() for name in stats)
    return {
        name: Curve(
            tuple(n for n, stats in epochs.items() if name in stats),
            tuple(stats[name] for stats in epochs.values() if name in stats),
        )
        for name in names
    }

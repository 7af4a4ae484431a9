"""Pieces of recordings: ``long.wav#t=1.5,3.25`` is what lies between two seconds.

It is written like a media fragment (W3C, Media Fragments URI 1.0), so that a piece is a
path like any other in ``wav.scp`` and to everything that reads audio.
"""

import math
import os
import re

_PIECE = re.compile(r"(.+)#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?")


def piece_path(path: str, start: float, end: float) -> str:
    """Name a piece of a recording, in seconds; nan is its beginning or its end."""
    if math.isnan(start) and math.isnan(end):
        return path
    first = "0" if math.isnan(start) else _seconds(start)
    return f"{path}#t={first}" + ("" if math.isnan(end) else f",{_seconds(end)}")


def part_piece(path: str | os.PathLike[str]) -> tuple[str, float, float]:
    """Part a path: the recording, start (0) and end (infinity) of the piece in s."""
    text = os.fspath(path)
    match = _PIECE.fullmatch(text) if "#t=" in text else None
    if match is None:
        return text, 0.0, math.inf
    return match[1], float(match[2]), math.inf if match[3] is None else float(match[3])


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")

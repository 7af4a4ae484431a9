"""HTML of what the page shows; text of recordings and errors is escaped."""

import base64
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.inference.results import attributes_of
from espnet_ext.scoring.plot_plane import CORNERS
from espnet_ext.scoring.plots import png_of

WIDTHS = (8.0, 4.2)  # inches of a figure on a desk and on a phone
ENDS = {
    "valence": ("unpleasant", "pleasant"),
    "arousal": ("calm", "excited"),
    "dominance": ("weak", "strong"),
}


def box(kind: str, title: str, text: str) -> str:
    """Write a message; `kind` is ``error``, ``warning`` or ``hint``."""
    role = "alert" if kind == "error" else "status"
    return (
        f'<div class="ser-box ser-{kind}" role="{role}"><strong>{escape(title)}'
        f"</strong> {escape(text)}</div>"
    )


def card(title: str, body: str, note: str = "", kind: str = "") -> str:
    """Put a part under a title; empty parts are not shown."""
    if not body:
        return ""
    small = f" <small>{escape(note)}</small>" if note else ""
    return (
        f'<section class="ser-card {kind}"><h3>{escape(title)}{small}</h3>{body}'
        "</section>"
    )


def classes(scores: Mapping[str, float] | None, colors: Mapping[str, str]) -> str:
    """Draw a bar for each class, the most probable one as a headline."""
    if scores is None:
        return ""
    best = max(scores, key=lambda name: scores[name])
    bars = "".join(
        f'<div class="ser-row"><span>{escape(name)}</span><div class="ser-track">'
        f'<div class="ser-bar" style="width:{100 * score:.2f}%;'
        f'background:{colors[name]}"></div></div><span>{score:.3f}</span></div>'
        for name, score in scores.items()
    )
    return f'<div class="ser-label">{escape(best)}</div>{bars}'


def plane(unit: Mapping[str, float] | None, scale: tuple[float, float] | None) -> str:
    """Draw the point on the valence-arousal plane, whose edges are the scale's ends.

    Nothing without a scale: the edges are not known then.
    """
    if unit is None or scale is None:
        return ""
    words = "".join(
        f'<em style="{"left" if x < 0.5 else "right"}:6px;'
        f'{"bottom" if y < 0.5 else "top"}:4px">{escape(text)}</em>'
        for x, y, text in CORNERS
    )
    x, y = (100 * min(max(unit[name], 0.0), 1.0) for name in ("valence", "arousal"))
    low, high = scale
    return (
        '<div class="ser-plane"><span class="ser-y">arousal</span>'
        f'<div class="ser-square">{words}'
        f'<b style="left:{x:.2f}%;bottom:{y:.2f}%"></b></div>'
        f'<span class="ser-yends"><span>{high:g}</span><span>{low:g}</span></span>'
        f'<span class="ser-x"><span>{low:g}</span>valence<span>{high:g}</span></span>'
        "</div>"
    )


def attributes(
    values: Mapping[str, float] | None, unit: Mapping[str, float] | None
) -> str:
    """Write each attribute, with a dot on its scale where that is known."""
    if values is None:
        return ""
    rows = []
    for name, (low, high) in ENDS.items():
        text = f"<span><strong>{name}</strong> {values[name]:.3f}</span>"
        if unit is not None:
            place = 100 * min(max(unit[name], 0.0), 1.0)
            text = (
                f"<small>{low}</small>{text}<small>{high}</small>"
                f'<div class="ser-track"><b style="left:{place:.2f}%"></b></div>'
            )
        rows.append(f'<div class="ser-attribute">{text}</div>')
    return "".join(rows)


def picture(draw: Callable[[float], Figure], text: str) -> str:
    """Embed a figure, drawn for a desk and for a phone.

    Args:
        draw: Draws it at a width in inches.
        text: For those who cannot see it.
    """
    wide, narrow = (
        f"data:image/png;base64,{base64.b64encode(png_of(draw(width))).decode()}"
        for width in WIDTHS
    )
    return (
        f'<picture><source media="(max-width: 760px)" srcset="{narrow}">'
        f'<img alt="{escape(text)}" src="{wide}"></picture>'
    )


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows of one table; what is None is left empty, and so are its columns."""
    frame = pd.DataFrame(list(rows)).dropna(axis=1, how="all")
    text = frame.to_html(index=False, na_rep="", border=0, float_format="{:.3f}".format)
    return f'<div class="ser-table">{text}</div>'


def facts(values: Mapping[str, str]) -> str:
    """Write names and what they are."""
    rows = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items()
    )
    return f"<dl>{rows}</dl>"


def fold(title: str, text: str) -> str:
    """Fold away a text that few want to see."""
    return (
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre>"
        "</details>"
    )


def short_row(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Row of the table of several files: of an answer, or of a failure."""
    scores = answer.get("scores")
    remark = answer.get("error") or "; ".join(answer.get("warnings") or ())
    return {
        "file": name,
        "class": answer.get("label"),
        "probability": max(scores.values()) if scores else None,
        **{key: answer.get(key) for key in ATTRIBUTES},
        "remark": remark.removeprefix(f"{name}: ") or None,
    }


def segment_row(segment: Any) -> dict[str, Any]:
    """Row of the table of a timeline."""
    return {
        "from (s)": f"{segment.start:.2f}",
        "to (s)": f"{segment.end:.2f}",
        "class": segment.label,
        "probability": max(segment.scores.values()) if segment.scores else None,
        **(attributes_of(segment) or dict.fromkeys(ATTRIBUTES)),
    }

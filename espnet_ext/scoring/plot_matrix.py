"""The matrix of a cross-corpus table as a heat map with numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from espnet_ext.scoring.plots import FAINT, VERMILION, panels
from espnet_ext.scoring.text import printed


@dataclass(frozen=True, slots=True)
class MatrixPanel:
    """One metric: R rows trained on something, C corpora tested on."""

    title: str
    columns: Sequence[str]  # (C,)
    scores: Sequence[Sequence[float | None]]  # (R, C)
    seen: Sequence[Sequence[bool]]  # (R, C): whether the row trains on the corpus
    chance: Sequence[float | None]  # (C,)


def plot_matrix(rows: Sequence[str], drawn: Sequence[MatrixPanel]) -> Figure:
    """Draw a panel a metric, what was trained on down and what was tested on across.

    A cell's number is the score, its shade too; a frame is around those of a corpus
    that is trained on. The axis names chance below each corpus.
    """
    widest = max(len(panel.columns) for panel in drawn)
    size = (1.1 + 0.95 * widest, 1.3 + 0.5 * len(rows))
    room = (0.1 * max(map(len, rows)), 0.5)
    labels = ("tested on", "trained on")
    titles = [panel.title for panel in drawn]
    figure, all_axes = panels(titles, 3, size, room, labels)
    if len(drawn) <= 3:  # one row of panels: cells of one width
        grid = all_axes[0].get_gridspec()
        assert grid is not None
        grid.set_width_ratios([len(panel.columns) for panel in drawn])
    for place, (axes, panel) in enumerate(zip(all_axes, drawn, strict=True)):
        _draw_matrix(axes, panel)
        axes.set_yticks(range(len(rows)), rows if place % 3 == 0 else [""] * len(rows))
    frame = Patch(facecolor="none", edgecolor=VERMILION, linewidth=2)
    text = "trained on other utterances of the corpus"
    figure.legend(
        [frame], [text], loc="outside lower center", frameon=False, fontsize=9
    )
    return figure


def _draw_matrix(axes: Axes, panel: MatrixPanel) -> None:
    scores = np.array(
        [[np.nan if s is None else s for s in row] for row in panel.scores]
    )  # (R, C)
    chance = [value for value in panel.chance if value is not None]
    low = np.nanmin([*scores.flat, *chance])
    high = max(np.nanmax(scores), low + 0.05)
    axes.imshow(scores, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    for (row, column), score in np.ndenumerate(scores):
        if np.isnan(score):
            axes.text(column, row, "–", ha="center", va="center", color=FAINT)
            continue
        ink = "white" if score > low + 0.6 * (high - low) else "black"
        axes.text(
            column,
            row,
            printed(score),
            ha="center",
            va="center",
            color=ink,
            fontsize=10,
        )
        if panel.seen[row][column]:
            corner, side = (column - 0.46, row - 0.44), (0.92, 0.88)
            frame = Rectangle(corner, *side, fill=False, edgecolor=VERMILION, lw=2)
            axes.add_patch(frame)
    for edge in np.arange(1, len(scores)) - 0.5:
        axes.axhline(edge, color="white", linewidth=3)
    for edge in np.arange(1, len(panel.columns)) - 0.5:
        axes.axvline(edge, color="white", linewidth=3)
    names = [
        f"{name}\nchance {printed(value, '.2f')}"
        for name, value in zip(panel.columns, panel.chance, strict=True)
    ]
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)

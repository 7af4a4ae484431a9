"""Figures of scores, classes and trainings, and the style of all figures.

Colors are those that color-blind readers can tell apart (M. Okabe and K. Ito, "Color
Universal Design", 2008). Figures are built without pyplot: no display is needed.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from espnet_ext.scoring.bootstrap import Interval
from espnet_ext.scoring.metrics import calibration, confusion_matrix
from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.train_log import Curve

DPI = 150
BLUE, VERMILION, FAINT, GRID = "#0072B2", "#D55E00", "#8A8A8A", "#DDDDDD"
_MODEL_COLORS = (
    *(BLUE, "#E69F00", "#009E73", VERMILION),
    *("#CC79A7", "#56B4E9", "#000000"),
)
_MODEL_MARKERS = "osD^vPX"


def png_of(figure: Figure) -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(
        stream, format="png", dpi=DPI, facecolor="white", metadata={"Software": None}
    )
    return stream.getvalue()


def tidy(axes: Axes) -> None:
    """Give axes the style of all figures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=8.5, color=FAINT)
    axes.set_axisbelow(True)


def legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put a legend below the panels, with as many columns as fit."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), max(1, int(figure.get_figwidth() / 1.4))),
        **{"frameon": False, "fontsize": 9, "columnspacing": 1.2},
    )


def panels(
    titles: Sequence[str],
    columns: int,
    size: tuple[float, float],
    room: tuple[float, float] = (0.0, 0.0),
    labels: tuple[str, str] = ("", ""),
    shared: Literal["none", "all"] = "none",
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a grid of panels, row by row, each with its title.

    At most so many columns of panels of that size (width and height in inches), and
    what room the figure needs beside them. The labels, x and y, are written below the
    last panel of a column and before the first of a row; `shared` axes have numbers
    there only.
    """
    number = len(titles)
    columns = min(number, columns)
    rows = math.ceil(number / columns)
    inches = (columns * size[0] + room[0], rows * size[1] + room[1])
    figure = Figure(figsize=inches, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared)
    for axes in grid.flat[number:]:
        axes.set_visible(False)
    for place, (axes, title) in enumerate(zip(grid.flat, titles, strict=False)):
        axes.set_title(title, fontsize=11)
        axes.set_ylabel(labels[1] if place % columns == 0 else "")
        last = place + columns >= number
        axes.set_xlabel(labels[0] if last else "")
        if shared == "all":
            axes.tick_params(labelbottom=last)
    return figure, list(grid.flat[:number])


@dataclass(frozen=True, slots=True)
class ScorePanel:
    """One column of a table."""

    title: str
    scores: Sequence[Interval | None]  # of each row
    paper: Sequence[float | None]
    chance: float | None


def plot_scores(
    rows: Sequence[str], columns: Sequence[ScorePanel], paper: str
) -> Figure:
    """Dot plot of a table: a panel a column, 95 % intervals and the paper's values."""
    size = (2.6, 0.8 + 0.32 * len(rows))
    titles = [column.title for column in columns]
    figure, drawn = panels(titles, 4, size, room=(1.6, 0.5))
    heights = np.arange(len(rows))[::-1]
    for place, (axes, column) in enumerate(zip(drawn, columns, strict=True)):
        _draw_scores(axes, heights, column)
        axes.set_title(column.title, fontsize=10.5)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_yticks(heights, rows)
        axes.grid(axis="x", color=GRID)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        tidy(axes)
        axes.tick_params(axis="y", length=0, labelleft=place % 4 == 0)
    handles = [Line2D([], [], color=BLUE, marker="o", lw=2.2, label="95 % interval")]
    if paper:
        handles.append(Line2D([], [], **_PAPER, label=paper))
    handles.append(Line2D([], [], color=FAINT, ls=(0, (4, 3)), lw=1, label="chance"))
    legend_below(figure, handles)
    return figure


_PAPER: dict[str, Any] = {
    **{"marker": "D", "markersize": 5, "markerfacecolor": "none"},
    **{"markeredgecolor": VERMILION, "markeredgewidth": 1.4, "linestyle": "none"},
}


def _draw_scores(axes: Axes, heights: NDArray[np.int64], column: ScorePanel) -> None:
    """Fill the panel with the intervals; draw chance where it is near, else name it.

    Intervals of a large test set would be hidden behind their dots on an axis that
    reaches down to chance.
    """
    values: list[float] = []
    for height, found, paper in zip(heights, column.scores, column.paper, strict=True):
        if found is not None:
            ends = [found.low, found.high]
            axes.plot(ends, [height] * 2, color=BLUE, lw=2.2, solid_capstyle="butt")
            axes.plot(
                found.estimate, height, "o", color=BLUE, ms=5.5, mec="white", mew=0.7
            )
            values += [found.estimate, *(e for e in ends if not np.isnan(e))]
        if paper is not None:
            axes.plot(paper, height, **_PAPER)
            values.append(paper)
    chance, span = column.chance, max(max(values) - min(values), 1e-3)
    if chance is not None and min(values) - span <= chance <= max(values) + span:
        axes.axvline(chance, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        values.append(chance)
    elif chance is not None:
        axes.text(
            0.02, 0.02, f"chance {chance:.2f}", fontsize=8, color=FAINT,
            transform=axes.transAxes,
        )  # fmt: skip
    # Equal values would be shown with eight decimals.
    low, high = min(values), max(values)
    reach = 0.58 * max(high - low, 0.04)
    axes.set_xlim((low + high) / 2 - reach, (low + high) / 2 + reach)


def plot_confusion(systems: Mapping[str, Predictions]) -> Figure:
    """Confusion matrices: shade = share of the true class, number = share and count."""
    side = max(2.6, 0.72 * len(next(iter(systems.values())).classes))
    columns = 2 if len(systems) == 4 else 3
    size, labels = (side + 0.6, side + 0.75), ("predicted", "annotated (utterances)")
    figure, drawn = panels([*systems], columns, size, (0.9, 0.0), labels)
    for axes, system in zip(drawn, systems.values(), strict=True):
        image = _draw_confusion(axes, system)
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.7, pad=0.02)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def _draw_confusion(axes: Axes, system: Predictions) -> AxesImage:
    assert system.pred_class is not None
    known = system.true_class >= 0
    classes = [class_name(name) for name in system.classes]
    counts = confusion_matrix(
        system.true_class[known], system.pred_class[known], len(classes)
    )
    totals = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(totals, 1)
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), value in np.ndenumerate(share):
        if totals[row, 0] == 0:
            continue
        ink = "white" if value > 0.6 else "black"
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        share_text, count = f"{100 * value:.0f} %", f"{counts[row, column]}"
        axes.text(column, row - 0.1, share_text, **style, fontsize=9)
        axes.text(column, row + 0.24, count, **style, fontsize=7)
    labels = [f"{name}\n({n})" for name, n in zip(classes, totals[:, 0], strict=True)]
    axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right")
    axes.set_yticks(range(len(classes)), labels)
    axes.tick_params(length=0, labelsize=8.5)
    axes.spines[:].set_visible(False)
    return image


def plot_calibration(systems: Mapping[str, Predictions]) -> Figure:
    """Reliability diagrams: share of right classes against confidence, a panel each."""
    labels = ("confidence", "share right")
    figure, drawn = panels([*systems], 4, (2.7, 3.0), (0.5, 0.2), labels, "all")
    for axes, system in zip(drawn, systems.values(), strict=True):
        assert system.probabilities is not None
        assert system.pred_class is not None
        known = np.flatnonzero(system.true_class >= 0)
        predicted = system.pred_class[known]
        right = predicted == system.true_class[known]
        found = calibration(right, system.probabilities[known, predicted])
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        x, y = found.confidence, found.accuracy
        axes.plot(x, y, "o-", color=BLUE, lw=1.4, clip_on=False)
        ece = f"ECE {found.ece:.3f}"
        axes.text(0.04, 0.95, ece, transform=axes.transAxes, va="top")
        axes.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1)
        axes.grid(color=GRID)
        tidy(axes)
    return figure


# Statistics in the log, and the titles of their panels.
_CURVES = {
    "loss": "loss",
    "ccc": "CCC (validation)",
    "uar": "UAR (validation)",
    "acc": "accuracy (validation)",
}
Runs = Sequence[Mapping[str, Curve]]  # of one model: "<section>/<statistic>" -> curve


def plot_training(curves: Mapping[str, Runs]) -> Figure:
    """Training curves: validation over epochs, and the training set's loss, dotted.

    Of several runs of a model each is drawn thin, and their mean thick.
    """
    shown = [
        name
        for name in _CURVES
        if any(_pick(runs, f"valid/{name}") for runs in curves.values())
        or (name == "loss" and any(_pick(r, "train/loss") for r in curves.values()))
    ]
    if "uar" in shown:
        shown = [name for name in shown if name != "acc"]
    titles = [_CURVES[name] for name in shown] or [""]
    figure, drawn = panels(titles, 4, (3.7, 3.4))
    looks = itertools.cycle(zip(_MODEL_COLORS, _MODEL_MARKERS, strict=True))
    styles: list[dict[str, Any]] = [
        {"color": color, "marker": marker, "ms": 4, "lw": 1.5}
        for _, (color, marker) in zip(curves, looks, strict=False)
    ]
    for axes, name in zip(drawn, shown, strict=False):
        for style, runs in zip(styles, curves.values(), strict=True):
            color = style["color"]
            valid, train = _pick(runs, f"valid/{name}"), _pick(runs, f"train/{name}")
            for curve in valid if len(valid) > 1 else ():
                axes.plot(curve.epochs, curve.values, color=color, lw=0.6, alpha=0.4)
            if train and name == "loss":
                axes.plot(*_mean_curve(train), color=color, lw=1, ls=":")
            if valid:
                epochs, means = _mean_curve(valid)
                axes.plot(epochs, means, **style, markevery=max(1, len(epochs) // 10))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=GRID)
        tidy(axes)
    handles = [
        Line2D([], [], **style, label=name)
        for style, name in zip(styles, curves, strict=True)
    ]
    handles.append(Line2D([], [], color="k", ls=":", lw=1, label="training set"))
    legend_below(figure, handles)
    return figure


def _pick(runs: Runs, name: str) -> list[Curve]:
    """The curve of each run that has one."""
    return [run[name] for run in runs if name in run]


def _mean_curve(runs: Sequence[Curve]) -> tuple[list[int], list[float]]:
    """Mean over the runs that have an epoch; they may stop at different ones."""
    by_epoch: dict[int, list[float]] = {}
    for curve in runs:
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    # Where only the longest runs go on, the mean would jump: it ends with the half.
    epochs = [e for e in sorted(by_epoch) if 2 * len(by_epoch[e]) >= len(runs)]
    return epochs, [float(np.mean(by_epoch[epoch])) for epoch in epochs]

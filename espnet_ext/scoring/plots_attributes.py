"""Figures of valence, arousal and dominance.

Source: J. Russell, "A circumplex model of affect", J. Pers. Soc. Psychol. 39(6), 1980.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from espnet_ext.scoring.metrics import ATTRIBUTES, ccc
from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.plots import BLUE, FAINT, legend_below, panels, tidy
from espnet_ext.scoring.predictions import Predictions

# (color, marker) of classes that all corpora share; others take what is left.
_CLASS_STYLES = {
    "neu": ("#6E6E6E", "o"),
    "ang": ("#D55E00", "^"),
    "hap": ("#E69F00", "s"),
    "sad": ("#0072B2", "v"),
    "dis": ("#009E73", "D"),
}
_SPARE_STYLES = (
    ("#CC79A7", "P"),
    ("#56B4E9", "X"),
    ("#8C6D00", "<"),
    ("#000000", ">"),
    ("#7B3294", "p"),
    ("#A6761D", "h"),
)


def class_styles(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each class: the same class looks the same everywhere."""
    spare = iter(_SPARE_STYLES * (1 + len(classes) // len(_SPARE_STYLES)))
    return {
        name: _CLASS_STYLES[name] if name in _CLASS_STYLES else next(spare)
        for name in classes
    }


# --------------------------------------------------------------------- attributes


def plot_valence_arousal(systems: Mapping[str, Predictions]) -> Figure:
    """Annotated and predicted utterances on the valence-arousal plane.

    A panel for the annotations and one for each model. Points have the color of
    their annotated class; each class has its mean and an ellipse of one standard
    deviation. In a model's panel a thin line leads from the mean of the annotations
    (hollow) to the mean of the predictions (filled).

    Args:
        systems: Models that predict attributes, all with the same `classes`.
    """
    first = next(iter(systems.values()))
    shown = [("Annotations", first, first.true)]
    shown += [(name, s, s.pred) for name, s in systems.items()]
    columns = min(len(shown), 3 if len(shown) != 4 else 2)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.5 * columns, 3.35 * rows + 0.5), layout="constrained")
    limits = _plane_limits([values for _, _, values in shown])
    styles = class_styles(first.classes)
    drawn = panels(figure, len(shown), columns, shared="all")
    for (axes, left, last), (title, system, values) in zip(drawn, shown, strict=True):
        truth = title == "Annotations"
        _draw_plane(axes, system, values, styles, limits, show_truth=not truth)
        axes.set_title(title, fontsize=11)
        axes.set_ylabel("arousal  (calm → excited)" if left else "")
        axes.set_xlabel("valence  (negative → positive)" if last else "")
        axes.tick_params(labelbottom=last)
    present = [
        name for i, name in enumerate(first.classes) if (first.true_class == i).any()
    ]
    handles = [
        axes.plot(
            [], [], styles[name][1], color=styles[name][0], label=class_name(name)
        )[0]
        for name in present
    ]
    handles.append(
        axes.plot([], [], "o", mfc="white", mec="black", label="mean of annotations")[0]
    )
    handles.append(axes.plot([], [], "k-", lw=1.5, label="ellipse: 1 SD")[0])
    legend_below(figure, handles)
    return figure


def _plane_limits(
    panels: Sequence[Mapping[str, NDArray[np.float64]]],
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits that hold all but the last half percent of points of each panel."""
    found = []
    for name in ("valence", "arousal"):
        ends = [
            np.nanquantile(values[name], [0.005, 0.995])
            for values in panels
            if not np.isnan(values[name]).all()
        ]
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        room = 0.12 * max(high - low, 1e-3)
        found.append((float(low - room), float(high + room)))
    return found[0], found[1]


def _draw_plane(
    axes: Axes,
    system: Predictions,
    values: Mapping[str, NDArray[np.float64]],
    styles: Mapping[str, tuple[str, str]],
    limits: tuple[tuple[float, float], tuple[float, float]],
    *,
    show_truth: bool,
) -> None:
    points = np.stack([values["valence"], values["arousal"]], axis=1)  # (N, 2)
    truth = np.stack([system.true["valence"], system.true["arousal"]], axis=1)
    rated = ~np.isnan(truth).any(axis=1)
    alpha = float(np.clip(12 / math.sqrt(max(len(points), 1)), 0.08, 0.55))
    for center, line in zip(truth[rated].mean(axis=0), "vh", strict=True):
        draw = axes.axvline if line == "v" else axes.axhline
        draw(center, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    means = []
    for index, name in enumerate(system.classes):
        rows = (system.true_class == index) & rated
        if not rows.any():
            continue
        color, marker = styles[name]
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=9,
            color=color,
            marker=marker,
            alpha=alpha,
            linewidths=0,
            rasterized=True,
        )
        if rows.sum() > 2:
            axes.add_patch(_ellipse(points[rows], color))
        means.append((points[rows].mean(axis=0), truth[rows].mean(axis=0), name))
    if not means:  # no class is known
        axes.scatter(points[rated, 0], points[rated, 1], s=9, color=FAINT, alpha=alpha)
    for mean, true_mean, name in means:
        color, marker = styles[name]
        if show_truth:
            axes.plot(*zip(true_mean, mean, strict=True), color=color, linewidth=1.2)
            axes.plot(
                *true_mean, marker, mfc="white", mec=color, mew=1.4, ms=6, zorder=4
            )
        axes.plot(*mean, marker, mfc=color, mec="black", mew=0.9, ms=8, zorder=5)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    for x, y, text in (
        (0.02, 0.98, "tense, angry"),
        (0.98, 0.98, "excited, happy"),
        (0.02, 0.02, "sad, bored"),
        (0.98, 0.02, "calm, content"),
    ):
        axes.text(
            x,
            y,
            text,
            transform=axes.transAxes,
            ha="left" if x < 0.5 else "right",
            va="bottom" if y < 0.5 else "top",
            fontsize=8,
            style="italic",
            color=FAINT,
        )
    tidy(axes)


def _ellipse(points: NDArray[np.float64], color: str) -> Ellipse:
    """One standard deviation of points, shape (n, 2), around their mean."""
    values, vectors = np.linalg.eigh(np.cov(points.T))
    width, height = 2.0 * np.sqrt(np.maximum(values[::-1], 0.0))
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))
    return Ellipse(
        tuple(points.mean(axis=0)),
        width,
        height,
        angle=angle,
        fill=False,
        edgecolor=color,
        linewidth=1.5,
        zorder=3,
    )


def plot_attributes(systems: Mapping[str, Predictions]) -> Figure:
    """Predicted against annotated values: a row a model, a column a dimension.

    Args:
        systems: Models that predict attributes.
    """
    names = list(systems)
    figure = Figure(figsize=(7.6, 2.35 * len(names) + 0.4), layout="constrained")
    grid = figure.subplots(
        len(names), len(ATTRIBUTES), squeeze=False, sharex="col", sharey="col"
    )
    for row, name in enumerate(names):
        system = systems[name]
        for column, dimension in enumerate(ATTRIBUTES):
            axes = grid[row, column]
            _draw_scatter(axes, system.true[dimension], system.pred[dimension])
            if row == 0:
                axes.set_title(dimension, fontsize=11)
            if row == len(names) - 1:
                axes.set_xlabel("annotated")
            if column == 0:
                axes.set_ylabel(f"{name}\npredicted")
    return figure


def _draw_scatter(
    axes: Axes, true: NDArray[np.float64], pred: NDArray[np.float64]
) -> None:
    known = ~np.isnan(true)
    if not known.any():
        axes.text(0.5, 0.5, "no annotation", transform=axes.transAxes, ha="center")
        return
    true, pred = true[known], pred[known]
    alpha = float(np.clip(200 / len(true), 0.03, 0.5))
    axes.scatter(
        true,
        pred,
        s=10 if len(true) < 2000 else 5,
        color=BLUE,
        alpha=alpha,
        linewidths=0,
        rasterized=True,
    )
    ends = [min(true.min(), pred.min()), max(true.max(), pred.max())]
    axes.plot(ends, ends, color=FAINT, linewidth=1, linestyle="--", zorder=0)
    axes.text(
        0.04,
        0.96,
        f"CCC {ccc(true, pred):.3f}",
        transform=axes.transAxes,
        va="top",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5},
    )
    tidy(axes)

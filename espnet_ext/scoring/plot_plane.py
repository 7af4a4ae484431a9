"""The valence-arousal plane.

Source: J. Russell, "A circumplex model of affect", J. Pers. Soc. Psychol. 39(6), 1980.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.plots import FAINT, legend_below, panels, tidy
from espnet_ext.scoring.predictions import Predictions

# (color, marker) of classes that all corpora share; others take what is left.
_CLASS_STYLES = {
    "neu": ("#6E6E6E", "o"),
    "ang": ("#D55E00", "^"),
    "hap": ("#E69F00", "s"),
    "sad": ("#0072B2", "v"),
    "dis": ("#009E73", "D"),
}
_SPARE_COLORS = ("#CC79A7", "#56B4E9", "#8C6D00", "#000000", "#7B3294", "#A6761D")
_SPARE_MARKERS = "PX<>ph"
# Corners of the plane: x, y, what is felt there.
CORNERS = (
    (0.02, 0.98, "tense, angry"),
    (0.98, 0.98, "excited, happy"),
    (0.02, 0.02, "sad, bored"),
    (0.98, 0.02, "calm, content"),
)


def class_styles(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Color and marker of each class: the same class looks the same everywhere."""
    spare = itertools.cycle(zip(_SPARE_COLORS, _SPARE_MARKERS, strict=True))
    return {name: _CLASS_STYLES.get(name) or next(spare) for name in classes}


def plot_valence_arousal(systems: Mapping[str, Predictions]) -> Figure:
    """Annotated and predicted utterances on the valence-arousal plane.

    A panel for the annotations and one for each model. Points have the color of
    their annotated class; each class has its mean and an ellipse of one standard
    deviation. In a model's panel a thin line leads from the mean of the annotations
    (hollow) to the mean of the predictions (filled).
    """
    first = next(iter(systems.values()))
    shown = [("Annotations", first, first.true)]
    shown += [(name, s, s.pred) for name, s in systems.items()]
    styles = class_styles(first.classes)
    columns = 2 if len(shown) == 4 else 3
    labels = ("valence  (negative → positive)", "arousal  (calm → excited)")
    titles = [title for title, _, _ in shown]
    figure, drawn = panels(titles, columns, (3.5, 3.35), (0.0, 0.5), labels, "all")
    for axes, (title, system, values) in zip(drawn, shown, strict=True):
        truth = title == "Annotations"
        _draw_plane(axes, system, values, styles, show_truth=not truth)
    handles = [
        Line2D([], [], color=color, marker=marker, ls="", label=class_name(name))
        for place, (name, (color, marker)) in enumerate(styles.items())
        if (first.true_class == place).any()
    ]
    hollow: dict[str, Any] = {"marker": "o", "mfc": "white", "mec": "black", "ls": ""}
    handles.append(Line2D([], [], **hollow, label="mean of annotations"))
    handles.append(Line2D([], [], color="k", lw=1.5, label="ellipse: 1 SD"))
    legend_below(figure, handles)
    return figure


def _draw_plane(
    axes: Axes,
    system: Predictions,
    values: Mapping[str, NDArray[np.float64]],
    styles: Mapping[str, tuple[str, str]],
    *,
    show_truth: bool,
) -> None:
    points = np.stack([values["valence"], values["arousal"]], axis=1)  # (N, 2)
    truth = np.stack([system.true["valence"], system.true["arousal"]], axis=1)
    rated = ~np.isnan(truth).any(axis=1)
    alpha = float(np.clip(12 / math.sqrt(max(len(points), 1)), 0.08, 0.55))
    center = truth[rated].mean(axis=0)
    for draw, place in zip((axes.axvline, axes.axhline), center, strict=True):
        draw(place, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    means = []
    for index, name in enumerate(system.classes):
        rows = (system.true_class == index) & rated
        if not rows.any():
            continue
        color, marker = styles[name]
        style: dict[str, Any] = {"color": color, "marker": marker, "alpha": alpha}
        axes.scatter(points[rows, 0], points[rows, 1], s=9, linewidths=0, **style)
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
    for x, y, text in CORNERS:
        axes.text(
            *(x, y, text),
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
    x, y = points.mean(axis=0)
    style: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": 1.5}
    return Ellipse((x, y), width, height, angle=angle, zorder=3, **style)

"""Figures of a report: each function draws one and returns it unsaved.

Colours are Okabe and Ito's, told apart by colour-blind readers, and never the only
sign: markers, hatches or labels say the same. Figures are built without pyplot, so
nothing global changes and no display is needed.

Sources:
    M. Okabe and K. Ito, "Color Universal Design", 2008.
    J. Russell, "A circumplex model of affect", J. Pers. Soc. Psychol. 39(6), 1980.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from espnet_ext.scoring.bootstrap import Interval
from espnet_ext.scoring.metrics import (
    ATTRIBUTES,
    METRICS,
    accuracy,
    attribute_scores,
    calibration,
    ccc,
    confusion_matrix,
)
from espnet_ext.scoring.names import METRIC_NAMES, class_name, model_name
from espnet_ext.scoring.predictions import UNKNOWN, Predictions
from espnet_ext.scoring.train_log import Curve

DPI = 150

# (colour, marker) of classes that all corpora share; others take what is left.
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
_MODEL_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
_MODEL_MARKERS = "osD^vPX"
_INK = {"grid": "#DDDDDD", "text": "#333333", "faint": "#8A8A8A"}
# Statistics under the names that trainers give them, the first that a log has.
_LOSS = ("loss",)
_CCC = ("ccc",)
_CLASSES = ("uar", "acc", "accuracy")


def class_styles(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each class: the same class looks the same everywhere."""
    spare = iter(_SPARE_STYLES * (1 + len(classes) // len(_SPARE_STYLES)))
    return {
        name: _CLASS_STYLES[name] if name in _CLASS_STYLES else next(spare)
        for name in classes
    }


# ------------------------------------------------------------------------ the table


def plot_scores(
    scores: Mapping[str, Mapping[str, Interval]], chance: Mapping[str, float]
) -> Figure:
    """Dot plot of the table: a panel a metric, a row a model, 95 % intervals.

    Args:
        scores: Model -> metric -> interval; a model need not have every metric.
        chance: Metric -> score of guessing, drawn as a dashed line.
    """
    metrics = [m for m in METRICS if any(m in row for row in scores.values())]
    models = list(scores)
    columns = min(4, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(
        figsize=(2.6 * columns + 1.2, rows * (0.7 + 0.32 * len(models)) + 0.3),
        layout="constrained",
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    heights = np.arange(len(models))[::-1]
    for axes, metric in zip(grid.flat, metrics, strict=False):
        for height, (index, model) in zip(heights, enumerate(models), strict=True):
            interval = scores[model].get(metric)
            if interval is None:
                continue
            axes.plot(
                [interval.low, interval.high],
                [height, height],
                color=model_colour(index),
                linewidth=2.2,
                solid_capstyle="butt",
            )
            axes.plot(
                interval.estimate,
                height,
                marker=_MODEL_MARKERS[index % len(_MODEL_MARKERS)],
                color=model_colour(index),
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.7,
            )
        shown = [row[metric] for row in scores.values() if metric in row]
        _zoom(axes, shown, chance.get(metric))
        axes.set_title(METRIC_NAMES[metric], fontsize=11)
        axes.set_ylim(-0.9, len(models) - 0.4)
        axes.set_yticks(heights, [model_name(model) for model in models])
        axes.grid(axis="x", color=_INK["grid"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _tidy(axes)
        axes.tick_params(axis="y", length=0)
    for row in grid:
        for axes in row[1:]:
            axes.tick_params(labelleft=False)
    for axes in list(grid.flat)[len(metrics) :]:
        axes.set_visible(False)
    figure.supxlabel(
        "dot: whole test set    bar: 95 % bootstrap interval    dashed: chance",
        fontsize=9,
        color=_INK["faint"],
    )
    return figure


def _zoom(axes: Axes, shown: Sequence[Interval], chance: float | None) -> None:
    """Fill the panel with the intervals; draw chance where it is near, else name it.

    Intervals of a large test set would be hidden behind their dots on an axis that
    reaches down to chance.
    """
    ends = [np.array([i.low, i.estimate, i.high]) for i in shown]
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    span = max(high - low, 1e-3)
    if chance is not None and low - span <= chance <= high + span:
        axes.axvline(chance, color=_INK["faint"], linestyle=(0, (4, 3)), linewidth=1)
        low, high = min(low, chance), max(high, chance)
    elif chance is not None:
        axes.text(
            0.02,
            0.03,
            f"chance {chance:.2f}",
            transform=axes.transAxes,
            fontsize=8,
            color=_INK["faint"],
        )
    axes.set_xlim(low - 0.12 * span, high + 0.12 * span)


# ------------------------------------------------------------------------ classes


def plot_confusion(systems: Mapping[str, Predictions]) -> Figure:
    """Confusion matrices: shade = share of the true class, number = share and count.

    Args:
        systems: Models that predict classes, all with the same `classes`.
    """
    names = list(systems)
    columns = min(len(names), 2 if len(names) in (2, 4) else 3)
    rows = math.ceil(len(names) / columns)
    classes = next(iter(systems.values())).classes
    side = max(2.6, 0.72 * len(classes))
    figure = Figure(
        figsize=(columns * (side + 0.6) + 0.9, rows * (side + 0.75)),
        layout="constrained",
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        image = _draw_confusion(axes, systems[name])
        axes.set_title(model_name(name), fontsize=11)
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < len(names))
        if number % columns == 0:
            axes.set_ylabel("annotated (utterances)")
        if number + columns >= len(names):
            axes.set_xlabel("predicted")
    bar = figure.colorbar(image, ax=grid, shrink=0.7, pad=0.02)
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
        axes.text(
            column,
            row - 0.1,
            f"{100 * value:.0f} %",
            ha="center",
            va="center",
            color=ink,
            fontsize=9,
        )
        axes.text(
            column,
            row + 0.24,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            color=ink,
            fontsize=7,
        )
    labels = [f"{name}\n({n})" for name, n in zip(classes, totals[:, 0], strict=True)]
    axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right")
    axes.set_yticks(range(len(classes)), labels)
    axes.tick_params(length=0, labelsize=8.5)
    axes.spines[:].set_visible(False)
    return image


def plot_calibration(systems: Mapping[str, Predictions]) -> Figure:
    """Reliability diagrams: share of right classes against confidence, a panel each.

    Args:
        systems: Models that give probabilities.
    """
    names = list(systems)
    columns = min(len(names), 4)
    rows = math.ceil(len(names) / columns)
    figure = Figure(
        figsize=(2.7 * columns + 0.5, 3.0 * rows + 0.2), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        system = systems[name]
        assert system.probabilities is not None
        assert system.pred_class is not None
        known = np.flatnonzero(system.true_class >= 0)
        said = system.pred_class[known]
        found = calibration(
            said == system.true_class[known], system.probabilities[known, said]
        )
        axes.plot([0, 1], [0, 1], color=_INK["faint"], linewidth=1, linestyle="--")
        axes.plot(
            found.confidence,
            found.accuracy,
            "o-",
            color=model_colour(0),
            ms=5,
            lw=1.4,
            clip_on=False,
        )
        axes.text(
            0.04, 0.95, f"ECE {found.ece:.3f}", transform=axes.transAxes, va="top"
        )
        axes.set_title(model_name(name), fontsize=11)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_box_aspect(1)
        if number % columns == 0:
            axes.set_ylabel("share right")
        if number + columns >= len(names):
            axes.set_xlabel("confidence")
            axes.tick_params(labelbottom=True)
        axes.grid(color=_INK["grid"])
        _tidy(axes)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    return figure


# --------------------------------------------------------------------- attributes


def plot_valence_arousal(systems: Mapping[str, Predictions]) -> Figure:
    """Annotated and predicted utterances on the valence-arousal plane.

    A panel for the annotations and one for each model. Points have the colour of
    their annotated class; each class has its mean and an ellipse of one standard
    deviation. In a model's panel a thin line leads from the mean of the annotations
    (hollow) to the mean of the predictions (filled).

    Args:
        systems: Models that predict attributes, all with the same `classes`.
    """
    first = next(iter(systems.values()))
    panels = [("Annotations", first, first.true)]
    panels += [(model_name(name), s, s.pred) for name, s in systems.items()]
    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.5 * columns, 3.35 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    limits = _plane_limits([values for _, _, values in panels])
    styles = class_styles(first.classes)
    for number, (axes, (title, system, values)) in enumerate(
        zip(grid.flat, panels, strict=False)
    ):
        _draw_plane(axes, system, values, styles, limits, show_truth=number > 0)
        axes.set_title(title, fontsize=11)
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < len(panels))
        if number % columns == 0:
            axes.set_ylabel("arousal  (calm → excited)")
        if number + columns >= len(panels):
            axes.set_xlabel("valence  (negative → positive)")
            axes.tick_params(labelbottom=True)
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
    _legend_below(figure, handles)
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
    for centre, line in zip(truth[rated].mean(axis=0), "vh", strict=True):
        draw = axes.axvline if line == "v" else axes.axhline
        draw(centre, color=_INK["faint"], linewidth=0.8, linestyle=":", zorder=0)
    means = []
    for index, name in enumerate(system.classes):
        rows = (system.true_class == index) & rated
        if not rows.any():
            continue
        colour, marker = styles[name]
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=9,
            color=colour,
            marker=marker,
            alpha=alpha,
            linewidths=0,
            rasterized=True,
        )
        if rows.sum() > 2:
            axes.add_patch(_ellipse(points[rows], colour))
        means.append((points[rows].mean(axis=0), truth[rows].mean(axis=0), name))
    if not means:  # no class is known
        axes.scatter(
            points[rated, 0], points[rated, 1], s=9, color=_INK["faint"], alpha=alpha
        )
    for mean, true_mean, name in means:
        colour, marker = styles[name]
        if show_truth:
            axes.plot(*zip(true_mean, mean, strict=True), color=colour, linewidth=1.2)
            axes.plot(
                *true_mean, marker, mfc="white", mec=colour, mew=1.4, ms=6, zorder=4
            )
        axes.plot(*mean, marker, mfc=colour, mec="black", mew=0.9, ms=8, zorder=5)
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
            color=_INK["faint"],
        )
    _tidy(axes)


def _ellipse(points: NDArray[np.float64], colour: str) -> Ellipse:
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
        edgecolor=colour,
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
                axes.set_ylabel(f"{model_name(name)}\npredicted")
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
        color=model_colour(0),
        alpha=alpha,
        linewidths=0,
        rasterized=True,
    )
    ends = [min(true.min(), pred.min()), max(true.max(), pred.max())]
    axes.plot(ends, ends, color=_INK["faint"], linewidth=1, linestyle="--", zorder=0)
    axes.text(
        0.04,
        0.96,
        f"CCC {ccc(true, pred):.3f}",
        transform=axes.transAxes,
        va="top",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5},
    )
    _tidy(axes)


# ------------------------------------------------------------------------ speakers

# A score of fewer utterances is mostly chance.
MIN_SPEAKER_ROWS = 10
_GENDER_STYLES = {"f": ("#CC79A7", "o", "women"), "m": ("#0072B2", "s", "men")}


def plot_speakers(systems: Mapping[str, Predictions]) -> Figure:
    """Spread over speakers and genders: a dot a speaker, a bar for their median.

    Mean CCC and accuracy of each speaker's utterances; speakers with fewer than
    `MIN_SPEAKER_ROWS` rows that can be scored are left out.

    Args:
        systems: Models, aligned.
    """
    panels = [("CCC of a speaker", _speaker_ccc), ("Acc of a speaker", _speaker_acc)]
    drawn = []
    for title, score in panels:
        found = {name: _by_speaker(system, score) for name, system in systems.items()}
        if found := {name: dots for name, dots in found.items() if dots}:
            drawn.append((title, found))
    height = 0.55 * max([len(found) for _, found in drawn], default=1) + 1.4
    figure = Figure(figsize=(4.6 * max(len(drawn), 1), height), layout="constrained")
    grid = figure.subplots(1, max(len(drawn), 1), squeeze=False)[0]
    genders: dict[str, tuple[str, str, str]] = {}
    for axes, (title, found) in zip(grid, drawn, strict=False):
        heights = np.arange(len(found))[::-1]
        for level, dots in zip(heights, found.values(), strict=True):
            # Spread over the height of a row by rank, so that dots do not hide others.
            steps = np.linspace(-0.26, 0.26, len(dots)) if len(dots) > 1 else [0.0]
            for step, (value, gender) in zip(steps, dots, strict=True):
                style = _GENDER_STYLES.get(gender, (_INK["faint"], "^", "not known"))
                genders[gender] = style
                axes.plot(value, level + step, style[1], color=style[0], ms=5, mew=0)
            middle = float(np.median([value for value, _ in dots]))
            axes.plot([middle] * 2, [level - 0.36, level + 0.36], "k-", lw=1.5)
        axes.set_yticks(heights, [model_name(name) for name in found])
        axes.set_title(title, fontsize=11)
        axes.grid(axis="x", color=_INK["grid"])
        _tidy(axes)
        axes.tick_params(axis="y", length=0)
    handles = [
        grid[0].plot([], [], marker, color=colour, label=label)[0]
        for colour, marker, label in (genders[g] for g in sorted(genders))
    ]
    handles.append(grid[0].plot([], [], "k-", lw=1.5, label="median")[0])
    _legend_below(figure, handles)
    return figure


def _by_speaker(
    system: Predictions, score: Callable[[Predictions], float | None]
) -> list[tuple[float, str]]:
    """Score and gender of each speaker, sorted by speaker."""
    speakers = np.array(system.speaker)
    dots = []
    for speaker in sorted(set(system.speaker) - {UNKNOWN}):
        own = system.select(speakers == speaker)
        value = score(own)
        if value is not None:
            dots.append((value, own.gender[0]))
    return dots


def _speaker_ccc(own: Predictions) -> float | None:
    if not own.predicts_attributes:
        return None
    known = ~np.any([np.isnan(values) for values in own.true.values()], axis=0)
    if known.sum() < MIN_SPEAKER_ROWS:
        return None
    rated = own.select(known)
    return attribute_scores(rated.true, rated.pred)["ccc"]


def _speaker_acc(own: Predictions) -> float | None:
    known = own.true_class >= 0
    if own.pred_class is None or known.sum() < MIN_SPEAKER_ROWS:
        return None
    return accuracy(own.true_class[known], own.pred_class[known])


# ----------------------------------------------------------------------- training


def plot_training(curves: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Training curves of all models: loss, CCC and class score over epochs.

    Args:
        curves: Model -> ``"<section>/<statistic>"`` -> curve.
    """
    panels = [
        ("loss", _LOSS, True),
        ("CCC (validation)", _CCC, False),
        ("UAR (validation)", _CLASSES, False),
    ]
    panels = [
        panel
        for panel in panels
        if any(_pick(logged, "valid", panel[1]) for logged in curves.values())
        or (panel[2] and any(_pick(c, "train", panel[1]) for c in curves.values()))
    ]
    figure = Figure(figsize=(3.7 * max(len(panels), 1), 3.3), layout="constrained")
    grid = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axes, (title, statistics, with_train) in zip(grid, panels, strict=False):
        for index, logged in enumerate(curves.values()):
            if with_train and (curve := _pick(logged, "train", statistics)):
                axes.plot(
                    curve.epochs, curve.values, color=model_colour(index), lw=1, ls=":"
                )
            if curve := _pick(logged, "valid", statistics):
                axes.plot(
                    curve.epochs,
                    curve.values,
                    color=model_colour(index),
                    linewidth=1.5,
                    marker=_MODEL_MARKERS[index % len(_MODEL_MARKERS)],
                    markersize=4,
                    markevery=max(1, len(curve.epochs) // 10),
                )
        if statistics is _CLASSES and not any(
            "valid/uar" in c for c in curves.values()
        ):
            title = "accuracy (validation)"
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=_INK["grid"])
        _tidy(axes)
    handles = [
        grid[0].plot(
            [],
            [],
            color=model_colour(index),
            marker=_MODEL_MARKERS[index % len(_MODEL_MARKERS)],
            markersize=4,
            label=model_name(name),
        )[0]
        for index, name in enumerate(curves)
    ]
    handles.append(grid[0].plot([], [], "k:", lw=1, label="training set")[0])
    _legend_below(figure, handles)
    return figure


def _pick(
    curves: Mapping[str, Curve], section: str, statistics: Sequence[str]
) -> Curve | None:
    for statistic in statistics:
        if (curve := curves.get(f"{section}/{statistic}")) is not None:
            return curve
    return None


# ---------------------------------------------------------------------- attention


@dataclass(frozen=True, slots=True)
class AttentionExample:
    """Where the pooling looks in one utterance.

    Attributes:
        title: What is written above.
        weights: Branch (``discrete``, ``continuous``) -> weights, shape (T,).
        waveform: Samples, shape (n,), or None.
        rate: Sampling rate of `waveform` in Hz.
    """

    title: str
    weights: Mapping[str, NDArray[np.float32]]
    waveform: NDArray[np.float32] | None = None
    rate: int = 16000


# With a pooling for each attribute, "continuous" is the mean of the three.
_BRANCH_STYLES = {
    "discrete": ("#D55E00", "-"),
    "continuous": ("#0072B2", "--"),
    "continuous_valence": ("#009E73", "-."),
    "continuous_arousal": ("#CC79A7", "-."),
    "continuous_dominance": ("#E69F00", "-."),
}


def plot_attention(name: str, examples: Sequence[AttentionExample]) -> Figure:
    """Pooling weights over time, above the waveform where there is one.

    Weights are drawn as multiples of the uniform weight 1/T, so that utterances of
    different lengths compare: 1 is plain averaging.

    Args:
        name: The model.
        examples: A row each.
    """
    figure = Figure(figsize=(8.0, 1.35 * len(examples) + 1.0), layout="constrained")
    grid = figure.subplots(len(examples), 1, squeeze=False)[:, 0]
    branches: dict[str, tuple[str, str]] = {}
    for axes, example in zip(grid, examples, strict=True):
        frames = max(len(weights) for weights in example.weights.values())
        end = float(frames)
        if example.waveform is not None:
            end = len(example.waveform) / example.rate
            _draw_waveform(axes, example.waveform, end)
        for branch, weights in example.weights.items():
            colour, line = _BRANCH_STYLES.get(branch, ("#000000", "-."))
            branches[branch] = (colour, line)
            middles = (np.arange(len(weights)) + 0.5) * end / len(weights)
            axes.plot(
                middles, weights * len(weights), color=colour, linestyle=line, lw=1.4
            )
        axes.axhline(1.0, color=_INK["faint"], linewidth=0.8, linestyle=":")
        axes.set_xlim(0.0, end)
        axes.set_ylim(bottom=0.0)
        axes.set_title(example.title, fontsize=9, loc="left", pad=3)
        _tidy(axes)
    with_time = any(example.waveform is not None for example in examples)
    grid[-1].set_xlabel("time (s)" if with_time else "encoder frame")
    figure.supylabel("pooling weight (multiples of 1/T)", fontsize=9.5)
    figure.suptitle(f"{model_name(name)}: where the pooling attends", fontsize=11)
    handles = [
        grid[0].plot(
            [], [], color=colour, linestyle=line, label=branch.replace("_", ": ")
        )[0]
        for branch, (colour, line) in branches.items()
    ]
    handles.append(
        grid[0].plot([], [], color=_INK["faint"], ls=":", label="uniform weight")[0]
    )
    _legend_below(figure, handles)
    return figure


def _draw_waveform(axes: Axes, waveform: NDArray[np.float32], end: float) -> None:
    """Draw the envelope of the samples behind the weights, on a scale of its own."""
    behind = axes.twinx()
    bins = min(len(waveform), 1200)
    parts = np.array_split(np.asarray(waveform, dtype=np.float64), bins)
    high = np.array([part.max() for part in parts])
    low = np.array([part.min() for part in parts])
    loudest = max(np.abs(high).max(), np.abs(low).max(), 1e-9)
    behind.fill_between(
        (np.arange(bins) + 0.5) * end / bins,
        low / loudest,
        high / loudest,
        color="#CFCFCF",
        linewidth=0,
    )
    behind.set_ylim(-1.1, 1.1)
    behind.set_yticks([])
    behind.spines[:].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


# -------------------------------------------------------------------------- common


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})


def model_colour(index: int) -> str:
    """Colour of the model at a place in its report."""
    return _MODEL_COLOURS[index % len(_MODEL_COLOURS)]


def _legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    # As many columns as fit: about 1.4 inches an entry.
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), max(1, int(figure.get_figwidth() / 1.4))),
        frameon=False,
        fontsize=9,
        columnspacing=1.2,
    )


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK["faint"])
    axes.tick_params(labelsize=8.5, color=_INK["faint"])
    axes.set_axisbelow(True)

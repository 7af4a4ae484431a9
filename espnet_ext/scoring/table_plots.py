"""The table as a picture, and the figures of its runs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from espnet_ext.scoring import plots
from espnet_ext.scoring.predictions import UNKNOWN, Predictions
from espnet_ext.scoring.table_runs import RunRecord
from espnet_ext.scoring.table_scores import (
    RunKey,
    TableResult,
    pooled_predictions,
)
from espnet_ext.scoring.table_spec import CORPUS_NAMES, Column, TableSpec
from espnet_ext.scoring.train_log import Curve, read_train_log

# Okabe and Ito's blue and vermilion, as in `plots`.
_OURS, _THEIRS = "#0072B2", "#D55E00"
_GRID, _FAINT = "#DDDDDD", "#8A8A8A"


def plot_table(result: TableResult) -> Figure:
    """Draw the table: a panel a column, a row a row, intervals and the paper's values.

    Args:
        result: The scores.
    """
    spec = result.spec
    columns = [
        c for c in spec.columns if any(c in cells for cells in result.cells.values())
    ]
    across = min(4, len(columns))
    down = math.ceil(len(columns) / across)
    figure = Figure(
        figsize=(2.6 * across + 1.6, down * (0.8 + 0.32 * len(spec.rows)) + 0.5),
        layout="constrained",
    )
    grid = figure.subplots(down, across, squeeze=False)
    for axes, column in zip(grid.flat, columns, strict=False):
        _draw_column(axes, result, column)
    for row in grid:
        for axes in row[1:]:
            axes.tick_params(labelleft=False)
    for axes in list(grid.flat)[len(columns) :]:
        axes.set_visible(False)
    comparable = not any(result.incomparable(corpus) for corpus in spec.corpora)
    theirs = spec.source if comparable else f"{spec.source} (not comparable)"
    handles = [
        Line2D([], [], color=_OURS, marker="o", lw=2.2, label="here, 95 % interval"),
        Line2D(
            *([], []),
            color=_THEIRS,
            marker="D",
            lw=0,
            markerfacecolor="none",
            label=theirs,
        ),
        Line2D([], [], color=_FAINT, ls=(0, (4, 3)), lw=1, label="chance"),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw_column(axes: Axes, result: TableResult, column: Column) -> None:
    rows = list(result.spec.rows)
    heights = np.arange(len(rows))[::-1]
    values: list[float] = []
    for height, row in zip(heights, rows, strict=True):
        cell = result.cells[row].get(column)
        paper = result.spec.rows[row].paper.get(column)
        if cell is not None:
            ends = [cell.mean.low, cell.mean.high]
            axes.plot(
                ends, [height] * 2, color=_OURS, linewidth=2.2, solid_capstyle="butt"
            )
            axes.plot(
                cell.mean.estimate,
                height,
                marker="o",
                color=_OURS,
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.7,
            )
            values += [cell.mean.estimate, *(e for e in ends if not np.isnan(e))]
        if paper is not None:
            axes.plot(
                paper,
                height,
                marker="D",
                markersize=5,
                markerfacecolor="none",
                markeredgecolor=_THEIRS,
                markeredgewidth=1.4,
                linestyle="none",
            )
            values.append(paper)
    span = max(max(values) - min(values), 1e-3)
    chance = result.chance.get(column)
    if chance is not None and min(values) - span <= chance <= max(values) + span:
        axes.axvline(chance, color=_FAINT, linestyle=(0, (4, 3)), linewidth=1)
        values.append(chance)
    elif chance is not None:  # far away: the intervals would shrink to dots
        axes.text(
            *(0.02, 0.02, f"chance {chance:.2f}"),
            transform=axes.transAxes,
            fontsize=8,
            color=_FAINT,
        )
    # Equal values would be shown with eight decimals.
    low, high = min(values), max(values)
    reach = 0.58 * max(high - low, 0.04)
    axes.set_xlim((low + high) / 2 - reach, (low + high) / 2 + reach)
    axes.set_title(result.spec.column_name(column), fontsize=10.5)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_yticks(heights, [result.spec.rows[row].name for row in rows])
    axes.grid(axis="x", color=_GRID)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(labelsize=8.5, color=_FAINT)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)


def draw_table_figures(
    result: TableResult,
    runs: Mapping[RunKey, Predictions],
    records: Sequence[RunRecord],
) -> dict[str, tuple[str, Figure]]:
    """Draw the table and every figure that its runs allow.

    Confusion, calibration, the valence-arousal plane and speakers are of the first
    seed, all folds together, a figure for each corpus; training curves are of all runs.

    Args:
        result: The scores.
        runs: Predictions of the runs that are there.
        records: All runs.

    Returns:
        File name without ending -> (caption, figure).
    """
    figures = {
        "table": ("The table, with 95 % intervals", plot_table(result)),
    }
    for corpus in result.spec.corpora:
        systems = pooled_predictions(result.spec, runs, corpus)
        if not systems:
            continue
        name = CORPUS_NAMES.get(corpus, corpus)
        suffix = f"_{corpus}" if len(result.spec.corpora) > 1 else ""
        for stem, (caption, figure) in _corpus_figures(systems).items():
            figures[f"{stem}{suffix}"] = (f"{caption}: {name}", figure)
    curves = read_curves(result.spec, records)
    if curves:
        figures["training_curves"] = (
            "Training curves of all runs (thin: each run, thick: the mean of a row)",
            plot_curves(curves),
        )
    return figures


def _corpus_figures(
    systems: Mapping[str, Predictions],
) -> dict[str, tuple[str, Figure]]:
    some = next(iter(systems.values()))
    pickers = {n: s for n, s in systems.items() if s.predicts_classes}
    raters = {n: s for n, s in systems.items() if s.predicts_attributes}
    sure = {n: s for n, s in pickers.items() if s.probabilities is not None}
    labelled = bool((some.true_class >= 0).any())
    rated = not all(np.isnan(some.true[dim]).all() for dim in ("valence", "arousal"))
    figures: dict[str, tuple[str, Figure]] = {}
    if pickers and labelled:
        figures["confusion"] = ("Confusion matrices", plots.plot_confusion(pickers))
    if raters and rated:
        figures["circumplex"] = (
            "Annotated and predicted classes on the valence-arousal plane",
            plots.plot_valence_arousal(raters),
        )
    if sure and labelled:
        figures["calibration"] = ("Calibration", plots.plot_calibration(sure))
    if len(set(some.speaker) - {UNKNOWN}) > 1:
        figures["speakers"] = (
            "Spread over speakers and genders",
            plots.plot_speakers(systems),
        )
    return figures


# Row -> the curves of each of its runs.
Curves = dict[str, list[dict[str, Curve]]]


def read_curves(spec: TableSpec, records: Sequence[RunRecord]) -> Curves:
    """Read the training logs of all runs, by the rows' printed names."""
    curves: Curves = {}
    for record in records:
        if record.train_log is not None:
            name = spec.rows[record.key.row].name
            curves.setdefault(name, []).append(read_train_log([record.train_log]))
    return curves


_PANELS = (
    ("loss (validation)", ("loss",)),
    ("CCC (validation)", ("ccc",)),
    ("accuracy (validation)", ("acc", "accuracy")),
)


def plot_curves(curves: Curves) -> Figure:
    """Draw validation curves: each run thin, the mean of a row's runs thick.

    Args:
        curves: Row -> runs -> ``"<section>/<statistic>"`` -> curve.
    """
    panels = []
    for title, names in _PANELS:
        shown = {}
        for row, runs in curves.items():
            own = [c for run in runs if (c := _pick(run, names)) is not None]
            if own:
                shown[row] = own
        if shown:
            panels.append((title, shown))
    figure = Figure(figsize=(3.7 * max(1, len(panels)), 3.4), layout="constrained")
    grid = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    colours = {row: plots.model_colour(place) for place, row in enumerate(curves)}
    for axes, (title, shown) in zip(grid, panels, strict=False):
        for row, found in shown.items():
            for curve in found:
                axes.plot(
                    curve.epochs, curve.values, color=colours[row], lw=0.6, alpha=0.4
                )
            epochs, means = _mean_curve(found)
            axes.plot(epochs, means, color=colours[row], lw=1.8)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=_GRID)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    figure.legend(
        handles=[
            Line2D([], [], color=colour, lw=1.8, label=row)
            for row, colour in colours.items()
        ],
        loc="outside lower center",
        ncols=min(len(colours), 2 * max(1, len(panels))),
        frameon=False,
        fontsize=9,
    )
    return figure


def _pick(curves: Mapping[str, Curve], names: Sequence[str]) -> Curve | None:
    for name in names:
        if (curve := curves.get(f"valid/{name}")) is not None:
            return curve
    return None


def _mean_curve(runs: Sequence[Curve]) -> tuple[list[int], list[float]]:
    """Mean over the runs that have an epoch; they may stop at different ones."""
    by_epoch: dict[int, list[float]] = {}
    for curve in runs:
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    # Where only the longest runs go on, the mean would jump: it ends with the half.
    epochs = [e for e in sorted(by_epoch) if 2 * len(by_epoch[e]) >= len(runs)]
    return epochs, [float(np.mean(by_epoch[epoch])) for epoch in epochs]

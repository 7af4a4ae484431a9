"""Figures of one recording: where the model attends, and emotion over time."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.inference.timeline import NO_SPEECH, Segment, Timeline
from espnet_ext.scoring.attention import AttentionExample, draw_attention
from espnet_ext.scoring.plot_plane import class_styles
from espnet_ext.scoring.plots import GRID, tidy

# Other colors than those of the classes.
_ATTRIBUTE_STYLES = dict(
    zip(
        ATTRIBUTES,
        (("#000000", "-"), ("#7B3294", "--"), ("#CC79A7", "-.")),
        strict=True,
    )
)


def class_colors(classes: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Color of each class by its full name, as in all figures of the package.

    Args:
        classes: Short names, in the order of the logits.
        labels: Full names in the same order.
    """
    styles = class_styles(classes)
    return {label: styles[name][0] for name, label in zip(classes, labels, strict=True)}


def attention_figure(
    weights: Mapping[str, np.ndarray], wave: np.ndarray, width: float
) -> Figure:
    """Draw attention over the waveform.

    Args:
        weights: (T,) of each branch; they add up to 1.
        wave: (n,) at 16 kHz.
        width: In inches.
    """
    figure = Figure(figsize=(width, 2.3), layout="constrained")
    axes = figure.subplots()
    styles = draw_attention(axes, AttentionExample("", weights, wave))
    axes.set_ylabel("times the mean")
    axes.set_xlabel("time (s)")
    lines = [
        Line2D([], [], color=color, ls=line, label=_purpose(branch))
        for branch, (color, line) in styles.items()
    ]
    _legend(axes, [*lines, Patch(color="#CFCFCF", label="waveform")], width)
    return figure


def _purpose(branch: str) -> str:
    """Say what a branch's attention is for."""
    if branch.startswith("continuous: "):
        return branch.removeprefix("continuous: ")
    return {"discrete": "class", "continuous": "attributes"}.get(branch, branch)


def timeline_figure(
    timeline: Timeline, colors: Mapping[str, str], width: float
) -> Figure:
    """Draw the probabilities and the attributes over time; gaps hold no speech.

    What the model lacks has no panel.

    Args:
        timeline: Of a recording.
        colors: By class.
        width: In inches.
    """
    spoken = [step for step in timeline.steps if step.label != NO_SPEECH]
    panels: list[Callable[..., Sequence[Line2D | Patch]]] = []
    if any(step.scores is not None for step in spoken):
        panels.append(_draw_scores)
    if any(step.valence is not None for step in spoken):
        panels.append(_draw_attributes)
    rows = max(1, len(panels))
    figure = Figure(figsize=(width, 0.3 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    for axes, draw in zip(grid, panels, strict=False):
        _legend(axes, draw(axes, timeline.steps, colors), width)
    for axes in grid:
        tidy(axes)
        axes.set_xlim(0, timeline.seconds)
    axes.set_xlabel("time (s)")
    return figure


def _draw_scores(
    axes: Axes, steps: Sequence[Segment], colors: Mapping[str, str]
) -> list[Patch]:
    """Stack the classes' probabilities."""
    edges = [*(step.start for step in steps), steps[-1].end]
    heights = np.array(
        [
            [(step.scores or {}).get(name, 0.0) for step in (*steps, steps[-1])]
            for name in colors
        ]
    )  # (classes, steps + 1): each holds until the next one
    axes.stackplot(edges, heights, colors=list(colors.values()), step="post", lw=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    return [Patch(color=color, label=name) for name, color in colors.items()]


def _draw_attributes(
    axes: Axes, steps: Sequence[Segment], _: Mapping[str, str]
) -> list[Line2D]:
    """Draw a line for each attribute."""
    middles = [(step.start + step.end) / 2 for step in steps]
    for name, (color, line) in _ATTRIBUTE_STYLES.items():
        values = np.array([getattr(step, name) for step in steps], dtype=float)
        # Steps alone between pauses have no line: the dots show them.
        axes.plot(middles, values, color=color, ls=line, lw=1.6, marker=".", ms=4)
    axes.grid(axis="y", color=GRID)
    axes.set_ylabel("attribute")
    return [
        Line2D([], [], color=color, ls=line, label=name)
        for name, (color, line) in _ATTRIBUTE_STYLES.items()
    ]


def _legend(axes: Axes, handles: Sequence[Line2D | Patch], width: float) -> None:
    """Put a legend above a panel, with as many columns as fit."""
    axes.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=max(1, int(width / 1.5)),
        **{"frameon": False, "fontsize": 9, "handlelength": 1.6, "borderpad": 0.2},
    )

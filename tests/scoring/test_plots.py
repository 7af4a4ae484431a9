"""Figures show the numbers they are given."""

import numpy as np
import pytest

from espnet_ext.scoring import attention, plot_plane, plots
from espnet_ext.scoring.bootstrap import Interval
from espnet_ext.scoring.plots import ScorePanel
from espnet_ext.scoring.predictions import read_predictions
from espnet_ext.scoring.train_log import Curve

from .conftest import HEADER, ROWS


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.fixture
def system(write_csv):
    extra = [row.replace("u", "v", 1) for row in ROWS]
    return read_predictions(write_csv([*ROWS, *extra], HEADER))


def test_confusion_matrix_shows_shares_and_counts(system):
    shown = texts(plots.plot_confusion({"x": system}))
    assert shown == ["100 %", "4", "0 %", "0", "100 %", "2", "0 %", "0"]


def test_plane_marks_the_class_means(system):
    figure = plot_plane.plot_valence_arousal({"Multi-task C,D": system})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Annotations", "Multi-task C,D"]
    marks = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in figure.axes[1].lines
        if line.get_marker() not in (None, "None", "") and len(line.get_xdata())
    ]
    # neutral: annotated mean (2, 3), predicted (3, 3); angry: (2, 3) and (3, 3)
    assert marks == [(2.0, 3.0), (3.0, 3.0)] * 2


def test_ellipse_is_one_standard_deviation():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 2)) * [3.0, 1.0]
    ellipse = plot_plane._ellipse(points, "k")
    assert ellipse.width / 2 == pytest.approx(3, rel=0.05)
    assert ellipse.height / 2 == pytest.approx(1, rel=0.05)
    assert abs((ellipse.angle + 90) % 180 - 90) < 3


def test_dot_plot_draws_each_interval_and_chance():
    near = ScorePanel("UAR", [Interval(0.3, 0.2, 0.4), None], [None, 0.35], 0.25)
    (axes,) = plots.plot_scores(["a", "b"], [near], "paper").axes
    assert axes.get_title() == "UAR"
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert drawn == [[0.2, 0.4], [0.3], [0.35], [0.25, 0.25]]
    far = ScorePanel("UAR", [Interval(0.7, 0.69, 0.71)], [None], 0.25)
    assert "chance 0.25" in texts(plots.plot_scores(["a"], [far], ""))


def test_training_curves_of_models_with_different_statistics():
    figure = plots.plot_training(
        {
            "a": [
                {
                    "valid/ccc": Curve((1, 2), (0.1, 0.2)),
                    "train/loss": Curve((1,), (9,)),
                }
            ],
            "b": [{"valid/acc": Curve((1, 2), (0.3, 0.4))}],
        }
    )
    assert [axes.get_title() for axes in figure.axes] == [
        "loss",
        "CCC (validation)",
        "accuracy (validation)",
    ]
    assert list(figure.axes[1].lines[0].get_ydata()) == [0.1, 0.2]
    nothing = plots.plot_training({"a": [{}]})
    assert len(nothing.axes) == 1


def test_attention_is_in_multiples_of_the_uniform_weight():
    example = attention.AttentionExample(
        "u1", {"discrete": np.array([0.5, 0.25, 0.25, 0.0])}, np.ones(32_000)
    )
    axes = attention.plot_attention("x", [example]).axes[0]
    line = axes.lines[0]
    assert list(line.get_ydata()) == [2.0, 1.0, 1.0, 0.0]
    assert list(line.get_xdata()) == [0.25, 0.75, 1.25, 1.75]  # 2 s at 16 kHz
    assert axes.get_xlabel() == "time (s)"


def test_classes_look_the_same_in_any_order():
    first = plot_plane.class_styles(["neu", "ang", "boredom", "calm"])
    second = plot_plane.class_styles(["ang", "neu", "boredom", "calm"])
    assert first == second
    assert len(set(first.values())) == 4


def test_calibration_panel_shows_the_error(system):
    # right with .9, .7 (twice each) and wrong with .6 (twice)
    figure = plots.plot_calibration({"x": system})
    assert texts(figure) == [f"ECE {(0.1 + 0.3 + 0.6) / 3:.3f}"]

"""Which figures a report has: those whose data are there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from espnet_ext.corpora.datadir import read_wav_scp
from espnet_ext.scoring import plots
from espnet_ext.scoring.attention import choose_examples, plot_attention
from espnet_ext.scoring.folds import pooled_predictions
from espnet_ext.scoring.matrix import heads, is_trained_on
from espnet_ext.scoring.metrics import METRIC_NAMES
from espnet_ext.scoring.names import corpus_name, model_name
from espnet_ext.scoring.plot_matrix import MatrixPanel, plot_matrix
from espnet_ext.scoring.plot_plane import plot_valence_arousal
from espnet_ext.scoring.plots import ScorePanel
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.runs import RunKey, RunRecord
from espnet_ext.scoring.scores import TableResult
from espnet_ext.scoring.train_log import read_train_log

Figures = dict[str, tuple[str, Figure]]  # file name without ending -> caption, figure


def set_figures(
    result: TableResult,
    systems: Mapping[str, Predictions],
    train_logs: Mapping[str, Sequence[Path]],
    attention: Mapping[str, Sequence[Path]],
    wav_scp: Path | None,
) -> Figures:
    """Draw every figure of models on one test set that the inputs allow."""
    # All inputs are read before anything is drawn: an error should come at once.
    curves = {model_name(n): [read_train_log(logs)] for n, logs in train_logs.items()}
    wavs = read_wav_scp(wav_scp) if wav_scp and attention else {}
    examples = {
        name: choose_examples(paths[-1], systems[name], wavs)
        for name, paths in attention.items()
    }
    named = {model_name(name): system for name, system in systems.items()}
    figures = {"scores": ("Scores with 95 % intervals", _plot_scores(result))}
    figures |= _prediction_figures(named)
    if curves:
        figures["training_curves"] = ("Training curves", plots.plot_training(curves))
    for name, chosen in examples.items():
        caption = f"Where the pooling of {model_name(name)} attends"
        figure = plot_attention(model_name(name), chosen)
        figures[f"attention_{name}"] = (caption, figure)
    return figures


def table_figures(
    result: TableResult,
    runs: Mapping[RunKey, Predictions],
    records: Sequence[RunRecord],
) -> Figures:
    """Draw the table and every figure that its runs allow.

    Confusion, calibration and the valence-arousal plane are of the first seed, all
    folds together, a figure for each corpus; training curves are of all runs.
    """
    spec = result.spec
    figures = {}
    if spec.metrics:
        figures["matrix"] = ("Trained on down, tested on across", _plot_matrix(result))
    figures["table"] = ("The table, with 95 % intervals", _plot_scores(result))
    for corpus in spec.corpora:
        systems = pooled_predictions(spec, runs, corpus)
        suffix = f"_{corpus}" if len(spec.corpora) > 1 else ""
        for stem, (caption, figure) in _prediction_figures(systems).items():
            figures[f"{stem}{suffix}"] = (f"{caption}: {corpus_name(corpus)}", figure)
    curves: dict[str, list] = {}
    for record in (record for record in records if record.train_log):
        curve = read_train_log([record.train_log])  # type: ignore[list-item]
        curves.setdefault(spec.rows[record.key.row].name, []).append(curve)
    if curves:
        caption = "Training curves of all runs (thin: a run, thick: the mean of a row)"
        figures["training_curves"] = (caption, plots.plot_training(curves))
    return figures


def _plot_scores(result: TableResult) -> Figure:
    spec = result.spec
    panels = []
    for column in spec.columns:
        found = [result.cells[row].get(column) for row in spec.rows]
        if any(found):
            scores = [cell.mean if cell else None for cell in found]
            paper = [row.paper.get(column) for row in spec.rows.values()]
            chance = result.chance.get(column)
            panels.append(ScorePanel(spec.column_name(column), scores, paper, chance))
    legend = ""
    if any(row.paper for row in spec.rows.values()):
        comparable = not any(result.incomparable(corpus) for corpus in spec.corpora)
        legend = spec.source if comparable else f"{spec.source} (not comparable)"
    return plots.plot_scores([row.name for row in spec.rows.values()], panels, legend)


def _plot_matrix(result: TableResult) -> Figure:
    spec, panels = result.spec, []
    for metric in spec.metrics:
        if named := heads(result, metric):
            cells = [[result.cells[row].get(c) for c in named] for row in spec.rows]
            panels.append(
                MatrixPanel(
                    title=METRIC_NAMES[metric],
                    columns=list(named.values()),
                    scores=[[c.mean.estimate if c else None for c in r] for r in cells],
                    seen=[
                        [is_trained_on(spec, row, column.corpus) for column in named]
                        for row in spec.rows
                    ],
                    chance=[result.chance.get(column) for column in named],
                )
            )
    return plot_matrix([row.name for row in spec.rows.values()], panels)


def _prediction_figures(systems: Mapping[str, Predictions]) -> Figures:
    """Figures of predictions alone, by the printed names of the systems."""
    if not systems:
        return {}
    some = next(iter(systems.values()))
    labeled = bool((some.true_class >= 0).any())
    rated = not any(np.isnan(some.true[dim]).all() for dim in ("valence", "arousal"))
    pickers = {n: s for n, s in systems.items() if s.predicts_classes and labeled}
    sure = {n: s for n, s in pickers.items() if s.probabilities is not None}
    raters = {n: s for n, s in systems.items() if s.predicts_attributes and rated}
    plane = "Annotated and predicted valence-arousal plane"
    return {
        stem: (caption, draw(shown))
        for stem, caption, draw, shown in (
            ("confusion_matrix", "Confusion matrices", plots.plot_confusion, pickers),
            ("calibration", "Calibration", plots.plot_calibration, sure),
            ("valence_arousal", plane, plot_valence_arousal, raters),
        )
        if shown
    }

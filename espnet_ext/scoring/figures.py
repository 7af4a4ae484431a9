"""Which figures a report has: those whose data are there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from espnet_ext.scoring import plots
from espnet_ext.scoring.attention import choose_examples, read_wav_scp
from espnet_ext.scoring.names import model_name
from espnet_ext.scoring.predictions import UNKNOWN, Predictions
from espnet_ext.scoring.report import Report
from espnet_ext.scoring.train_log import read_train_log


def draw_figures(
    systems: Mapping[str, Predictions],
    report: Report,
    train_logs: Mapping[str, Sequence[Path]],
    attention: Mapping[str, Sequence[Path]],
    wav_scp: Path | None,
) -> dict[str, tuple[str, Figure]]:
    """Draw every figure that the inputs allow.

    Args:
        systems: Aligned predictions (see `report.align`).
        report: Their scores.
        train_logs: Model -> its logs.
        attention: Model -> its attention.npz.
        wav_scp: Wav files, for the waveforms behind the attention.

    Returns:
        File name without ending -> (caption, figure).
    """
    # All inputs are read before anything is drawn: an error should come at once.
    curves = {n: read_train_log(train_logs[n]) for n in systems if n in train_logs}
    wavs = read_wav_scp(wav_scp) if wav_scp and attention else {}
    examples = {
        name: choose_examples(attention[name][-1], systems[name], wavs)
        for name in systems
        if name in attention
    }
    figures = {
        "scores": (
            "Scores with 95 % intervals",
            plots.plot_scores(report.scores, report.chance),
        )
    }
    some = next(iter(systems.values()))
    pickers = {n: s for n, s in systems.items() if s.predicts_classes}
    raters = {n: s for n, s in systems.items() if s.predicts_attributes}
    if pickers and (some.true_class >= 0).any():
        figures["confusion_matrix"] = (
            "Confusion matrices",
            plots.plot_confusion(pickers),
        )
    sure = {n: s for n, s in pickers.items() if s.probabilities is not None}
    if sure and (some.true_class >= 0).any():
        figures["calibration"] = ("Calibration", plots.plot_calibration(sure))
    rated = [n for n in report.chance if n.startswith("ccc_")]
    if {"ccc_valence", "ccc_arousal"} <= set(rated):
        figures["valence_arousal"] = (
            "Annotated and predicted valence-arousal plane",
            plots.plot_valence_arousal(raters),
        )
    if rated:
        figures["attributes"] = (
            "Predicted against annotated attributes",
            plots.plot_attributes(raters),
        )
    if len(set(some.speaker) - {UNKNOWN}) > 1:
        figures["speakers"] = (
            "Spread over speakers and genders",
            plots.plot_speakers(systems),
        )
    if curves:
        figures["training_curves"] = ("Training curves", plots.plot_training(curves))
    for name, chosen in examples.items():
        figures[f"attention_{name}"] = (
            f"Where the pooling of {model_name(name)} attends",
            plots.plot_attention(name, chosen),
        )
    return figures

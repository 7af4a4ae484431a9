"""Choose, read and draw the utterances that show where the pooling attends.

``attention.npz`` holds ``<utterance>/discrete`` and ``<utterance>/continuous``, float32
of shape (T,): the weights of each branch's pooling over encoder frames, which sum to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from espnet_ext.corpora.audio import RATE, load_waveform
from espnet_ext.corpora.pieces import part_piece
from espnet_ext.errors import UserError
from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.plots import FAINT, legend_below, panels, tidy
from espnet_ext.scoring.predictions import Predictions

# More rows than this do not fit on a page.
MAX_EXAMPLES = 6
# Softmax weights in 32 bits over some thousand frames.
_SUM_TOLERANCE = 1e-2
# With a pooling for each attribute, "continuous" is the mean of the three.
_BRANCH_STYLES = {
    "discrete": ("#D55E00", "-"),
    "continuous": ("#0072B2", "--"),
    "continuous_valence": ("#009E73", "-."),
    "continuous_arousal": ("#CC79A7", "-."),
    "continuous_dominance": ("#E69F00", "-."),
}


@dataclass(frozen=True, slots=True)
class AttentionExample:
    """Where the pooling looks in one utterance."""

    title: str
    weights: Mapping[str, NDArray[np.float32]]  # branch -> (T,)
    waveform: NDArray[np.float32] | None = None  # (n,) samples at 16 kHz


def choose_examples(
    path: Path, system: Predictions, wavs: Mapping[str, str]
) -> list[AttentionExample]:
    """Take one utterance of each annotated class, the one of median length.

    There are at most `MAX_EXAMPLES`, in the order of the classes. Titles are from the
    predictions; `wavs` has each utterance's wav file, drawn behind the weights.

    Raises:
        UserError: The file is no npz, is empty or malformed, has no utterance of the
            predictions, or a wav file is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such attention file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _choose(path, archive, system, wavs)
    except (BadZipFile, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable npz file ({error})") from None


def _choose(
    path: Path,
    archive: Mapping[str, NDArray],
    system: Predictions,
    wavs: Mapping[str, str],
) -> list[AttentionExample]:
    branches: dict[str, list[str]] = {}
    for key in sorted(archive, reverse=True):
        utterance, slash, branch = key.rpartition("/")
        if not slash:
            raise UserError(f"{path}: key {key!r} is not '<utterance>/<branch>'")
        branches.setdefault(utterance, []).append(branch)
    rows = {u: row for row, u in enumerate(system.ids) if u in branches}
    if not rows:
        raise UserError(f"{path}: no utterance of {system.path} is in it")

    def length(utterance: str) -> int:
        return len(archive[f"{utterance}/{branches[utterance][0]}"])

    chosen = []
    for index in range(len(system.classes)):
        # A sample is enough, and reading all arrays of a large set is not quick.
        members = [u for u, row in rows.items() if system.true_class[row] == index][:50]
        if members:
            chosen.append(sorted(members, key=length)[len(members) // 2])
    examples = []
    for utterance in (chosen or list(rows))[:MAX_EXAMPLES]:
        keys = {branch: f"{utterance}/{branch}" for branch in branches[utterance]}
        weights = {b: _weights(path, archive, key) for b, key in keys.items()}
        waveform = _waveform(wavs[utterance]) if utterance in wavs else None
        title = _title(system, rows[utterance])
        examples.append(AttentionExample(title, weights, waveform))
    return examples


def _weights(
    path: Path, archive: Mapping[str, NDArray], key: str
) -> NDArray[np.float32]:
    weights = archive[key]  # (T,)
    total = float(weights.sum())
    if weights.ndim != 1 or not abs(total - 1.0) < _SUM_TOLERANCE:
        raise UserError(
            f"{path}: {key}: expected weights of shape (T,) that sum to 1, got shape "
            f"{weights.shape} and sum {total:g}"
        )
    return weights


def _title(system: Predictions, row: int) -> str:
    ids = {"annotated": system.true_class, "predicted": system.pred_class}
    parts = [
        f"{word} {class_name(system.classes[each[row]])}"
        for word, each in ids.items()
        if each is not None and each[row] >= 0
    ]
    if system.predicts_attributes:
        values = []
        for name, predicted in system.pred.items():
            true = system.true[name][row]
            text = "" if np.isnan(true) else f" ({true:.1f})"
            values.append(f"{name[0].upper()} {predicted[row]:.1f}{text}")
        parts.append("  ".join(values) + " (annotated)")
    return f"{system.ids[row]}:  " + ",  ".join(parts)


def _waveform(wav: str) -> NDArray[np.float32] | None:
    """Samples, shape (n,); None where the file cannot be read."""
    if not Path(part_piece(wav)[0]).is_file():
        raise UserError(f"{wav}: no such wav file (named in wav.scp)")
    try:
        return load_waveform(wav)
    except UserError:  # the weights can be drawn without
        return None


def plot_attention(name: str, examples: Sequence[AttentionExample]) -> Figure:
    """Pooling weights over time, above the waveform where there is one.

    Weights are drawn as multiples of the uniform weight 1/T, so that utterances of
    different lengths compare: 1 is plain averaging.
    """
    figure, drawn = panels([""] * len(examples), 1, (8.0, 1.35), room=(0.0, 1.0))
    styles: dict[str, tuple[str, str]] = {"uniform weight": (FAINT, ":")}
    for axes, example in zip(drawn, examples, strict=True):
        styles |= draw_attention(axes, example)
        axes.set_title(example.title, fontsize=9, loc="left", pad=3)
    with_time = any(example.waveform is not None for example in examples)
    axes.set_xlabel("time (s)" if with_time else "encoder frame")
    figure.supylabel("pooling weight (multiples of 1/T)", fontsize=9.5)
    figure.suptitle(f"{name}: where the pooling attends", fontsize=11)
    handles = [
        Line2D([], [], color=color, ls=line, label=label)
        for label, (color, line) in styles.items()
    ]
    legend_below(figure, handles)
    return figure


def draw_attention(axes: Axes, example: AttentionExample) -> dict[str, tuple[str, str]]:
    """Draw the weights of one utterance; return color and line of each branch."""
    styles = {}
    end = float(max(len(weights) for weights in example.weights.values()))
    if example.waveform is not None:
        end = len(example.waveform) / RATE
        _draw_waveform(axes, example.waveform, end)
    for branch, weights in example.weights.items():
        color, line = _BRANCH_STYLES.get(branch, ("#000000", "-."))
        styles[branch.replace("_", ": ")] = (color, line)
        middles = (np.arange(len(weights)) + 0.5) * end / len(weights)
        axes.plot(middles, weights * len(weights), color=color, ls=line, lw=1.4)
    axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlim(0.0, end)
    axes.set_ylim(bottom=0.0)
    tidy(axes)
    return styles


def _draw_waveform(axes: Axes, waveform: NDArray[np.float32], end: float) -> None:
    """Draw the envelope of the samples behind the weights, on a scale of its own."""
    parts = np.array_split(waveform - waveform.mean(), min(len(waveform), 1200))
    ends = np.array([[part.min(), part.max()] for part in parts])  # (bins, 2)
    ends /= max(np.abs(ends).max(), 1e-9)
    middles = (np.arange(len(ends)) + 0.5) * end / len(ends)
    behind = axes.twinx()
    behind.fill_between(middles, *ends.T, color="#CFCFCF", linewidth=0)
    behind.set_ylim(-1.1, 1.1)
    behind.set_yticks([])
    behind.spines[:].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)

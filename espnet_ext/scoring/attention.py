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
from numpy.typing import NDArray

from espnet_ext.corpora.audio import RATE, load_waveform
from espnet_ext.corpora.pieces import part_piece
from espnet_ext.errors import UserError
from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.plots import FAINT, legend_below, tidy
from espnet_ext.scoring.predictions import Predictions

# More rows than this do not fit on a page.
MAX_EXAMPLES = 6
# Softmax weights in 32 bits over some thousand frames.
_SUM_TOLERANCE = 1e-2


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


def read_wav_scp(path: Path | str) -> dict[str, str]:
    """Read ``utterance path`` lines.

    Raises:
        UserError: The file is missing or a line has no path.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such wav.scp")
    found = {}
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        if len(fields) == 1:
            raise UserError(f"{path}:{number}: expected 'utterance path', got {line!r}")
        found[fields[0]] = fields[1].strip()
    return found


def choose_examples(
    path: Path | str, system: Predictions, wavs: Mapping[str, str] | None = None
) -> list[AttentionExample]:
    """Take one utterance of each annotated class, the one of median length.

    Args:
        path: attention.npz of the system.
        system: Its predictions, for classes and titles.
        wavs: Utterance -> wav file, for the waveform behind the weights.

    Returns:
        At most `MAX_EXAMPLES` examples, in the order of the classes.

    Raises:
        UserError: The file is no npz, is empty or malformed, has no utterance of the
            predictions, or a wav file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such attention file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _choose(path, archive, system, wavs or {})
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

    chosen: list[str] = []
    for index in range(len(system.classes)):
        members = [u for u, row in rows.items() if system.true_class[row] == index]
        if members:
            chosen.append(_median_length(members, archive, branches))
    if not chosen:  # no class is known
        chosen = sorted(rows)
    return [
        AttentionExample(
            _title(system, rows[utterance]),
            {b: _weights(path, archive, utterance, b) for b in branches[utterance]},
            *_waveform(wavs.get(utterance)),
        )
        for utterance in chosen[:MAX_EXAMPLES]
    ]


def _median_length(
    members: list[str],
    archive: Mapping[str, NDArray],
    branches: Mapping[str, list[str]],
) -> str:
    # A sample is enough, and reading all arrays of a large set is not quick.
    members = sorted(members)[:50]
    lengths = {u: len(archive[f"{u}/{branches[u][0]}"]) for u in members}
    return sorted(members, key=lambda u: (lengths[u], u))[len(members) // 2]


def _weights(
    path: Path, archive: Mapping[str, NDArray], utterance: str, branch: str
) -> NDArray[np.float32]:
    weights = archive[f"{utterance}/{branch}"]
    whole = weights.ndim == 1 and len(weights) > 0
    if not whole or not abs(float(weights.sum()) - 1.0) < _SUM_TOLERANCE:
        raise UserError(
            f"{path}: {utterance}/{branch}: expected weights of shape (T,) that sum to "
            f"1, got shape {weights.shape} and sum {float(weights.sum()):g}"
        )
    return weights


def _title(system: Predictions, row: int) -> str:
    parts = []
    if system.true_class[row] >= 0:
        parts.append(f"annotated {class_name(system.classes[system.true_class[row]])}")
    if system.pred_class is not None:
        parts.append(f"predicted {class_name(system.classes[system.pred_class[row]])}")
    if system.predicts_attributes:
        values = (
            f"{name[0].upper()} {system.pred[name][row]:.1f}"
            + (
                ""
                if np.isnan(system.true[name][row])
                else f" ({system.true[name][row]:.1f})"
            )
            for name in system.pred
        )
        parts.append("  ".join(values) + " (annotated)")
    return f"{system.ids[row]}:  " + ",  ".join(parts)


def _waveform(wav: str | None) -> tuple[NDArray[np.float32] | None, int]:
    """Samples and rate; no samples where the file cannot be read."""
    if wav is None:
        return None, RATE
    if not Path(part_piece(wav)[0]).is_file():
        raise UserError(f"{wav}: no such wav file (named in wav.scp)")
    try:
        samples: NDArray[np.float32] = load_waveform(wav)  # (n,)
    except UserError:  # the weights can be drawn without
        return None, RATE
    return np.asarray(samples - samples.mean(), dtype=np.float32), RATE


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
            color, line = _BRANCH_STYLES.get(branch, ("#000000", "-."))
            branches[branch] = (color, line)
            middles = (np.arange(len(weights)) + 0.5) * end / len(weights)
            axes.plot(
                middles, weights * len(weights), color=color, linestyle=line, lw=1.4
            )
        axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":")
        axes.set_xlim(0.0, end)
        axes.set_ylim(bottom=0.0)
        axes.set_title(example.title, fontsize=9, loc="left", pad=3)
        tidy(axes)
    with_time = any(example.waveform is not None for example in examples)
    grid[-1].set_xlabel("time (s)" if with_time else "encoder frame")
    figure.supylabel("pooling weight (multiples of 1/T)", fontsize=9.5)
    figure.suptitle(f"{name}: where the pooling attends", fontsize=11)
    handles = [
        grid[0].plot(
            [], [], color=color, linestyle=line, label=branch.replace("_", ": ")
        )[0]
        for branch, (color, line) in branches.items()
    ]
    handles.append(grid[0].plot([], [], color=FAINT, ls=":", label="uniform weight")[0])
    legend_below(figure, handles)
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

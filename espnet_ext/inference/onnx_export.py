"""Write a trained model, upstream included, as one ONNX graph in a package of its own.

The package holds ``model.onnx``, ``ser_info.yaml``, ``meta.yaml`` and the card. It is
only left behind if onnxruntime gives the same numbers as torch.
"""

import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_ext.corpora.audio import RATE
from espnet_ext.errors import UserError
from espnet_ext.inference.card import model_card
from espnet_ext.inference.emotion import SpeechEmotion
from espnet_ext.inference.onnx_model import (
    LONGEST,
    MIN_SAMPLES,
    WAVE,
    OnnxSpeechEmotion,
)
from espnet_ext.inference.pack import CARD, INFO, require_licence, without_paths
from espnet_ext.inference.package import META, model_files
from espnet_ext.utils.atomic import atomic_dir, atomic_file

if TYPE_CHECKING:
    import onnx_ir
    from torch import nn

GRAPH = "model.onnx"
TOLERANCE = 1e-4  # between torch and onnxruntime, in probabilities and attributes
PARITY_SECONDS = (0.05, 0.3, 1.0, 2.7, 6.1, 12.0)
_MOST_BYTES = 1 << 31  # of a file in ONNX's format; larger parameters lie beside it


def export_model(
    model: Path | str,
    output: Path,
    upstream: str | None = None,
    *,
    licence_ack: bool = False,
) -> float:
    """Export a model and compare what it answers.

    Args:
        model: As in `SpeechEmotion.from_pretrained`.
        output: Folder, or a zip if its name ends so.
        upstream: Name or folder in the place of the model's own.
        licence_ack: As in `pack.pack_experiment`.

    Returns:
        The largest difference of any probability or attribute between torch and
        onnxruntime over clips of `PARITY_SECONDS`.

    Raises:
        UserError: The model has a part that cannot be exported, or the answers differ
            by more than `TOLERANCE`; nothing is left behind then.
    """
    if output.suffix != ".zip" and output.exists() and not (output / META).is_file():
        raise UserError(f"--output {output} exists and is no package; choose another")
    with model_files(model) as files:
        if "ser_onnx_file" in files:
            raise UserError(f"{model} is an exported model already")
        if upstream is not None:
            files["upstream"] = upstream
        arguments: dict[str, Any] = {**files, "device": "cpu"}
        ser = SpeechEmotion(**arguments)
        if ser.info.members:
            raise UserError(f"{model} is an ensemble; export its trainings one by one")
        require_licence(ser.info, licence_ack=licence_ack)
        graph = _write_graph(ser)
    with _place(output) as folder:
        _save(graph, folder / GRAPH)
        _write_beside(ser, folder, output.name)
        exported = OnnxSpeechEmotion(folder / GRAPH, folder / INFO, device="cpu")
        return compare(ser, exported)


def compare(ser: SpeechEmotion, exported: SpeechEmotion) -> float:
    """Return the largest difference between two models' answers on made-up clips.

    Raises:
        UserError: It is over `TOLERANCE`.
    """
    rng = np.random.default_rng(0)
    largest = 0.0
    for seconds in PARITY_SECONDS:
        clip = _made_up(rng, seconds)
        one, other = _numbers(ser, clip), _numbers(exported, clip)
        difference = float(np.abs(one - other).max())
        if not difference <= TOLERANCE:  # NaN is over it too
            raise UserError(
                f"onnxruntime's answer differs from torch's by {difference:.1e} on "
                f"{seconds} s of sound; over {TOLERANCE:g}, so nothing is written"
            )
        largest = max(largest, difference)
    return largest


def _numbers(ser: SpeechEmotion, wave: np.ndarray) -> np.ndarray:
    result = ser(wave, RATE).to_dict()
    attributes = [result[name] for name in ("valence", "arousal", "dominance")]
    found = [*(result["scores"] or {}).values(), *attributes]
    return np.array([value for value in found if value is not None])


def _made_up(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Make tones that come and go in noise (n,)."""
    time = np.arange(max(MIN_SAMPLES, round(seconds * RATE))) / RATE
    tones = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(80, 3000, 5))
    swell = 1.1 + np.sin(2 * np.pi * rng.uniform(1, 4) * time)
    wave = 0.05 * tones * swell + 0.005 * rng.standard_normal(len(time))
    return wave.astype(np.float32)


def _write_graph(ser: SpeechEmotion) -> "onnx_ir.Model":
    """Trace upstream and model to a graph."""
    try:
        import onnxscript  # noqa: F401 - the exporter of torch needs it
    except ImportError as error:
        raise UserError(f"{error}; pip install 'espnet_ext[export]'") from error
    import torch

    from espnet_ext.inference.onnx_attention import OPSET, TRANSLATIONS
    from espnet_ext.inference.onnx_graph import WholeModel

    upstream, frames = _make_upstream(ser)
    calibration = ser.info.calibration
    whole = WholeModel(
        upstream,
        ser.model,
        ser.features.dtype,
        frames,
        None if calibration is None else calibration.temperature,
    ).eval()
    wave = torch.from_numpy(_made_up(np.random.default_rng(1), 3.0))
    whole(wave)  # notes the names
    try:
        with _silence():
            program: Any = torch.onnx.export(
                whole,
                (wave,),
                input_names=[WAVE],
                output_names=whole.names,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                dynamo=True,
                optimize=True,
                opset_version=OPSET,
                custom_translation_table=TRANSLATIONS,
            )
    except Exception as error:  # its errors share no base class
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"this model has a part without an ONNX form: {cause}") from (
            error
        )
    described = {**ser.info.as_dict(), "sampling_rate": RATE, "labels": ser.labels}
    program.model.metadata_props.update({k: str(v) for k, v in described.items()})
    return program.model


def _make_upstream(ser: SpeechEmotion) -> tuple["nn.Module", int]:
    """Make the upstream that can be traced, and count its frames in `LONGEST`."""
    from espnet_ext.features.canonical_weights import Checkpoint
    from espnet_ext.features.upstream import load_checkpoint
    from espnet_ext.inference.onnx_graph import TracedUpstream

    config = ser.features
    loaded = load_checkpoint(config.upstream)
    if not isinstance(loaded, Checkpoint):
        raise UserError(
            f"upstream {config.upstream.name} ({config.upstream.source}) has no ONNX "
            "form; models on HuBERT, wav2vec 2.0 and WavLM can be exported"
        )
    if config.compute != "float32":
        raise UserError(
            f"this model was trained on features of compute: {config.compute}, whose "
            "numbers a graph does not give; train on compute: float32"
        )
    frames = loaded.architecture.num_frames(LONGEST * RATE)
    return TracedUpstream(loaded, config), frames


def _save(graph: "onnx_ir.Model", path: Path) -> None:
    import onnx_ir

    tensors = [value.const_value for value in graph.graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    beside = f"{path.name}.data" if size > 0.9 * _MOST_BYTES else None
    onnx_ir.save(graph, path, external_data=beside)


def _write_beside(ser: SpeechEmotion, folder: Path, name: str) -> None:
    """Write what makes a package of the graph."""
    import torch
    import yaml

    info = without_paths(ser.info)
    meta = {
        "files": {"ser_onnx_file": GRAPH},
        "yaml_files": {"ser_info": INFO},
        "timestamp": datetime.now(UTC).timestamp(),
        "torch": str(torch.__version__),
        "espnet": version("espnet"),
    }
    for file, content in ((META, meta), (INFO, info.as_dict())):
        text = yaml.safe_dump(content, sort_keys=False)
        (folder / file).write_text(text, encoding="utf-8")
    card = model_card(info, ser.labels, name)
    (folder / CARD).write_text(card, encoding="utf-8")


@contextmanager
def _place(output: Path) -> Iterator[Path]:
    """Yield a folder that becomes `output`, zipped if that is its suffix."""
    if output.suffix != ".zip":
        with atomic_dir(output) as folder:
            yield folder
        return
    with (
        atomic_file(output) as temporary,
        tempfile.TemporaryDirectory(dir=temporary.parent, prefix=".tmp-") as folder,
    ):
        yield Path(folder)
        with zipfile.ZipFile(temporary, "w") as archive:  # numbers hardly shrink
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress and its notes on torchvision off the terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)

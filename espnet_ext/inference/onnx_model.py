"""`SpeechEmotion` of an exported model: onnxruntime and numpy, without torch.

The graph takes one waveform and gives what `train.prediction.UtterancePrediction`
holds; `onnx_export` writes it and names its inputs and outputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.inference.emotion import SpeechEmotion, find_temperature
from espnet_ext.inference.info import read_info
from espnet_ext.train.prediction import UtterancePrediction, name_attention

if TYPE_CHECKING:
    import onnxruntime

WAVE = "wave"  # the graph's input
ATTENTION, EMBEDDING = "attention_", "embedding_"  # outputs, a branch's name behind
MIN_SAMPLES = 400  # one frame of the upstreams that can be exported
LONGEST = 300  # seconds of one answer: the graph computes a recording as a whole


class OnnxSpeechEmotion(SpeechEmotion):
    """An exported model; all of `SpeechEmotion` but its torch `model` and `features`.

    Args:
        ser_onnx_file: The graph of ``ser export``.
        ser_info: ``ser_info.yaml`` beside it.
        upstream: None: the graph holds it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``float32``: the graph's own.
        scores: As in `SpeechEmotion`.

    Raises:
        UserError: A file is damaged, an argument is of no use here, or onnxruntime is
            missing.
    """

    longest = LONGEST

    def __init__(
        self,
        ser_onnx_file: Path | str,
        ser_info: Path | str,
        upstream: Path | str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        scores: Literal["raw", "calibrated"] = "raw",
    ) -> None:
        if upstream is not None:
            raise UserError("an exported model holds its upstream; leave upstream out")
        if dtype != "float32":
            raise UserError(f"dtype {dtype}: an exported model computes in float32")
        self.info = read_info(ser_info)
        self.temperature = find_temperature(self.info, scores)
        self._network = OnnxNetwork(str(ser_onnx_file), device)


class OnnxNetwork:
    """What computes in `OnnxSpeechEmotion`, as `network.Network` does with torch."""

    notes: tuple[str, ...] = ()
    min_samples = MIN_SAMPLES

    def __init__(self, path: str, device: str) -> None:
        self.device = device
        self._session = _load(path, device)
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def models(self) -> NoReturn:
        """An exported model has none.

        Raises:
            UserError: Always.
        """
        raise UserError("an exported model is no torch model; use what it was made of")

    features = models

    def predict(self, waves: Sequence[np.ndarray]) -> list[UtterancePrediction]:
        """Predict waveforms (n,), 16 kHz, one after the other."""
        return [self._predict_one(wave) for wave in waves]

    def _predict_one(self, wave: np.ndarray) -> UtterancePrediction:
        samples = np.ascontiguousarray(wave, dtype=np.float32)  # (n,)
        values = self._session.run(self._outputs, {WAVE: samples})
        named = dict(zip(self._outputs, values, strict=True))
        attention: dict[str, np.ndarray] = {}
        for branch, heads in _behind(ATTENTION, named).items():
            attention |= name_attention(branch, heads)  # (H, T)
        return UtterancePrediction(
            id="",
            probabilities=_wide(named.get("probabilities")),
            attributes=_wide(named.get("attributes")),
            embeddings=_behind(EMBEDDING, named),
            attention=attention,
        )


def _load(path: str, device: str) -> "onnxruntime.InferenceSession":
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path} needs onnxruntime ({error}); pip install 'espnet_ext[onnx]'"
        ) from error
    providers = _providers(device)
    try:
        return onnxruntime.InferenceSession(path, providers=providers)
    except Exception as error:  # its errors share no base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: no graph that onnxruntime can run ({reason})") from (
            error
        )


def _providers(device: str) -> list[Any]:
    """Choose what computes; a GPU needs the package onnxruntime-gpu."""
    import onnxruntime

    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"device is {device!r}; auto, cpu, cuda or cuda:N")
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if kind == "cuda" and not has_gpu:
        raise UserError(
            f"device {device}: this onnxruntime computes on the CPU only; install "
            "onnxruntime-gpu in its place"
        )
    if kind == "cpu" or not has_gpu:
        return ["CPUExecutionProvider"]
    options = {"device_id": int(number or 0), "use_tf32": 0}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _behind(prefix: str, named: dict[str, Any]) -> dict[str, np.ndarray]:
    """Take the outputs whose names begin with `prefix`, by what follows it."""
    return {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}


def _wide(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else values.astype(np.float64)

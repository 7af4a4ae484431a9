"""A trained model behind its upstream: waveforms in, predictions out."""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.resolve_device import resolve_device

from espnet_ext.errors import UserError
from espnet_ext.features.config import FeatureConfig
from espnet_ext.features.frontend import OnlineUpstream
from espnet_ext.inference.ensemble import combine
from espnet_ext.inference.info import ModelInfo
from espnet_ext.tasks.model import load_trained
from espnet_ext.train.inference import predict_utterances
from espnet_ext.train.prediction import UtterancePrediction

DTYPES = ("float32", "bfloat16")


class Network:
    """What computes in `SpeechEmotion`. Threads may share it: one computes at a time.

    Args:
        config: Content of the training's ``config.yaml``.
        path: Name of that file.
        parameters: Files with the parameters of each member; of one model one.
        info: Of the model; which upstream, at which precision.
        upstream: Name or folder that replaces the upstream's name.
        device: As in `SpeechEmotion`.
        dtype: As in `SpeechEmotion`.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1``.
        models: What is behind the upstream: a model, or the members of an ensemble.
        notes: Doubts about all its answers.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        path: Path,
        parameters: Sequence[Path],
        info: ModelInfo,
        upstream: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
    ) -> None:
        try:
            self.device = resolve_device(device)
        except ValueError as error:
            raise UserError(f"device: {error}") from None
        self.notes: tuple[str, ...] = ()
        self._lock = threading.Lock()
        features = _at_precision(info.features, dtype)
        if config.get("frontend") == "online":  # trained on raw audio

            def load(weights: str | None) -> Any:
                own = {"config": features, "upstream": upstream}
                conf = {**config["frontend_conf"], **own, "weights_hash": weights}
                whole = {**config, "frontend_conf": conf}
                return [load_trained(whole, path, file) for file in parameters]

            self.models = self._check_weights(load, info, upstream)
            self._online: OnlineUpstream = self.models[0].frontend
            for model in self.models:
                model.frontend = model.frontend.reduce
        else:
            self.models = [load_trained(config, path, file) for file in parameters]
            layer_norm = bool(getattr(self.models[0].frontend, "layer_norm", False))
            self._online = self._check_weights(
                lambda weights: OnlineUpstream(features, upstream, weights, layer_norm),
                info,
                upstream,
            )

    @property
    def features(self) -> FeatureConfig:
        """What the upstream computes."""
        return self._online.config

    @property
    def min_samples(self) -> int:
        """Samples that the upstream needs for a frame."""
        return self._online.min_samples

    def predict(self, waves: Sequence[np.ndarray]) -> list[UtterancePrediction]:
        """Predict waveforms (n,), 16 kHz, together."""
        names = [str(i) for i in range(len(waves))]
        with self._lock:
            speech = dict(zip(names, self._states(waves), strict=True))
            answers = [
                list(predict_utterances(model, speech, [names], self.device))
                for model in self.models
            ]
        return combine(answers)

    def _states(self, waves: Sequence[np.ndarray]) -> list[Any]:
        """Compute the upstream's states (T, L, D) or (T, D) of waveforms."""
        lengths = torch.tensor([len(wave) for wave in waves])
        padded = torch.zeros(len(waves), int(lengths.max()), device=self.device)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(np.array(wave, dtype=np.float32))
        return self._online.states(padded, lengths)[0]

    def _check_weights(
        self, load: Callable[[str | None], Any], info: ModelInfo, upstream: str | None
    ) -> Any:
        """Load; an upstream that the user chose may have other weights."""
        try:
            return load(info.weights or None)
        except UserError as error:
            if upstream is None or "other weights" not in str(error):
                raise
            warnings.warn(str(error), stacklevel=5)
            self.notes = (str(error),)
            return load(None)


def _at_precision(features: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Say at which precision the upstream computes."""
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; choose from {', '.join(DTYPES)}")
    compute = str(features.get("compute", "float32"))
    if dtype == "float32" or compute.startswith(dtype):
        return dict(features)
    return {**features, "compute": dtype}

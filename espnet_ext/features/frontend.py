"""ESPnet frontends for frozen features: from a store, or computed on the fly.

A model trained with one can be used with the other: both end in the same weighted sum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from espnet_ext.errors import UserError
from espnet_ext.features.config import (
    FeatureConfig,
    load_feature_config,
    parse_feature_config,
    resolve_layers,
)
from espnet_ext.features.layer_sum import weighted_sum
from espnet_ext.features.precision import dequantize, quantize, storage_dtype


class CachedFeatures(AbsFrontend):
    """Features as a store gives them, reduced to one vector a frame.

    Several hidden states are summed with trained weights, as in s3prl's featurizer
    (SUPERB, Yang et al. 2021): ``sum_l softmax(w)_l h_l``, all equal at the start.

    Args:
        input_size: D.
        num_layers: L; 1 passes features through.
        layer_norm: Normalize each state over D before the sum (no weights).
    """

    def __init__(
        self, input_size: int, num_layers: int = 1, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.num_layers = num_layers
        self.layer_norm = layer_norm
        if num_layers > 1:
            self.weights = nn.Parameter(torch.zeros(num_layers))

    def output_size(self) -> int:
        """Return D."""
        return self.input_size

    def forward(
        self, input: Tensor | Sequence[Tensor], input_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Reduce the hidden states to (B, T, D) fp32; a sum is zero behind a row's end.

        Args:
            input: (B, T, D), or (B, T, L, D) where L > 1, or B arrays of such rows
                (t, ...); any float precision.
            input_lengths: (B,) frames, returned as they are.
        """
        layers = (self.num_layers,) if self.num_layers > 1 else ()
        shape = tuple(input[0].shape[1:])
        if shape != (*layers, self.input_size):
            raise UserError(
                f"features have the shape (B, T, {', '.join(map(str, shape))}"
                f"), but this model was made for {self.num_layers} hidden states of "
                f"width {self.input_size}: use a store made with the same config"
            )
        if self.num_layers > 1:
            weights = self.weights.softmax(0)  # (L,)
            frames = max(map(len, input))
            x = weighted_sum([*input], frames, weights, self.layer_norm)
            if isinstance(input, Tensor):
                real = torch.arange(frames, device=x.device) < input_lengths[:, None]
                x = x.where(real[..., None], 0)
            return x, input_lengths
        padded = input if isinstance(input, Tensor) else pad_sequence([*input], True)
        x = padded.float()  # (B, T, D)
        if self.layer_norm:
            x = F.layer_norm(x, x.shape[-1:])
        return x, input_lengths


def read_feature_config(
    config: str | Mapping[str, Any], upstream: str | None = None
) -> FeatureConfig:
    """Read the config that `OnlineUpstream` has among its arguments."""
    if isinstance(config, str):
        return load_feature_config(config, upstream)
    return parse_feature_config(config, "frontend_conf: config", upstream)


class OnlineUpstream(AbsFrontend):
    """The frozen upstream on raw audio, with the numbers that a store would hold.

    Only the weights of the sum are trained and saved.

    Args:
        config: A feature config: path of its YAML file, or its content.
        upstream: Replaces ``upstream.name`` of the config.
        weights_hash: The ``weights`` of a store; other weights are refused.
        layer_norm: As in `CachedFeatures`.
    """

    def __init__(
        self,
        config: str | Mapping[str, Any],
        upstream: str | None = None,
        weights_hash: str | None = None,
        layer_norm: bool = False,
    ) -> None:
        from espnet_ext.features.upstream import load_upstream

        super().__init__()
        self.config = read_feature_config(config, upstream)
        loaded = load_upstream(self.config)
        if weights_hash is not None and loaded.weights != weights_hash:
            raise UserError(
                f"upstream {self.config.upstream.name} has other weights "
                f"({loaded.weights[:12]}...) than the model was trained on "
                f"({weights_hash[:12]}...)"
            )
        # In a tuple, so that it is no submodule: not trained, not saved.
        self._upstream = (loaded,)
        self.layers = resolve_layers(self.config.layers, loaded.num_states)
        self.frame_shift = loaded.frame_shift
        self.min_samples = loaded.min_samples
        self.reduce = CachedFeatures(loaded.dim, len(self.layers), layer_norm)

    def output_size(self) -> int:
        """Return D."""
        return self.reduce.output_size()

    @torch.no_grad()
    def states(
        self, input: Tensor, input_lengths: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the hidden states of waveforms (B, n), 16 kHz, of (B,) samples.

        Returns:
            B arrays (t, D) or (t, L, D) in the precision that a store gives, autocast
            or not, and their frames (B,).
        """
        upstream = self._upstream[0].to(input.device)
        lengths = input_lengths.tolist()
        if min(lengths) < self.min_samples:
            raise UserError(
                f"a waveform has {min(lengths)} samples; the upstream needs "
                f"{self.min_samples}: take the utterance out of the set"
            )
        waves = [x[:n].float() for x, n in zip(input, lengths, strict=True)]
        dtype = self.config.dtype
        # A store is never filled under autocast.
        with torch.autocast(input.device.type, enabled=False):
            states = upstream.extract(waves, self.layers, storage_dtype(dtype))
            if dtype == "int8":
                states = [dequantize(*quantize(state)) for state in states]
        frames = torch.tensor([s.shape[1] for s in states], device=input.device)
        one = len(self.layers) == 1
        return [x[0] if one else x.transpose(0, 1) for x in states], frames

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (B, T, D) fp32, and frames (B,), from what `states` takes."""
        return self.reduce(*self.states(input, input_lengths))

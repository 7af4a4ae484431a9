"""One waveform through upstream and model, as torch can write it down as a graph.

The exact path of `features.packed_encoder` and of `encoders.block_attention` is made
for speed in torch: views of memory, private operators, decisions by length. Here is the
same mathematics for a single utterance in plain operators and `onnx_attention`.
"""

import copy
from typing import Any

import torch
from espnet2.layers.utterance_mvn import UtteranceMVN
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    RelPositionMultiHeadedAttention,
)
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_ext.features.canonical_weights import Checkpoint
from espnet_ext.features.config import FeatureConfig, resolve_layers
from espnet_ext.features.frontend import CachedFeatures
from espnet_ext.features.packed_convolutions import EPS
from espnet_ext.features.packed_encoder import WAVEFORM_EPS, Gate, position_bias
from espnet_ext.features.precision import dequantize, quantize
from espnet_ext.inference.onnx_attention import attend
from espnet_ext.inference.onnx_model import ATTENTION, EMBEDDING
from espnet_ext.ser.model import ESPnetSERModel


class WholeModel(nn.Module):
    """Waveform (n,) to the outputs of `names`, in this order.

    They are ``logits`` (K,), ``probabilities`` (K,), ``calibrated`` (K,) where there is
    a `temperature`, ``attributes`` (3,) on the model's scale, and of each branch
    ``attention_BRANCH`` (H, T) and ``embedding_BRANCH`` (E,).

    Args:
        upstream: Waveform (n,) to its hidden states (L, T, D).
        model: The trained model; it is copied.
        dtype: Of the store that it was trained on; states are rounded as there.
        frames: The most that the graph must take; for encoders that look up positions.
        temperature: What calibrates the probabilities, or None.
    """

    def __init__(
        self,
        upstream: nn.Module,
        model: ESPnetSERModel,
        dtype: str,
        frames: int,
        temperature: float | None,
    ) -> None:
        super().__init__()
        self.upstream = upstream
        self.model = copy.deepcopy(model).cpu().float().eval()
        _make_traceable(self.model, frames)
        self.dtype = dtype
        self.temperature = temperature
        self.names: list[str] = []
        self.requires_grad_(False)

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs, and note their names."""
        states = _rounded(self.upstream(wave), self.dtype)  # (L, T, D)
        feats = _reduced(states, self.model.frontend)[None]  # (1, T, D)
        lengths = torch.full((1,), feats.shape[1])
        output = self.model.decode(*self.model.encode(feats, lengths))
        named: dict[str, Tensor] = {}
        if output.logits is not None:
            named["logits"] = output.logits
            named["probabilities"] = output.logits.softmax(-1)
            if self.temperature is not None:
                named["calibrated"] = (output.logits / self.temperature).softmax(-1)
        if output.attributes is not None:
            named["attributes"] = output.attributes
        named |= {f"{ATTENTION}{name}": x for name, x in output.attention.items()}
        named |= {f"{EMBEDDING}{name}": x for name, x in output.embeddings.items()}
        self.names = list(named)
        return tuple(x[0] for x in named.values())


class TracedUpstream(nn.Module):
    """HuBERT, wav2vec 2.0 or WavLM on one waveform; see `packed_encoder`."""

    def __init__(self, checkpoint: Checkpoint, config: FeatureConfig) -> None:
        super().__init__()
        self.architecture = checkpoint.architecture
        self.layers = resolve_layers(
            config.layers, self.architecture.num_hidden_layers + 1
        )
        self.normalize = checkpoint.normalize
        if config.normalize != "auto":
            self.normalize = config.normalize
        weights = dict(checkpoint.weights)
        name = "encoder.pos_conv_embed.conv."
        direction = weights.pop(f"{name}weight_v")  # (D, D / groups, taps)
        length = direction.norm(dim=(0, 1), keepdim=True)  # (1, 1, taps)
        weights[f"{name}weight"] = direction * (weights.pop(f"{name}weight_g") / length)
        self.gates = nn.ModuleList()
        if self.architecture.num_buckets:
            self.gates += [
                Gate(weights, f"encoder.layers.{i}.attention.")
                for i in range(max(self.layers))
            ]
        for name, tensor in weights.items():
            self.register_buffer(name.replace(".", "/"), tensor)

    def forward(self, wave: Tensor) -> Tensor:
        """Compute the hidden states (L, T, D) of a waveform (n,) at 16 kHz."""
        if self.normalize:
            wave = _standardized(wave, WAVEFORM_EPS)
        x = self._convolve(wave)  # (T, C)
        if self.architecture.feat_proj_layer_norm:
            x = self._norm("feature_projection.layer_norm", x)
        x = self._linear("feature_projection.projection", x)  # (T, D)
        x = x + self._position(x)
        first = self.architecture.do_stable_layer_norm
        if not first:
            x = self._norm("encoder.layer_norm", x)
        bias = None
        if self.architecture.num_buckets:
            embedding = self._weight("encoder.layers.0.attention.rel_attn_embed.weight")
            bias = position_bias(embedding, self.architecture, len(x), x.device)
        states = [x]
        for number in range(max(self.layers)):
            x = self._layer(number, x, bias)
            states.append(x)
        if first and len(states) > self.architecture.num_hidden_layers:
            states[-1] = self._norm("encoder.layer_norm", x)
        return torch.stack([states[i] for i in self.layers])

    def _convolve(self, wave: Tensor) -> Tensor:
        """Compute the frames (T, C) of the last convolution."""
        x = wave[None, None]  # (1, 1, n)
        by_layer = self.architecture.feat_extract_norm == "layer"
        for i, (_, _, stride) in enumerate(self.architecture.conv_layers):
            name = f"feature_extractor.conv_layers.{i}."
            bias = self._weight(f"{name}conv.bias")
            x = F.conv1d(x, self._weight(f"{name}conv.weight"), bias, stride)
            if by_layer:
                x = self._norm(f"{name}layer_norm", x.mT, EPS).mT
            elif i == 0:  # over time, each channel for itself
                weight = self._weight(f"{name}layer_norm.weight")[:, None]
                x = _standardized(x, EPS) * weight
                x = x + self._weight(f"{name}layer_norm.bias")[:, None]
            x = F.gelu(x)
        return x[0].T

    def _position(self, x: Tensor) -> Tensor:
        """Compute the position embedding (T, D) of (T, D)."""
        taps = self.architecture.num_conv_pos_embeddings
        name = "encoder.pos_conv_embed.conv."
        y = F.conv1d(
            x.T[None],
            self._weight(f"{name}weight"),
            self._weight(f"{name}bias"),
            padding=taps // 2,
            groups=self.architecture.num_conv_pos_embedding_groups,
        )[0]  # (D, T), and one more where `taps` is even
        return F.gelu(y[:, :-1] if taps % 2 == 0 else y).T

    def _layer(self, number: int, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute a transformer layer on (T, D); `bias` (H, 2 T - 1) by distance."""
        name = f"encoder.layers.{number}."
        if self.architecture.do_stable_layer_norm:
            y = self._norm(f"{name}layer_norm", x)
            x = x + self._attend(number, y, bias)
            return x + self._feed(name, self._norm(f"{name}final_layer_norm", x))
        x = self._norm(f"{name}layer_norm", x + self._attend(number, x, bias))
        return self._norm(f"{name}final_layer_norm", x + self._feed(name, x))

    def _feed(self, name: str, x: Tensor) -> Tensor:
        inner = F.gelu(self._linear(f"{name}feed_forward.intermediate_dense", x))
        return self._linear(f"{name}feed_forward.output_dense", inner)

    def _attend(self, number: int, x: Tensor, bias: Tensor | None) -> Tensor:
        name = f"encoder.layers.{number}.attention."
        q, k, v = (
            self._linear(f"{name}{part}_proj", x)
            .unflatten(-1, (self.architecture.num_attention_heads, -1))
            .transpose(0, 1)
            for part in "qkv"
        )  # each (H, T, d)
        position = None
        if bias is not None:
            gate = self.gates[number](x).T[..., None]  # (H, T, 1)
            position = gate, bias[:, None]
        y = attend(q * q.shape[-1] ** -0.5, k, v, position)  # (H, T, d)
        return self._linear(f"{name}out_proj", y.transpose(0, 1).flatten(1))

    def _weight(self, name: str) -> Any:
        return getattr(self, name.replace(".", "/"), None)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor, eps: float | None = None) -> Tensor:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        eps = self.architecture.layer_norm_eps if eps is None else eps
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


class _TracedAttention(nn.Module):
    """ESPnet's attention with relative positions, on one utterance without padding."""

    def __init__(self, other: RelPositionMultiHeadedAttention) -> None:
        super().__init__()
        self.other = other

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, pos_emb: Tensor, mask: Tensor
    ) -> Tensor:
        other: Any = self.other
        q, k, v = (x[0] for x in other.forward_qkv(query, key, value))  # (H, T, d)
        p = other.linear_pos(pos_emb[0]).unflatten(-1, (other.h, other.d_k))
        scale = other.d_k**-0.5
        by_content = (q + other.pos_bias_u[:, None]) * scale
        by_position = (q + other.pos_bias_v[:, None]) * scale
        y = attend(by_content, k, v, (by_position, p.permute(1, 2, 0)))  # (H, T, d)
        return other.linear_out(y.transpose(0, 1).flatten(1)[None])


class _TracedMVN(nn.Module):
    """ESPnet's utterance normalization, on one utterance without padding."""

    def __init__(self, other: UtteranceMVN) -> None:
        super().__init__()
        self.means, self.vars, self.eps = other.norm_means, other.norm_vars, other.eps

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        centered = x - x.mean(1, keepdim=True)  # (1, T, D)
        deviation = centered.square().mean(1, keepdim=True).sqrt()
        x = centered if self.means else x
        return (x / deviation.clamp(min=self.eps) if self.vars else x), lengths


def _make_traceable(model: ESPnetSERModel, frames: int) -> None:
    """Replace what decides by length or by values; parameters stay."""
    if isinstance(model.normalize, UtteranceMVN):
        model.normalize = _TracedMVN(model.normalize)  # type: ignore[assignment]
    for parent in list(model.encoder.modules()):
        if hasattr(parent, "extend_pe"):  # a table of positions
            parent.extend_pe(torch.zeros(1, frames, 1))
            parent.extend_pe = _stay
        for name, child in list(parent.named_children()):
            if isinstance(child, RelPositionMultiHeadedAttention) and not (
                child.zero_triu
            ):
                setattr(parent, name, _TracedAttention(child))


def _stay(x: Tensor) -> None:
    """Take the place of ``extend_pe`` once the table is long enough."""


def _standardized(x: Tensor, eps: float) -> Tensor:
    """Bring the last axis to mean 0 and variance 1."""
    centered = x - x.mean(-1, keepdim=True)
    return centered * (centered.square().mean(-1, keepdim=True) + eps).rsqrt()


def _rounded(states: Tensor, dtype: str) -> Tensor:
    """Round fp32 (L, T, D) as a store of `dtype` does."""
    if dtype == "int8":
        return dequantize(*quantize(states)).float()
    return states.half().float() if dtype == "float16" else states


def _reduced(states: Tensor, frontend: Any) -> Tensor:
    """Sum states (L, T, D) to (T, D) as `CachedFeatures` does."""
    assert isinstance(frontend, CachedFeatures)
    if frontend.layer_norm:
        states = F.layer_norm(states, states.shape[-1:])
    if frontend.num_layers == 1:
        return states[0]
    weights = frontend.weights.softmax(0)  # (L,)
    return (weights[:, None, None] * states).sum(0)

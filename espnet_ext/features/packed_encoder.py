"""Exact hidden states of several utterances at once, without any padding.

Padded batches waste work and, where a mask is a frame too long (as s3prl's), change one
utterance's features with another's length. Here all frames lie one after the other in
a single (N, D) matrix: linear layers and norms work on all of them, and nothing looks
from one utterance into another. An utterance's features are those it has alone.

Models: wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021) and WavLM (Chen et
al. 2022, gated relative position bias). The hidden states are those of s3prl: number 0
is the input of the first transformer layer, the last one is taken after the final norm.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_ext.features.architecture import Architecture
from espnet_ext.features.frozen_linear import Linear, frozen_norm
from espnet_ext.features.packed_attention import Group, attend, group_lengths
from espnet_ext.features.packed_convolutions import (
    PackedConvolutions,
    PositionEmbedding,
)

# fairseq and so s3prl normalize a waveform by a layer norm over it. The epsilon counts
# for quiet recordings, so it is the same whatever the source.
WAVEFORM_EPS = 1e-5
# Utterances attend together when the shortest has at least this share of the longest
# one's frames: a GPU is slow at many small calls, a CPU loses by any padding.
SIMILAR_ON_CPU = 1.0
SIMILAR_ON_GPU = 0.75


class PackedEncoder(nn.Module):
    """A frozen encoder that computes on concatenated frames.

    Weights are named as in `canonical_weights.canonical_shapes`. Linear layers and
    attention `compute` in fp32 or bf16, and so do the extractor's `convolutions` but
    the first; the rest is in fp32.
    """

    bias_embedding: Tensor | None  # (buckets, heads)

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, Tensor],
        normalize: bool,
        compute: torch.dtype = torch.float32,
        convolutions: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.normalize = normalize
        self.convolutions = PackedConvolutions(weights, architecture, convolutions)
        eps = architecture.layer_norm_eps
        self.projection_norm = None
        if architecture.feat_proj_layer_norm:
            name = "feature_projection.layer_norm"
            self.projection_norm = frozen_norm(weights, name, eps)
        self.projection = _linear(weights, ("feature_projection.projection",), compute)
        groups = architecture.num_conv_pos_embedding_groups
        self.position = _position(weights, groups)
        self.norm = frozen_norm(weights, "encoder.layer_norm", eps)
        self.layers = nn.ModuleList(
            _Layer(weights, f"encoder.layers.{i}.", architecture, compute)
            for i in range(architecture.num_hidden_layers)
        )
        embedding = weights.get("encoder.layers.0.attention.rel_attn_embed.weight")
        self.register_buffer("bias_embedding", embedding)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "PackedEncoder":
        """Stay in evaluation mode: frozen means that nothing is random either."""
        return self

    @torch.no_grad()
    def states(self, waves: Sequence[Tensor], last: int) -> Iterator[Tensor]:
        """Give the hidden states 0 to `last`, one after the other.

        Args:
            waves: Waveforms (n,), fp32, 16 kHz, each long enough for a frame.
            last: Number of the last state; later layers are not computed.

        Yields:
            (N, D) fp32, N all frames in the order of `waves`; valid until the next one.
        """
        lengths = [self.architecture.num_frames(len(wave)) for wave in waves]
        if self.normalize:
            waves = [F.layer_norm(w, w.shape, eps=WAVEFORM_EPS) for w in waves]
        x = self.convolutions(waves)  # (N, C)
        if self.projection_norm is not None:
            x = self.projection_norm(x)
        x = self.projection(x).float()  # (N, D)
        x = x + self.position(x, lengths)
        first = self.architecture.do_stable_layer_norm
        if not first:
            x = self.norm(x)
        similar = SIMILAR_ON_CPU if x.device.type == "cpu" else SIMILAR_ON_GPU
        groups = group_lengths(lengths, similar, x.device)
        bias = None
        if self.bias_embedding is not None:
            bias = position_bias(
                self.bias_embedding, self.architecture, max(lengths), x.device
            )
        for number in range(last + 1):
            if number > 0:
                x = self.layers[number - 1](x, groups, bias)
            final = first and number == self.architecture.num_hidden_layers
            yield self.norm(x) if final else x


def position_bias(
    embedding: Tensor, architecture: Architecture, frames: int, device: torch.device
) -> Tensor:
    """Relative position bias (heads, 2 * frames - 1) by distance key - query.

    Buckets as in WavLM (equation 5 of its paper): half of them a sign, exact for
    short distances and logarithmic beyond. `embedding` is (buckets, heads).
    """
    half = architecture.num_buckets // 2
    exact = half // 2
    distance = torch.arange(1 - frames, frames, device=device)
    size = distance.abs()
    # The same order of operations as WavLM's own code: a distance on the edge of a
    # bucket must fall on the same side.
    far = torch.log(size.float() / exact)
    far = far / math.log(architecture.max_bucket_distance / exact) * (half - exact)
    far = (exact + far).long().clamp(max=half - 1)
    bucket = (distance > 0).long() * half + torch.where(size < exact, size, far)
    return embedding[bucket].T.contiguous()  # (heads, 2 * frames - 1)


class _Layer(nn.Module):
    """A transformer layer on packed frames; its weights' names begin with `name`."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        name: str,
        architecture: Architecture,
        compute: torch.dtype,
    ) -> None:
        super().__init__()
        self.heads = architecture.num_attention_heads
        self.first = architecture.do_stable_layer_norm
        projections = [f"{name}attention.{part}_proj" for part in "qkv"]
        self.qkv = _linear(weights, projections, compute)
        self.out = _linear(weights, (f"{name}attention.out_proj",), compute)
        eps = architecture.layer_norm_eps
        self.attention_norm = frozen_norm(weights, f"{name}layer_norm", eps)
        forward = f"{name}feed_forward."
        self.inner = _linear(weights, (f"{forward}intermediate_dense",), compute, True)
        self.outer = _linear(weights, (f"{forward}output_dense",), compute)
        self.final_norm = frozen_norm(weights, f"{name}final_layer_norm", eps)
        relative = architecture.num_buckets > 0
        self.gate = Gate(weights, f"{name}attention.") if relative else None

    def forward(
        self, x: Tensor, groups: Sequence[Group], bias: Tensor | None
    ) -> Tensor:
        if self.first:
            x = x + self._attend(self.attention_norm(x), groups, bias)
            return x + self.outer(self.inner(self.final_norm(x))).float()
        x = self.attention_norm(x + self._attend(x, groups, bias))
        return self.final_norm(x + self.outer(self.inner(x)).float())

    def _attend(
        self, x: Tensor, groups: Sequence[Group], bias: Tensor | None
    ) -> Tensor:
        qkv = self.qkv(x).view(len(x), 3, self.heads, -1)  # (N, 3, H, d)
        gate = self.gate(x) if self.gate is not None else None  # (N, H)
        return self.out(attend(qkv, groups, gate, bias)).float()


class Gate(nn.Module):
    """WavLM's gate of the position bias: a number per head and query frame."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        # Eight outputs, of which each half is summed at once: sum the weights instead.
        weight = weights[f"{name}gru_rel_pos_linear.weight"]  # (8, d)
        bias = weights[f"{name}gru_rel_pos_linear.bias"]  # (8,)
        self.weight = nn.Parameter(weight.view(2, 4, -1).sum(1), requires_grad=False)
        self.bias = nn.Parameter(bias.view(2, 4).sum(1), requires_grad=False)
        constant = weights[f"{name}gru_rel_pos_const"].view(-1)  # (H,)
        self.constant = nn.Parameter(constant, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, H) from the frames (N, D) that attend."""
        heads = x.view(len(x), len(self.constant), -1)  # (N, H, d)
        a, b = F.linear(heads, self.weight, self.bias).sigmoid().unbind(-1)  # (N, H)
        return a * (b * self.constant - 1) + 2  # (N, H)


def _linear(
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    dtype: torch.dtype,
    gelu: bool = False,
) -> Linear:
    """Make one linear layer, or several of the same input joined into one product."""
    weight = torch.cat([weights[f"{name}.weight"] for name in names])
    bias = torch.cat([weights[f"{name}.bias"] for name in names])
    return Linear(weight, bias, dtype, gelu)


def _position(weights: Mapping[str, Tensor], groups: int) -> PositionEmbedding:
    """Make the position embedding, its weight norm folded once, since frozen."""
    name = "encoder.pos_conv_embed.conv."
    direction = weights[f"{name}weight_v"]  # (D, D / groups, kernel)
    length = direction.norm(dim=(0, 1), keepdim=True)  # (1, 1, kernel)
    weight = direction * (weights[f"{name}weight_g"] / length)
    return PositionEmbedding(weight, weights[f"{name}bias"], groups)

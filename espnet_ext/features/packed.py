"""Exact hidden states of several utterances at once, without any padding.

Padded batches waste work and, where a mask is a frame too long, change the features
of one utterance with the length of another (as s3prl's do). Here the frames of all
utterances lie one after the other in a single (N, D) matrix: linear layers and norms
work on all of them together, convolutions and attention on each utterance alone. There
is no mask that could be wrong, and an utterance's features are those it has alone.

Convolutions of the extractor are matrix products on strided views of channel-last
frames: nothing is copied, and the layer norms need no transposition.

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

# fairseq's and so s3prl's normalisation of a waveform is a layer norm over it. The
# epsilon counts for quiet recordings, so it is the same whatever the source.
WAVEFORM_EPS = 1e-5
# Rows of an attention bias that are held at once (WavLM only).
BIAS_ROWS = 512


class PackedUpstream(nn.Module):
    """A frozen encoder that computes on concatenated frames.

    It has no gradients, no dropout and no state that changes; `train()` does nothing.

    Args:
        architecture: Sizes and variants.
        weights: Tensors under the names of `convert.canonical_names`.
        normalize: Bring each waveform to zero mean and unit variance first.
        compute: ``torch.float32`` or ``torch.bfloat16``, for linear layers and
            attention; all else is in fp32.
        chunk_frames: Frames of one utterance that the extractor computes at a time;
            it bounds the memory of long recordings and changes no result.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, Tensor],
        normalize: bool,
        compute: torch.dtype = torch.float32,
        chunk_frames: int = 500,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.normalize = normalize
        self.compute = compute
        self.chunk_frames = chunk_frames
        self.extractor = nn.ModuleList(
            _Convolution(weights, i, architecture)
            for i in range(len(architecture.conv_layers))
        )
        width = architecture.conv_layers[-1][0]
        name = "feature_projection."
        self.projection_norm = (
            _norm(weights, f"{name}layer_norm", width, architecture.eps)
            if architecture.projection_norm
            else None
        )
        self.projection = _Linear(weights, (f"{name}projection",), compute)
        self.position = _Position(weights, architecture)
        self.norm = _norm(
            weights, "encoder.layer_norm", architecture.hidden, architecture.eps
        )
        self.layers = nn.ModuleList(
            _Layer(weights, i, architecture, compute)
            for i in range(architecture.layers)
        )
        self.bias_embedding: Tensor | None  # (buckets, heads)
        embedding = weights.get("encoder.layers.0.attention.rel_attn_embed.weight")
        self.register_buffer("bias_embedding", embedding)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "PackedUpstream":
        """Stay in evaluation mode: frozen means that nothing is random either."""
        return self

    @torch.no_grad()
    def states(self, waves: Sequence[Tensor], last: int) -> Iterator[Tensor]:
        """Give the hidden states 0 to `last`, one after the other.

        Args:
            waves: Waveforms (n,), fp32, 16 kHz, each at least `min_samples` long.
            last: Number of the last state that is wanted; later layers are not
                computed.

        Yields:
            (N, D) fp32, N the sum of the utterances' frames in the order of `waves`.
            The tensor may be used until the next one is asked for.
        """
        frames = [self._extract(wave) for wave in waves]  # each (T, C)
        lengths = [len(x) for x in frames]
        x = torch.cat(frames)  # (N, C)
        if self.projection_norm is not None:
            x = self.projection_norm(x)
        x = self.projection(x).float()  # (N, D)
        x = x + torch.cat([self.position(part) for part in x.split(lengths)])
        first = self.architecture.norm_first
        if not first:
            x = self.norm(x)
        final = self.architecture.layers
        bias = self._bias_by_distance(max(lengths), x.device)
        for number in range(last + 1):
            if number > 0:
                x = self.layers[number - 1](x, lengths, bias)
            yield self.norm(x) if first and number == final else x

    def _extract(self, wave: Tensor) -> Tensor:
        """Compute the extractor's frames (T, C) of one waveform (n,)."""
        if self.normalize:
            wave = F.layer_norm(wave, wave.shape, eps=WAVEFORM_EPS)
        wave = wave[:, None]  # (n, 1): time first, channels last
        total = self.architecture.num_frames(len(wave))
        statistics = None
        if self.architecture.extractor_norm == "group":
            statistics = self._group_statistics(wave)
        chunks = []
        for start in range(0, total, self.chunk_frames):
            stop = min(start + self.chunk_frames, total)
            begin = start * self.architecture.stride
            x = wave[begin : begin + self.architecture.samples_of(stop - start)]
            for layer in self.extractor:
                x = layer(x, statistics)
            chunks.append(x)
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _group_statistics(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) over time of the first convolution's output.

        In blocks, each with its own mean, joined exactly (Chan et al. 1979), so that
        neither memory nor rounding grows with the length.
        """
        first = self.extractor[0]
        assert isinstance(first, _Convolution)
        total = (len(wave) - first.kernel) // first.stride + 1
        block = self.chunk_frames * self.architecture.stride // first.stride
        count = 0
        mean = square = torch.zeros((), dtype=torch.float64, device=wave.device)
        for start in range(0, total, block):
            size = min(block, total - start)
            begin = start * first.stride
            end = begin + (size - 1) * first.stride + first.kernel
            x = first.convolve(wave[begin:end])  # (size, C)
            var, mu = torch.var_mean(x, dim=0, correction=0)
            var, mu = var.double(), mu.double()
            delta = mu - mean
            share = size / (count + size)
            square = square + var * size + delta**2 * (count * share)
            mean = mean + delta * share
            count += size
        return mean.float(), (square / count).float()

    def _bias_by_distance(self, frames: int, device: torch.device) -> Tensor | None:
        """Relative position bias (heads, 2 * frames - 1) by distance key - query.

        Buckets as in WavLM (equation 5 of its paper): half of them a sign, exact for
        short distances and logarithmic beyond.
        """
        if self.bias_embedding is None:
            return None
        half = self.architecture.buckets // 2
        exact = half // 2
        distance = torch.arange(1 - frames, frames, device=device)
        size = distance.abs()
        # The same order of operations as WavLM's own code: a distance on the edge of a
        # bucket must fall on the same side.
        far = torch.log(size.float() / exact)
        far = far / math.log(self.architecture.max_distance / exact) * (half - exact)
        far = (exact + far).long().clamp(max=half - 1)
        bucket = (distance > 0).long() * half + torch.where(size < exact, size, far)
        return self.bias_embedding[bucket].T.contiguous()  # (heads, 2 * frames - 1)


class _Linear(nn.Module):
    """One linear layer, or several of the same input joined into one product."""

    def __init__(
        self, weights: Mapping[str, Tensor], names: Sequence[str], dtype: torch.dtype
    ) -> None:
        super().__init__()
        weight = torch.cat([weights[f"{name}.weight"] for name in names])
        bias = torch.cat([weights[f"{name}.bias"] for name in names])
        self.weight = nn.Parameter(weight.to(dtype).contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.to(dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class _Convolution(nn.Module):
    """A convolution of the extractor with its norm and GELU, on (n, C) frames."""

    def __init__(
        self, weights: Mapping[str, Tensor], index: int, architecture: Architecture
    ) -> None:
        super().__init__()
        name = f"feature_extractor.conv_layers.{index}."
        channels, self.kernel, self.stride = architecture.conv_layers[index]
        weight = weights[f"{name}conv.weight"]  # (out, in, kernel)
        # Taps in groups of `stride`: group j of all windows is a plain matrix, the rows
        # of x from j on, taken `stride` at a time. The first layer has one channel
        # only: there a copy of all windows is small, and one product is faster.
        group = self.kernel if weight.shape[1] == 1 else self.stride
        self.taps = nn.ParameterList(
            nn.Parameter(
                weight[:, :, start : start + group]
                .permute(2, 1, 0)
                .reshape(-1, channels)
                .contiguous(),
                requires_grad=False,
            )
            for start in range(0, self.kernel, group)
        )
        bias = weights[f"{name}conv.bias"] if architecture.conv_bias else None
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.group = architecture.extractor_norm == "group" and index == 0
        self.norm = None
        if self.group or architecture.extractor_norm == "layer":
            self.norm = _norm(weights, f"{name}layer_norm", channels, 1e-5)

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve (n, C) to (T, C') with T = (n - kernel) // stride + 1."""
        x = x.contiguous()
        total = (len(x) - self.kernel) // self.stride + 1
        channels = x.shape[1]
        out = None
        for j, tap in enumerate(self.taps):
            rows = x[j * self.stride :].as_strided(
                (total, len(tap)),
                (self.stride * channels, 1),
                x.storage_offset() + j * self.stride * channels,
            )
            if len(tap) > self.stride * channels:  # windows overlap within the matrix
                rows = rows.contiguous()
            if out is not None:
                out.addmm_(rows, tap)
            elif self.bias is not None:
                out = torch.addmm(self.bias, rows, tap)
            else:
                out = rows @ tap
        assert out is not None
        return out  # (T, C')

    def forward(self, x: Tensor, statistics: tuple[Tensor, Tensor] | None) -> Tensor:
        x = self.convolve(x)
        if self.group:
            assert statistics is not None
            assert self.norm is not None
            mean, var = statistics
            scale = self.norm.weight * torch.rsqrt(var + self.norm.eps)
            x = torch.addcmul(self.norm.bias - mean * scale, x, scale)
        elif self.norm is not None:
            x = self.norm(x)
        return F.gelu(x)


class _Position(nn.Module):
    """Convolutional position embedding of one utterance, (T, D) to (T, D)."""

    def __init__(
        self, weights: Mapping[str, Tensor], architecture: Architecture
    ) -> None:
        super().__init__()
        name = "encoder.pos_conv_embed.conv."
        direction = weights[f"{name}weight_v"]  # (D, D / groups, kernel)
        # Weight norm over all but the last dimension; folded once, since frozen.
        length = direction.norm(dim=(0, 1), keepdim=True)  # (1, 1, kernel)
        weight = direction * (weights[f"{name}weight_g"] / length)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(weights[f"{name}bias"], requires_grad=False)
        self.groups = architecture.pos_groups

    def forward(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[-1] // 2
        y = F.conv1d(
            x.T[None], self.weight, self.bias, padding=padding, groups=self.groups
        )  # (1, D, T or T + 1): an even kernel gives one frame too many
        return F.gelu(y[0, :, : len(x)]).T


class _Layer(nn.Module):
    """A transformer layer on packed frames."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        index: int,
        architecture: Architecture,
        compute: torch.dtype,
    ) -> None:
        super().__init__()
        name = f"encoder.layers.{index}."
        self.heads = architecture.heads
        self.first = architecture.norm_first
        projections = [f"{name}attention.{part}_proj" for part in "qkv"]
        self.qkv = _Linear(weights, projections, compute)
        self.out = _Linear(weights, (f"{name}attention.out_proj",), compute)
        hidden, eps = architecture.hidden, architecture.eps
        self.attention_norm = _norm(weights, f"{name}layer_norm", hidden, eps)
        self.inner = _Linear(
            weights, (f"{name}feed_forward.intermediate_dense",), compute
        )
        self.outer = _Linear(weights, (f"{name}feed_forward.output_dense",), compute)
        self.final_norm = _norm(weights, f"{name}final_layer_norm", hidden, eps)
        self.gate = None
        if architecture.buckets:
            self.gate = _Gate(weights, f"{name}attention.", architecture)

    def forward(self, x: Tensor, lengths: list[int], bias: Tensor | None) -> Tensor:
        if self.first:
            x = x + self._attend(self.attention_norm(x), lengths, bias)
            return x + self._feed_forward(self.final_norm(x))
        x = self.attention_norm(x + self._attend(x, lengths, bias))
        return self.final_norm(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.outer(F.gelu(self.inner(x))).float()

    def _attend(self, x: Tensor, lengths: list[int], bias: Tensor | None) -> Tensor:
        qkv = self.qkv(x)  # (N, 3 * D)
        qkv = qkv.view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)  # (3, H, N, d)
        gates = self.gate(x) if self.gate is not None else None  # (H, N)
        y = qkv.new_empty(x.shape)  # (N, D)
        start = 0
        for length in lengths:
            here = slice(start, start + length)
            gate = gates[:, here] if gates is not None else None
            z = _attention(qkv[:, :, here], gate, bias)  # (H, T, d)
            y[here] = z.transpose(0, 1).flatten(1)
            start += length
        return self.out(y).float()


class _Gate(nn.Module):
    """WavLM's gate of the position bias: a number per head and query frame."""

    def __init__(
        self, weights: Mapping[str, Tensor], name: str, architecture: Architecture
    ) -> None:
        super().__init__()
        # Eight outputs, of which each half is summed at once: sum the weights instead.
        weight = weights[f"{name}gru_rel_pos_linear.weight"]  # (8, d)
        bias = weights[f"{name}gru_rel_pos_linear.bias"]  # (8,)
        self.weight = nn.Parameter(weight.view(2, 4, -1).sum(1), requires_grad=False)
        self.bias = nn.Parameter(bias.view(2, 4).sum(1), requires_grad=False)
        constant = weights[f"{name}gru_rel_pos_const"].view(-1)  # (H,)
        self.constant = nn.Parameter(constant, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = x.view(len(x), len(self.constant), -1)  # (N, H, d)
        a, b = F.linear(heads, self.weight, self.bias).sigmoid().unbind(-1)  # (N, H)
        return (a * (b * self.constant - 1) + 2).T  # (H, N)


def _attention(qkv: Tensor, gate: Tensor | None, bias: Tensor | None) -> Tensor:
    """Attend within one utterance.

    Args:
        qkv: (3, H, T, d).
        gate: (H, T) factor of each query's bias, or None.
        bias: (H, 2 * M - 1) by distance, M at least T, or None.

    Returns:
        (H, T, d).
    """
    q, k, v = qkv[:, None]  # each (1, H, T, d)
    if bias is None or gate is None:
        return F.scaled_dot_product_attention(q, k, v)[0]
    total = q.shape[2]
    middle = bias.shape[1] // 2  # distance 0
    # Row r of `windows` holds distances r - (T - 1) to r: query T - 1 - r.
    windows = bias[:, middle - total + 1 : middle + total].unfold(1, total, 1)
    parts = []
    for start in range(0, total, BIAS_ROWS):
        stop = min(start + BIAS_ROWS, total)
        rows = windows[:, total - stop : total - start].flip(1)  # (H, rows, T)
        mask = (rows * gate[:, start:stop, None]).to(q.dtype)
        parts.append(
            F.scaled_dot_product_attention(q[:, :, start:stop], k, v, mask[None])
        )
    return torch.cat(parts, dim=2)[0]


def _norm(
    weights: Mapping[str, Tensor], name: str, size: int, eps: float
) -> nn.LayerNorm:
    """Make a norm with the weights of that name."""
    norm = nn.LayerNorm(size, eps=eps)
    norm.weight = nn.Parameter(weights[f"{name}.weight"], requires_grad=False)
    norm.bias = nn.Parameter(weights[f"{name}.bias"], requires_grad=False)
    return norm

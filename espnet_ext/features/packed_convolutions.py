"""The convolutional extractor, on waveforms that lie one after the other.

Each waveform begins at a multiple of the extractor's stride (320 samples), so that its
frames are frames of the whole stream; a frame whose samples belong to two waveforms is
left out. The stream is computed in chunks of equal length whatever the utterances are:
small ones, so that a chunk's activations stay in the processor's cache, and long
recordings need no more memory than short ones.

A convolution is one matrix product on a view of its windows: frames are (time,
channels), so that a window is a contiguous piece, and layer norms need no
transposition.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_ext.features.architecture import Architecture
from espnet_ext.features.frozen_linear import Linear

# Of the norms in the extractor, in all published models.
EPS = 1e-5
# Frames computed at a time. On a CPU a chunk's largest activations (64 steps of 512
# channels a frame) are then 13 MB, and chunks of 500 are 1.3 times as slow. A GPU wants
# few large calls: 260 MB.
CHUNK_ON_CPU = 100
CHUNK_ON_GPU = 2000


class PackedConvolutions(nn.Module):
    """Turns waveforms into the frames of the last convolution.

    `dtype` is the precision of all convolutions but the first, which sees the waveform
    itself: hardly any work, and the most to lose.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        architecture: Architecture,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        precisions = [torch.float32] + [dtype] * (len(architecture.conv_layers) - 1)
        self.layers = nn.ModuleList(
            Convolution(weights, i, architecture, x) for i, x in enumerate(precisions)
        )

    def forward(self, waves: Sequence[Tensor]) -> Tensor:
        """Compute frames (N, C), fp32, of waveforms (n,), fp32, in their order."""
        stride = self.architecture.stride
        frames = [self.architecture.num_frames(len(wave)) for wave in waves]
        slots = [-(-self.architecture.samples_of(count) // stride) for count in frames]
        starts = [sum(slots[:i]) for i in range(len(slots))]  # in frames
        stream = waves[0].new_zeros(sum(slots) * stride)
        for wave, count, start in zip(waves, frames, starts, strict=True):
            used = self.architecture.samples_of(count)
            stream[start * stride : start * stride + used] = wave[:used]
        x = self._convolve(stream, waves, starts)  # (N + some, C)
        return torch.cat([x[s : s + n] for s, n in zip(starts, frames, strict=True)])

    def _convolve(
        self, stream: Tensor, waves: Sequence[Tensor], starts: Sequence[int]
    ) -> Tensor:
        """Compute all frames of the stream, those between waveforms included."""
        group = self.architecture.extractor_norm == "group"
        scales = [self._group_scale(wave) for wave in waves] if group else None
        total = self.architecture.num_frames(len(stream))
        out = stream.new_empty(total, self.architecture.conv_layers[-1][0])
        chunk = _chunk_frames(stream)
        for start in range(0, total, chunk):
            stop = min(start + chunk, total)
            begin = start * self.architecture.stride
            size = self.architecture.samples_of(stop - start)
            x = stream[begin : begin + size, None]  # (n, 1)
            for number, layer in enumerate(self.layers):
                assert isinstance(layer, Convolution)
                x = layer.convolve(x)
                if number == 0 and scales is not None:
                    self._scale_waves(x, start, starts, scales)
                x = layer.activate(x)
            out[start:stop] = x
        return out

    def _scale_waves(
        self,
        x: Tensor,
        start: int,
        starts: Sequence[int],
        scales: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        """Apply in place each waveform's group norm to its rows of a chunk.

        `x` (rows, C), the first convolution's output, begins with the frame `start` of
        the stream, each waveform with that in `starts`; `scales` are factors and
        offsets (C,).
        """
        rate = self.architecture.stride // self.architecture.conv_layers[0][2]
        ends = [*starts[1:], None]
        for first, end, (factor, offset) in zip(starts, ends, scales, strict=True):
            begin = max((first - start) * rate, 0)
            stop = len(x) if end is None else min((end - start) * rate, len(x))
            if begin < stop:
                torch.addcmul(offset, x[begin:stop], factor, out=x[begin:stop])

    def _group_scale(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset (C,) of the group norm over a waveform's time.

        Statistics are taken in blocks, each with its own mean, joined exactly (Chan et
        al. 1979), so that neither memory nor rounding grows with the length.
        """
        first = self.layers[0]
        assert isinstance(first, Convolution)
        assert first.norm is not None
        total = (len(wave) - first.kernel) // first.stride + 1
        block = _chunk_frames(wave) * self.architecture.stride // first.stride
        count = 0
        mean = square = torch.zeros((), dtype=torch.float64, device=wave.device)
        for start in range(0, total, block):
            size = min(block, total - start)
            begin = start * first.stride
            end = begin + (size - 1) * first.stride + first.kernel
            x = first.convolve(wave[begin:end, None])  # (size, C)
            var, mu = torch.var_mean(x, dim=0, correction=0)
            var, mu = var.double(), mu.double()
            delta = mu - mean
            share = size / (count + size)
            square = square + var * size + delta**2 * (count * share)
            mean = mean + delta * share
            count += size
        factor = first.norm.weight * torch.rsqrt((square / count).float() + EPS)
        return factor, first.norm.bias - mean.float() * factor


class Convolution(nn.Module):
    """A convolution of the extractor, with the norm and the GELU that follow."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        index: int,
        architecture: Architecture,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        name = f"feature_extractor.conv_layers.{index}."
        channels, self.kernel, self.stride = architecture.conv_layers[index]
        weight = weights[f"{name}conv.weight"]  # (out, in, kernel)
        self.product = Linear(
            weight.transpose(1, 2).reshape(channels, -1),  # as windows lie in memory
            weights[f"{name}conv.bias"] if architecture.conv_bias else None,
            dtype,
            gelu=False,
        )
        self.layer = architecture.extractor_norm == "layer"
        self.norm = None
        if self.layer or index == 0:
            self.norm = nn.LayerNorm(channels, eps=EPS)
            self.norm.weight.data = weights[f"{name}layer_norm.weight"]
            self.norm.bias.data = weights[f"{name}layer_norm.bias"]

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve (n, C) to (T, C') with T = (n - kernel) // stride + 1."""
        x = x.contiguous()
        channels = x.shape[1]
        total = (len(x) - self.kernel) // self.stride + 1
        windows = x.as_strided(
            (total, self.kernel * channels), (self.stride * channels, 1)
        )
        return self.product(windows)  # (T, C')

    def activate(self, x: Tensor) -> Tensor:
        """Apply the layer norm, if there is one, and the GELU."""
        if self.layer:
            assert self.norm is not None
            if x.device.type != "cpu":  # only a CPU takes weights of another precision
                x = x.to(self.norm.weight.dtype)
            x = self.norm(x)
        return F.gelu(x)


def _chunk_frames(x: Tensor) -> int:
    return CHUNK_ON_CPU if x.device.type == "cpu" else CHUNK_ON_GPU

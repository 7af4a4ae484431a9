"""The convolutions: extractor and position embedding, on what lies end to end.

Each waveform begins at a multiple of the extractor's stride (320 samples), so that its
frames are frames of the whole stream; a frame whose samples belong to two waveforms is
left out. The stream is computed in chunks of equal length, which stay in the
processor's cache: long recordings need no more memory than short ones.

A convolution is one matrix product on a view of its windows: frames are (time,
channels), so that a window is a contiguous piece.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_ext.features.architecture import Architecture
from espnet_ext.features.frozen_linear import Linear, frozen_norm

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
        precisions = [torch.float32] + [dtype] * (len(architecture.conv_dim) - 1)
        self.layers: Any = nn.ModuleList(
            Convolution(weights, i, architecture, x) for i, x in enumerate(precisions)
        )

    def forward(self, waves: Sequence[Tensor]) -> Tensor:
        """Compute frames (N, C), fp32, of waveforms (n,), fp32, in their order."""
        stride = self.architecture.stride
        frames = [self.architecture.num_frames(len(wave)) for wave in waves]
        used = [self.architecture.samples_of(count) for count in frames]
        ends = list(itertools.accumulate(-(-samples // stride) for samples in used))
        starts = [0, *ends[:-1]]  # in frames
        stream = waves[0].new_zeros(ends[-1] * stride)
        for wave, count, start in zip(waves, used, starts, strict=True):
            stream[start * stride : start * stride + count] = wave[:count]
        x = self._convolve(stream, waves, starts)  # (N + some, C)
        return torch.cat([x[s : s + n] for s, n in zip(starts, frames, strict=True)])

    def _convolve(
        self, stream: Tensor, waves: Sequence[Tensor], starts: Sequence[int]
    ) -> Tensor:
        """Compute all frames of the stream, those between waveforms included."""
        group = self.architecture.feat_extract_norm == "group"
        scales = [self._group_scale(wave) for wave in waves] if group else None
        total = self.architecture.num_frames(len(stream))
        out = stream.new_empty(total, self.architecture.conv_dim[-1])
        chunk = _chunk_frames(stream)
        for start in range(0, total, chunk):
            stop = min(start + chunk, total)
            begin = start * self.architecture.stride
            size = self.architecture.samples_of(stop - start)
            x = stream[begin : begin + size, None]  # (n, 1)
            for number, layer in enumerate(self.layers):
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
        rate = self.architecture.stride // self.architecture.conv_stride[0]
        ends = [*starts[1:], start + len(x)]  # the last one's is beyond the chunk
        for first, end, (factor, offset) in zip(starts, ends, scales, strict=True):
            begin = max((first - start) * rate, 0)
            stop = min((end - start) * rate, len(x))
            if begin < stop:
                torch.addcmul(offset, x[begin:stop], factor, out=x[begin:stop])

    def _group_scale(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset (C,) of the group norm over a waveform's time.

        Statistics are taken in blocks, each with its own mean, joined exactly (Chan et
        al. 1979), so that neither memory nor rounding grows with the length.
        """
        first = self.layers[0]
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
            delta = mu.double() - mean
            share = size / (count + size)
            square = square + var.double() * size + delta**2 * (count * share)
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
        # (out, in, kernel) to (out, kernel * in), as windows lie in memory
        weight = weights[f"{name}conv.weight"].transpose(1, 2).reshape(channels, -1)
        self.product = Linear(weight, weights.get(f"{name}conv.bias"), dtype, False)
        self.layer = architecture.feat_extract_norm == "layer"
        if self.layer or index == 0:
            self.norm = frozen_norm(weights, f"{name}layer_norm", EPS)

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve (n, C) to (T, C') with T = (n - kernel) // stride + 1."""
        x = x.contiguous()
        channels = x.shape[1]
        shape = ((len(x) - self.kernel) // self.stride + 1, self.kernel * channels)
        return self.product(x.as_strided(shape, (self.stride * channels, 1)))

    def activate(self, x: Tensor) -> Tensor:
        """Apply the layer norm, if there is one, and the GELU."""
        if self.layer:
            if x.device.type != "cpu":  # only a CPU takes weights of another precision
                x = x.to(self.norm.weight.dtype)
            x = self.norm(x)
        return F.gelu(x)


class PositionEmbedding(nn.Module):
    """The convolutional position embedding and its GELU, by Fourier transform.

    Each utterance has zeros before and after it, as if it were alone. The weight is
    (D, D / groups, K), the bias (D,). Overlap-save (Stockham 1966): spectra of blocks,
    twice the taps, times those of the taps; outputs that no wrap-around touched are
    kept. The same numbers to fp32's rounding for a fiftieth of a convolution's
    operations, and free of the reduced precision of a GPU's convolutions.
    """

    spectra: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, groups: int) -> None:
        super().__init__()
        channels, inputs, self.taps = weight.shape
        self.groups = groups
        self.block = 2 << (self.taps - 1).bit_length()  # a power of 2, at least 2 K
        spectra = torch.fft.rfft(weight.float(), self.block).conj()  # (D, D / g, S)
        spectra = spectra.view(groups, channels // groups, inputs, -1)
        spectra = spectra.permute(3, 0, 2, 1).contiguous()  # (S, g, in, out)
        # Real and imaginary parts, since a module's cast takes complex numbers amiss.
        self.register_buffer("spectra", torch.view_as_real(spectra))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """Compute (N, D) from frames (N, D) of utterances of these lengths."""
        gap = self.taps // 2
        hop = self.block - self.taps + 1
        total = len(x) + gap * len(lengths)  # outputs, gaps included
        blocks = -(-total // hop)
        stream = x.new_zeros((blocks * hop + self.taps - 1, x.shape[1]))
        # Of the outputs; the inputs are `gap` later.
        starts = [0, *itertools.accumulate(gap + n for n in lengths)][:-1]
        for start, part in zip(starts, x.split(list(lengths)), strict=True):
            stream[start + gap : start + gap + len(part)] = part
        y = self._correlate(stream, hop)  # (blocks * hop, D)
        parts = [y[s : s + n] for s, n in zip(starts, lengths, strict=True)]
        return F.gelu(torch.cat(parts) + self.bias)

    def _correlate(self, stream: Tensor, hop: int) -> Tensor:
        """Compute sum_k w[k] stream[t + k] for each t, block by block."""
        windows = stream.unfold(0, self.block, hop)  # (B, D, block)
        spectra = torch.fft.rfft(windows)  # (B, D, S)
        count, channels, _ = spectra.shape
        spectra = spectra.view(count, self.groups, channels // self.groups, -1)
        weight = torch.view_as_complex(self.spectra)  # (S, g, in, out)
        product = spectra.permute(3, 1, 0, 2) @ weight  # (S, g, B, out)
        product = product.permute(2, 0, 1, 3).reshape(count, -1, channels)  # (B, S, D)
        y = torch.fft.irfft(product, self.block, dim=1)  # (B, block, D)
        return y[:, :hop].reshape(count * hop, channels)


def _chunk_frames(x: Tensor) -> int:
    return CHUNK_ON_CPU if x.device.type == "cpu" else CHUNK_ON_GPU

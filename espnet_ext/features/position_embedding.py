"""The convolutional position embedding, by Fourier transform.

128 taps and 64 channels a group are dear as a convolution (4 % of a large model's
operations). Overlap-save (Stockham 1966) takes blocks of twice the taps, multiplies
their spectra with those of the taps, channel group by channel group, and keeps the
outputs that no wrap-around touched: the same numbers to fp32's rounding, for a
fiftieth of the operations, and free of the reduced precision of a GPU's convolutions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PositionEmbedding(nn.Module):
    """Grouped convolution over time and GELU, on packed frames.

    Each utterance has zeros before and after it, as if it were alone.

    Args:
        weight: (D, D / groups, K).
        bias: (D,).
        groups: Groups of channels.
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
        starts = []
        start = 0
        for part in x.split(list(lengths)):
            starts.append(start)  # of the outputs; the inputs are `gap` later
            stream[start + gap : start + gap + len(part)] = part
            start += gap + len(part)
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

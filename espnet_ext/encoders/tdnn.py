"""A small time-delay network, for corpora of some hundred utterances.

Convolutions over time with statistics pooling behind them are the x-vector of speaker
recognition (Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker
recognition", section 3). Some hundred utterances are too few for a conformer's
attention.
"""

from itertools import pairwise

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.ser.pooling import frame_mask

NORMS = ("batch", "layer")


class TDNNEncoder(AbsEncoder):
    """Convolutions over time with residual connections; as many frames as came in.

    Args:
        input_size: D, width of a frame.
        output_size: Width of each layer.
        num_layers: Convolutions.
        kernel: Frames that each sees; odd.
        dropout_rate: Behind each.
        norm: "batch" (BatchNorm) or "layer" (each frame by itself).
        keep_input: Put the input beside the output, so that its own statistics are
            pooled, too: what classical baselines read. Then no layer is needed.

    Raises:
        UserError: An option has no possible value.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 64,
        num_layers: int = 2,
        kernel: int = 5,
        dropout_rate: float = 0.2,
        norm: str = "batch",
        keep_input: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"encoder_conf: norm is {norm!r}; choose from {NORMS}")
        if num_layers < (0 if keep_input else 1) or kernel < 1 or kernel % 2 == 0:
            raise UserError(
                f"encoder_conf: num_layers {num_layers}, kernel {kernel}: at least 1, "
                "the kernel odd"
            )
        make = _FrameNorm if norm == "layer" else nn.BatchNorm1d
        sizes = [input_size, *[output_size] * num_layers]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, padding=kernel // 2)
            for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(make(size) for size in sizes[1:])
        self.dropout = nn.Dropout(dropout_rate)
        self.keep_input = keep_input
        self._output_size = sizes[-1] + input_size if keep_input else output_size
        if not num_layers:
            self._output_size = input_size

    def output_size(self) -> int:
        """Return the width of the output."""
        return self._output_size

    def forward(
        self,
        xs_pad: Tensor,
        ilens: Tensor,
        prev_states: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, None]:
        """Encode (B, T, D) with lengths (B,) to (B, T, output), the lengths, None.

        Padding is zero before each convolution, so that a row does not depend on its
        batch mates. `prev_states` and `masks` are those of ESPnet's encoders.
        """
        real = frame_mask(ilens, xs_pad.size(1))[:, None]  # (B, 1, T)
        x = xs_pad.transpose(1, 2)  # (B, D, T)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = norm(convolution(x.where(real, 0)).relu())  # (B, C, T)
            x = self.dropout(y) + (x if x.shape == y.shape else 0)
        x = x.transpose(1, 2)  # (B, T, C)
        if self.keep_input and len(self.convolutions):
            x = torch.cat([xs_pad, x], dim=-1)  # (B, T, D + C)
        return x, ilens, None


class _FrameNorm(nn.LayerNorm):
    """Layer norm of each frame of (B, C, T)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)

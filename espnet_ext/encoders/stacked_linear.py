"""A linear layer on several frames at a time: fewer frames for the encoder.

Log mel energies have 100 frames a second, an upstream's hidden states 50. Some frames
side by side, and only every n-th such group, are known as a low frame rate (Pundak and
Sainath 2016, "Lower frame rate neural network acoustic models").
"""

import torch.nn.functional as F
from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.ser.pooling import frame_mask


class StackedLinear(AbsPreEncoder):
    """Linear projection of groups of frames that do not overlap.

    Args:
        input_size: D, width of a frame.
        output_size: Width of the result.
        stack: Frames of a group.
        dropout: Of the input.

    Raises:
        UserError: A group has no frame.
    """

    def __init__(
        self, input_size: int, output_size: int, stack: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if stack < 1:
            raise UserError(f"preencoder_conf: stack is {stack}; give 1 or more")
        self.stack = stack
        self.dropout = nn.Dropout(dropout)
        self.linear_out = nn.Linear(input_size * stack, output_size)

    def output_size(self) -> int:
        """Return the width of the result."""
        return self.linear_out.out_features

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Project (B, T, D) to (B, ceil(T / stack), output), and the lengths alike.

        The last group of a row is filled up with zeros, whatever its batch mates are.
        """
        batch, frames, size = input.shape
        real = frame_mask(input_lengths, frames)[..., None]  # (B, T, 1)
        padded = F.pad(input.where(real, 0), (0, 0, 0, -frames % self.stack))
        groups = padded.view(batch, -1, self.stack * size)  # (B, M, stack D)
        lengths = (input_lengths + self.stack - 1) // self.stack
        return self.linear_out(self.dropout(groups)), lengths

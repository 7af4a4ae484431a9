"""Features at mean 0 and variance 1 of the training set.

Of log energies and cepstra some columns vary a hundred times as much as others, and
what a single utterance's own statistics would take away (level, timbre) tells emotions
apart. So the statistics are those of all training frames, computed when a training
starts and kept in the model's parameters.
"""

from collections.abc import Iterable

import torch
from espnet2.layers.abs_normalize import AbsNormalize
from torch import Tensor

from espnet_ext.ser.pooling import frame_mask


class TrainingMVN(AbsNormalize):
    """Subtract a mean and divide by a standard deviation, column by column.

    Args:
        size: D; the task fills it in.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def set_moments(self, features: Iterable[Tensor]) -> None:
        """Take mean and deviation (1/N) over all frames of features (T, D).

        A column that never changes is only centered.
        """
        count = 0
        total = squares = torch.zeros((), dtype=torch.double)  # (D,) from the first on
        for frames in features:
            values = frames.double()
            count += len(values)
            total = total + values.sum(0)
            squares = squares + values.square().sum(0)
        mean = total / count  # (D,)
        variance = squares / count - mean.square()
        constant = variance < 1e-8 * mean.square() + 1e-12
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("deviation").copy_(variance.where(~constant, 1.0).sqrt())

    def forward(
        self, input: Tensor, input_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Normalize (B, T, D); padding behind `input_lengths` becomes zero."""
        x = (input - self.get_buffer("mean")) / self.get_buffer("deviation")
        if input_lengths is not None:
            x = x.where(frame_mask(input_lengths, x.size(1))[..., None], 0)
        return x, input_lengths

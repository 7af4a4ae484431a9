"""A norm for the conformer's convolution that sees neither padding nor batch mates.

ESPnet's ConvolutionModule normalises over batch and time (BatchNorm1d): in training its
statistics take in padding, rows without a label and, in distributed training, only the
rank's own rows. `FrameLayerNorm` normalises each frame over its channels instead.
"""

from torch import Tensor, nn


class FrameLayerNorm(nn.Module):
    """LayerNorm over the channels of each frame.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, T) over C."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2)  # (B, C, T)


def replace_batch_norm(module: nn.Module) -> None:
    """Put a `FrameLayerNorm` in the place of every BatchNorm1d inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            setattr(module, name, FrameLayerNorm(child.num_features))
        else:
            replace_batch_norm(child)

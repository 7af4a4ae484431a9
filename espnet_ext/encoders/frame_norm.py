"""A norm for the conformer's convolution that sees neither padding nor batch mates.

ESPnet's BatchNorm1d takes its training statistics over batch and time: padding, rows
without a label and, in distributed training, only the rank's own rows.
"""

from torch import Tensor, nn


class FrameLayerNorm(nn.Module):
    """LayerNorm over the C channels of each frame of (B, C, T)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, C, T) over C."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2)  # (B, C, T)


def replace_batch_norm(module: nn.Module) -> None:
    """Put a `FrameLayerNorm` in the place of every BatchNorm1d inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            setattr(module, name, FrameLayerNorm(child.num_features))
        else:
            replace_batch_norm(child)

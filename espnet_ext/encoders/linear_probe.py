"""A linear probe of frozen features: the SUPERB protocol's emotion model.

    y = W2 mean_t(W1 x_t + b1) + b2

It has nothing of the paper. Its result on IEMOCAP is published (67.6 % for
HuBERT-large), so it tells a fault of data or features from a fault of the models.

Source:
    S. Yang et al., "SUPERB: Speech processing Universal PERformance Benchmark",
    Interspeech 2021: weighted sum of the frozen layers, a projection to 256, mean
    pooling, a linear layer, cross entropy.
"""

from typing import Any

from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn

from espnet_ext.ser.decoder import EmotionOutput
from espnet_ext.ser.pooling import frame_mask


class LinearEncoder(AbsEncoder):
    """One linear layer on each frame."""

    def __init__(self, input_size: int, output_size: int = 256) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, output_size)

    def output_size(self) -> int:
        """Return the width of the output."""
        return self.linear.out_features

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Any = None, **_: Any
    ) -> tuple[Tensor, Tensor, None]:
        """Project (B, T, D) features; lengths stay."""
        return self.linear(xs_pad), ilens, None


class MeanPoolingDecoder(nn.Module):
    """Mean over the true frames, then a linear layer to the K classes."""

    def __init__(self, encoder_output_size: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(encoder_output_size, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor) -> EmotionOutput:
        """Predict from the encoder output (B, T, D) and its true lengths (B,)."""
        mask = frame_mask(lengths, hidden.size(1))  # (B, T)
        weights = mask.to(hidden.dtype) / lengths[:, None].to(hidden.dtype)  # (B, T)
        # No matrix product, as in ser/pooling.py.
        pooled = (weights[..., None] * hidden).sum(1)  # (B, D)
        return EmotionOutput(
            logits=self.output(pooled),  # (B, K)
            embeddings={"discrete": pooled},
            attention={"discrete": weights[:, None]},  # (B, 1, T)
        )

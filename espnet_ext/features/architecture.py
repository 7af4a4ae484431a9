"""The shape of a HuBERT, wav2vec 2.0 or WavLM encoder, whatever its weights' source."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Sizes and variants of the encoder.

    Attributes:
        conv_layers: (channels, kernel, stride) of each convolution.
        conv_bias: Whether these convolutions have a bias.
        extractor_norm: ``layer`` (a layer norm after each convolution) or ``group``
            (one group norm over time, after the first).
        hidden: Width of the encoder.
        heads: Attention heads.
        ffn: Inner width of the feed-forward layers.
        layers: Transformer layers.
        norm_first: Layer norm at the start of each block and once at the end (the
            "stable" form of the large models) instead of after each block.
        pos_kernel: Kernel of the convolutional position embedding.
        pos_groups: Its groups.
        projection_norm: Whether a layer norm comes before the projection to `hidden`.
        eps: Of the encoder's layer norms.
        buckets: Buckets of WavLM's relative position bias; 0 has none.
        max_distance: Distance in frames beyond which the last bucket is used.
    """

    conv_layers: tuple[tuple[int, int, int], ...]
    conv_bias: bool
    extractor_norm: str
    hidden: int
    heads: int
    ffn: int
    layers: int
    norm_first: bool
    pos_kernel: int
    pos_groups: int
    projection_norm: bool = True
    eps: float = 1e-5
    buckets: int = 0
    max_distance: int = 0

    @property
    def stride(self) -> int:
        """Samples from one frame to the next (320 in all published models)."""
        return math.prod(stride for _, _, stride in self.conv_layers)

    def num_frames(self, samples: int) -> int:
        """Frames of a waveform: 1 + (samples - 400) // 320, or 0 if too short."""
        for _, kernel, stride in self.conv_layers:
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
        return samples

    def samples_of(self, frames: int) -> int:
        """Fewest samples that give so many frames: 400 + 320 * (frames - 1)."""
        for _, kernel, stride in reversed(self.conv_layers):
            frames = (frames - 1) * stride + kernel
        return frames

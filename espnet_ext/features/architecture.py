"""The shape of a HuBERT, wav2vec 2.0 or WavLM encoder, whatever its weights' source."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Sizes and variants of the encoder."""

    conv_layers: tuple[tuple[int, int, int], ...]  # channels, kernel, stride of each
    conv_bias: bool
    # "layer": a norm after each convolution; "group": over time, after the first.
    extractor_norm: str
    hidden: int  # width of the encoder
    heads: int
    ffn: int  # inner width of the feed-forward layers
    layers: int  # of the transformer
    # Norms at the start of each block and once at the end (the "stable" form of the
    # large models) instead of after each block.
    norm_first: bool
    pos_kernel: int  # of the convolutional position embedding
    pos_groups: int
    projection_norm: bool = True  # before the projection to `hidden`
    eps: float = 1e-5  # of the encoder's layer norms
    buckets: int = 0  # of WavLM's relative position bias; 0 has none
    max_distance: int = 0  # in frames, beyond which the last bucket is used

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


def measure_frame_shift(samples: int, frames: int) -> int:
    """Return the samples from a frame to the next: whole milliseconds at 16 kHz.

    The longer the utterance the better: it has a few frames less than it has steps.
    """
    return 16 * max(1, round(samples / (16 * frames)))

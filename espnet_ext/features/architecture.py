"""The shape of a HuBERT, wav2vec 2.0 or WavLM encoder, whatever its weights' source."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Sizes and variants of the encoder, by their names in ``config.json``.

    The defaults are HuBERT-base's.
    """

    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    # "layer": a norm after each convolution; "group": over time, after the first.
    feat_extract_norm: str = "group"
    feat_proj_layer_norm: bool = True
    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072  # inner width of the feed-forward layers
    num_hidden_layers: int = 12
    # Norms at the start of each block and once at the end (of the large models) instead
    # of after each block.
    do_stable_layer_norm: bool = False
    num_conv_pos_embeddings: int = 128  # taps
    num_conv_pos_embedding_groups: int = 16
    layer_norm_eps: float = 1e-5  # of the encoder
    num_buckets: int = 0  # of WavLM's relative position bias; 0 has none
    max_bucket_distance: int = 0  # in frames, beyond which the last bucket is used

    @property
    def conv_layers(self) -> tuple[tuple[int, int, int], ...]:
        """Channels, kernel and stride of each convolution."""
        return tuple(
            zip(self.conv_dim, self.conv_kernel, self.conv_stride, strict=True)
        )

    @property
    def stride(self) -> int:
        """Samples from one frame to the next (320 in all published models)."""
        return math.prod(self.conv_stride)

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

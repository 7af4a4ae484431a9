"""A tiny HuBERT checkpoint, so that the pipeline loads an upstream as a real one.

`write_tiny_hubert` writes a Hugging Face folder (``config.json``,
``model.safetensors``, ``preprocessor_config.json``) of a `transformers.HubertModel`
that nobody trained. Its convolutions are HuBERT's own stack (kernels 10 3 3 3 3 2 2,
strides 5 2 2 2 2 2 2: a frame every 320 samples), so frame counts are those of the
real models; the channels are 64 and the layers few.

A random network at the usual initial scale forgets most of the sound: seven layers
of small, rough filters average it away. Here the first convolution, whose ten taps
see 0.6 ms, takes random band filters, and the others mostly smooth over time, so that
what reaches the encoder is near the envelope of random bands, compressed; their scale
is He's (He et al. 2015, "Delving deep into rectifiers"). Frozen and pooled over time
its states then tell emotions well above chance (benchmarks/mini_difficulty.py).

The tensors are drawn with numpy, one after another in the order below, and written
without torch: the same seed gives the same bytes, whatever else the process drew.
"""

import json
from pathlib import Path

import numpy as np

from espnet_ext.utils.atomic import atomic_dir

FOLDER = "hubert_tiny"

HIDDEN = CHANNELS = 64
INTERMEDIATE = 128
LAYERS = 2
POSITION_KERNEL = 16
POSITION_GROUPS = 4
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
# Share of a filter's variance that is constant over its taps, from the second on.
SMOOTHNESS = 0.85

CONFIG = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "dtype": "float32",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": INTERMEDIATE,
    "conv_dim": [CHANNELS] * len(KERNELS),
    "conv_kernel": list(KERNELS),
    "conv_stride": list(STRIDES),
    "conv_bias": False,
    "num_feat_extract_layers": len(KERNELS),
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "num_conv_pos_embeddings": POSITION_KERNEL,
    "num_conv_pos_embedding_groups": POSITION_GROUPS,
    "do_stable_layer_norm": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "vocab_size": 32,
}

PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16000,
    "padding_side": "right",
    "padding_value": 0.0,
    "do_normalize": True,
    "return_attention_mask": True,
}


def write_tiny_hubert(folder: Path | str, seed: int = 0) -> None:
    """Write the checkpoint folder; an older one is replaced in one step.

    Args:
        folder: The folder to write.
        seed: Seed of the weights.
    """
    from safetensors.numpy import save

    with atomic_dir(folder) as new:
        for name, content in (
            ("config.json", CONFIG),
            ("preprocessor_config.json", PREPROCESSOR),
        ):
            text = json.dumps(content, indent=2, sort_keys=True) + "\n"
            (new / name).write_text(text, encoding="utf-8")
        weights = save(draw_weights(seed), metadata={"format": "pt"})
        (new / "model.safetensors").write_bytes(weights)


def draw_weights(seed: int) -> dict[str, np.ndarray]:
    """Draw every tensor of the model.

    Args:
        seed: Seed of a generator of our own.

    Returns:
        Tensors by transformers' names, float32, about 150k numbers in all.
    """
    draw = _Draw(np.random.default_rng([seed, 200]))
    tensors: dict[str, np.ndarray] = {}
    for i, kernel in enumerate(KERNELS):
        name = f"feature_extractor.conv_layers.{i}"
        if i == 0:
            tensors[f"{name}.conv.weight"] = draw.band_filters(kernel)
            # Group norm here is per channel over time; its bias is the only one
            # of the whole stack.
            tensors[f"{name}.layer_norm.weight"] = draw.scale(CHANNELS)
            tensors[f"{name}.layer_norm.bias"] = draw.bias(CHANNELS, 0.5)
        else:
            tensors[f"{name}.conv.weight"] = draw.smoothing_filters(kernel)
    tensors |= draw.norm("feature_projection.layer_norm", CHANNELS)
    tensors |= draw.linear("feature_projection.projection", CHANNELS, HIDDEN)
    # Weight norm keeps length and direction of the positional convolution, under the
    # names of the published checkpoints, which transformers translates.
    shape = (HIDDEN, HIDDEN // POSITION_GROUPS, POSITION_KERNEL)
    weight = draw.he(shape)  # (out, in / groups, kernel)
    length = np.sqrt(np.sum(weight**2, axis=(0, 1), keepdims=True))  # (1, 1, kernel)
    name = "encoder.pos_conv_embed.conv"
    tensors |= {f"{name}.weight_g": length, f"{name}.weight_v": weight}
    tensors[f"{name}.bias"] = draw.bias(HIDDEN, 0.1)
    tensors |= draw.norm("encoder.layer_norm", HIDDEN)
    for i in range(LAYERS):
        name = f"encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            tensors |= draw.linear(f"{name}.attention.{part}", HIDDEN, HIDDEN)
        tensors |= draw.norm(f"{name}.layer_norm", HIDDEN)
        forward = f"{name}.feed_forward"
        tensors |= draw.linear(f"{forward}.intermediate_dense", HIDDEN, INTERMEDIATE)
        tensors |= draw.linear(f"{forward}.output_dense", INTERMEDIATE, HIDDEN)
        tensors |= draw.norm(f"{name}.final_layer_norm", HIDDEN)
    # Never used (masking is a training trick), but part of the model.
    tensors["masked_spec_embed"] = draw.bias(HIDDEN, 1.0)
    return tensors


class _Draw:
    """Draws tensors from one stream of random numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def he(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw weights (out, in, ...) of variance 2 / fan-in."""
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        return (deviation * self._rng.standard_normal(shape)).astype(np.float32)

    def smoothing_filters(self, kernel: int) -> np.ndarray:
        """Draw a later layer: a random mixture of channels, mostly averaged over time.

        Returns:
            Shape (CHANNELS, CHANNELS, kernel) of He's variance.
        """
        rough = self.he((CHANNELS, CHANNELS, kernel))
        flat = self.he((CHANNELS, CHANNELS, 1)) / np.sqrt(kernel)
        weight = np.sqrt(SMOOTHNESS) * flat + np.sqrt(1 - SMOOTHNESS) * rough
        return weight.astype(np.float32)

    def bias(self, size: int, deviation: float) -> np.ndarray:
        return (deviation * self._rng.standard_normal(size)).astype(np.float32)

    def scale(self, size: int) -> np.ndarray:
        return self._rng.uniform(0.5, 1.5, size).astype(np.float32)

    def norm(self, name: str, size: int) -> dict[str, np.ndarray]:
        return {
            f"{name}.weight": np.ones(size, np.float32),
            f"{name}.bias": np.zeros(size, np.float32),
        }

    def linear(self, name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        deviation = np.sqrt(1 / inputs)
        weight = deviation * self._rng.standard_normal((outputs, inputs))
        return {
            f"{name}.weight": weight.astype(np.float32),
            f"{name}.bias": self.bias(outputs, 0.1),
        }

    def band_filters(self, kernel: int) -> np.ndarray:
        """Draw the first layer: windowed tones of random frequency and phase.

        Returns:
            Shape (CHANNELS, 1, kernel), each of length 1.
        """
        frequency = np.exp(self._rng.uniform(np.log(100), np.log(7000), CHANNELS))
        phase = self._rng.uniform(0, 2 * np.pi, CHANNELS)
        time = np.arange(kernel) / 16000  # (kernel,)
        tones = np.cos(2 * np.pi * frequency[:, None] * time + phase[:, None])
        tones *= np.hanning(kernel + 2)[1:-1]
        tones /= np.linalg.norm(tones, axis=1, keepdims=True)
        return tones[:, None, :].astype(np.float32)

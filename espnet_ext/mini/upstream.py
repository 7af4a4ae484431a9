"""A tiny HuBERT checkpoint, so that the pipeline loads an upstream as a real one.

`write_tiny_hubert` writes a Hugging Face folder (``config.json``,
``model.safetensors``, ``preprocessor_config.json``) of a `transformers.HubertModel`
that nobody trained. Its convolutions are HuBERT's own stack (kernels 10 3 3 3 3 2 2,
strides 5 2 2 2 2 2 2: a frame every 320 samples), so frame counts are those of the
real models; the channels are 64 and the layers few.

A random network at the usual initial scale forgets most of the sound. Here the first
convolution takes random band filters, and the others mostly smooth over time, so that
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
    """Write the checkpoint folder; an older one is replaced in one step."""
    from safetensors.numpy import save

    with atomic_dir(folder) as new:
        for name, content in (
            ("config", CONFIG),
            ("preprocessor_config", PREPROCESSOR),
        ):
            text = json.dumps(content, indent=2, sort_keys=True) + "\n"
            (new / f"{name}.json").write_text(text, encoding="utf-8")
        weights = save(draw_weights(seed), metadata={"format": "pt"})
        (new / "model.safetensors").write_bytes(weights)


def draw_weights(seed: int) -> dict[str, np.ndarray]:
    """Draw every tensor, by transformers' names: about 150k float32 numbers."""
    rng = np.random.default_rng([seed, 200])
    tensors: dict[str, np.ndarray] = {}

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return deviation * rng.standard_normal(shape)

    def norm(name: str, size: int) -> None:
        tensors[f"{name}.weight"] = np.ones(size)
        tensors[f"{name}.bias"] = np.zeros(size)

    def linear(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = normal(np.sqrt(1 / inputs), outputs, inputs)
        tensors[f"{name}.bias"] = normal(0.1, outputs)

    for i, kernel in enumerate(KERNELS):
        name = f"feature_extractor.conv_layers.{i}"
        if i == 0:
            tensors[f"{name}.conv.weight"] = _band_filters(rng, kernel)
            # Group norm here is per channel over time; its bias is the only one
            # of the whole stack.
            tensors[f"{name}.layer_norm.weight"] = rng.uniform(0.5, 1.5, CHANNELS)
            tensors[f"{name}.layer_norm.bias"] = normal(0.5, CHANNELS)
        else:
            tensors[f"{name}.conv.weight"] = _smoothing_filters(rng, kernel)
    norm("feature_projection.layer_norm", CHANNELS)
    linear("feature_projection.projection", CHANNELS, HIDDEN)
    # Weight norm keeps length and direction of the positional convolution, under the
    # names of the published checkpoints, which transformers translates.
    weight = _he(rng, HIDDEN, HIDDEN // POSITION_GROUPS, POSITION_KERNEL)
    length = np.sqrt(np.sum(weight**2, axis=(0, 1), keepdims=True))  # (1, 1, kernel)
    name = "encoder.pos_conv_embed.conv"
    tensors |= {f"{name}.weight_g": length, f"{name}.weight_v": weight}
    tensors[f"{name}.bias"] = normal(0.1, HIDDEN)
    norm("encoder.layer_norm", HIDDEN)
    for i in range(LAYERS):
        name = f"encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(f"{name}.attention.{part}", HIDDEN, HIDDEN)
        norm(f"{name}.layer_norm", HIDDEN)
        linear(f"{name}.feed_forward.intermediate_dense", HIDDEN, INTERMEDIATE)
        linear(f"{name}.feed_forward.output_dense", INTERMEDIATE, HIDDEN)
        norm(f"{name}.final_layer_norm", HIDDEN)
    # Never used (masking is a training trick), but part of the model.
    tensors["masked_spec_embed"] = normal(1.0, HIDDEN)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def _he(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw weights (out, in, ...) of variance 2 / fan-in."""
    deviation = np.sqrt(2 / np.prod(shape[1:]))
    return (deviation * rng.standard_normal(shape)).astype(np.float32)


def _smoothing_filters(rng: np.random.Generator, kernel: int) -> np.ndarray:
    """Draw mixtures (C, C, kernel) of channels, mostly averaged over time."""
    rough = _he(rng, CHANNELS, CHANNELS, kernel)
    flat = _he(rng, CHANNELS, CHANNELS, 1) / np.sqrt(kernel)
    return np.sqrt(SMOOTHNESS) * flat + np.sqrt(1 - SMOOTHNESS) * rough


def _band_filters(rng: np.random.Generator, kernel: int) -> np.ndarray:
    """Draw windowed tones (C, 1, kernel) of random frequency and phase, of norm 1."""
    frequency = np.exp(rng.uniform(np.log(100), np.log(7000), CHANNELS))
    phase = rng.uniform(0, 2 * np.pi, CHANNELS)
    time = np.arange(kernel) / 16000  # (kernel,)
    tones = np.cos(2 * np.pi * frequency[:, None] * time + phase[:, None])
    tones *= np.hanning(kernel + 2)[1:-1]
    tones /= np.linalg.norm(tones, axis=1, keepdims=True)
    return tones[:, None, :]

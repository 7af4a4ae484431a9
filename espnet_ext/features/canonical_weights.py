"""Weights of Hugging Face, s3prl (fairseq) and torchaudio under one set of names.

The names are those of Hugging Face's HubertModel, which its Wav2Vec2Model and
WavLMModel share, with the position embedding's weight norm as ``weight_g`` and
``weight_v``. Each function returns the architecture and the fp32 tensors under these
names; their hash (`weights_hash`) is therefore the same whatever the source.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.features.architecture import Architecture

HUGGINGFACE_FAMILIES = ("hubert", "wav2vec2", "wavlm")

# ``config.json``'s name of each size, and its default (HuBERT-base's).
_SIZES = {
    "conv_bias": ("conv_bias", False),
    "extractor_norm": ("feat_extract_norm", "group"),
    "projection_norm": ("feat_proj_layer_norm", True),
    "hidden": ("hidden_size", 768),
    "heads": ("num_attention_heads", 12),
    "ffn": ("intermediate_size", 3072),
    "layers": ("num_hidden_layers", 12),
    "norm_first": ("do_stable_layer_norm", False),
    "pos_kernel": ("num_conv_pos_embeddings", 128),
    "pos_groups": ("num_conv_pos_embedding_groups", 16),
    "eps": ("layer_norm_eps", 1e-5),
}
_WAVLM_SIZES = {
    "buckets": ("num_buckets", 320),
    "max_distance": ("max_bucket_distance", 800),
}
_CONV_SIZES = {
    "conv_dim": (512,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
}
# torchaudio's name of each size, an argument of its models.
_TORCHAUDIO_SIZES = {
    "conv_bias": "extractor_conv_bias",
    "hidden": "encoder_embed_dim",
    "heads": "encoder_num_heads",
    "ffn": "encoder_ff_interm_features",
    "layers": "encoder_num_layers",
    "norm_first": "encoder_layer_norm_first",
    "pos_kernel": "encoder_pos_conv_kernel",
    "pos_groups": "encoder_pos_conv_groups",
}
_TORCHAUDIO_WAVLM_SIZES = {
    "buckets": "encoder_num_buckets",
    "max_distance": "encoder_max_distance",
}
# What the exact path computes of a ``config.json``'s variants.
_SUPPORTED = {
    "conv_pos_batch_norm": False,
    "adapter_attn_dim": None,
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
}

_CONV = "feature_extractor.conv_layers."
_LAYER = r"(encoder\.layers\.\d+\.)"
# Patterns are tried in order on the whole name; the first that matches is used.
_FAIRSEQ_NAMES = (
    (rf"{_CONV}(\d+)\.0\.(\w+)", rf"{_CONV}\1.conv.\2"),
    (rf"{_CONV}(\d+)\.2\.(?:1\.)?(\w+)", rf"{_CONV}\1.layer_norm.\2"),
    (r"post_extract_proj\.(\w+)", r"feature_projection.projection.\1"),
    (r"layer_norm\.(\w+)", r"feature_projection.layer_norm.\1"),
    (r"encoder\.pos_conv\.0\.(\w+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"encoder\.layer_norm\.(\w+)", r"encoder.layer_norm.\1"),
    (rf"{_LAYER}self_attn_layer_norm\.(\w+)", r"\1layer_norm.\2"),
    (rf"{_LAYER}self_attn\.grep_a", r"\1attention.gru_rel_pos_const"),
    (rf"{_LAYER}self_attn\.grep_(linear\.\w+)", r"\1attention.gru_rel_pos_\2"),
    (
        rf"{_LAYER}self_attn\.relative_attention_bias\.(\w+)",
        r"\1attention.rel_attn_embed.\2",
    ),
    (rf"{_LAYER}self_attn\.(\w+\.\w+)", r"\1attention.\2"),
    (rf"{_LAYER}fc1\.(\w+)", r"\1feed_forward.intermediate_dense.\2"),
    (rf"{_LAYER}fc2\.(\w+)", r"\1feed_forward.output_dense.\2"),
    (rf"{_LAYER}final_layer_norm\.(\w+)", r"\1final_layer_norm.\2"),
)
# Parts of a name; torch's newer weight norm gets the older one's names.
_TORCHAUDIO_NAMES = {
    "encoder.transformer.": "encoder.",
    "encoder.feature_projection.": "feature_projection.",
    ".attention.attention.": ".attention.",
}
_WEIGHT_NORM_NAMES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


@dataclass(frozen=True)
class Checkpoint:
    """Weights for the exact path.

    Attributes:
        architecture: Sizes and variants.
        weights: Tensors under canonical names.
        normalize: Whether the model was trained on normalized waveforms.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    normalize: bool


def from_huggingface(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[Architecture, dict[str, Tensor]]:
    """Convert a Hugging Face checkpoint.

    Args:
        config: ``config.json`` of a HuBERT, wav2vec 2.0 or WavLM model.
        tensors: The checkpoint; a prefix such as ``hubert.`` is taken off.
        where: Name of the folder, for messages.

    Raises:
        UserError: Another kind of model, or a tensor is missing.
    """
    family = config.get("model_type")
    if family not in HUGGINGFACE_FAMILIES:
        raise UserError(
            f"{where}: config.json names model_type {family!r}; the exact path knows "
            f"{', '.join(HUGGINGFACE_FAMILIES)}. Other upstreams run with source s3prl"
        )
    for key, plain in _SUPPORTED.items():
        if config.get(key, plain) != plain:
            raise UserError(
                f"{where}: config.json has {key}: {config[key]!r}, which the exact "
                f"path does not compute (it knows {plain!r})"
            )
    try:
        architecture = _read_architecture(config)
        canonical_shapes(architecture)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{where}: config.json has sizes that do not go together ({error}); "
            "download it again"
        ) from None
    bare = {name.removeprefix(f"{family}."): x for name, x in tensors.items()}
    return architecture, _collect(architecture, bare, where)


def _read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Read the sizes in a ``config.json``."""
    sizes = _SIZES | (_WAVLM_SIZES if config["model_type"] == "wavlm" else {})
    conv = [config.get(key, default) for key, default in _CONV_SIZES.items()]
    return Architecture(
        conv_layers=tuple(zip(*conv, strict=True)),
        **{field: config.get(key, default) for field, (key, default) in sizes.items()},
    )


def to_huggingface_config(architecture: Architecture) -> dict[str, Any]:
    """Describe an architecture as ``config.json`` does; see `from_huggingface`."""
    sizes = _SIZES | (_WAVLM_SIZES if architecture.buckets else {})
    conv = zip(*architecture.conv_layers, strict=True)
    return {
        "model_type": "wavlm" if architecture.buckets else "hubert",
        **dict(zip(_CONV_SIZES, conv, strict=True)),
        "num_feat_extract_layers": len(architecture.conv_layers),
        **{key: getattr(architecture, field) for field, (key, _) in sizes.items()},
    }


def from_fairseq(
    model: nn.Module, where: str
) -> tuple[Architecture, dict[str, Tensor]] | None:
    """Convert a model in fairseq's form, as s3prl holds it.

    s3prl's classes do not keep their configuration, so that it is read off the modules.

    Args:
        model: ``HubertModel``, ``Wav2Vec2Model`` or ``WavLM`` of s3prl.
        where: Name of the upstream, for messages.

    Returns:
        None for a variant that the exact path does not compute (conformer layers, a
        deep position embedding, another activation).
    """
    parts: Any = model  # the modules' own attributes, which no type describes
    encoder, layer = parts.encoder, parts.encoder.layers[0]
    if (
        not hasattr(layer, "fc1")
        or not isinstance(encoder.pos_conv[0], nn.Conv1d)
        or getattr(layer.activation_fn, "__name__", "") != "gelu"
    ):
        return None
    relative = getattr(encoder, "relative_position_embedding", False)
    if relative and not layer.self_attn.gru_rel_pos:
        return None
    tensors = model.state_dict()
    convolutions = [block[0] for block in parts.feature_extractor.conv_layers]
    layered = f"{_CONV}1.2.1.weight" in tensors
    architecture = Architecture(
        conv_layers=tuple(
            (conv.out_channels, conv.kernel_size[0], conv.stride[0])
            for conv in convolutions
        ),
        conv_bias=convolutions[0].bias is not None,
        extractor_norm="layer" if layered else "group",
        hidden=encoder.embedding_dim,
        heads=layer.self_attn.num_heads,
        ffn=layer.fc1.out_features,
        layers=len(encoder.layers),
        norm_first=encoder.layer_norm_first,
        pos_kernel=encoder.pos_conv[0].kernel_size[0],
        pos_groups=encoder.pos_conv[0].groups,
        buckets=encoder.num_buckets if relative else 0,
        max_distance=encoder.max_distance if relative else 0,
    )
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _FAIRSEQ_NAMES:
            if re.fullmatch(pattern, name):
                renamed[re.sub(pattern, replacement, name)] = tensor
                break
    if parts.post_extract_proj is None:  # left out where the widths agree
        projection = "feature_projection.projection."
        renamed[f"{projection}weight"] = torch.eye(architecture.hidden)
        renamed[f"{projection}bias"] = torch.zeros(architecture.hidden)
    return architecture, _collect(architecture, renamed, where)


def from_torchaudio(
    params: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[Architecture, dict[str, Tensor]]:
    """Convert a model of torchaudio.

    Args:
        params: Arguments of ``torchaudio.models.wav2vec2_model`` or ``wavlm_model``.
        tensors: The model's state dict.
        where: Name of the bundle, for messages.

    Raises:
        UserError: A tensor is missing.
    """
    wavlm = "encoder_num_buckets" in params
    sizes = _TORCHAUDIO_SIZES | (_TORCHAUDIO_WAVLM_SIZES if wavlm else {})
    conv = params["extractor_conv_layer_config"]
    if conv is None:  # torchaudio's default
        conv = zip(*_CONV_SIZES.values(), strict=True)
    architecture = Architecture(
        conv_layers=tuple(map(tuple, conv)),
        extractor_norm=params["extractor_mode"].removesuffix("_norm"),
        **{field: params[key] for field, key in sizes.items()},
    )
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = _replace(name, _TORCHAUDIO_NAMES)
        stem, joined, kind = name.partition("in_proj_")
        if joined:  # WavLM's attention has the three projections in one tensor
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{stem}{part}_proj.{kind}"] = piece
        else:
            renamed[name] = tensor
    return architecture, _collect(architecture, renamed, where)


def canonical_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name the tensors that an architecture has, with their shapes."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *shape: int) -> None:
        """Add a weight and its bias."""
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    inputs = 1
    for i, (channels, kernel, _) in enumerate(architecture.conv_layers):
        name = f"feature_extractor.conv_layers.{i}."
        add(f"{name}conv", channels, inputs, kernel)
        if not architecture.conv_bias:
            del shapes[f"{name}conv.bias"]
        if i == 0 or architecture.extractor_norm == "layer":
            add(f"{name}layer_norm", channels)
        inputs = channels
    if architecture.projection_norm:
        add("feature_projection.layer_norm", inputs)
    hidden, ffn, heads = architecture.hidden, architecture.ffn, architecture.heads
    add("feature_projection.projection", hidden, inputs)
    position, taps = "encoder.pos_conv_embed.conv.", architecture.pos_kernel
    shapes[f"{position}weight_g"] = (1, 1, taps)
    shapes[f"{position}weight_v"] = (hidden, hidden // architecture.pos_groups, taps)
    shapes[f"{position}bias"] = (hidden,)
    add("encoder.layer_norm", hidden)
    if architecture.buckets:
        embedding = "encoder.layers.0.attention.rel_attn_embed.weight"
        shapes[embedding] = (architecture.buckets, heads)
    for i in range(architecture.layers):
        name = f"encoder.layers.{i}."
        for part in ("q", "k", "v", "out"):
            add(f"{name}attention.{part}_proj", hidden, hidden)
        add(f"{name}layer_norm", hidden)
        add(f"{name}final_layer_norm", hidden)
        add(f"{name}feed_forward.intermediate_dense", ffn, hidden)
        add(f"{name}feed_forward.output_dense", hidden, ffn)
        if architecture.buckets:
            add(f"{name}attention.gru_rel_pos_linear", 8, hidden // heads)
            shapes[f"{name}attention.gru_rel_pos_const"] = (1, heads, 1, 1)
    return shapes


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Hash all tensors with their names and shapes (SHA-256, hexadecimal)."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name].detach().cpu().numpy())
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _replace(name: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        name = name.replace(old, new)
    return name


def _collect(
    architecture: Architecture, tensors: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Take the tensors that the architecture has, in fp32."""
    tensors = {_replace(name, _WEIGHT_NORM_NAMES): x for name, x in tensors.items()}
    chosen = {}
    for name, shape in canonical_shapes(architecture).items():
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != shape:
            fault = f"has no tensor {name!r}"
            if found is not None:
                fault = f"has {name!r} of shape {found}, not {shape}"
            raise UserError(
                f"{where}: the checkpoint {fault}; is it complete, and of the "
                "architecture that its configuration says? Copy or download the whole "
                "folder again"
            )
        chosen[name] = tensors[name].detach().float().contiguous()
    return chosen

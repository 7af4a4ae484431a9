"""Weights of Hugging Face, s3prl (fairseq) and torchaudio under one set of names.

The names are those of Hugging Face's HubertModel, which its Wav2Vec2Model and
WavLMModel share, with the position embedding's weight norm as ``weight_g`` and
``weight_v``. Each function returns the architecture and the fp32 tensors under these
names; their hash (`weights_hash`) is therefore the same whatever the source.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espnet_ext.errors import UserError
from espnet_ext.features.architecture import Architecture

HUGGINGFACE_FAMILIES = ("hubert", "wav2vec2", "wavlm")

# WavLM's own defaults.
_RELATIVE = {"num_buckets": 320, "max_bucket_distance": 800}
# torchaudio's arguments for these sizes; the last two are WavLM's alone.
_TORCHAUDIO_SIZES = {
    "conv_bias": "extractor_conv_bias",
    "hidden_size": "encoder_embed_dim",
    "num_attention_heads": "encoder_num_heads",
    "intermediate_size": "encoder_ff_interm_features",
    "num_hidden_layers": "encoder_num_layers",
    "do_stable_layer_norm": "encoder_layer_norm_first",
    "num_conv_pos_embeddings": "encoder_pos_conv_kernel",
    "num_conv_pos_embedding_groups": "encoder_pos_conv_groups",
    "num_buckets": "encoder_num_buckets",
    "max_bucket_distance": "encoder_max_distance",
}
# What the exact path computes of a ``config.json``'s variants.
_SUPPORTED = {
    "conv_pos_batch_norm": False,
    "adapter_attn_dim": None,
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
}

_CONV = "feature_extractor.conv_layers."
# A source's names become this package's by these patterns, one after the other.
_FAIRSEQ_NAMES = (
    (rf"^({_CONV}\d+)\.0\.", r"\1.conv."),
    (rf"^({_CONV}\d+)\.2\.(1\.)?", r"\1.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.grep_a$", ".self_attn.gru_rel_pos_const"),
    (r"\.self_attn\.grep_linear\.", ".self_attn.gru_rel_pos_linear."),
    (r"\.self_attn\.relative_attention_bias\.", ".self_attn.rel_attn_embed."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
_TORCHAUDIO_NAMES = (
    (r"^encoder\.transformer\.", "encoder."),
    (r"^encoder\.feature_projection\.", "feature_projection."),
    (r"\.attention\.attention\.", ".attention."),
)
_WEIGHT_NORM_NAMES = (  # torch's newer ones
    (r"parametrizations\.weight\.original0$", "weight_g"),
    (r"parametrizations\.weight\.original1$", "weight_v"),
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights for the exact path, under canonical names."""

    architecture: Architecture
    weights: Mapping[str, Tensor]
    normalize: bool  # whether the model was trained on normalized waveforms


def from_huggingface(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[Architecture, dict[str, Tensor]]:
    """Convert a Hugging Face checkpoint: ``config.json`` and tensors.

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
    sizes = {f.name: config.get(f.name, f.default) for f in fields(Architecture)}
    for key, default in _RELATIVE.items():
        sizes[key] = config.get(key, default) if family == "wavlm" else 0
    architecture = Architecture(**sizes)
    try:
        canonical_shapes(architecture)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{where}: config.json has sizes that do not go together ({error}); "
            "download it again"
        ) from None
    prefix = ((rf"^{family}\.", ""),)
    return architecture, _collect(architecture, tensors, prefix, where)


def to_huggingface_config(architecture: Architecture) -> dict[str, Any]:
    """Describe an architecture as ``config.json`` does; see `from_huggingface`."""
    values = {**asdict(architecture), "model_type": "wavlm"}
    if not architecture.num_buckets:
        values = {key: x for key, x in values.items() if key not in _RELATIVE}
        values["model_type"] = "hubert"
    return {**values, "num_feat_extract_layers": len(architecture.conv_dim)}


def from_fairseq(
    model: nn.Module, where: str
) -> tuple[Architecture, dict[str, Tensor]] | None:
    """Convert s3prl's ``HubertModel``, ``Wav2Vec2Model`` or ``WavLM``.

    These classes do not keep their configuration: it is read off the modules.

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
    tensors = dict(model.state_dict())
    convs = [block[0] for block in parts.feature_extractor.conv_layers]
    architecture = Architecture(
        conv_dim=tuple(conv.out_channels for conv in convs),
        conv_kernel=tuple(conv.kernel_size[0] for conv in convs),
        conv_stride=tuple(conv.stride[0] for conv in convs),
        conv_bias=convs[0].bias is not None,
        feat_extract_norm="layer" if f"{_CONV}1.2.1.weight" in tensors else "group",
        hidden_size=encoder.embedding_dim,
        num_attention_heads=layer.self_attn.num_heads,
        intermediate_size=layer.fc1.out_features,
        num_hidden_layers=len(encoder.layers),
        do_stable_layer_norm=encoder.layer_norm_first,
        num_conv_pos_embeddings=encoder.pos_conv[0].kernel_size[0],
        num_conv_pos_embedding_groups=encoder.pos_conv[0].groups,
        num_buckets=encoder.num_buckets if relative else 0,
        max_bucket_distance=encoder.max_distance if relative else 0,
    )
    if parts.post_extract_proj is None:  # left out where the widths agree
        tensors["post_extract_proj.weight"] = torch.eye(architecture.hidden_size)
        tensors["post_extract_proj.bias"] = torch.zeros(architecture.hidden_size)
    return architecture, _collect(architecture, tensors, _FAIRSEQ_NAMES, where)


def from_torchaudio(
    params: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[Architecture, dict[str, Tensor]]:
    """Convert a model of torchaudio from its state dict.

    `params` are arguments of ``torchaudio.models.wav2vec2_model`` or ``wavlm_model``.
    """
    sizes = {x: params[y] for x, y in _TORCHAUDIO_SIZES.items() if y in params}
    dim, kernel, stride = zip(*params["extractor_conv_layer_config"], strict=True)
    norm = params["extractor_mode"].removesuffix("_norm")
    architecture = Architecture(dim, kernel, stride, feat_extract_norm=norm, **sizes)
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, joined, kind = name.partition("in_proj_")
        if joined:  # WavLM's attention has the three projections in one tensor
            pieces = zip("qkv", tensor.chunk(3), strict=True)
            split |= {f"{stem}{part}_proj.{kind}": piece for part, piece in pieces}
        else:
            split[name] = tensor
    return architecture, _collect(architecture, split, _TORCHAUDIO_NAMES, where)


def canonical_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name the tensors that an architecture has, with their shapes."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *shape: int) -> None:
        """Add a weight and its bias."""
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    inputs = 1
    for i, (channels, kernel, _) in enumerate(architecture.conv_layers):
        name = f"{_CONV}{i}."
        add(f"{name}conv", channels, inputs, kernel)
        if not architecture.conv_bias:
            del shapes[f"{name}conv.bias"]
        if i == 0 or architecture.feat_extract_norm == "layer":
            add(f"{name}layer_norm", channels)
        inputs = channels
    if architecture.feat_proj_layer_norm:
        add("feature_projection.layer_norm", inputs)
    hidden, ffn = architecture.hidden_size, architecture.intermediate_size
    heads = architecture.num_attention_heads
    add("feature_projection.projection", hidden, inputs)
    position, taps = (
        "encoder.pos_conv_embed.conv.",
        architecture.num_conv_pos_embeddings,
    )
    shapes[f"{position}weight_g"] = (1, 1, taps)
    shapes[f"{position}weight_v"] = (
        hidden,
        hidden // architecture.num_conv_pos_embedding_groups,
        taps,
    )
    shapes[f"{position}bias"] = (hidden,)
    add("encoder.layer_norm", hidden)
    if architecture.num_buckets:
        embedding = "encoder.layers.0.attention.rel_attn_embed.weight"
        shapes[embedding] = (architecture.num_buckets, heads)
    for i in range(architecture.num_hidden_layers):
        name = f"encoder.layers.{i}."
        for part in ("q", "k", "v", "out"):
            add(f"{name}attention.{part}_proj", hidden, hidden)
        add(f"{name}layer_norm", hidden)
        add(f"{name}final_layer_norm", hidden)
        add(f"{name}feed_forward.intermediate_dense", ffn, hidden)
        add(f"{name}feed_forward.output_dense", hidden, ffn)
        if architecture.num_buckets:
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


def _collect(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    names: Iterable[tuple[str, str]],
    where: str,
) -> dict[str, Tensor]:
    """Rename the tensors by `names` and take those of the architecture, in fp32."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in (*names, *_WEIGHT_NORM_NAMES):
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    chosen = {}
    for name, shape in canonical_shapes(architecture).items():
        found = tuple(renamed[name].shape) if name in renamed else None
        if found != shape:
            fault = f"has no tensor {name!r}"
            if found is not None:
                fault = f"has {name!r} of shape {found}, not {shape}"
            raise UserError(
                f"{where}: the checkpoint {fault}; is it complete, and of the "
                "architecture that its configuration says? Copy or download the whole "
                "folder again"
            )
        chosen[name] = renamed[name].detach().float().contiguous()
    return chosen

"""What is extracted: upstream, layers and precision, read from conf/features/*.yaml."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from espnet_ext.errors import UserError
from espnet_ext.utils.yaml_files import build, read_yaml

Layers = Literal["all", "last"] | tuple[int, ...]


@dataclass(frozen=True)
class UpstreamConfig:
    """Which weights to use.

    Attributes:
        source: ``s3prl``, ``huggingface`` or ``torchaudio``.
        name: The source's own name of the upstream (``hubert_large_ll60k``,
            ``facebook/hubert-large-ll60k``, ``HUBERT_LARGE``), or a folder with
            ``config.json`` and the weights.
        path: A checkpoint file for s3prl's ``*_local`` upstreams.
    """

    source: Literal["s3prl", "huggingface", "torchaudio"]
    name: str
    path: str | None = None


@dataclass(frozen=True)
class FeatureConfig:
    """What one feature store holds.

    Attributes:
        upstream: The frozen model.
        layers: ``all`` hidden states, the ``last`` one, or a tuple of state numbers;
            state 0 is the encoder's input, negative numbers count from the end.
        dtype: Precision in the store. ``int8`` keeps a scale per utterance, state
            and channel.
        compute: Precision of the linear layers and the attention. The residual
            stream, the norms and the convolutions stay in fp32; with
            ``bfloat16_all`` the convolutions after the first do not.
        normalize: Whether each waveform is brought to zero mean and unit variance;
            ``auto`` does what the upstream was trained with.
    """

    upstream: UpstreamConfig
    layers: Layers = "all"
    dtype: Literal["float16", "float32", "int8"] = "float16"
    compute: Literal["float32", "bfloat16", "bfloat16_all"] = "float32"
    normalize: Literal["auto", True, False] = "auto"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON and YAML can hold."""
        layers = self.layers if isinstance(self.layers, str) else list(self.layers)
        return {**asdict(self), "layers": layers}


def load_feature_config(
    path: Path | str, upstream_name: str | None = None
) -> FeatureConfig:
    """Read a feature config.

    Args:
        path: YAML file, such as ``conf/features/hubert_large.yaml``.
        upstream_name: Replaces ``upstream.name`` of the file (a name or a folder).

    Raises:
        UserError: The file is missing or not YAML, a key is unknown, or a value is
            not one of those allowed.
    """
    config = parse_feature_config(read_yaml(path), str(path))
    if upstream_name is not None:
        config = replace(config, upstream=replace(config.upstream, name=upstream_name))
    return config


def parse_feature_config(values: Mapping[str, Any], where: str) -> FeatureConfig:
    """Check plain values, as read from YAML, and make a `FeatureConfig` of them.

    Raises:
        UserError: As `load_feature_config`; `where` is the file in its message.
    """
    config = build(FeatureConfig, values, where)
    return replace(config, layers=_parse_layers(config.layers, where))


def resolve_layers(layers: Layers, num_states: int) -> tuple[int, ...]:
    """Turn the config's `layers` into state numbers, counted from 0.

    Raises:
        UserError: A number is outside of the upstream's `num_states`, or given twice.
    """
    if layers == "all":
        return tuple(range(num_states))
    if layers == "last":
        return (num_states - 1,)
    assert not isinstance(layers, str)
    resolved = tuple(i + num_states if i < 0 else i for i in layers)
    for given, index in zip(layers, resolved, strict=True):
        if not 0 <= index < num_states:
            raise UserError(
                f"layers: {given} is outside of the upstream's {num_states} hidden "
                f"states (0 to {num_states - 1}; 0 is the encoder's input)"
            )
    if len(set(resolved)) != len(resolved):
        raise UserError(f"layers: {list(layers)} names a hidden state twice")
    return resolved


def _parse_layers(value: Any, where: str) -> Layers:
    if value in ("all", "last"):
        return value
    numbers = value if isinstance(value, list | tuple) else [value]
    if numbers and all(type(i) is int for i in numbers):
        return tuple(numbers)
    raise UserError(
        f"{where}: layers is 'all', 'last' or a list of state numbers, not {value!r}"
    )

"""What is extracted: upstream, layers and precision, read from conf/features/*.yaml."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from espnet_ext.errors import UserError

SOURCES = ("s3prl", "huggingface", "torchaudio", "opensmile", "kaldi")
DTYPES = ("float16", "float32", "int8")
COMPUTES = ("float32", "bfloat16", "bfloat16_all")

Layers = Literal["all", "last"] | tuple[int, ...]


@dataclass(frozen=True)
class UpstreamConfig:
    """Which weights to use.

    Attributes:
        source: ``s3prl``, ``huggingface``, ``torchaudio``, ``opensmile`` or
            ``kaldi``.
        name: The source's own name of the upstream (``hubert_large_ll60k``,
            ``facebook/hubert-large-ll60k``, ``HUBERT_LARGE``). For ``huggingface`` a
            folder with ``config.json`` and the weights will also do.
        path: A checkpoint file for s3prl's ``*_local`` upstreams.
    """

    source: str
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
    dtype: str = "float16"
    compute: str = "float32"
    normalize: Literal["auto"] | bool = "auto"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON and YAML can hold."""
        values = asdict(self)
        if not isinstance(self.layers, str):
            values["layers"] = list(self.layers)
        return values


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
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such feature config; conf/features/ holds those that come "
            "with the project"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    config = parse_feature_config(values, str(path))
    if upstream_name is not None:
        config = replace(config, upstream=replace(config.upstream, name=upstream_name))
    return config


def parse_feature_config(values: Any, where: str) -> FeatureConfig:
    """Check plain values and make a `FeatureConfig` of them.

    Args:
        values: Mapping as read from YAML.
        where: Name of the file, for messages.

    Raises:
        UserError: As `load_feature_config`.
    """
    if not isinstance(values, Mapping) or not isinstance(
        values.get("upstream"), Mapping
    ):
        raise UserError(
            f"{where}: expected 'upstream: {{source: ..., name: ...}}' at the top level"
        )
    _check_keys(values, FeatureConfig, where)
    _check_keys(values["upstream"], UpstreamConfig, f"{where}: upstream")
    for key in ("source", "name"):
        if not isinstance(values["upstream"].get(key), str):
            raise UserError(f"{where}: upstream.{key} is missing or not a text")
    config = FeatureConfig(
        **{
            **values,
            "upstream": UpstreamConfig(**values["upstream"]),
            "layers": _parse_layers(values.get("layers", "all"), where),
        }
    )
    _check_choice(config.upstream.source, SOURCES, f"{where}: upstream.source")
    _check_choice(config.dtype, DTYPES, f"{where}: dtype")
    _check_choice(config.compute, COMPUTES, f"{where}: compute")
    if config.normalize not in ("auto", True, False):
        raise UserError(f"{where}: normalize is auto, true or false")
    return config


def resolve_layers(layers: Layers, num_states: int) -> tuple[int, ...]:
    """Turn the config's `layers` into state numbers, counted from 0.

    Args:
        layers: As in `FeatureConfig`.
        num_states: Hidden states that the upstream has.

    Raises:
        UserError: A number is outside of what the upstream has, or is given twice.
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
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, list) and value and all(type(i) is int for i in value):
        return tuple(value)
    raise UserError(
        f"{where}: layers is 'all', 'last' or a list of state numbers, not {value!r}"
    )


def _check_choice(value: Any, choices: tuple[str, ...], where: str) -> None:
    if value not in choices:
        raise UserError(f"{where} is one of {', '.join(choices)}, not {value!r}")


def _check_keys(values: Mapping[str, Any], target: type, where: str) -> None:
    known = [field.name for field in fields(target)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise UserError(f"{where}: unknown key {key!r}; did you mean {near[0]!r}?")

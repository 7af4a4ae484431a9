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

    `name` is the source's own (``hubert_large_ll60k``, ``facebook/hubert-large-ll60k``,
    ``HUBERT_LARGE``), or a folder with ``config.json`` and the weights; `path` is a
    checkpoint file for s3prl's ``*_local`` upstreams.
    """

    source: Literal["s3prl", "huggingface", "torchaudio", "opensmile", "kaldi"]
    name: str
    path: str | None = None

    @property
    def least_frame_shift(self) -> int:
        """Samples from a frame to the next, at least: known without loading it.

        HuBERT, wav2vec 2.0 and WavLM have 320; filter banks and others 160 or more.
        """
        exact = self.source in ("huggingface", "torchaudio") or "/" in self.name
        families = ("hubert", "wav2vec2", "wavlm")
        exact |= self.source == "s3prl" and self.name.startswith(families)
        return 320 if exact else 160


@dataclass(frozen=True)
class FeatureConfig:
    """What one feature store holds.

    State 0 is the encoder's input, negative numbers of `layers` count from the end.
    `compute` is the precision of linear layers and attention, with ``bfloat16_all``
    of the convolutions after the first too. `normalize` brings each waveform to zero
    mean and unit variance; ``auto`` does what the upstream was trained with.
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
    """Read a feature config from its YAML file; see `parse_feature_config`."""
    return parse_feature_config(read_yaml(path), str(path), upstream_name)


def parse_feature_config(
    values: Mapping[str, Any], where: str, upstream_name: str | None = None
) -> FeatureConfig:
    """Check plain values, as read from YAML (`where`), and make a `FeatureConfig`.

    `upstream_name` replaces ``upstream.name``. A UserError says that a key is unknown
    or a value not one of those allowed.
    """
    config = build(FeatureConfig, values, where)
    if upstream_name is not None:
        config = replace(config, upstream=replace(config.upstream, name=upstream_name))
    value: Any = config.layers
    if value in ("all", "last"):
        return config
    numbers = value if isinstance(value, list | tuple) else [value]
    if numbers and all(type(i) is int for i in numbers):
        return replace(config, layers=tuple(numbers))
    raise UserError(
        f"{where}: layers is 'all', 'last' or a list of state numbers, not {value!r}"
    )


def resolve_layers(layers: Layers, num_states: int) -> tuple[int, ...]:
    """Turn the config's `layers` into numbers of the upstream's states."""
    names = {"all": tuple(range(num_states)), "last": (num_states - 1,)}
    numbers = names[layers] if isinstance(layers, str) else layers
    resolved = tuple(i + num_states if i < 0 else i for i in numbers)
    for given, index in zip(numbers, resolved, strict=True):
        if not 0 <= index < num_states:
            raise UserError(
                f"layers: {given} is outside of the upstream's {num_states} hidden "
                f"states (0 to {num_states - 1}; 0 is the encoder's input)"
            )
    if len(set(resolved)) != len(resolved):
        raise UserError(f"layers: {list(numbers)} names a hidden state twice")
    return resolved

"""Compare what a store holds with its recordings, computed again in fp32.

Says two things that checksums cannot: that the features are those of these recordings
and these weights, and what the store's precision costs on them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from espnet_ext.corpora.audio import load_waveform
from espnet_ext.errors import UserError
from espnet_ext.features.config import FeatureConfig, parse_feature_config
from espnet_ext.features.store import FeatureStore
from espnet_ext.features.upstream import load_upstream


@dataclass(frozen=True, slots=True)
class StateError:
    """How far a hidden state in a store is from the one in fp32.

    Attributes:
        state: Its number.
        mean: Relative L2 distance of a frame, mean over all frames.
        worst: The largest of them.
    """

    state: int
    mean: float
    worst: float


def config_of(store: FeatureStore, upstream_name: str | None = None) -> FeatureConfig:
    """Return the config that a store was made with, computing in fp32.

    Args:
        store: As said.
        upstream_name: Where the weights are now, if not where they were then.
    """
    where = str(store.path)
    config = parse_feature_config(store.description["request"]["config"], where)
    upstream = config.upstream
    if upstream_name is not None:
        upstream = replace(upstream, name=upstream_name)
    return replace(config, upstream=upstream, compute="float32")


def spread(ids: Sequence[str], count: int) -> list[str]:
    """Choose `count` of `ids`, evenly spaced."""
    count = min(count, len(ids))
    return [ids[(2 * i + 1) * len(ids) // (2 * count)] for i in range(count)]


def errors_by_utterance(
    store: FeatureStore,
    paths: Mapping[str, str],
    config: FeatureConfig,
    device: str = "cpu",
) -> Iterator[tuple[str, Tensor]]:
    """Compute each recording's features again and compare.

    Args:
        store: What to compare.
        paths: Utterance id -> its recording.
        config: Of `config_of`.
        device: Where to compute.

    Yields:
        Utterance and relative L2 distances (L, T), states in the order of
        ``store.layers``.

    Raises:
        UserError: The weights are not those that the store was made with, or a
            recording gives another number of frames.
    """
    upstream = load_upstream(config).to(device)
    if upstream.weights != store.description["weights"]:
        raise UserError(
            f"{store.path}: was made with other weights than {config.upstream.name} "
            f"({config.upstream.source}) has now"
        )
    for utterance, path in paths.items():
        wave = torch.from_numpy(load_waveform(path)).to(device)
        (expected,) = upstream.extract([wave], store.layers, torch.float32)
        expected = expected.cpu()  # (L, T, D)
        held = torch.from_numpy(store[utterance].copy()).float()
        if held.dim() == 2:
            held = held[:, None]
        held = held.transpose(0, 1)  # (L, T, D)
        if held.shape != expected.shape:
            raise UserError(
                f"{store.path}: {utterance} has {held.shape[1]} frames, but {path} "
                f"gives {expected.shape[1]}"
            )
        yield utterance, (held - expected).norm(dim=-1) / expected.norm(dim=-1)


def summarize(errors: Sequence[Tensor], layers: Sequence[int]) -> list[StateError]:
    """Join the distances (L, T) of several utterances."""
    joined = torch.cat(list(errors), dim=1)  # (L, all frames)
    return [
        StateError(state, row.mean().item(), row.max().item())
        for state, row in zip(layers, joined, strict=True)
    ]

"""Is a store whole, and is it of these recordings?

Checksums tell the first. Computing some utterances again in fp32 tells the second, and
what the store's precision costs on them.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_ext.errors import UserError
from espnet_ext.features.config import parse_feature_config
from espnet_ext.features.store import FeatureStore
from espnet_ext.features.store_files import read_shard


def verify_checksums(store: FeatureStore) -> None:
    """Compare a store with its checksums; a UserError names the shards to remove."""
    shards: dict[Path, list[str]] = {}
    for utterance in store.ids:
        shards.setdefault(store.shard_path(utterance), []).append(utterance)
    damaged: dict[Path, str] = {}
    for shard in tqdm(sorted(shards), desc=f"verify {store.path}", unit="shard"):
        try:
            for utterance in shards[shard]:
                store.check(utterance)
            read_shard(shard)
        except UserError as error:
            damaged[shard] = str(error)
    if damaged:
        lines = "\n".join(f"  {message}" for message in damaged.values())
        remove = "\n".join(f"  rm {shard}" for shard in damaged)
        raise UserError(
            f"{store.path}: {len(damaged)} damaged shards:\n{lines}\nRemove them and "
            f"run ser_extract again, which makes these only:\n{remove}"
        )


def recompute(
    store: FeatureStore,
    paths: Mapping[str, str],
    count: int,
    upstream_name: str | None = None,
    device: str = "cpu",
) -> tuple[int, list[tuple[int, float, float]]]:
    """Compute `count` utterances again in fp32, evenly spaced, and compare.

    `paths` are recordings by utterance; `upstream_name` is where the weights are now,
    if not where they were then.

    Returns:
        How many utterances there were, and for each hidden state of the store its
        number and the relative L2 distance of a frame, mean and worst.
    """
    import torch

    from espnet_ext.corpora.audio import load_waveform
    from espnet_ext.features.upstream import load_upstream

    ids = [u for u in store.ids if u in paths]
    if not ids:
        raise UserError(f"{store.path}: has none of these utterances")
    count = min(count, len(ids))
    chosen = [ids[(2 * i + 1) * len(ids) // (2 * count)] for i in range(count)]
    values = {**store.description["request"]["config"], "compute": "float32"}
    config = parse_feature_config(values, str(store.path), upstream_name)
    upstream = load_upstream(config).to(device)
    if upstream.weights != store.description["weights"]:
        raise UserError(
            f"{store.path}: was made with other weights than {config.upstream.name} "
            f"({config.upstream.source}) has now"
        )
    errors = []
    for utterance in tqdm(chosen, desc="compute again", unit="utt"):
        wave = torch.from_numpy(load_waveform(paths[utterance])).to(device)
        (expected,) = upstream.extract([wave], store.layers, torch.float32)
        expected = expected.cpu()  # (L, T, D)
        layers = [store.layer(utterance, number) for number in store.layers]
        held = torch.from_numpy(np.stack(layers)).float()  # (L, T, D)
        if held.shape != expected.shape:
            raise UserError(
                f"{store.path}: {utterance} has {held.shape[1]} frames, but "
                f"{paths[utterance]} gives {expected.shape[1]}"
            )
        errors.append((held - expected).norm(dim=-1) / expected.norm(dim=-1))  # (L, T)
    joined = torch.cat(errors, dim=1)  # (L, all frames)
    return count, [
        (state, row.mean().item(), row.max().item())
        for state, row in zip(store.layers, joined, strict=True)
    ]

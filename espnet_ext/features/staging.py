"""Copy a store to a disk that is near, such as a compute node's scratch.

Random reads over a network file system crawl; one sequential copy does not.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from espnet_ext.errors import UserError
from espnet_ext.features.format import INDEX_NAME, SHARDS_NAME, STORE_NAME
from espnet_ext.features.store import FeatureStore
from espnet_ext.utils.atomic import atomic_dir


def stage_store(
    source: Path, target: Path, ids: Iterable[str] | None = None
) -> FeatureStore:
    """Copy a store, or the shards of it that hold `ids`.

    A complete copy that is there already is kept; `target` appears in one step.

    Args:
        source: Folder of the store.
        target: Folder of the copy.
        ids: Utterances that will be read; all by default.

    Returns:
        The copy, opened.

    Raises:
        UserError: It does not fit, an utterance is not there, or `target` is something
            else.
    """
    store = FeatureStore(source)
    wanted = store.ids if ids is None else ids
    shards = sorted({store.shard_path(utterance) for utterance in wanted})
    if _is_copy(source, target, shards):
        return FeatureStore(target)
    if target.exists() and not (target / STORE_NAME).is_file():
        raise UserError(f"{target}: is there and no feature store; choose another")
    target.parent.mkdir(parents=True, exist_ok=True)
    need = sum(shard.stat().st_size for shard in shards)
    free = shutil.disk_usage(target.parent).free
    if need > free:
        raise UserError(
            f"{target}: the copy needs {need / 1e9:.3g} GB and {free / 1e9:.3g} GB are "
            "free; choose another disk, or read from where the store is"
        )
    with atomic_dir(target) as new:
        (new / SHARDS_NAME).mkdir()
        for name in (STORE_NAME, INDEX_NAME):
            shutil.copy2(source / name, new / name)
        for shard in tqdm(shards, desc=f"copy to {target}", unit="shard"):
            shutil.copy2(shard, new / SHARDS_NAME / shard.name)
    return FeatureStore(target)


def _is_copy(source: Path, target: Path, shards: Iterable[Path]) -> bool:
    """Say whether `target` is a copy with these shards, by index and sizes."""
    index = target / INDEX_NAME
    if not index.is_file():
        return False
    if index.read_bytes() != (source / INDEX_NAME).read_bytes():
        return False
    copies = [(shard, target / SHARDS_NAME / shard.name) for shard in shards]
    return all(
        copy.is_file() and copy.stat().st_size == shard.stat().st_size
        for shard, copy in copies
    )

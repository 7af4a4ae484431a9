"""Several corpora's feature stores read as one.

Each corpus keeps the store that its own recipe made. A text file lists them, a corpus
and the folder of its store a line, the folder relative to the file::

    iemocap ../../../../iemocap/hubert_large
    msp_podcast ../../../../msp_podcast/hubert_large

Where corpora are combined an utterance has its corpus as prefix
(``iemocap-Ses01F_impro01_F000``), and so it has here. `open_store` takes a store or
such a file, wherever the path of a store is wanted.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from espnet_ext.errors import UserError
from espnet_ext.features.store import FeatureStore
from espnet_ext.utils.atomic import atomic_write_text


class JointStore(Mapping[str, np.ndarray]):
    """Several corpora's open stores: ``store["CORPUS-ID"]`` is CORPUS' ID.

    A UserError says that they differ in their layers or their width.
    """

    def __init__(self, stores: Mapping[str, FeatureStore]) -> None:
        self.stores = dict(stores)
        first = next(iter(self.stores.values()))
        for store in self.stores.values():
            if (store.num_layers, store.dim) != (first.num_layers, first.dim):
                raise UserError(
                    f"{store.path} holds {store.num_layers} layers of {store.dim}, "
                    f"{first.path} {first.num_layers} of {first.dim}: extract both "
                    "with one feature config"
                )
        self.num_layers, self.dim = first.num_layers, first.dim
        self._places = {
            f"{corpus}-{utterance}": (corpus, utterance)
            for corpus, store in self.stores.items()
            for utterance in store
        }
        self.ids: tuple[str, ...] = tuple(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._places

    def __getitem__(self, utterance: str) -> np.ndarray:
        corpus, own = self._place(utterance)
        return self.stores[corpus][own]

    def num_frames(self, utterance: str) -> int:
        """Frames T of an utterance."""
        corpus, own = self._place(utterance)
        return self.stores[corpus].num_frames(own)

    @property
    def frame_shift(self) -> int:
        """Samples at 16 kHz from a frame to the next."""
        return next(iter(self.stores.values())).frame_shift

    def digest(self, utterances: Iterable[str]) -> str:
        """Digest these utterances' features as `FeatureStore.digest` does."""
        own: dict[str, list[str]] = {}
        for corpus, name in map(self._place, utterances):
            own.setdefault(corpus, []).append(name)
        parts = {corpus: self.stores[corpus].digest(ids) for corpus, ids in own.items()}
        text = json.dumps(parts, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _place(self, utterance: str) -> tuple[str, str]:
        try:
            return self._places[utterance]
        except KeyError:
            paths = ", ".join(str(store.path) for store in self.stores.values())
            raise UserError(
                f"no utterance {utterance!r} in {paths}; ids of combined corpora are "
                "CORPUS-ID"
            ) from None


AnyStore = FeatureStore | JointStore


def open_store(path: Path | str) -> AnyStore:
    """Open a feature store, or the stores that a file lists."""
    path = Path(path)
    if not path.is_file():
        return FeatureStore(path)
    stores: dict[str, FeatureStore] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        corpus, _, folder = line.strip().partition(" ")
        if not folder or corpus in stores:
            raise UserError(
                f"{path}:{number}: expected 'corpus store' and each corpus once, got "
                f"{line!r}"
            )
        stores[corpus] = FeatureStore(path.parent / folder.strip())
    if not stores:
        raise UserError(f"{path}: lists no feature store")
    return JointStore(stores)


def write_store_list(
    stores: Mapping[str, Path], path: Path, home: Path | None = None
) -> None:
    """Write the file that `open_store` reads, in one step.

    `home` is the folder that the file will lie in, where that is not yet its own.
    """
    start = os.path.realpath(path.parent if home is None else home)
    lines = [
        f"{corpus} {os.path.relpath(os.path.realpath(store), start)}\n"
        for corpus, store in stores.items()
    ]
    atomic_write_text(path, "".join(lines))

"""ESPnet's loader type ``ser_features``: a data triple ``STORE,speech,ser_features``.

Importing this module makes the type known to ESPnet's dataset.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from espnet2.train.dataset import DATA_TYPES

from espnet_ext.features.joint import open_store

NAME = "ser_features"


class FeatureLoader(Mapping[str, np.ndarray]):
    """A feature store as the mapping that ESPnet's dataset expects.

    Values are (T, D) or (T, L, D) in the stored precision.

    Args:
        path: Folder of the store, or file that lists several (`features.joint`).
    """

    def __init__(self, path: str) -> None:
        self.store = open_store(path)

    def __getitem__(self, utterance: str) -> np.ndarray:
        return self.store[utterance]

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def __len__(self) -> int:
        return len(self.store)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self.store


DATA_TYPES[NAME] = {
    "func": FeatureLoader,
    "kwargs": [],
    "help": "Frozen features of a store made by ser_extract: (T, D), or (T, L, D) "
    "where it holds several hidden states.\n\n   /some/where/store",
}

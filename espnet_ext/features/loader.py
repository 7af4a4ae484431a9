"""ESPnet's loader type ``ser_features``: a data triple ``STORE,speech,ser_features``.

Importing this module makes the type known to ESPnet's dataset. STORE is the folder of
a store, or a file that lists several.
"""

from espnet2.train.dataset import DATA_TYPES

from espnet_ext.features.joint_store import open_store

NAME = "ser_features"

DATA_TYPES[NAME] = {
    "func": open_store,
    "kwargs": [],
    "help": "Frozen features of a store made by ser_extract: (T, D), or (T, L, D) "
    "where it holds several hidden states.\n\n   /some/where/store",
}

"""ESPnet's dataset and collation, minus the cast to float32.

Cached features are stored in half precision. ESPnet's dataset widens every array before
collation, which doubles what travels from loader to device; ours keeps the stored type
and leaves widening to the frontend.
"""

from collections.abc import Sequence

import numpy as np
import torch
from espnet2.train.dataset import ESPnetDataset
from torch import Tensor


class SERDataset(ESPnetDataset):
    """Loads ``speech`` in its stored precision, integers as int64, labels as float32.

    Construction, loader types and errors are those of ESPnet's dataset.
    """

    def __getitem__(self, uid: str | int) -> tuple[str, dict[str, np.ndarray]]:
        """Return an utterance's id and arrays.

        Raises:
            KeyError: a data file does not have the utterance; names file and id.
        """
        uid = str(uid)
        data: dict[str, np.ndarray] = {}
        for name, loader in self.loader_dict.items():
            try:
                value = np.asarray(loader[uid])
            except KeyError:
                path, kind = self.debug_info[name]
                raise KeyError(
                    f"{uid} is not in {path} (data name {name}, type {kind})"
                ) from None
            if value.dtype.kind == "i":
                value = value.astype(np.int64, copy=False)
            elif name != "speech":
                value = value.astype(np.float32, copy=False)
            data[name] = value
        if self.preprocess is not None:
            data = self.preprocess(uid, data)
        return uid, data


def collate(
    rows: Sequence[tuple[str, dict[str, np.ndarray]]],
) -> tuple[list[str], dict[str, Tensor]]:
    """Pad ``speech`` with zeros in its own precision and stack the labels.

    Args:
        rows: what `SERDataset` returns, speech (T, ...) of several lengths.

    Returns:
        The ids and a batch with ``speech`` (B, T, ...), ``speech_lengths`` (B,) and the
        labels (B, C).
    """
    ids = [utt for utt, _ in rows]
    speech = [data["speech"] for _, data in rows]
    lengths = [len(array) for array in speech]
    padded = np.zeros((len(rows), max(lengths), *speech[0].shape[1:]), speech[0].dtype)
    for target, array in zip(padded, speech, strict=True):
        target[: len(array)] = array
    batch = {
        "speech": torch.from_numpy(padded),
        "speech_lengths": torch.tensor(lengths),
    }
    for name in rows[0][1].keys() - {"speech"}:
        batch[name] = torch.from_numpy(np.stack([data[name] for _, data in rows]))
    return ids, batch

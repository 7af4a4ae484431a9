"""ESPnet's dataset and collation, minus the cast to float32.

Cached features are stored in half precision. ESPnet's dataset widens every array before
collation, which doubles what travels from loader to device; here the stored type stays
and the frontend widens.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from espnet2.train.dataset import ESPnetDataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ext.corpora.audio import Waveforms
from espnet_ext.corpora.datadir import read_wav_scp
from espnet_ext.utils.tensors import as_tensor


class SERDataset(ESPnetDataset):
    """Loads ``speech`` in its stored precision, integers as int64, labels as float32.

    Otherwise it is ESPnet's dataset, but ``sound`` is read as in inference and
    extraction: mono, at 16 kHz, whatever the file has.
    """

    def _build_loader(
        self, path: str, loader_type: str, keys_to_load: Collection[str | int] | None
    ) -> Mapping[str, Any]:
        if loader_type != "sound":
            return super()._build_loader(path, loader_type, keys_to_load)
        paths = read_wav_scp(path)
        keys = paths if keys_to_load is None else paths.keys() & set(keys_to_load)
        return Waveforms({utt: wav for utt, wav in paths.items() if utt in keys})

    def hold_speech(self, features: Mapping[str, Tensor]) -> None:
        """Take ``speech`` from memory (`features.resident`) instead of its file."""
        self.loader_dict["speech"] = features

    def __getitem__(self, uid: str | int) -> tuple[str, dict[str, Any]]:
        """Return an utterance's id and arrays; speech held in memory is a tensor."""
        uid = str(uid)
        data: dict[str, Any] = {}
        for name, loader in self.loader_dict.items():
            try:
                value = loader[uid]
            except KeyError:
                path, kind = self.debug_info[name]
                raise KeyError(
                    f"{uid} is not in {path} (data name {name}, type {kind})"
                ) from None
            if name != "speech":
                is_integer = np.asarray(value).dtype.kind == "i"
                value = np.asarray(value, np.int64 if is_integer else np.float32)
            data[name] = value
        return uid, data


def collate(
    rows: Sequence[tuple[str, dict[str, Any]]],
) -> tuple[list[str], dict[str, Any]]:
    """Pad ``speech`` with zeros in its own precision and stack the labels.

    Hidden states (T, L, D) stay as they are, mapped to their file: padded or not, a
    copy of 25 of them takes 50 kB a frame.

    Returns:
        The ids and a batch: ``speech`` (B, T, ...) or B arrays (T, L, D),
        ``speech_lengths`` (B,) and labels (B, C).
    """
    ids = [utt for utt, _ in rows]
    speech = [as_tensor(data["speech"]) for _, data in rows]
    batch: dict[str, Any] = {
        "speech": speech if speech[0].dim() == 3 else pad_sequence(speech, True),
        "speech_lengths": torch.tensor([len(array) for array in speech]),
    }
    for name in rows[0][1].keys() - {"speech"}:
        batch[name] = torch.from_numpy(np.stack([data[name] for _, data in rows]))
    return ids, batch

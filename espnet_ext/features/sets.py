"""What feature stores have of the utterances of sets."""

from collections.abc import Mapping
from pathlib import Path

from espnet_ext.corpora.datadir import DataDir
from espnet_ext.errors import UserError
from espnet_ext.features.joint_store import AnyStore, JointStore, write_store_list
from espnet_ext.features.store import FeatureStore, write_shape_file


def leave_out_unusable(data: DataDir, path: Path) -> tuple[DataDir, dict[str, str]]:
    """Take out what a store has no features of because its audio cannot be used.

    Returns:
        The rest of the data, and the reason for each utterance that is left out.

    Raises:
        UserError: Nothing is left.
    """
    store = FeatureStore(path)
    lost = (data.utterances.keys() & store.unusable.keys()) - set(store.ids)
    reasons = {u: reason for u, reason in store.unusable.items() if u in lost}
    rest = data.select(data.utterances.keys() - reasons.keys())
    if not rest.utterances:
        raise UserError(f"{path}: lists the audio of every utterance as unusable")
    return rest, reasons


def describe_features(
    stores: Mapping[str, Path],
    parts: Mapping[str, DataDir],
    folder: Path,
    output: Path,
) -> None:
    """Write what the features of each set are, and the list of several stores.

    ``speech_shape`` is for ESPnet. ``features.digest`` is of the set's own utterances
    alone: a store that has grown by others leaves it as it is. The sets lie in
    `folder` now and in `output` later.
    """
    opened = {corpus: FeatureStore(path) for corpus, path in stores.items()}
    features: AnyStore = next(iter(opened.values()))
    if len(stores) > 1:
        write_store_list(stores, folder / "stores", output)
        features = JointStore(opened)
    for name, data in parts.items():
        write_shape_file(features, data.utterances, folder / name / "speech_shape")
        digest = features.digest(data.utterances)
        (folder / name / "features.digest").write_text(f"{digest}\n", encoding="utf-8")

"""From set directories to the rows of predictions.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.classical.functionals import read_functionals
from espnet_ext.classical.model import (
    ClassicalConfig,
    Fitted,
    fit_attribute,
    fit_classes,
)
from espnet_ext.corpora.audio import Waveforms
from espnet_ext.corpora.datadir import DataDir, read_data_dir
from espnet_ext.errors import UserError
from espnet_ext.features.functionals import Floats
from espnet_ext.scoring.reference import Reference, read_reference

Rows = list[dict[str, str | float]]


def predict_sets(
    config: ClassicalConfig, sets: Sequence[Path], store: Path | None
) -> tuple[tuple[str, ...], Rows, list[str]]:
    """Fit on a training set and predict a test set.

    Args:
        config: What to fit.
        sets: Directories of the train, valid and test set.
        store: Of features, for ``functionals: store``.

    Returns:
        The classes, what predictions.csv has of each utterance, and a line for each
        machine: what was chosen, with which score of held-out predictions.

    Raises:
        UserError: Sets without a label, or no features.
    """
    data = [read_data_dir(path) for path in sets]
    labels = [read_reference(path) for path in sets]
    vectors = [_vectors(config, part, store) for part in data]
    classes = labels[0].classes or ()
    chosen = []
    rows = _known_columns(data[2], labels[2])
    machines: dict[str, Fitted] = {}

    def speakers(labelled: Mapping[str, Any]) -> list[str]:
        return [data[0].utterances[u].speaker for u in _ids_with(vectors[0], labelled)]

    if classes and labels[0].emotion:
        train, valid = (_rows_with(v, p.emotion) for v, p in _pairs(vectors, labels))
        known = speakers(labels[0].emotion)
        machines["emotion"] = fit_classes(config, train, valid, known)
    for name in ATTRIBUTES:
        train, valid = (
            _rows_with(v, _values(p, name)) for v, p in _pairs(vectors, labels)
        )
        if len(train[1]):
            known = speakers(_values(labels[0], name))
            machines[name] = fit_attribute(config, train, valid, known)
    if not machines:
        raise UserError(f"{sets[0]}: no utterance has a class or an attribute")
    test = np.stack([vectors[2][str(row["utterance"])] for row in rows])  # (N, F)
    for name, fitted in machines.items():
        values = ", ".join(f"{key} {value:g}" for key, value in fitted.chosen.items())
        chosen.append(f"{name}: {values}; held out {fitted.score:.3f}")
        for row, predicted in zip(rows, fitted.machine.predict(test), strict=True):
            text = name == "emotion"
            row[f"{name}_pred"] = str(predicted) if text else float(predicted)
    return classes, rows, chosen


def _vectors(
    config: ClassicalConfig, data: DataDir, store: Path | None
) -> Mapping[str, Floats]:
    ids = list(data.utterances)
    if config.functionals != "store":
        audio = Waveforms({u: record.wav for u, record in data.utterances.items()})
        return read_functionals(config.functionals, ids, audio)
    if store is None:
        raise UserError("--store is missing; functionals: store reads features")
    from espnet_ext.features.joint_store import open_store

    features = open_store(store)
    return read_functionals("store", ids, {u: features[u] for u in ids})


def _pairs(
    vectors: Sequence[Mapping[str, Floats]], labels: Sequence[Reference]
) -> list[tuple[Mapping[str, Floats], Reference]]:
    """Return train and valid."""
    return list(zip(vectors[:2], labels[:2], strict=True))


def _values(labels: Reference, attribute: str) -> dict[str, float]:
    return {u: v[attribute] for u, v in labels.attributes.items() if attribute in v}


def _rows_with(
    vectors: Mapping[str, Floats], labels: Mapping[str, Any]
) -> tuple[Floats, Any]:
    """Return functionals (N, F) and labels (N,) of the utterances that have one."""
    ids = _ids_with(vectors, labels)
    matrix = np.stack([vectors[u] for u in ids]) if ids else np.empty((0, 0))
    return matrix, np.array([labels[u] for u in ids])


def _ids_with(vectors: Mapping[str, Floats], labels: Mapping[str, Any]) -> list[str]:
    return [utterance for utterance in sorted(vectors) if utterance in labels]


def _known_columns(data: DataDir, labels: Reference) -> Rows:
    """Return what is known of each utterance without a model, sorted by utterance."""
    columns = ("corpus", "speaker", "gender", *ATTRIBUTES)
    return [
        {"utterance": record.id, "emotion": labels.emotion.get(record.id, "")}
        | {column: getattr(record, column) for column in columns}
        for _, record in sorted(data.utterances.items())
    ]

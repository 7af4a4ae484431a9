"""Validation over a whole set: predictions in, one dictionary of numbers out.

Concordance, recall and F1 of a set are not means over its batches, so the trainer
collects every prediction and calls `summarise` once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring.metrics import accuracy, ccc, macro_f1, uar
from espnet_ext.ser.losses import MISSING_CLASS


@dataclass(frozen=True, slots=True)
class SetPredictions:
    """Predictions and labels of N utterances.

    Attributes:
        ids: (N,) utterance ids.
        logits: (N, K), or None without a discrete branch.
        attributes: (N, 3), or None without a continuous branch.
        classes: (N,) true class, -1 where missing.
        targets: (N, 3) true attributes, nan where missing.
    """

    ids: list[str]
    logits: np.ndarray | None
    attributes: np.ndarray | None
    classes: np.ndarray
    targets: np.ndarray

    def select(self, rows: np.ndarray) -> "SetPredictions":
        """Return the given rows (indices)."""
        return SetPredictions(
            [self.ids[row] for row in rows],
            None if self.logits is None else self.logits[rows],
            None if self.attributes is None else self.attributes[rows],
            self.classes[rows],
            self.targets[rows],
        )


def concatenate(parts: list[SetPredictions]) -> SetPredictions:
    """Join predictions and sort them by utterance; parts must not be empty."""

    def stack(arrays: list[np.ndarray | None]) -> np.ndarray | None:
        there = [array for array in arrays if array is not None]
        return np.concatenate(there) if there else None

    joined = SetPredictions(
        [utt for part in parts for utt in part.ids],
        stack([part.logits for part in parts]),
        stack([part.attributes for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.targets for part in parts]),
    )
    return joined.select(np.argsort(np.array(joined.ids), kind="stable"))


def summarise(
    predictions: SetPredictions, corpora: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Compute every metric that the model's branches and the labels allow.

    Args:
        predictions: of the whole set.
        corpora: corpus of each utterance; with more than one, each corpus' metrics are
            there too, as ``<corpus>_<metric>``.

    Returns:
        ``ccc``, ``ccc_valence``, ``ccc_arousal``, ``ccc_dominance`` (continuous branch)
        and ``acc``, ``uar``, ``macro_f1`` (discrete branch) over all rows, and
        ``mean``, the mean over corpora of ``ccc`` and ``acc``, each where there are
        labels for it (selection of mismatched models). A metric without a labelled row
        is left out; none is ever nan.
    """
    metrics = _metrics(predictions)
    names = np.array([(corpora or {}).get(utt, "") for utt in predictions.ids])
    per_corpus = {
        name: _metrics(predictions.select(np.flatnonzero(names == name)))
        for name in sorted(set(names.tolist()))
    }
    selected = [
        values[key]
        for values in per_corpus.values()
        for key in ("ccc", "acc")
        if key in values
    ]
    if selected:
        metrics["mean"] = float(np.mean(selected))
    if len(per_corpus) > 1:
        for name, values in per_corpus.items():
            metrics |= {f"{name or 'unknown'}_{k}": v for k, v in values.items()}
    return metrics


def dead_outputs(attributes: np.ndarray) -> list[str]:
    """Name the attributes whose ReLU output is zero for every utterance (N, 3)."""
    return [
        name
        for name, column in zip(ATTRIBUTES, attributes.T, strict=True)
        if len(column) and (column <= 0).all()
    ]


def _metrics(predictions: SetPredictions) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if predictions.attributes is not None:
        for column, name in enumerate(ATTRIBUTES):
            target = predictions.targets[:, column]
            known = ~np.isnan(target)
            if known.any():
                predicted = predictions.attributes[known, column]
                metrics[f"ccc_{name}"] = float(ccc(target[known], predicted))
        if metrics:
            metrics["ccc"] = float(np.mean(list(metrics.values())))
    known = predictions.classes != MISSING_CLASS
    if predictions.logits is not None and known.any():
        true = predictions.classes[known]
        predicted = predictions.logits[known].argmax(axis=1)
        metrics["acc"] = float(accuracy(true, predicted))
        metrics["uar"] = float(uar(true, predicted))
        metrics["macro_f1"] = float(macro_f1(true, predicted))
    return metrics

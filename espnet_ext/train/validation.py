"""Validation over a whole set: predictions in, one dictionary of numbers out.

Concordance, recall and F1 of a set are not means over its batches, so every prediction
is collected and `summarize` is called once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.device_funcs import to_device
from espnet2.train import trainer as espnet_trainer
from torch import Tensor

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError
from espnet_ext.scoring.metrics import attribute_scores, class_scores
from espnet_ext.ser.losses import MISSING_CLASS
from espnet_ext.ser.model import ESPnetSERModel


@dataclass(frozen=True, slots=True)
class SetPredictions:
    """Predictions and labels of N utterances; None of a branch that is not there."""

    ids: list[str]
    logits: np.ndarray | None  # (N, K)
    attributes: np.ndarray | None  # (N, 3)
    classes: np.ndarray  # (N,), -1 where missing
    targets: np.ndarray  # (N, 3), nan where missing

    def select(self, rows: np.ndarray) -> "SetPredictions":
        """Return the given rows (indices)."""
        arrays: Any = (None if a is None else a[rows] for a in self._arrays())
        return SetPredictions([self.ids[row] for row in rows], *arrays)

    def _arrays(self) -> tuple[Any, ...]:
        return self.logits, self.attributes, self.classes, self.targets


def concatenate(parts: list[SetPredictions]) -> SetPredictions:
    """Join predictions and sort them by utterance; parts must not be empty."""
    columns = zip(*(part._arrays() for part in parts), strict=True)
    arrays: Any = (None if c[0] is None else np.concatenate(c) for c in columns)
    joined = SetPredictions([utt for part in parts for utt in part.ids], *arrays)
    return joined.select(np.argsort(np.array(joined.ids), kind="stable"))


def predict_set(
    model: ESPnetSERModel,
    iterator: Iterable[tuple[list[str], dict[str, Tensor]]],
    options: Any,
) -> SetPredictions:
    """Predict this rank's part of the validation set; `options` are the trainer's."""
    model.eval()
    amp = {"enabled": options.use_amp, **espnet_trainer.autocast_args}
    parts = []
    for ids, cpu_batch in iterator:
        batch = to_device(cpu_batch, "cuda" if options.ngpu > 0 else "cpu")
        with torch.autocast("cuda", **amp):
            output = model.predict(**batch)
        labels = batch.get("emotion"), batch.get("attributes")
        classes, targets = model.fill_labels(len(ids), *labels)
        logits, attributes = (
            None if x is None else x.double().cpu().numpy()
            for x in (output.logits, output.attributes)
        )
        known = classes.cpu().numpy(), targets.double().cpu().numpy()
        parts.append(SetPredictions(list(ids), logits, attributes, *known))
    return concatenate(parts)


def set_loss(model: ESPnetSERModel, predictions: SetPredictions) -> float:
    """Return the training loss over the whole set as if it were one batch."""
    device = next(model.parameters()).device
    # float64 statistics of a large set matter little, and MPS has no float64.
    logits, attributes, targets = (
        None if array is None else torch.from_numpy(array).float().to(device)
        for array in (predictions.logits, predictions.attributes, predictions.targets)
    )
    classes = torch.from_numpy(predictions.classes).to(device)
    return float(model.loss(logits, attributes, classes, targets).total)


def check_finite(predictions: SetPredictions, epoch: int) -> None:
    """Refuse to score predictions that are nan or infinite."""
    for name in ("logits", "attributes"):
        values = getattr(predictions, name)
        if values is not None and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=1).argmax())
            raise UserError(
                f"epoch {epoch}: {name} are not finite, e.g. of "
                f"{predictions.ids[bad]}; look for features that are not, or lower "
                "the learning rate"
            )


def summarize(
    predictions: SetPredictions, corpora: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Compute every metric that the model's branches and the labels allow.

    Returns:
        The scores of `scoring.metrics`, accuracy by ESPnet's name ``acc``, over all
        rows, and of each of several `corpora` as ``<corpus>_<metric>``; and ``mean``,
        the mean over corpora of ``ccc`` and ``acc``, each where there are labels for it
        (selection of mismatched models). A metric without a labeled row is left out;
        none is ever nan.
    """
    metrics = _scores(predictions)
    names = np.array([(corpora or {}).get(utt, "") for utt in predictions.ids])
    per_corpus = {
        name: _scores(predictions.select(np.flatnonzero(names == name)))
        for name in sorted(set(names.tolist()))
    }
    pairs = [(values, key) for values in per_corpus.values() for key in ("ccc", "acc")]
    selected = [values[key] for values, key in pairs if key in values]
    if selected:
        metrics["mean"] = float(np.mean(selected))
    if len(per_corpus) > 1:
        for name, values in per_corpus.items():
            metrics |= {f"{name or 'unknown'}_{k}": v for k, v in values.items()}
    return metrics


def _scores(predictions: SetPredictions) -> dict[str, float]:
    scores: dict[str, float] = {}
    if predictions.attributes is not None:
        true, pred = (
            dict(zip(ATTRIBUTES, values.T, strict=True))
            for values in (predictions.targets, predictions.attributes)
        )
        scores |= attribute_scores(true, pred)
    known = predictions.classes != MISSING_CLASS
    if predictions.logits is not None and known.any():
        predicted = predictions.logits[known].argmax(axis=1)
        of_classes = class_scores(predictions.classes[known], predicted)
        scores |= {"acc": of_classes.pop("accuracy"), **of_classes}
    return scores


def dead_outputs(attributes: np.ndarray) -> list[str]:
    """Name the attributes whose ReLU output is zero for every utterance (N, 3)."""
    dead = (attributes <= 0).all(axis=0) & (len(attributes) > 0)
    return [name for name, is_dead in zip(ATTRIBUTES, dead, strict=True) if is_dead]

"""Several trainings of one model that answer together: the mean and the spread."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError
from espnet_ext.inference.results import Spread
from espnet_ext.train.prediction import UtterancePrediction


def member_files(files: Path | str | Sequence[Path | str]) -> list[Path]:
    """List the parameters of each member: a file, several, or a folder of them.

    Raises:
        UserError: There are none.
    """
    if not isinstance(files, Path | str):
        found = [Path(file) for file in files]
    elif Path(files).is_dir():
        found = sorted(Path(files).glob("*.pth"), key=lambda p: (len(p.name), p.name))
    else:
        found = [Path(files)]
    if not found:
        raise UserError(f"{files or 'ser_model_file'}: no parameters (.pth)")
    return found


def combine(
    members: Sequence[Sequence[UtterancePrediction]],
) -> list[UtterancePrediction]:
    """Average what members predict for the same utterances.

    Probabilities, attributes and attention are means; the spread is the standard
    deviation over members (divided by their number less one). Embeddings of different
    trainings have no common axes, so each keeps its own, as ``BRANCH_1`` and so on.

    Args:
        members: Predictions of each member; one alone is returned as it is.
    """
    if len(members) == 1:
        return list(members[0])
    return [_combine(found) for found in zip(*members, strict=True)]


def _combine(found: Sequence[UtterancePrediction]) -> UtterancePrediction:
    scores = [p.probabilities for p in found if p.probabilities is not None]
    values = [p.attributes for p in found if p.attributes is not None]
    return replace(
        found[0],
        probabilities=_over_members(np.mean, scores),
        attributes=_over_members(np.mean, values),
        probabilities_spread=_over_members(_deviation, scores),
        attributes_spread=_over_members(_deviation, values),
        attention={
            name: np.mean([p.attention[name] for p in found], axis=0)
            for name in found[0].attention
        },
        embeddings={
            f"{branch}_{number}": vector
            for number, p in enumerate(found, 1)
            for branch, vector in p.embeddings.items()
        },
    )


def _over_members(
    reduce: Callable[..., np.ndarray], values: Sequence[np.ndarray]
) -> np.ndarray | None:
    return reduce(values, axis=0) if values else None


def _deviation(values: Sequence[np.ndarray], axis: int) -> np.ndarray:
    return np.std(values, axis=axis, ddof=1)


def spread_of(answer: UtterancePrediction, labels: Sequence[str]) -> Spread | None:
    """Name the spread of an ensemble's answer; None for a single model."""
    scores, values = answer.probabilities_spread, answer.attributes_spread
    if scores is None and values is None:
        return None
    named = (
        {} if values is None else dict(zip(ATTRIBUTES, values.tolist(), strict=True))
    )
    return Spread(
        None if scores is None else dict(zip(labels, scores.tolist(), strict=True)),
        *(named.get(name) for name in ATTRIBUTES),
    )

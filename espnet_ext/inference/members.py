"""What becomes a package: one finished training, or several as an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from espnet_ext.errors import UserError
from espnet_ext.inference.calibrate import (
    Answers,
    apply_temperature,
    calibration_error,
    fit_temperature,
    mean_answers,
)
from espnet_ext.inference.info import Calibration, Member, ModelInfo

_ALIKE = ("classes", "scale", "features", "weights")  # of the members' `ModelInfo`
_MAY_DIFFER = {"seed", "version"}  # keys of config.yaml


@dataclass(frozen=True)
class Training:
    """A finished training, read.

    Attributes:
        folder: Where it lies.
        config: What a package keeps of its ``config.yaml``.
        info: What a package tells of it.
        parameters: By name.
        upstream: Name or folder of its upstream.
        clips: Ids that it was trained on.
        valid: What it answers on its validation set.
        test: What it answers on its test set; empty if that is not known.
    """

    folder: Path
    config: Mapping[str, Any]
    info: ModelInfo
    parameters: Mapping[str, Any]
    upstream: Path
    clips: frozenset[str]
    valid: Answers
    test: Answers


def require_alike(trainings: Sequence[Training]) -> None:
    """See that trainings differ in their seed and their data alone.

    Raises:
        UserError: Names two that cannot answer together, and why.
    """
    first, *others = trainings
    for other in others:
        for what in _ALIKE:
            pair = [getattr(t.info, what) for t in (first, other)]
            _require_same((first, other), what, pair)
        for key in sorted({*first.config, *other.config} - _MAY_DIFFER):
            pair = [t.config.get(key) for t in (first, other)]
            _require_same((first, other), f"config.yaml: {key}", pair)


def _require_same(
    trainings: tuple[Training, Training], what: str, values: Sequence[Any]
) -> None:
    if values[0] != values[1]:
        if all(isinstance(value, dict) for value in values):  # its first key that does
            for key in sorted({*values[0], *values[1]}):
                pair = [value.get(key) for value in values]
                _require_same(trainings, f"{what}: {key}", pair)
        first, second = (training.folder for training in trainings)
        raise UserError(
            f"{first} and {second} cannot be one ensemble, they differ in {what}: "
            f"{values[0]} and {values[1]}"
        )


def join_info(trainings: Sequence[Training]) -> ModelInfo:
    """Describe what trainings are together; one alone as it is, but calibrated."""
    infos = [t.info for t in trainings]
    first = replace(infos[0], calibration=calibrate(trainings))
    if len(trainings) == 1:
        return first
    clips = [length for info in infos for length in info.clips or ()]
    return replace(
        first,
        name=_common_name([info.name for info in infos]),
        corpora=tuple(sorted({corpus for info in infos for corpus in info.corpora})),
        clips=(min(clips), max(clips)) if clips else None,
        utterances=len(frozenset().union(*(t.clips for t in trainings))),
        builtin=all(info.builtin for info in infos),
        results={},
        members=tuple(
            Member(t.info.name, t.config.get("seed", 0), len(t.clips), t.info.results)
            for t in trainings
        ),
        folds=len({t.clips for t in trainings}) > 1,
    )


def _common_name(names: Sequence[str]) -> str:
    """Put ``*`` where names differ."""
    parts = []
    for found in zip(*(name.split("/") for name in names), strict=False):
        columns = zip(*found, strict=False)  # letters at each place
        same = takewhile(lambda letters: len({*letters}) == 1, columns)
        begin = "".join(letters[0] for letters in same)
        parts.append(found[0] if len({*found}) == 1 else f"{begin}*")
    return "/".join(parts)


def calibrate(trainings: Sequence[Training]) -> Calibration | None:
    """Fit one temperature for the mean of trainings; None without classes to fit on.

    Each clip is answered by those trainings in whose validation set it lies, never by
    one that was trained on it.
    """
    probabilities, classes = mean_answers([t.valid for t in trainings])
    if not len(classes):
        return None
    temperature = fit_temperature(probabilities, classes)
    after = apply_temperature(probabilities, temperature)
    test = {}
    rows, truth = mean_answers([t.test for t in trainings])
    if len(truth):
        after_test = apply_temperature(rows, temperature)
        test = {
            "ece_before": calibration_error(rows, truth),
            "ece_after": calibration_error(after_test, truth),
        }
    return Calibration(
        temperature=temperature,
        utterances=len(classes),
        ece_before=calibration_error(probabilities, classes),
        ece_after=calibration_error(after, classes),
        test=test,
    )

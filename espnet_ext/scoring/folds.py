"""Predictions of several systems brought together: on one test set, and over folds."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.scoring.names import USUAL_CLASSES
from espnet_ext.scoring.predictions import (
    TRUTH_TOLERANCE,
    Predictions,
    check_spelling,
    join,
)
from espnet_ext.scoring.runs import RunKey
from espnet_ext.scoring.spec import TableSpec
from espnet_ext.scoring.verdicts import MIN_SPEAKERS, Basis

# In place of a corpus' name: all utterances, whatever their corpus.
ANY_CORPUS = ""

RunName = tuple[str, int]  # row and seed, within a fold


def align(systems: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Bring systems to one order of utterances, one class list and one truth.

    Truth that one file leaves blank is taken from another that has it.

    Raises:
        UserError: The utterances, the classes or the truths of two files differ.
    """
    names = list(systems)
    first = systems[names[0]]
    for name in names[1:]:
        _check_utterances(first, systems[name])
    declared = [s for s in systems.values() if s.classes_declared]
    if declared:
        classes = declared[0].classes
    else:
        classes = tuple(sorted({c for s in systems.values() for c in s.classes}))
        check_spelling(f"{first.path} and the files beside it", classes)
    aligned = {name: s.with_classes(classes) for name, s in systems.items()}

    true_class = np.full(len(first.ids), -1)
    true = {name: np.full(len(first.ids), np.nan) for name in ATTRIBUTES}
    for system in aligned.values():
        both = (true_class >= 0) & (system.true_class >= 0)
        _check_truth(first, system, both & (true_class != system.true_class), "emotion")
        true_class = np.where(true_class < 0, system.true_class, true_class)
        for name, values in system.true.items():
            # NaN compares false: only rows that both know can differ.
            differs = np.abs(true[name] - values) > TRUTH_TOLERANCE
            _check_truth(first, system, differs, name)
            true[name] = np.where(np.isnan(true[name]), values, true[name])

    known: dict[str, Any] = {
        column: tuple(
            next((value for value in row if value != UNKNOWN), UNKNOWN)
            for row in zip(*(getattr(s, column) for s in aligned.values()), strict=True)
        )
        for column in ("corpus", "speaker", "gender")
    }
    return {
        name: replace(system, true_class=true_class, true=true, **known)
        for name, system in aligned.items()
    }


def _check_utterances(first: Predictions, other: Predictions) -> None:
    if first.ids == other.ids:
        return
    missing, added = set(first.ids) - set(other.ids), set(other.ids) - set(first.ids)
    holder, lacks = (first, other) if missing else (other, first)
    some = sorted(missing or added)
    raise UserError(
        f"{lacks.path}: {len(some)} utterances missing that {holder.path} has, such as "
        f"{', '.join(some[:3])}: systems of one report must predict the same test set"
    )


def _check_truth(
    first: Predictions, other: Predictions, differs: NDArray[np.bool_], column: str
) -> None:
    if differs.any():
        utterance = first.ids[int(np.argmax(differs))]
        raise UserError(
            f"{other.path}: {utterance}: its annotated {column} differs from that in "
            f"{first.path} or a file between: score systems of one labeling together"
        )


@dataclass(frozen=True, slots=True)
class Fold:
    """The runs of one fold on one corpus, aligned; `rows` are places in the whole."""

    systems: dict[RunName, Predictions]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FoldedRuns:
    """All runs on the test sets of one corpus, the folds one after the other."""

    corpus: str
    folds: dict[int, Fold]
    fold_of: NDArray[np.int64]  # (N,)
    true_class: NDArray[np.int64]  # (N,), -1 where unknown
    true: NDArray[np.float64]  # (N, 3) valence, arousal, dominance; nan where unknown
    speaker: NDArray[np.str_]  # (N,)
    classes: tuple[str, ...]
    # (N,) utterances of the usual four classes; None where those are all there are
    usual: NDArray[np.bool_] | None

    @property
    def class_strata(self) -> NDArray[np.int64]:
        """A number for each class of each fold, shape (N,)."""
        return self.fold_of * (len(self.classes) + 1) + self.true_class + 1

    @property
    def enough_speakers(self) -> bool:
        """Whether each fold has so many that drawing them is honest."""
        return all(
            UNKNOWN not in self.speaker[fold.rows]
            and len(set(self.speaker[fold.rows])) >= MIN_SPEAKERS
            for fold in self.folds.values()
        )

    def seeds(self, row: str, fold: int) -> list[int]:
        """Seeds of a row in a fold."""
        return sorted(s for r, s in self.folds[fold].systems if r == row)

    def folds_of(self, row: str) -> tuple[int, ...]:
        """Folds that have runs of a row."""
        return tuple(n for n in self.folds if self.seeds(row, n))

    def units(self, fold: int, basis: Basis) -> NDArray:
        """What is drawn, of each utterance of a fold: its speaker or itself."""
        rows = self.folds[fold].rows
        return self.speaker[rows] if basis is Basis.SPEAKERS else rows

    def freedom(self, folds: Sequence[int], basis: Basis) -> int:
        """Drawn units, less one for each fold."""
        return sum(len(np.unique(self.units(n, basis))) - 1 for n in folds)

    def pool(self, folds: Sequence[int]) -> Fold:
        """Put folds together, with the runs whose row and seed all of them have."""
        parts = [self.folds[number] for number in folds]
        if len(parts) == 1:
            return parts[0]
        names = [n for n in parts[0].systems if all(n in p.systems for p in parts)]
        return Fold(
            {name: join([part.systems[name] for part in parts]) for name in names},
            np.concatenate([part.rows for part in parts]),
        )

    def count_classes(self, rows: NDArray[np.int64] | slice) -> dict[str, int]:
        """Utterances of each class among some rows."""
        truth = self.true_class[rows]
        return {name: int(np.sum(truth == i)) for i, name in enumerate(self.classes)}

    def fingerprint(self) -> str:
        """Digest of ids and annotations (sha256, 16 hexadecimal digits)."""
        total = hashlib.sha256()
        for fold in self.folds.values():
            part = next(iter(fold.systems.values()))
            for row, utterance in enumerate(part.ids):
                number = part.true_class[row]
                name = part.classes[number] if number >= 0 else UNKNOWN
                values = " ".join(f"{part.true[dim][row]:.4f}" for dim in ATTRIBUTES)
                total.update(f"{utterance} {name} {values}\n".encode())
        return total.hexdigest()[:16]


def gather(
    corpus: str, spec: TableSpec, runs: Mapping[RunKey, Predictions]
) -> FoldedRuns:
    """Align the runs of each fold on one corpus.

    Raises:
        UserError: Runs of one fold do not have the same test set, or one has no
            utterance of the corpus.
    """
    folds: dict[int, Fold] = {}
    start = 0
    for number in spec.folds:
        own = {
            (key.row, key.seed): _of_corpus(predictions, corpus, spec)
            for key, predictions in runs.items()
            if key.fold == number
        }
        if not own:
            continue
        aligned = align({f"{row} seed {s}": p for (row, s), p in own.items()})
        systems = dict(zip(own, aligned.values(), strict=True))
        size = len(next(iter(systems.values())).ids)
        folds[number] = Fold(systems, np.arange(start, start + size))
        start += size
    parts = [next(iter(fold.systems.values())) for fold in folds.values()]
    classes = parts[0].classes
    true_class = np.concatenate([part.true_class for part in parts])
    usual = None
    if set(USUAL_CLASSES) < set(classes):
        usual = np.isin(true_class, [classes.index(name) for name in USUAL_CLASSES])
    return FoldedRuns(
        corpus=corpus,
        folds=folds,
        fold_of=np.concatenate([np.full(len(f.rows), n) for n, f in folds.items()]),
        true_class=true_class,
        true=np.concatenate(
            [np.stack([part.true[d] for d in ATTRIBUTES], axis=1) for part in parts]
        ),
        speaker=np.array([s for part in parts for s in part.speaker]),
        classes=classes,
        usual=usual,
    )


def pooled_predictions(
    spec: TableSpec, runs: Mapping[RunKey, Predictions], corpus: str
) -> dict[str, Predictions]:
    """Put together the folds of each row's first seed, for figures.

    Returns:
        Printed name of each row that has all folds -> its predictions.
    """
    seeds = sorted({key.seed for key in runs})
    folds = [n for n in spec.folds if any(key.fold == n for key in runs)]
    found = {}
    for row, described in spec.rows.items():
        keys = [RunKey(row, fold, seeds[0]) for fold in folds]
        if all(key in runs for key in keys):
            found[described.name] = join(
                [_of_corpus(runs[key], corpus, spec) for key in keys]
            )
    return align(found) if found else {}


def _of_corpus(predictions: Predictions, corpus: str, spec: TableSpec) -> Predictions:
    """Keep the rows of one corpus; all, if the table has one and they name none."""
    unnamed = len(spec.corpora) == 1 and set(predictions.corpus) == {UNKNOWN}
    return predictions if unnamed else select_corpus(predictions, corpus)


def select_corpus(predictions: Predictions, corpus: str) -> Predictions:
    """Keep the rows of one corpus.

    Raises:
        UserError: There are none.
    """
    if corpus == ANY_CORPUS:
        return predictions
    keep = np.array([name == corpus for name in predictions.corpus])
    if not keep.any():
        raise UserError(
            f"{predictions.path}: no utterance of corpus {corpus!r}; there are "
            f"{', '.join(sorted(set(predictions.corpus)))}"
        )
    return predictions.select(keep)

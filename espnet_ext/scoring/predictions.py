"""Write and read predictions.csv, the only thing that scoring knows of a model.

One row an utterance, aligned by the ``utterance`` column and never by position, so
that a file which another system wrote is scored as one of this package. README.md
beside this file documents the columns. Whatever would make a score wrong without
anybody noticing (a row too many or too few, a NaN, a class nobody declared) is a
`UserError` that names the file, the line and the value.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.reference import Reference, check_utterances, listed
from espnet_ext.scoring.reference import read_reference as read_reference
from espnet_ext.utils.atomic import atomic_file

FILE = "predictions.csv"
PROBABILITY_PREFIX = "prob_"
PREDICTED_SUFFIX = "_pred"
# Six printed decimals and 32-bit softmaxes stay far below this.
PROBABILITY_TOLERANCE = 1e-3
# Room for the printed decimals when truths are compared.
TRUTH_TOLERANCE = 1e-4

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def write_predictions(
    path: Path | str,
    classes: Sequence[str],
    rows: Iterable[Mapping[str, str | float]],
) -> None:
    """Write predictions.csv in one step.

    Args:
        path: Of the file.
        classes: Class names, in the order of the ``prob_`` columns.
        rows: Column -> value of each utterance. What is absent, nan or ``<unk>`` is
            left blank; numbers get six decimals.
    """
    columns = [
        *("utterance", "corpus", "speaker", "gender", "emotion", "emotion_pred"),
        *(PROBABILITY_PREFIX + name for name in classes),
        *ATTRIBUTES,
        *(name + PREDICTED_SUFFIX for name in ATTRIBUTES),
    ]
    with (
        atomic_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({column: _text(value) for column, value in row.items()})


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return "" if value == UNKNOWN else value
    return "" if math.isnan(value) else f"{value:.6f}"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one system predicts for N utterances, beside the truth where it is known.

    Attributes:
        path: Where it was read, for messages.
        ids: Utterance ids, sorted; every array below follows this order.
        corpus: Corpus of each row, ``<unk>`` where not given.
        speaker: Speaker of each row, ``<unk>`` where not given.
        gender: ``f``, ``m`` or ``<unk>`` (another system's words are kept).
        classes: Class names; the class arrays index them.
        classes_declared: Whether a ``prob_`` header or a reference fixed `classes`;
            otherwise they are the sorted names that occur.
        true_class: Shape (N,), -1 where unknown.
        pred_class: Shape (N,); None if the system predicts no classes.
        probabilities: Shape (N, K); None if not given.
        true: Attribute -> shape (N,), nan where unknown.
        pred: Attribute -> shape (N,); empty if the system predicts none.
    """

    path: str
    ids: tuple[str, ...]
    corpus: tuple[str, ...]
    speaker: tuple[str, ...]
    gender: tuple[str, ...]
    classes: tuple[str, ...]
    classes_declared: bool
    true_class: Ints
    pred_class: Ints | None
    probabilities: Floats | None
    true: dict[str, Floats]
    pred: dict[str, Floats]

    @property
    def predicts_classes(self) -> bool:
        """Whether the system predicts a class for each utterance."""
        return self.pred_class is not None

    @property
    def predicts_attributes(self) -> bool:
        """Whether the system predicts valence, arousal and dominance."""
        return bool(self.pred)

    def never_annotated(self) -> tuple[str, ...]:
        """Name the classes that are predicted and that no row is annotated with."""
        if self.pred_class is None:
            return ()
        extra = set(self.pred_class.tolist()) - set(self.true_class.tolist())
        return tuple(self.classes[index] for index in sorted(extra))

    def select(self, keep: NDArray[np.bool_]) -> "Predictions":
        """Return only the rows where `keep`, shape (N,), is true."""
        rows = np.flatnonzero(keep).tolist()

        def pick(values: Any) -> Any:
            if isinstance(values, dict):
                return {name: array[rows] for name, array in values.items()}
            if isinstance(values, tuple):
                return tuple(values[row] for row in rows)
            return None if values is None else values[rows]

        columns: tuple[str, ...] = ("ids", "corpus", "speaker", "gender", "true_class")
        columns += ("pred_class", "probabilities", "true", "pred")
        return replace(self, **{name: pick(getattr(self, name)) for name in columns})

    def with_classes(self, classes: tuple[str, ...]) -> "Predictions":
        """Return the same predictions with class ids that index `classes`.

        Raises:
            UserError: A class that occurs here is not among `classes`, or both were
                declared and differ.
        """
        if classes == self.classes:
            return self
        if self.classes_declared and set(classes) != set(self.classes):
            raise UserError(
                f"{self.path}: its classes are {listed(self.classes)}, but another "
                f"file of this report has {listed(classes)}: "
                "score systems of one class map together"
            )
        absent = [name for name in self.classes if name not in classes]
        if absent:
            raise UserError(
                f"{self.path}: unknown class {absent[0]!r}; expected {listed(classes)}"
            )
        ids = np.array([classes.index(name) for name in self.classes] + [-1], int)
        probabilities = None
        if self.probabilities is not None:
            probabilities = np.empty_like(self.probabilities)
            probabilities[:, ids[:-1]] = self.probabilities
        return replace(
            self,
            classes=classes,
            classes_declared=True,
            true_class=ids[self.true_class],
            pred_class=None if self.pred_class is None else ids[self.pred_class],
            probabilities=probabilities,
        )


def read_predictions(
    path: Path | str, reference: Reference | None = None
) -> Predictions:
    """Read and check one predictions.csv.

    Args:
        path: A CSV file as README.md beside this module documents it.
        reference: The utterances that must be in it, neither more nor fewer. Truth,
            speaker, gender and corpus that the file leaves blank are taken from it;
            truth that contradicts it is an error.

    Returns:
        The predictions, sorted by utterance id.

    Raises:
        UserError: Names the file, line and value of what is missing, repeated, extra or
            malformed; of a prediction left blank in some rows only, a class that was
            not declared, and probabilities that are negative or do not sum to 1.
    """
    path = Path(path)
    table = _Table.read(path)
    ids = tuple(table.columns["utterance"])
    if reference is not None:
        check_utterances(path, ids, reference)
    classes, declared = _classes(table, reference)
    check_spelling(str(path), classes)

    pred_class = table.class_ids("emotion_pred", classes, declared=declared)
    table.check_whole("emotion_pred", pred_class < 0)
    predicts_classes = bool((pred_class >= 0).all())
    probabilities = _read_probabilities(table)
    if probabilities is not None and not predicts_classes:
        raise UserError(
            f"{path}: prob_ columns are filled but emotion_pred is not: "
            "write the predicted class of every row there"
        )
    pred = _read_predicted_attributes(table)
    if not predicts_classes and not pred:
        raise UserError(
            f"{path}: no predictions: expected emotion_pred, or valence_pred, "
            "arousal_pred and dominance_pred, with a value in every row"
        )
    found = Predictions(
        path=str(path),
        ids=ids,
        corpus=table.names("corpus"),
        speaker=table.names("speaker"),
        gender=table.names("gender"),
        classes=classes,
        classes_declared=declared,
        true_class=table.class_ids("emotion", classes, declared=declared),
        pred_class=pred_class if predicts_classes else None,
        probabilities=probabilities,
        true={name: table.numbers(name) for name in ATTRIBUTES},
        pred=pred,
    )
    if reference is not None:
        found = _fill_from_reference(found, reference)
    _check_truth(found)
    return found


def check_spelling(path: str, classes: Iterable[str]) -> None:
    """Refuse two spellings of one class: each would be a class of its own.

    Raises:
        UserError: Two names differ in case only (`Neu`, `neu`), or one is the other in
            full (`neu`, `neutral`).
    """
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(class_name(name.casefold()), name)
        if other != name:
            raise UserError(
                f"{path}: the classes {other!r} and {name!r} look like one class in "
                "two spellings: write it the same everywhere"
            )


@dataclass(frozen=True, slots=True)
class _Table:
    """A CSV file as text columns, sorted by utterance, and each row's line in it."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    @classmethod
    def read(cls, path: Path) -> "_Table":
        if not path.is_file():
            raise UserError(f"{path}: no such predictions file")
        try:
            # utf-8-sig: spreadsheets put a byte order mark before the header.
            with open(path, encoding="utf-8-sig", newline="") as stream:
                return cls._parse(path, stream)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error.reason})") from None

    @classmethod
    def _parse(cls, path: Path, stream: TextIO) -> "_Table":
        reader = csv.reader(stream, strict=True)
        rows: dict[str, tuple[int, list[str]]] = {}  # line and fields by utterance
        try:
            header = [name.strip() for name in next(reader, [])]
            if "utterance" not in header:
                raise UserError(
                    f"{path}:1: no column 'utterance' in the header "
                    f"{','.join(header)!r}"
                )
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise UserError(f"{path}:1: column {repeated[0]!r} occurs twice")
            key = header.index("utterance")
            for fields in filter(None, reader):
                where = f"{path}:{reader.line_num}"
                if len(fields) != len(header):
                    raise UserError(
                        f"{where}: {len(fields)} fields, but the header has "
                        f"{len(header)}"
                    )
                utterance = fields[key].strip()
                if not utterance:
                    raise UserError(f"{where}: no utterance id")
                if utterance in rows:
                    raise UserError(
                        f"{where}: {utterance}: duplicate; first on line "
                        f"{rows[utterance][0]}"
                    )
                rows[utterance] = reader.line_num, [text.strip() for text in fields]
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: {error}") from None
        if not rows:
            raise UserError(f"{path}: no row after the header")
        lines, texts = zip(*(rows[utt] for utt in sorted(rows)), strict=True)
        columns = map(list, zip(*texts, strict=True))
        return cls(path, dict(zip(header, columns, strict=True)), list(lines))

    def error(self, row: int, text: str) -> UserError:
        """Make the error of a row."""
        utterance = self.columns["utterance"][row]
        return UserError(f"{self.path}:{self.lines[row]}: {utterance}: {text}")

    def texts(self, column: str) -> list[str]:
        """Text of a column that may be absent."""
        return self.columns.get(column, [""] * len(self.lines))

    def names(self, column: str) -> tuple[str, ...]:
        """Text of a column, ``<unk>`` where blank."""
        return tuple(text or UNKNOWN for text in self.texts(column))

    def numbers(self, column: str) -> Floats:
        """Numbers of a column that may be absent, nan where blank."""
        values = np.full(len(self.lines), np.nan)
        for row, text in enumerate(self.texts(column)):
            if not text:
                continue
            try:
                values[row] = float(text)
            except ValueError:
                raise self.error(
                    row, f"{column} is {text!r}, which is no number"
                ) from None
            if not math.isfinite(values[row]):
                raise self.error(
                    row,
                    f"{column} is {text}: a prediction must be finite, and a truth "
                    "that is unknown is left blank",
                )
        return values

    def class_ids(self, column: str, classes: Sequence[str], *, declared: bool) -> Ints:
        """Class ids of a column, -1 where it is blank or absent."""
        index = {name: number for number, name in enumerate(classes)}
        index |= {"": -1, UNKNOWN: -1}
        texts = self.texts(column)
        for row, text in enumerate(texts):
            if text not in index:
                source = "declared classes" if declared else "classes"
                raise self.error(
                    row,
                    f"{column} is the unknown class {text!r}; {source}: "
                    f"{listed(classes)}",
                )
        return np.array([index[text] for text in texts], dtype=np.int64)

    def check_whole(
        self, column: str, blank: NDArray[np.bool_], *, may_be_empty: bool = True
    ) -> None:
        """Refuse a prediction that is blank in some rows: they would go unscored."""
        if blank.any() and not (may_be_empty and blank.all()):
            raise self.error(
                int(np.argmax(blank)),
                f"{column} is blank here and filled elsewhere: predict every utterance",
            )


def _classes(
    table: _Table, reference: Reference | None
) -> tuple[tuple[str, ...], bool]:
    """Class names, and whether header or reference declare them."""
    prefix = PROBABILITY_PREFIX
    classes = tuple(c.removeprefix(prefix) for c in table.columns if prefix == c[:5])
    if reference is not None and reference.classes is not None:
        if classes and set(classes) != set(reference.classes):
            raise UserError(
                f"{table.path}: its prob_ columns are for {listed(classes)}, but "
                f"{reference.path}/classes has {listed(reference.classes)}"
            )
        classes = classes or reference.classes
    if classes:
        return classes, True
    occurring = {*table.texts("emotion"), *table.texts("emotion_pred")}
    return tuple(sorted(occurring - {"", UNKNOWN})), False


def _read_probabilities(table: _Table) -> Floats | None:
    """Probabilities, shape (N, K), of the prob_ columns; None if all are blank."""
    names = [name for name in table.columns if name.startswith(PROBABILITY_PREFIX)]
    if not names:
        return None
    values = np.stack([table.numbers(name) for name in names], axis=1)  # (N, K)
    blank = np.isnan(values)
    if blank.all():
        return None
    for column, name in enumerate(names):
        table.check_whole(name, blank[:, column], may_be_empty=False)
    outside = (values < -PROBABILITY_TOLERANCE) | (values > 1 + PROBABILITY_TOLERANCE)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise table.error(
            row,
            f"{names[column]} is {values[row, column]:g}, which is no probability: "
            "write softmax outputs, not scores",
        )
    sums = values.sum(axis=1)
    off = np.abs(sums - 1.0) > PROBABILITY_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise table.error(row, f"the prob_ columns sum to {sums[row]:.6g}, not to 1")
    return values


def _read_predicted_attributes(table: _Table) -> dict[str, Floats]:
    columns = [name + PREDICTED_SUFFIX for name in ATTRIBUTES]
    present = [column for column in columns if column in table.columns]
    missing = [column for column in columns if column not in table.columns]
    if present and missing:
        raise UserError(
            f"{table.path}: column {missing[0]} is missing beside {present[0]}"
        )
    values = {name: table.numbers(name + PREDICTED_SUFFIX) for name in ATTRIBUTES}
    if all(np.isnan(array).all() for array in values.values()):
        return {}
    for name, array in values.items():
        table.check_whole(name + PREDICTED_SUFFIX, np.isnan(array), may_be_empty=False)
    return values


def _fill_from_reference(found: Predictions, reference: Reference) -> Predictions:
    """Take what the file leaves blank from the reference; refuse contradictions."""
    true_class = found.true_class.copy()
    true = {name: values.copy() for name, values in found.true.items()}
    index = {name: number for number, name in enumerate(found.classes)}

    def contradiction(utterance: str, column: str, *values: object) -> UserError:
        return UserError(
            f"{found.path}: {utterance}: {column} is {values[0]!s} here and "
            f"{values[1]!s} in the reference: they are not of the same labels"
        )

    for row, utterance in enumerate(found.ids):
        emotion = reference.emotion.get(utterance)
        if emotion is not None:
            if true_class[row] not in (-1, index[emotion]):
                here = found.classes[true_class[row]]
                raise contradiction(utterance, "emotion", here, emotion)
            true_class[row] = index[emotion]
        for name, value in reference.attributes.get(utterance, {}).items():
            if math.isnan(true[name][row]):
                true[name][row] = value
            # The file's own digits stay: a report must not change with --reference.
            elif not abs(true[name][row] - value) <= TRUTH_TOLERANCE:
                raise contradiction(utterance, name, true[name][row], value)

    def filled(column: str) -> tuple[str, ...]:
        known = reference.columns.get(column, {})
        return tuple(
            known.get(utterance, UNKNOWN) if value == UNKNOWN else value
            for utterance, value in zip(found.ids, getattr(found, column), strict=True)
        )

    return replace(
        found,
        true_class=true_class,
        true=true,
        speaker=filled("speaker"),
        gender=filled("gender"),
        corpus=filled("corpus"),
    )


def _check_truth(found: Predictions) -> None:
    """Refuse a system of whose predictions none can be scored."""
    rated = any(~np.isnan(values).all() for values in found.true.values())
    scored = (found.predicts_classes and (found.true_class >= 0).any()) or (
        found.predicts_attributes and rated
    )
    if not scored:
        columns = ["emotion"] * found.predicts_classes
        columns += ATTRIBUTES if found.predicts_attributes else ()
        raise UserError(
            f"{found.path}: no truth to score against: fill the columns "
            f"{', '.join(columns)}, or give a reference set directory"
        )

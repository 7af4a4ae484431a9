"""Write and read predictions.csv, the only thing that scoring knows of a model.

One row an utterance, aligned by the ``utterance`` column and never by position, so
that a file which another system wrote is scored as one of this package. README.md
beside this file documents the columns. Whatever would make a score wrong unnoticed (a
row too many or too few, a NaN, a class nobody declared) is a `UserError` that names
the file, the line and the value.
"""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.scoring.names import class_name
from espnet_ext.scoring.reference import Reference, check_utterances, listed
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
    path: Path | str, classes: Sequence[str], rows: Iterable[Mapping[str, str | float]]
) -> None:
    """Write predictions.csv in one step, ``prob_`` columns in the order of the classes.

    Of each row's values by column, what is absent, nan or ``<unk>`` is left blank;
    numbers get six decimals.
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
    """What one system predicts for N utterances, beside the truth where it is known."""

    path: str  # where it was read, for messages
    ids: tuple[str, ...]  # sorted; all that follows is in this order
    corpus: tuple[str, ...]  # <unk> where not given, as speaker and gender
    speaker: tuple[str, ...]
    gender: tuple[str, ...]  # f or m; another system's words are kept
    classes: tuple[str, ...]  # the class arrays index them
    classes_declared: bool  # by prob_ columns or a reference; else those that occur
    true_class: Ints  # (N,), -1 where unknown
    pred_class: Ints | None  # (N,)
    probabilities: Floats | None  # (N, K)
    true: dict[str, Floats]  # attribute -> (N,), nan where unknown
    pred: dict[str, Floats]  # attribute -> (N,); empty if there are none

    @property
    def predicts_classes(self) -> bool:
        """Whether there is a class for each utterance."""
        return self.pred_class is not None

    @property
    def predicts_attributes(self) -> bool:
        """Whether there are valence, arousal and dominance."""
        return bool(self.pred)

    def never_annotated(self) -> tuple[str, ...]:
        """Name the classes that are predicted and that no row is annotated with."""
        if self.pred_class is None:
            return ()
        extra = set(self.pred_class.tolist()) - set(self.true_class.tolist())
        return tuple(self.classes[index] for index in sorted(extra))

    def select(self, keep: NDArray[np.bool_]) -> "Predictions":
        """Return only the rows where `keep`, shape (N,), is true."""
        return _combine([self], lambda columns: columns[0][keep])

    def with_classes(self, classes: tuple[str, ...]) -> "Predictions":
        """Return the same predictions with class ids that index `classes`."""
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


def join(parts: Sequence[Predictions]) -> Predictions:
    """Put the predictions of several folds one after the other."""
    return _combine(parts, np.concatenate)


def _combine(
    parts: Sequence[Predictions], change: Callable[[Any], NDArray]
) -> Predictions:
    """Make each column from those of the parts."""

    def column(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: column([part[name] for part in values]) for name in values[0]}
        if isinstance(values[0], tuple):
            return tuple(change([np.array(each, dtype=object) for each in values]))
        return None if any(each is None for each in values) else change(values)

    whole = ("path", "classes", "classes_declared")
    names = [field.name for field in fields(Predictions) if field.name not in whole]
    columns = {name: column([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **columns)


def read_predictions(
    path: Path | str, reference: Reference | None = None
) -> Predictions:
    """Read and check one predictions.csv, as README.md beside this module documents it.

    The utterances must be those of the reference, neither more nor fewer. Truth,
    speaker, gender and corpus that the file leaves blank are taken from it.

    Raises:
        UserError: Names the file, line and value of what is wrong.
    """
    table = _read_table(Path(path))
    ids = tuple(table.columns["utterance"])
    if reference is not None:
        check_utterances(table.path, ids, reference)
    classes, declared = _classes(table, reference)
    check_spelling(str(path), classes)

    pred_class = table.class_ids("emotion_pred", classes, declared=declared)
    blank = np.where(pred_class < 0, np.nan, 0.0)
    predicts_classes = table.is_given({"emotion_pred": blank})
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
    rated = pred and any(~np.isnan(values).all() for values in found.true.values())
    if not rated and not (predicts_classes and (found.true_class >= 0).any()):
        columns = ["emotion"] * predicts_classes + [*(ATTRIBUTES if pred else ())]
        raise UserError(
            f"{path}: no truth to score against: fill the columns "
            f"{', '.join(columns)}, or give a reference set directory"
        )
    return found


def check_spelling(path: str, classes: Iterable[str]) -> None:
    """Refuse two spellings of one class, as `Neu`, `neu` or `neutral`, `neu`."""
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
            fault = f"{column} is {text!r}, which is no number"
            try:
                values[row] = float(text or "nan")
            except ValueError:
                raise self.error(row, fault) from None
            fault = f"{column} is {text}: a prediction must be finite, and a truth "
            if text and not math.isfinite(values[row]):
                raise self.error(row, f"{fault}that is unknown is left blank")
        return values

    def class_ids(self, column: str, classes: Sequence[str], *, declared: bool) -> Ints:
        """Class ids of a column, -1 where it is blank or absent."""
        index = {name: number for number, name in enumerate(classes)}
        index |= {"": -1, UNKNOWN: -1}
        texts = self.texts(column)
        for row, text in enumerate(texts):
            if text not in index:
                fault = f"{column} is the unknown class {text!r}; "
                fault += f"{'declared ' * declared}classes: {listed(classes)}"
                raise self.error(row, fault)
        return np.array([index[text] for text in texts], dtype=np.int64)

    def is_given(self, columns: Mapping[str, Floats]) -> bool:
        """Return whether predictions, which belong together, are there at all.

        Those that are nan in some rows only are refused: they would go unscored.
        """
        blanks = {column: np.isnan(values) for column, values in columns.items()}
        if all(blank.all() for blank in blanks.values()):
            return False
        for column, blank in blanks.items():
            if blank.any():
                fault = f"{column} is blank here and filled elsewhere: predict every "
                raise self.error(int(np.argmax(blank)), f"{fault}utterance")
        return True


def _read_table(path: Path) -> _Table:
    if not path.is_file():
        raise UserError(f"{path}: no such predictions file")
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the header.
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            try:
                return _parse(path, reader)
            except csv.Error as fault:
                raise UserError(f"{path}:{reader.line_num}: {fault}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason})") from None


def _parse(path: Path, reader: Any) -> _Table:
    rows: dict[str, tuple[int, list[str]]] = {}  # line and fields by utterance
    header = [name.strip() for name in next(reader, [])]
    if "utterance" not in header:
        text = f"no column 'utterance' in the header {','.join(header)!r}"
        raise UserError(f"{path}:1: {text}")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path}:1: column {repeated[0]!r} occurs twice")
    for cells in filter(None, reader):
        where = f"{path}:{reader.line_num}"
        if len(cells) != len(header):
            fault = f"{len(cells)} fields, but the header has {len(header)}"
            raise UserError(f"{where}: {fault}")
        texts = [text.strip() for text in cells]
        utterance = texts[header.index("utterance")]
        if not utterance:
            raise UserError(f"{where}: no utterance id")
        if utterance in rows:
            first = rows[utterance][0]
            raise UserError(f"{where}: {utterance}: duplicate; first on line {first}")
        rows[utterance] = reader.line_num, texts
    if not rows:
        raise UserError(f"{path}: no row after the header")
    lines, fields_of = zip(*(rows[utt] for utt in sorted(rows)), strict=True)
    columns = map(list, zip(*fields_of, strict=True))
    return _Table(path, dict(zip(header, columns, strict=True)), list(lines))


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
    columns = {name: table.numbers(name) for name in names}
    if not table.is_given(columns):
        return None
    values = np.stack([*columns.values()], axis=1)  # (N, K)
    outside = (values < -PROBABILITY_TOLERANCE) | (values > 1 + PROBABILITY_TOLERANCE)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        fault = f"{names[column]} is {values[row, column]:g}, which is no probability: "
        raise table.error(row, f"{fault}write softmax outputs, not scores")
    sums = values.sum(axis=1)
    off = np.abs(sums - 1.0) > PROBABILITY_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise table.error(row, f"the prob_ columns sum to {sums[row]:.6g}, not to 1")
    return values


def _read_predicted_attributes(table: _Table) -> dict[str, Floats]:
    names = [name + PREDICTED_SUFFIX for name in ATTRIBUTES]
    present = [name for name in names if name in table.columns]
    missing = [name for name in names if name not in table.columns]
    if present and missing:
        raise UserError(
            f"{table.path}: column {missing[0]} is missing beside {present[0]}"
        )
    columns = {name: table.numbers(name) for name in names}
    if not table.is_given(columns):
        return {}
    return dict(zip(ATTRIBUTES, columns.values(), strict=True))


def _fill_from_reference(found: Predictions, reference: Reference) -> Predictions:
    """Take what the file leaves blank from the reference; refuse contradictions."""
    true_class = found.true_class.copy()
    true = {name: values.copy() for name, values in found.true.items()}

    def contradiction(utterance: str, column: str, here: object, there: object) -> Any:
        return UserError(
            f"{found.path}: {utterance}: {column} is {here!s} here and {there!s} in "
            "the reference: they are not of the same labels"
        )

    for row, utterance in enumerate(found.ids):
        emotion = reference.emotion.get(utterance)
        if emotion is not None:
            here = true_class[row]
            true_class[row] = found.classes.index(emotion)
            if here not in (-1, true_class[row]):
                raise contradiction(utterance, "emotion", found.classes[here], emotion)
        for name, value in reference.attributes.get(utterance, {}).items():
            if math.isnan(true[name][row]):
                true[name][row] = value
            # The file's own digits stay: a report must not change with --reference.
            elif not abs(true[name][row] - value) <= TRUTH_TOLERANCE:
                raise contradiction(utterance, name, true[name][row], value)
    columns: dict[str, Any] = {
        name: tuple(
            known.get(utterance, value) if value == UNKNOWN else value
            for utterance, value in zip(found.ids, getattr(found, name), strict=True)
        )
        for name, known in reference.columns.items()
    }
    return replace(found, true_class=true_class, true=true, **columns)

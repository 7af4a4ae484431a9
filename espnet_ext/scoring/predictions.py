"""Read predictions.csv, the only thing that scoring knows of a model.

One row an utterance, aligned by the ``utterance`` column and never by position, so
that a file which another system wrote is scored as our own is. README.md beside this
file documents the columns. Whatever would make a score wrong without anybody noticing
(a row too many or too few, a NaN, a class nobody declared) is a `UserError` that names
the file, the line and the value.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from espnet_ext.errors import UserError
from espnet_ext.scoring.metrics import ATTRIBUTES
from espnet_ext.scoring.names import class_name

UNKNOWN = "<unk>"
PROBABILITY_PREFIX = "prob_"
# Six printed decimals and 32-bit softmaxes stay far below this.
PROBABILITY_TOLERANCE = 1e-3
# Room for the printed decimals when truths are compared.
TRUTH_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one system said about N utterances, beside the truth where it is known.

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
        true: Dimension -> shape (N,), nan where unknown.
        pred: Dimension -> shape (N,); empty if the system predicts none.
    """

    path: str
    ids: tuple[str, ...]
    corpus: tuple[str, ...]
    speaker: tuple[str, ...]
    gender: tuple[str, ...]
    classes: tuple[str, ...]
    classes_declared: bool
    true_class: NDArray[np.int64]
    pred_class: NDArray[np.int64] | None
    probabilities: NDArray[np.float64] | None
    true: dict[str, NDArray[np.float64]]
    pred: dict[str, NDArray[np.float64]]

    @property
    def predicts_classes(self) -> bool:
        """Whether the system says a class for each utterance."""
        return self.pred_class is not None

    @property
    def predicts_attributes(self) -> bool:
        """Whether the system says valence, arousal and dominance."""
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

        def pick(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(values[row] for row in rows)

        return replace(
            self,
            ids=pick(self.ids),
            corpus=pick(self.corpus),
            speaker=pick(self.speaker),
            gender=pick(self.gender),
            true_class=self.true_class[rows],
            pred_class=None if self.pred_class is None else self.pred_class[rows],
            probabilities=(
                None if self.probabilities is None else self.probabilities[rows]
            ),
            true={name: values[rows] for name, values in self.true.items()},
            pred={name: values[rows] for name, values in self.pred.items()},
        )

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
                f"{self.path}: its classes are {_listed(self.classes)}, but another "
                f"file of this report has {_listed(classes)}: "
                "score systems of one class map together"
            )
        absent = [name for name in self.classes if name not in classes]
        if absent:
            raise UserError(
                f"{self.path}: unknown class {absent[0]!r}; expected {_listed(classes)}"
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


@dataclass(frozen=True, slots=True)
class Reference:
    """The utterances a system had to predict, and their truth where it is given.

    Attributes:
        path: Where it was read, for messages.
        ids: Utterance ids.
        classes: Class names, None if the reference is a manifest only.
        emotion: Utterance -> class name; without those that are unknown.
        attributes: Utterance -> dimension -> value; without those that are unknown.
        columns: ``speaker``, ``gender``, ``corpus`` -> utterance -> value.
    """

    path: str
    ids: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    emotion: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_reference(path: Path | str) -> Reference:
    """Read a set directory, or a manifest with one utterance id a line.

    A set directory has ``utt2spk`` or ``wav.scp`` (the ids) and, as far as they are
    there, ``classes``, ``utt2class``, ``attributes``, ``utt2spk``, ``utt2gender`` and
    ``utt2corpus``.

    Raises:
        UserError: Nothing there, an empty or malformed file, a duplicate id.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such reference; give a set directory or a list of ids"
        )
    if not path.is_dir():
        ids = _unique([line.split()[0] for _, line in _lines(path)], path)
        return Reference(path=str(path), ids=ids)

    for name in ("utt2spk", "wav.scp", "utt2class"):
        if (path / name).exists():
            id_file = path / name
            break
    else:
        raise UserError(f"{path}: no set directory (utt2spk and wav.scp are missing)")
    columns = {
        column: _pairs(path / name)
        for column, name in (
            ("speaker", "utt2spk"),
            ("gender", "utt2gender"),
            ("corpus", "utt2corpus"),
        )
        if (path / name).exists()
    }
    classes, emotion = _reference_classes(path)
    return Reference(
        path=str(path),
        ids=_unique([line.split()[0] for _, line in _lines(id_file)], id_file),
        classes=classes,
        emotion=emotion,
        attributes=_reference_attributes(path / "attributes"),
        columns=columns,
    )


def _reference_classes(path: Path) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    if not (path / "classes").exists():
        return None, {}
    classes = tuple(line.strip() for _, line in _lines(path / "classes"))
    emotion: dict[str, str] = {}
    if (path / "utt2class").exists():
        for utterance, text in _pairs(path / "utt2class").items():
            try:
                index = int(text)
                if index >= 0:
                    emotion[utterance] = classes[index]
            except (ValueError, IndexError):
                raise UserError(
                    f"{path / 'utt2class'}: {utterance}: class id {text!r}; expected "
                    f"-1 (unknown) to {len(classes) - 1}"
                ) from None
    return classes, emotion


def _reference_attributes(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    attributes = {}
    for number, line in _lines(path):
        utterance, *texts = line.split()
        try:
            values = dict(zip(ATTRIBUTES, map(float, texts), strict=True))
        except ValueError:
            raise UserError(
                f"{path}:{number}: expected 'utterance valence arousal dominance', "
                f"got {line.strip()!r}"
            ) from None
        attributes[utterance] = {
            name: value for name, value in values.items() if not math.isnan(value)
        }
    return attributes


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
        UserError: Names the file, line and value of: a missing or malformed file, a
            missing or repeated column, a row with too few or too many fields, a
            missing, repeated or extra utterance, a number that is NaN or no number, a
            class that was not declared, a prediction left blank in some rows only,
            probabilities that are negative or do not sum to 1.
    """
    path = Path(path)
    table = _Table.read(path)
    order = table.sorted_rows()
    ids = tuple(table.columns["utterance"][row] for row in order)
    if reference is not None:
        _check_against_reference(path, ids, reference)

    names = [c for c in table.columns if c.startswith(PROBABILITY_PREFIX)]
    classes = tuple(name.removeprefix(PROBABILITY_PREFIX) for name in names)
    if reference is not None and reference.classes is not None:
        if classes and set(classes) != set(reference.classes):
            raise UserError(
                f"{path}: its prob_ columns are for {_listed(classes)}, but "
                f"{reference.path}/classes has {_listed(reference.classes)}"
            )
        classes = classes or reference.classes
    declared = bool(classes)
    if not declared:
        classes = tuple(
            sorted(
                (set(table.words("emotion")) | set(table.words("emotion_pred")))
                - {"", UNKNOWN}
            )
        )

    check_spelling(str(path), classes)

    pred_class = table.class_ids("emotion_pred", classes, declared=declared)
    if pred_class is not None:
        table.check_whole("emotion_pred", pred_class < 0)
        if (pred_class < 0).all():
            pred_class = None
    true_class = table.class_ids("emotion", classes, declared=declared)
    probabilities = _read_probabilities(table, names)
    if probabilities is not None and pred_class is None:
        raise UserError(
            f"{path}: prob_ columns are filled but emotion_pred is not: "
            "write the predicted class of every row there"
        )
    pred = _read_predicted_attributes(table)
    if pred_class is None and not pred:
        raise UserError(
            f"{path}: no predictions: expected emotion_pred, or valence_pred, "
            "arousal_pred and dominance_pred, with a value in every row"
        )
    none_known = np.full(len(order), -1, int)
    found = Predictions(
        path=str(path),
        ids=ids,
        corpus=table.names("corpus", order),
        speaker=table.names("speaker", order),
        gender=table.names("gender", order),
        classes=classes,
        classes_declared=declared,
        true_class=(none_known if true_class is None else true_class)[order],
        pred_class=None if pred_class is None else pred_class[order],
        probabilities=None if probabilities is None else probabilities[order],
        true={name: table.numbers(name)[order] for name in ATTRIBUTES},
        pred={name: values[order] for name, values in pred.items()},
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


def _read_probabilities(
    table: "_Table", names: Sequence[str]
) -> NDArray[np.float64] | None:
    """Probabilities, shape (N, K), of the columns `names`; None if all are blank."""
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
        raise UserError(
            f"{table.at(row)}: {names[column]} is {values[row, column]:g}, which is "
            "no probability: write softmax outputs, not scores"
        )
    sums = values.sum(axis=1)
    off = np.abs(sums - 1.0) > PROBABILITY_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise UserError(
            f"{table.at(row)}: the prob_ columns sum to {sums[row]:.6g}, not to 1"
        )
    return values


def _read_predicted_attributes(table: "_Table") -> dict[str, NDArray[np.float64]]:
    columns = [f"{name}_pred" for name in ATTRIBUTES]
    present = [column for column in columns if column in table.columns]
    if not present:
        return {}
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(
            f"{table.path}: column {missing[0]} is missing beside {present[0]}"
        )
    values = {name: table.numbers(f"{name}_pred") for name in ATTRIBUTES}
    if all(np.isnan(array).all() for array in values.values()):
        return {}
    for name, array in values.items():
        table.check_whole(f"{name}_pred", np.isnan(array), may_be_empty=False)
    return values


def _check_against_reference(
    path: Path, ids: tuple[str, ...], reference: Reference
) -> None:
    for wrong, what in (
        (set(reference.ids) - set(ids), f"missing; {reference.path} has"),
        (set(ids) - set(reference.ids), f"extra; {reference.path} has not got"),
    ):
        if wrong:
            one = len(wrong) == 1
            raise UserError(
                f"{path}: {len(wrong)} utterance{'' if one else 's'} {what} "
                f"{_listed(sorted(wrong))}"
            )


def _fill_from_reference(found: Predictions, reference: Reference) -> Predictions:
    """Take what the file leaves blank from the reference; refuse contradictions."""
    true_class = found.true_class.copy()
    true = {name: values.copy() for name, values in found.true.items()}
    index = {name: number for number, name in enumerate(found.classes)}
    for row, utterance in enumerate(found.ids):
        emotion = reference.emotion.get(utterance)
        if emotion is not None:
            if true_class[row] not in (-1, index[emotion]):
                raise _contradiction(
                    found, utterance, "emotion", found.classes[true_class[row]], emotion
                )
            true_class[row] = index[emotion]
        for name, value in reference.attributes.get(utterance, {}).items():
            ours = true[name][row]
            if not (math.isnan(ours) or abs(ours - value) <= TRUTH_TOLERANCE):
                raise _contradiction(found, utterance, name, ours, value)
            # The file's own digits stay: a report must not change with --reference.
            true[name][row] = value if math.isnan(ours) else ours

    def filled(column: str, values: tuple[str, ...]) -> tuple[str, ...]:
        known = reference.columns.get(column, {})
        return tuple(
            known.get(utterance, UNKNOWN) if value == UNKNOWN else value
            for utterance, value in zip(found.ids, values, strict=True)
        )

    return replace(
        found,
        true_class=true_class,
        true=true,
        speaker=filled("speaker", found.speaker),
        gender=filled("gender", found.gender),
        corpus=filled("corpus", found.corpus),
    )


def _contradiction(
    found: Predictions, utterance: str, column: str, ours: object, theirs: object
) -> UserError:
    return UserError(
        f"{found.path}: {utterance}: {column} is {ours!s} here and {theirs!s} in the "
        "reference: they are not of the same labels"
    )


def _check_truth(found: Predictions) -> None:
    """A system whose predictions cannot be scored at all is a mistake."""
    rated = any(~np.isnan(values).all() for values in found.true.values())
    scored = (found.predicts_classes and (found.true_class >= 0).any()) or (
        found.predicts_attributes and rated
    )
    if not scored:
        columns = []
        if found.predicts_classes:
            columns.append("emotion")
        if found.predicts_attributes:
            columns.extend(ATTRIBUTES)
        raise UserError(
            f"{found.path}: no truth to score against: fill the columns "
            f"{', '.join(columns)}, or give a reference set directory"
        )


@dataclass(frozen=True, slots=True)
class _Table:
    """A CSV file as text columns, with the line of each row for messages."""

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
            rows, lines = [], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UserError(
                        f"{path}:{reader.line_num}: {len(row)} fields, but the header "
                        f"has {len(header)}"
                    )
                rows.append([text.strip() for text in row])
                lines.append(reader.line_num)
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: {error}") from None
        if not rows:
            raise UserError(f"{path}: no row after the header")
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        return cls(path, columns, lines)

    def at(self, row: int) -> str:
        """Say where row number `row` is."""
        utterance = self.columns["utterance"][row]
        return f"{self.path}:{self.lines[row]}: {utterance}"

    def sorted_rows(self) -> list[int]:
        """Row numbers in the order of the utterance ids, each id once."""
        ids = self.columns["utterance"]
        first: dict[str, int] = {}
        for row, utterance in enumerate(ids):
            if not utterance:
                raise UserError(f"{self.path}:{self.lines[row]}: no utterance id")
            if utterance in first:
                raise UserError(
                    f"{self.at(row)}: duplicate; first on line "
                    f"{self.lines[first[utterance]]}"
                )
            first[utterance] = row
        return sorted(range(len(ids)), key=ids.__getitem__)

    def words(self, column: str) -> list[str]:
        """Text of a column that may be absent."""
        return self.columns.get(column, [""] * len(self.lines))

    def names(self, column: str, order: Sequence[int]) -> tuple[str, ...]:
        """Text of a column, ``<unk>`` where blank, in the given order."""
        words = self.words(column)
        return tuple(words[row] or UNKNOWN for row in order)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Numbers of a column that may be absent, nan where blank."""
        values = np.full(len(self.lines), np.nan)
        for row, text in enumerate(self.words(column)):
            if not text:
                continue
            try:
                values[row] = float(text)
            except ValueError:
                raise UserError(
                    f"{self.at(row)}: {column} is {text!r}, which is no number"
                ) from None
            if not math.isfinite(values[row]):
                raise UserError(
                    f"{self.at(row)}: {column} is {text}: a prediction must be finite, "
                    "and a truth that is unknown is left blank"
                )
        return values

    def class_ids(
        self, column: str, classes: Sequence[str], *, declared: bool
    ) -> NDArray[np.int64] | None:
        """Class ids of a column, -1 where blank; None if the column is absent."""
        if column not in self.columns:
            return None
        index = {name: number for number, name in enumerate(classes)}
        index |= {"": -1, UNKNOWN: -1}
        for row, text in enumerate(self.columns[column]):
            if text not in index:
                source = "declared classes" if declared else "classes"
                raise UserError(
                    f"{self.at(row)}: {column} is the unknown class {text!r}; "
                    f"{source}: {_listed(classes)}"
                )
        return np.array([index[text] for text in self.columns[column]], dtype=np.int64)

    def check_whole(
        self, column: str, blank: NDArray[np.bool_], *, may_be_empty: bool = True
    ) -> None:
        """Refuse a prediction that is blank in some rows: they would go unscored."""
        if blank.any() and not (may_be_empty and blank.all()):
            row = int(np.argmax(blank))
            raise UserError(
                f"{self.at(row)}: {column} is blank here and filled elsewhere: predict "
                "every utterance"
            )


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not blank; an empty file is an error."""
    text = path.read_text(encoding="utf-8")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: empty file")
    return lines


def _pairs(path: Path) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, line in _lines(path):
        fields = line.split(maxsplit=1)
        if len(fields) != 2:
            raise UserError(
                f"{path}:{number}: expected 'utterance value', got {line.strip()!r}"
            )
        pairs[fields[0]] = fields[1].strip()
    return pairs


def _unique(ids: Sequence[str], path: Path) -> tuple[str, ...]:
    seen: set[str] = set()
    for utterance in ids:
        if utterance in seen:
            raise UserError(f"{path}: {utterance} occurs twice")
        seen.add(utterance)
    return tuple(sorted(ids))


def _listed(names: Iterable[str], limit: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

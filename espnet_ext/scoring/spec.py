"""What a table consists of: rows, columns, comparisons and claims, read from YAML.

``conf/tables/README.md`` explains the keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from espnet_ext.errors import UserError
from espnet_ext.scoring.names import corpus_name
from espnet_ext.utils.yaml_files import build, read_yaml, unknown_key

# Labels of a corpus that training may show.
LabelMode = Literal["both", "continuous", "discrete", "none"]


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """A metric on the test set of one corpus."""

    corpus: str
    metric: str

    def __str__(self) -> str:
        return f"{self.corpus}.{self.metric}"


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """A corpus of the table."""

    scheme: str  # how it is split
    folds: tuple[int, ...] = ()  # that are trained and tested, if the scheme has any
    subset_like: str | None = None  # corpus whose sets tell the size of a subset's
    # Utterances over all folds: with another number the paper is no yardstick.
    paper_test_size: int | None = None
    release: str | None = None  # that the paper used


@dataclass(frozen=True, slots=True)
class Preset:
    """Where the training YAMLs of the rows are, and what goes with them."""

    configs: str  # folder
    features: str  # feature config by name
    overlay: str | None = None  # YAML merged over each
    # Shortest and longest clip of train and valid.
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: one model, trained once a fold and seed."""

    name: str
    config: str = ""
    # Corpus -> labels that training shows; ``both`` for those not named.
    train: Mapping[str, LabelMode] = field(default_factory=dict)
    paper: Mapping[Column, float] = field(default_factory=dict)
    # What a value that the paper misprints should be by its own figures.
    corrected: Mapping[Column, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two rows to compare in a column: first minus second."""

    first: str
    second: str
    column: Column

    @property
    def reversed(self) -> "Pair":
        """Second minus first."""
        return Pair(self.second, self.first, self.column)


class Kind(Enum):
    """What a claim says of the first of two rows."""

    HIGHER = "higher"
    NOT_HIGHER = "not_higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a claim says of two rows."""

    pair: Pair
    kind: Kind


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the paper, and what must be so for it to hold."""

    says: str
    conditions: tuple[Condition, ...]
    significant: bool  # whether it speaks of statistical significance


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as its YAML describes it."""

    name: str
    title: str
    corpora: Mapping[str, CorpusSpec]
    columns: tuple[Column, ...]
    rows: Mapping[str, Row]
    comparisons: tuple[Pair, ...] = ()  # those of the claims included, each once
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = "paper"  # whose values stand beside those found here
    recipe: str = ""  # folder below egs2 in which it runs on the real corpora
    labels: str = ""  # class map
    seeds: int = 1
    presets: Mapping[str, Preset] = field(default_factory=dict)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds; (0,) where no scheme has any."""
        return next((c.folds for c in self.corpora.values() if c.folds), (0,))

    def column_name(self, column: Column) -> str:
        """Name of a column as it is printed."""
        from espnet_ext.scoring.metrics import METRIC_NAMES  # late: needs numpy

        metric = METRIC_NAMES[column.metric]
        several = len(self.corpora) > 1
        return f"{corpus_name(column.corpus)} {metric}" if several else metric

    def pair_name(self, pair: Pair) -> str:
        """Name the two rows of a pair."""
        return f"{self.rows[pair.first].name} − {self.rows[pair.second].name}"


# What is tested of two models where no table says it.
TESTED = ("ccc", "accuracy", "uar", "macro_f1")
_HIERARCHICAL = ("hierarchical_dc", "hierarchical_cd")
_REFERENCES = ("baseline_c", "baseline_d", "multitask")


def default_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The paper's comparisons: each hierarchical model with what it must beat."""
    return [
        (first, second)
        for first in _HIERARCHICAL
        for second in _REFERENCES
        if first in names and second in names
    ]


@dataclass(frozen=True, slots=True)
class _PairKeys:
    rows: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _TableKeys:
    """The YAML file as it is written, before names are looked up."""

    title: str
    recipe: str
    labels: str
    corpora: dict[str, CorpusSpec]
    presets: dict[str, Preset]
    columns: tuple[str, ...]
    rows: dict[str, Row]
    source: str = "paper"
    seeds: int = 1
    comparisons: tuple[_PairKeys, ...] = ()
    claims: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def load_table(path: Path | str) -> TableSpec:
    """Read a table's YAML.

    Raises:
        UserError: Names the file and the key at fault.
    """
    from espnet_ext.scoring.metrics import METRIC_NAMES  # late: plans need no numpy

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such table")
    keys = build(_TableKeys, read_yaml(path), str(path))
    _check_values(keys, path)

    def column(text: str, where: str) -> Column:
        corpus, _, metric = text.partition(".")
        _among(corpus, keys.corpora, f"{where}: {text}", "corpus")
        _among(metric, METRIC_NAMES, f"{where}: {text}", "metric")
        return Column(corpus, metric)

    def pair(rows: Sequence[str], text: str, where: str) -> Pair:
        names = [str(row) for row in rows] if isinstance(rows, list | tuple) else []
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"{where}: expected two rows, got {rows!r}")
        for name in names:
            _among(name, keys.rows, where, "row")
        return Pair(names[0], names[1], column(text, where))

    def claim(value: Mapping[str, Any], where: str) -> Claim:
        types = {"says": str, "if": list, "significant": bool}
        for key, found in value.items():
            if key not in types:
                raise unknown_key(key, types, where)
            if not isinstance(found, types[key]):
                raise UserError(f"{where}: {key}: expected a {types[key].__name__}")
        significant = value.get("significant", False)
        if not (value.get("says") and value.get("if")):
            raise UserError(f"{where}: says or if is missing")
        conditions = []
        for item in value["if"]:
            kinds = [k for k in Kind if isinstance(item, dict) and k.value in item]
            if len(kinds) != 1 or set(item) != {kinds[0].value, "in"}:
                raise UserError(
                    f"{where}: if: expected {{higher: [A, B], in: column}}, or lower "
                    f"or not_higher, got {item!r}"
                )
            rows, text = item[kinds[0].value], str(item["in"])
            conditions.append(Condition(pair(rows, text, f"{where}: if"), kinds[0]))
        return Claim(" ".join(value["says"].split()), tuple(conditions), significant)

    def values(found: Mapping[Any, float], where: str) -> dict[Column, float]:
        return {column(key, where): number for key, number in found.items()}

    claims = tuple(
        claim(value, f"{path}: claims: {number}")
        for number, value in enumerate(keys.claims, 1)
    )
    asked = [
        pair(item.rows, text, f"{path}: comparisons: {number}")
        for number, item in enumerate(keys.comparisons, 1)
        for text in item.columns
    ]
    looked_up = {
        "columns": tuple(column(text, f"{path}: columns") for text in keys.columns),
        "rows": {
            name: replace(
                row,
                paper=values(row.paper, f"{path}: rows: {name}: paper"),
                corrected=values(row.corrected, f"{path}: rows: {name}: corrected"),
            )
            for name, row in keys.rows.items()
        },
        "claims": claims,
        "comparisons": _with_claims(asked, claims),
    }
    written = {f.name: getattr(keys, f.name) for f in fields(keys)}
    return TableSpec(name=path.stem, **{**written, **looked_up})


def _with_claims(asked: Sequence[Pair], claims: Iterable[Claim]) -> tuple[Pair, ...]:
    """List what is asked for, then what the claims need besides."""
    pairs = dict.fromkeys(asked)
    for claim in claims:
        for condition in claim.conditions:
            # The same test, whichever way round it is asked.
            if condition.pair.reversed not in pairs:
                pairs[condition.pair] = None
    return tuple(pairs)


def _among(value: str, known: Iterable[str], where: str, what: str) -> None:
    if value not in known:
        raise UserError(f"{where}: no {what} {value!r}; there are {', '.join(known)}")


def _check_values(keys: _TableKeys, path: Path) -> None:
    """Check what the types of the keys do not say."""
    for name in ("title", "recipe", "labels", "corpora", "presets", "columns", "rows"):
        if not getattr(keys, name):
            raise UserError(f"{path}: {name} is empty")
    numbers = {"seeds": [keys.seeds]}
    for name, corpus in keys.corpora.items():
        numbers[f"corpora: {name}: folds"] = [*corpus.folds]
        size = corpus.paper_test_size
        numbers[f"corpora: {name}: paper_test_size"] = [1 if size is None else size]
    for where, found in numbers.items():
        if any(number < 1 for number in found):
            raise UserError(f"{path}: {where}: expected whole numbers above 0")
    if sum(bool(corpus.folds) for corpus in keys.corpora.values()) > 1:
        raise UserError(
            f"{path}: corpora: only one corpus can be gone through fold by fold"
        )
    for name, row in keys.rows.items():
        if not row.config:
            raise UserError(f"{path}: rows: {name}: config is missing")
        for corpus_key in row.train:
            _among(corpus_key, keys.corpora, f"{path}: rows: {name}: train", "corpus")

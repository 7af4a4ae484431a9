"""What a table consists of: rows, columns, comparisons and claims, read from YAML.

``conf/tables/README.md`` explains the keys. A key that nothing would read, a row or a
column that does not exist and a value of the wrong kind are errors that name the file
and the key.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import UserError
from espnet_ext.scoring.metrics import METRICS
from espnet_ext.scoring.names import METRIC_NAMES

# UAR over the four classes that most of the literature uses.
USUAL_CLASSES = ("neu", "ang", "hap", "sad")
UAR4 = "uar4"

TABLE_METRICS = (*METRICS[:-1], UAR4, METRICS[-1])
TABLE_METRIC_NAMES = {**METRIC_NAMES, UAR4: "UAR (4)"}
CORPUS_NAMES = {
    "iemocap": "IEMOCAP",
    "msp_podcast": "MSP-Podcast",
    "crema_d": "CREMA-D",
    "ravdess": "RAVDESS",
    "emodb": "EmoDB",
    "meld": "MELD",
}

# Labels of a corpus that training may show.
LABEL_MODES = ("both", "continuous", "discrete", "none")


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """A metric on the test set of one corpus."""

    corpus: str
    metric: str

    def __str__(self) -> str:
        return f"{self.corpus}.{self.metric}"


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """A corpus of the table.

    Attributes:
        scheme: How it is split.
        folds: The folds that are trained and tested; empty where the scheme has none.
        subset_like: Corpus whose sets tell the size of a subset scheme's.
        paper_test_size: Utterances of the paper's test set, over all folds: another
            number here means that the paper's values are no yardstick.
        release: The release that the paper used.
    """

    scheme: str
    folds: tuple[int, ...] = ()
    subset_like: str | None = None
    paper_test_size: int | None = None
    release: str | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """Where the training YAMLs of the rows are, and what goes with them.

    Attributes:
        configs: Their folder.
        features: Feature config by name.
        overlay: YAML merged over each.
        seconds: Shortest and longest clip of train and valid; None for all clips.
    """

    configs: str
    features: str
    overlay: str | None = None
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: one model, trained once a fold and seed.

    Attributes:
        name: As it is printed.
        config: Its training YAML, in the preset's folder.
        train: Corpus -> one of `LABEL_MODES`; ``both`` for those not named.
        paper: The paper's values.
        corrected: What a value that the paper misprints should be by its own figures.
    """

    name: str
    config: str
    train: Mapping[str, str]
    paper: Mapping[Column, float]
    corrected: Mapping[Column, float]


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
    """A sentence of the paper, and what must be so for it to hold.

    Attributes:
        says: The sentence.
        conditions: All must hold.
        significant: Whether it speaks of statistical significance.
    """

    says: str
    conditions: tuple[Condition, ...]
    significant: bool


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as its YAML describes it.

    Attributes:
        name: Name of the file.
        title: Headline.
        source: Whose values are beside ours: ``paper``.
        recipe: Folder below ``egs2`` in which it runs on the real corpora.
        labels: Class map by name.
        seeds: How many seeds where the command line does not say.
        corpora: Each corpus by name.
        presets: Each preset by name.
        columns: What the table shows; every metric is in its csv and json.
        rows: Each row by its key.
        comparisons: Pairs to test, those of the claims included, each once.
        claims: What the paper says.
        notes: What a reader must know.
    """

    name: str
    title: str
    source: str
    recipe: str
    labels: str
    seeds: int
    corpora: Mapping[str, CorpusSpec]
    presets: Mapping[str, Preset]
    columns: tuple[Column, ...]
    rows: Mapping[str, Row]
    comparisons: tuple[Pair, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds; (0,) where no scheme has any."""
        for corpus in self.corpora.values():
            if corpus.folds:
                return corpus.folds
        return (0,)

    def column_name(self, column: Column) -> str:
        """Name of a column as it is printed."""
        metric = TABLE_METRIC_NAMES[column.metric]
        if len(self.corpora) == 1:
            return metric
        return f"{CORPUS_NAMES.get(column.corpus, column.corpus)} {metric}"


def load_table(path: Path | str) -> TableSpec:
    """Read a table's YAML.

    Raises:
        UserError: Names the file and the key at fault.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such table")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    return _Reader(str(path)).table(path.stem, content)


class _Reader:
    """Turns the YAML's mappings into dataclasses and names what is wrong."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.corpora: Mapping[str, CorpusSpec] = {}
        self.rows: Mapping[str, Row] = {}

    def fail(self, where: str, what: str) -> UserError:
        return UserError(f"{self.path}: {where}: {what}")

    def mapping(
        self, value: Any, where: str, needed: Iterable[str], allowed: Iterable[str]
    ) -> dict[str, Any]:
        """Check a mapping's keys."""
        if not isinstance(value, dict):
            raise self.fail(where, f"expected a mapping, got {value!r}")
        keys = [*needed, *allowed]
        for key in value:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {keys}"
                raise self.fail(where, f"unknown key {key!r}{hint}")
        for key in needed:
            if value.get(key) in (None, "", [], {}):
                raise self.fail(where, f"{key} is missing")
        return value

    def items(self, value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fail(where, f"expected a list, got {value!r}")
        return value

    def named(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise self.fail(where, f"expected names and mappings, got {value!r}")
        return {str(name): item for name, item in value.items()}

    def table(self, name: str, content: Any) -> TableSpec:
        top = self.mapping(
            content,
            "table",
            ("title", "recipe", "labels", "corpora", "presets", "columns", "rows"),
            ("source", "seeds", "comparisons", "claims", "notes"),
        )
        self.corpora = {
            corpus: self.corpus(value, f"corpora: {corpus}")
            for corpus, value in self.named(top["corpora"], "corpora").items()
        }
        if sum(bool(corpus.folds) for corpus in self.corpora.values()) > 1:
            raise self.fail("corpora", "folds of one corpus only can be gone through")
        presets = {
            preset: self.preset(value, f"presets: {preset}")
            for preset, value in self.named(top["presets"], "presets").items()
        }
        columns = tuple(
            self.column(key, "columns") for key in self.items(top["columns"], "columns")
        )
        self.rows = {
            row: self.row(value, f"rows: {row}")
            for row, value in self.named(top["rows"], "rows").items()
        }
        claims = tuple(
            self.claim(value, f"claims: {number}")
            for number, value in enumerate(
                self.items(top.get("claims", []), "claims"), 1
            )
        )
        return TableSpec(
            name=name,
            title=str(top["title"]),
            source=str(top.get("source", "paper")),
            recipe=str(top["recipe"]),
            labels=str(top["labels"]),
            seeds=self.number(top.get("seeds", 1), "seeds"),
            corpora=self.corpora,
            presets=presets,
            columns=columns,
            rows=self.rows,
            comparisons=self.comparisons(top.get("comparisons", []), claims),
            claims=claims,
            notes=tuple(str(n) for n in self.items(top.get("notes", []), "notes")),
        )

    def number(self, value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.fail(where, f"expected a whole number above 0, got {value!r}")
        return value

    def corpus(self, value: Any, where: str) -> CorpusSpec:
        found = self.mapping(
            value,
            where,
            ("scheme",),
            ("folds", "subset_like", "paper_test_size", "release"),
        )
        size = found.get("paper_test_size")
        return CorpusSpec(
            scheme=str(found["scheme"]),
            folds=tuple(
                self.number(fold, f"{where}: folds")
                for fold in self.items(found.get("folds", []), f"{where}: folds")
            ),
            subset_like=found.get("subset_like"),
            paper_test_size=None if size is None else self.number(size, where),
            release=found.get("release"),
        )

    def preset(self, value: Any, where: str) -> Preset:
        found = self.mapping(
            value, where, ("configs", "features"), ("overlay", "seconds")
        )
        seconds = found.get("seconds")
        if seconds is not None:
            limits = self.items(seconds, f"{where}: seconds")
            if len(limits) != 2 or not all(isinstance(s, int | float) for s in limits):
                raise self.fail(where, f"seconds: expected two numbers, got {seconds}")
            seconds = (float(limits[0]), float(limits[1]))
        return Preset(
            configs=str(found["configs"]),
            features=str(found["features"]),
            overlay=found.get("overlay"),
            seconds=seconds,
        )

    def row(self, value: Any, where: str) -> Row:
        found = self.mapping(
            value, where, ("name", "config"), ("train", "paper", "corrected")
        )
        train = {str(c): str(m) for c, m in (found.get("train") or {}).items()}
        for corpus, mode in train.items():
            self.among(corpus, self.corpora, f"{where}: train", "corpus")
            self.among(mode, LABEL_MODES, f"{where}: train: {corpus}", "labels")
        return Row(
            name=str(found["name"]),
            config=str(found["config"]),
            train=train,
            paper=self.values(found.get("paper"), f"{where}: paper"),
            corrected=self.values(found.get("corrected"), f"{where}: corrected"),
        )

    def values(self, value: Any, where: str) -> dict[Column, float]:
        found = {}
        for key, number in (value or {}).items():
            if not isinstance(number, int | float):
                raise self.fail(where, f"{key}: expected a number, got {number!r}")
            found[self.column(key, where)] = float(number)
        return found

    def column(self, key: Any, where: str) -> Column:
        corpus, _, metric = str(key).partition(".")
        self.among(corpus, self.corpora, f"{where}: {key}", "corpus")
        self.among(metric, TABLE_METRICS, f"{where}: {key}", "metric")
        return Column(corpus, metric)

    def among(self, value: str, known: Iterable[str], where: str, what: str) -> None:
        if value not in known:
            raise self.fail(where, f"no {what} {value!r}; there are {', '.join(known)}")

    def pair(self, rows: Any, column: Any, where: str) -> Pair:
        names = [str(row) for row in self.items(rows, where)]
        if len(names) != 2 or names[0] == names[1]:
            raise self.fail(where, f"expected two rows, got {rows!r}")
        for name in names:
            self.among(name, self.rows, where, "row")
        return Pair(names[0], names[1], self.column(column, where))

    def comparisons(self, value: Any, claims: Sequence[Claim]) -> tuple[Pair, ...]:
        """List what is asked for, then what the claims need besides."""
        pairs: dict[Pair, None] = {}
        for number, item in enumerate(self.items(value, "comparisons"), 1):
            where = f"comparisons: {number}"
            found = self.mapping(item, where, ("rows", "columns"), ())
            for column in self.items(found["columns"], where):
                pairs[self.pair(found["rows"], column, where)] = None
        for claim in claims:
            for condition in claim.conditions:
                pair = condition.pair
                # The same test, whichever way round it is asked.
                if pair.reversed not in pairs:
                    pairs[pair] = None
        return tuple(pairs)

    def claim(self, value: Any, where: str) -> Claim:
        found = self.mapping(value, where, ("says", "if"), ("significant",))
        conditions = []
        for item in self.items(found["if"], f"{where}: if"):
            kind = next((k for k in Kind if k.value in (item or {})), Kind.HIGHER)
            fields = self.mapping(item, f"{where}: if", (kind.value, "in"), ())
            pair = self.pair(fields[kind.value], fields["in"], f"{where}: if")
            conditions.append(Condition(pair, kind))
        return Claim(
            says=" ".join(str(found["says"]).split()),
            conditions=tuple(conditions),
            significant=bool(found.get("significant", False)),
        )

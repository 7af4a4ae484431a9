"""The matrices of a cross-corpus table: trained on down, tested on across."""

from collections.abc import Mapping

from espnet_ext.scoring.metrics import CCC_NAMES, METRIC_NAMES
from espnet_ext.scoring.names import class_name, corpus_name, listed
from espnet_ext.scoring.runs import RATED
from espnet_ext.scoring.scores import TableResult
from espnet_ext.scoring.spec import Column, TableSpec
from espnet_ext.scoring.text import six

# Behind the scores on a corpus that the row is trained on.
SEEN = "°"

LEGEND = (
    f"{SEEN} The row is trained on other utterances of this corpus; all other scores "
    "are across corpora. A column has the same test utterances in every row, so its "
    "rows compare; columns differ in utterances and classes, and do not."
)


def is_trained_on(spec: TableSpec, row: str, corpus: str) -> bool:
    """Whether training shows labels of a corpus."""
    return spec.trained_on(row)[corpus] != "none"


def heads(result: TableResult, metric: str) -> dict[Column, str]:
    """Name the columns of a metric: the corpora on which any row has it."""
    columns = [Column(corpus, metric) for corpus in result.spec.corpora]
    return {
        column: corpus_name(column.corpus)
        for column in columns
        if any(column in cells for cells in result.cells.values())
    }


def matrix_rows(result: TableResult) -> list[dict[str, str]]:
    """A line a metric and row: each corpus' score and the ends of its interval."""
    spec, lines = result.spec, []
    for metric in spec.metrics:
        for key, row in spec.rows.items():
            trained = [c for c in spec.corpora if is_trained_on(spec, key, c)]
            line = {"metric": metric, "row": key, "name": row.name}
            line["trained_on"] = " ".join(trained)
            for corpus in spec.corpora:
                cell = result.cells[key].get(Column(corpus, metric))
                for end, of in (("", "estimate"), ("_low", "low"), ("_high", "high")):
                    line[corpus + end] = six(getattr(cell.mean, of)) if cell else ""
            lines.append(line)
    return lines


def label_grid(result: TableResult) -> list[dict[str, str]]:
    """Test utterances of each class in each corpus."""
    return [
        {"tested on": corpus_name(corpus)}
        | {class_name(c): str(n) if n else "none" for c, n in tested.classes.items()}
        for corpus, tested in result.test_sets.items()
    ]


def label_notes(
    result: TableResult, trained: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Say which labels a corpus lacks, and what that does to scores.

    Args:
        result: The scores.
        trained: Row -> class or `RATED` -> training utterances.
    """
    found = []
    for metric in result.spec.metrics:
        there = [column.corpus for column in heads(result, metric)]
        without = [corpus_name(c) for c in result.spec.corpora if c not in there]
        if without:
            found.append(
                f"{METRIC_NAMES[metric]} is not scored on {listed(without)}: no "
                "such labels in the test set, or no row that predicts them."
            )
    for corpus, tested in result.test_sets.items():
        name = corpus_name(corpus)
        absent = [class_name(c) for c, number in tested.classes.items() if not number]
        left = len(tested.classes) - len(absent)
        if absent and left:
            found.append(
                f"{name}: no test utterance is {listed(absent)}. UAR and macro-F1 "
                f"are means over the other {left} classes; an answer that is not there "
                "counts as wrong."
            )
        elif absent:
            found.append(f"{name} tests no classes.")
    for row, labels in trained.items():
        name, cells = result.spec.rows[row].name, result.cells[row]
        kinds = {"ccc" if column.metric in CCC_NAMES else "class" for column in cells}
        absent = [class_name(c) for c, n in labels.items() if c != RATED and not n]
        if absent and "class" in kinds:
            found.append(
                f"Trained on {name}: no training utterance is {listed(absent)}, so the "
                "model cannot recognize it."
            )
        if not labels.get(RATED, 1) and "ccc" in kinds:
            found.append(
                f"Trained on {name}: no training utterance has {RATED}; its CCC is "
                "that of an output that was never trained."
            )
    return found

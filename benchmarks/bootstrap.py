"""Time of the paired bootstrap at the size of MSP-Podcast's test1.

Run: python benchmarks/bootstrap.py [resamples] [utterances] [models]
The default, 10,000 x 10,000 x 5, must stay under a minute on 2 cores, both for the
resampling alone and for all that a table computes: intervals of each model, tests of
each pair over utterances and over speakers, Holm's correction.
"""

import itertools
import sys
import time

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.runs import RunKey
from espnet_ext.scoring.scores import score_table
from espnet_ext.scoring.spec import Column, CorpusSpec, Pair, Row, TableSpec

CLASSES = ("neu", "ang", "hap", "sad", "dis")
TESTED = ("ccc", "accuracy", "uar", "macro_f1")
SPEAKERS = 60


def main(resamples: int = 10_000, rows: int = 10_000, models: int = 5) -> None:
    """Resample random predictions for all scores and print seconds."""
    rng = np.random.default_rng(0)
    true = rng.normal(4, 1, (rows, 3))
    pred = 0.6 * true + rng.normal(1.6, 0.6, (models, rows, 3))
    classes = rng.integers(0, 5, rows)
    right = rng.random((models, rows)) < 0.6
    said = np.where(right, classes, rng.integers(0, 5, (models, rows)))

    start = time.perf_counter()
    scores = bootstrap.ccc_distribution(
        true, pred, bootstrap.resample_within(np.zeros(rows), resamples, rng)
    )
    ccc_time = time.perf_counter() - start
    start = time.perf_counter()
    bootstrap.class_distribution(
        classes, said, bootstrap.resample_within(classes, resamples, rng)
    )
    class_time = time.perf_counter() - start
    print(
        f"{resamples} resamples x {rows} utterances x {models} models: "
        f"CCC {ccc_time:.1f} s, classes {class_time:.1f} s, "
        f"together {ccc_time + class_time:.1f} s"
    )
    print(f"standard error of the first CCC: {scores[:, 0, 0].std():.4f}")

    speakers = tuple(f"s{number}" for number in rng.integers(0, SPEAKERS, rows))
    runs = {
        RunKey(f"model{m}", 0, 0): make_run(true, pred[m], classes, said[m], speakers)
        for m in range(models)
    }
    spec = make_spec([key.row for key in runs])
    start = time.perf_counter()
    result = score_table(spec, runs, list(runs), resamples)
    print(
        f"the whole table, {len(result.comparisons)} comparisons, also over "
        f"{SPEAKERS} speakers: {time.perf_counter() - start:.1f} s"
    )


def make_run(
    true: np.ndarray,
    pred: np.ndarray,
    classes: np.ndarray,
    said: np.ndarray,
    speakers: tuple[str, ...],
) -> Predictions:
    """Wrap arrays as the reader of predictions.csv does."""
    rows = len(classes)
    return Predictions(
        path="drawn",
        ids=tuple(f"u{number:06}" for number in range(rows)),
        corpus=("<unk>",) * rows,
        speaker=speakers,
        gender=("<unk>",) * rows,
        classes=CLASSES,
        classes_declared=True,
        true_class=classes,
        pred_class=said,
        probabilities=None,
        true={dim: true[:, column] for column, dim in enumerate(ATTRIBUTES)},
        pred={dim: pred[:, column] for column, dim in enumerate(ATTRIBUTES)},
    )


def make_spec(rows: list[str]) -> TableSpec:
    """A table that compares each pair of rows in each kind of score."""
    return TableSpec(
        name="benchmark",
        title="Benchmark",
        source="paper",
        recipe="mini",
        labels="paper5",
        seeds=1,
        corpora={"drawn": CorpusSpec("drawn")},
        presets={},
        columns=(Column("drawn", "ccc"),),
        rows={row: Row(row, "", {}, {}, {}) for row in rows},
        comparisons=tuple(
            Pair(first, second, Column("drawn", metric))
            for first, second in itertools.combinations(rows, 2)
            for metric in TESTED
        ),
        claims=(),
        notes=(),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

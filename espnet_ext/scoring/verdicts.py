"""When two models may be called different, and what that holds for.

Both reports, of one test set and of a table, decide here. Every comparison has one
verdict: that over trainings where there are several seeds, else over speakers where
there are enough, else over utterances. Scores of classes are tested by swapping the two
models' answers, which holds for classes of any size; CCC by Student's t on the error of
resampling. README.md has the error rates that were measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from espnet_ext.scoring import bootstrap
from espnet_ext.scoring.metrics import CLASS_METRICS, Floats
from espnet_ext.scoring.names import class_name

LEVEL = 0.05
# That one model is *not higher* is shown where its gain is below this: two points of
# accuracy, UAR or F1, 0.02 of CCC, the smallest gain of CCC that the paper speaks of.
MARGIN = 0.02
# Fewer have no interval, or one that covers too little: README.md has the coverage.
MIN_SPEAKERS = 40
MIN_ROWS = 20
# The same for rows of a class, in UAR and macro-F1.
MIN_CLASS_ROWS = 5


class Basis(StrEnum):
    """What a test draws, the strongest first."""

    TRAININGS = "trainings"
    SPEAKERS = "speakers"
    UTTERANCES = "utterances"


# What a verdict holds for, in a legend and behind a verdict.
SCOPES = {
    Basis.TRAININGS: "of the two ways to train, another seed included",
    Basis.SPEAKERS: "of these two trained models, with other speakers, and not of the "
    "methods, of which another training is a part",
    Basis.UTTERANCES: "of these two trained models on these speakers, and not of the "
    "methods, of which another training is a part",
}
SHORT_SCOPES = {
    Basis.TRAININGS: "",
    Basis.SPEAKERS: " (these models, other speakers)",
    Basis.UTTERANCES: " (these models, these speakers)",
}

SWAPPED, STUDENT, MCNEMAR = "answers swapped", "t", "McNemar (mid-p)"
HOW_TESTED = (
    "First minus second, both on the same utterances; one verdict each, corrected "
    "(Holm) over all {number} tests here, p < {level:g}. CCC: Student's t on the error "
    "of resampling. Accuracy, UAR, macro-F1: the two models' answers swapped at random "
    "({resamples:,} times; of one fold and seed, accuracy by McNemar's mid-p). "
    "Difference and test are of {statistic}."
)


def without_interval(
    drawn: Mapping[str, Floats], class_rows: Iterable[int], rows: int
) -> dict[str, Floats]:
    """Scores of resamples by metric, (B,) or (B, M), nan where there are too few rows.

    `class_rows` are the rows of each class, `rows` all that are in the scores.
    """
    few = any(0 < count < MIN_CLASS_ROWS for count in class_rows)
    return {
        metric: np.full_like(values, np.nan)
        if rows < MIN_ROWS
        or (few and metric in CLASS_METRICS and CLASS_METRICS[metric].within)
        else values
        for metric, values in drawn.items()
    }


def describe_few(class_rows: Mapping[str, int], where: str = "") -> list[str]:
    """Name the classes of too few rows for an interval of UAR and macro-F1."""
    return [
        f"{class_name(label)} {count}{where}"
        for label, count in class_rows.items()
        if 0 < count < MIN_CLASS_ROWS
    ]


def few_rows_note(few: Sequence[str]) -> str:
    """Tell why UAR and macro-F1 have no interval."""
    return (
        f"Classes of fewer than {MIN_CLASS_ROWS} utterances ({', '.join(few)}): each "
        "weighs as much in UAR and macro-F1 as any other class, and no resampling "
        "tells how uncertain its recall is. These two scores have no interval ([-]); "
        "their differences are tested by swapping answers, which holds for classes of "
        "any size."
    )


def corrected(p_values: Sequence[float]) -> list[float]:
    """Holm's correction over the tests that there are; nan stays nan."""
    adjusted = iter(bootstrap.holm([p for p in p_values if not np.isnan(p)]))
    return [p if np.isnan(p) else next(adjusted) for p in p_values]


def too_few_resamples(tests: int, resamples: int) -> list[str]:
    """Warn where no swapping of answers can come out below the level after Holm.

    The smallest p of B swaps is 1 / (B + 1). Student's t and McNemar's test have none.
    """
    smallest = tests / (resamples + 1)
    if smallest < LEVEL:
        return []
    return [
        f"{resamples:,} resamples are too few for {tests} tests: no p (Holm) of "
        f"swapped answers can be below {smallest:.2f}. Take --resamples "
        f"{int(np.ceil(10 * tests / LEVEL))}."
    ]

"""Hand-made predictions of a small table: two rows, two folds, two seeds."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CLASSES = ("neu", "ang", "hap", "sad", "dis")
ATTRIBUTES = ("valence", "arousal", "dominance")

TABLE = """\
title: Two rows
recipe: mini
labels: paper5
corpora:
  iemocap: {scheme: iemocap_5fold, folds: [1, 2], paper_test_size: 100}
presets:
  paper: {configs: conf, features: mini}
columns: [iemocap.ccc, iemocap.accuracy, iemocap.uar, iemocap.uar4, iemocap.macro_f1]
rows:
  one:
    name: Row & one
    config: train_multitask.yaml
    paper: {iemocap.ccc: 0.5, iemocap.accuracy: 0.75}
    corrected: {iemocap.ccc: 0.4}
  two:
    name: Row two
    config: train_hierarchical_dc.yaml
    paper: {iemocap.ccc: 0.7}
comparisons:
  - rows: [two, one]
    columns: [iemocap.ccc, iemocap.accuracy, iemocap.uar, iemocap.macro_f1]
claims:
  - says: Two is higher than one.
    if:
      - {higher: [two, one], in: iemocap.ccc}
      - {not_higher: [one, two], in: iemocap.accuracy}
notes: [Made by hand.]
"""


@dataclass
class HandMade:
    """Truth and predictions that are also written to files.

    `true` and `said` are by fold and (row, fold, seed); class ids and (N, 3) values.
    """

    folder: Path
    true: dict[int, np.ndarray] = field(default_factory=dict)
    rated: dict[int, np.ndarray] = field(default_factory=dict)
    said: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)
    guessed: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)

    @property
    def table(self):
        return self.folder / "small.yaml"

    @property
    def runs(self):
        return self.folder / "runs.csv"


def make(folder: Path, seeds=(0, 1), speakers=2, sizes=None, skill=None) -> HandMade:
    """Write the table, its predictions and runs.csv."""
    made = HandMade(folder)
    made.table.write_text(TABLE)
    rng = np.random.default_rng(7)
    skill = skill or {"one": 0.55, "two": 0.75}
    for fold, size in (sizes or {1: 60, 2: 40}).items():
        truth = rng.choice(4, size, p=[0.4, 0.3, 0.2, 0.1])
        truth[0] = 4 if fold == 1 else truth[0]  # one disgusted utterance
        made.true[fold] = truth
        made.rated[fold] = np.round(rng.uniform(1, 5, (size, 3)), 4)
        for seed in seeds:
            for row, share in skill.items():
                right = rng.random(size) < share
                said = np.where(right, truth, rng.integers(0, 5, size))
                noise = rng.normal(0, 1.2 if row == "one" else 0.7, (size, 3))
                key = (row, fold, seed)
                made.said[key] = said
                made.guessed[key] = np.round(made.rated[fold] * 0.8 + 0.5 + noise, 6)
                write_predictions(made, key, speakers)
    write_runs(made, list(made.said))
    return made


def prediction_path(made: HandMade, key) -> Path:
    return made.folder / "{}_{}_{}.csv".format(*key)


def write_predictions(made: HandMade, key, speakers=2) -> None:
    _, fold, _ = key
    with open(prediction_path(made, key), "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                *("utterance", "corpus", "speaker", "gender", "emotion"),
                *("emotion_pred", *(f"prob_{name}" for name in CLASSES)),
                *(*ATTRIBUTES, *(f"{name}_pred" for name in ATTRIBUTES)),
            ]
        )
        for row, truth in enumerate(made.true[fold]):
            said = made.said[key][row]
            probabilities = np.full(5, 0.1)
            probabilities[said] = 0.6
            writer.writerow(
                [
                    *(f"f{fold}u{row:04}", "iemocap", f"f{fold}s{row % speakers}"),
                    *("fm"[row % 2], CLASSES[truth], CLASSES[said], *probabilities),
                    *(*made.rated[fold][row], *made.guessed[key][row]),
                ]
            )


def write_runs(made: HandMade, keys, missing=()) -> None:
    with open(made.runs, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "fold", "seed", "predictions"])
        for key in keys:
            path = "" if key in missing else prediction_path(made, key)
            writer.writerow([*key, path])


def ends(interval, form=".3f"):
    """An interval as it is printed; a dash where there is none."""
    if np.isnan(interval.low):
        return "[-]"
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def six(value):
    """A number as csv files have it, blank where there is none."""
    return "" if np.isnan(value) else f"{value:.6f}"


def ccc_by_hand(true, pred):
    """Lin's formula, biased moments, mean of the three dimensions."""
    values = []
    for t, p in zip(true.T, pred.T, strict=True):
        covariance = np.mean((t - t.mean()) * (p - p.mean()))
        values.append(2 * covariance / (t.var() + p.var() + (t.mean() - p.mean()) ** 2))
    return values

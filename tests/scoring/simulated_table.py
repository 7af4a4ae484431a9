"""Tables whose population scores are known, drawn again and again.

A model of a fold and seed predicts ``slope * truth + shift + noise`` for each attribute
and is right about a class with that class' recall, else says the next class. So its
scores over infinitely many utterances follow from the parameters alone.
"""

from dataclasses import dataclass, field

import numpy as np

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.scoring.predictions import Predictions
from espnet_ext.scoring.runs import RunKey
from espnet_ext.scoring.scores import TableResult, score_table
from espnet_ext.scoring.spec import (
    Claim,
    Column,
    CorpusSpec,
    Pair,
    Row,
    TableSpec,
)

CLASSES = ("neu", "ang", "hap", "sad", "dis")
SHARES = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
CORPUS = "drawn"


@dataclass(frozen=True)
class Model:
    """A trained model, as far as its predictions go.

    `own` and `shared` are variances of its errors; the shared part is the same for
    all models, for the same utterances are hard for all of them.
    """

    slope: float = 0.8
    shift: float = 0.0
    own: float = 0.12
    shared: float = 0.13
    recalls: tuple[float, ...] = (0.7, 0.6, 0.5, 0.6, 0.5)

    @property
    def ccc(self) -> float:
        """Of infinitely many utterances: truth has mean 0 and variance 1."""
        spread = self.slope**2 + self.own + self.shared
        return 2 * self.slope / (1 + spread + self.shift**2)

    def class_scores(self) -> dict[str, float]:
        recall = np.array(self.recalls)
        said = SHARES * recall + np.roll(SHARES * (1 - recall), 1)
        return {
            "accuracy": float(SHARES @ recall),
            "uar": float(recall.mean()),
            "uar4": float(recall[:4].mean()),
            "macro_f1": float(np.mean(2 * SHARES * recall / (SHARES + said))),
        }


@dataclass(frozen=True)
class Population:
    """What a table is drawn from.

    Attributes:
        models: Row, fold, seed -> model.
        sizes: Fold -> utterances.
        counts: Fold -> utterances of each class; where absent they are drawn.
    """

    models: dict[tuple[str, int, int], Model]
    sizes: dict[int, int]
    counts: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _, _ in self.models))

    def mean(self, row: str) -> dict[str, float]:
        """True scores of a row: mean over folds of the mean over seeds."""
        folds = []
        for fold in self.sizes:
            own = [m for (r, f, _), m in self.models.items() if (r, f) == (row, fold)]
            each = [{"ccc": m.ccc, **m.class_scores()} for m in own]
            folds.append({k: np.mean([e[k] for e in each]) for k in each[0]})
        return {k: float(np.mean([f[k] for f in folds])) for k in folds[0]}

    def pooled(self, row: str) -> dict[str, float]:
        """True scores of a row's folds put together, mean over seeds."""
        weights = np.array(list(self.sizes.values())) / sum(self.sizes.values())
        found: dict[str, list[float]] = {"ccc": [], "accuracy": [], "uar": []}
        for seed in sorted({s for r, _, s in self.models if r == row}):
            models = [self.models[row, fold, seed] for fold in self.sizes]
            slope = np.array([m.slope for m in models])
            shift = np.array([m.shift for m in models])
            error = np.array([m.own + m.shared for m in models])
            mean = weights @ shift
            variance = weights @ (slope**2 + error + shift**2) - mean**2
            found["ccc"].append(2 * (weights @ slope) / (1 + variance + mean**2))
            recall = weights @ np.array([m.recalls for m in models])
            found["accuracy"].append(SHARES @ recall)
            found["uar"].append(recall.mean())
        return {name: float(np.mean(values)) for name, values in found.items()}


def make_spec(
    population: Population, pairs: list[Pair], claims: tuple[Claim, ...] = ()
) -> TableSpec:
    """A table of the population's rows that tests these pairs."""
    return TableSpec(
        name="drawn",
        title="Drawn",
        source="paper",
        recipe="mini",
        labels="paper5",
        seeds=1,
        corpora={CORPUS: CorpusSpec("drawn", tuple(population.sizes))},
        presets={},
        columns=(Column(CORPUS, "ccc"),),
        rows={row: Row(row, "", {}, {}, {}) for row in population.rows},
        comparisons=tuple(pairs),
        claims=claims,
        notes=(),
    )


def pairs_of(rows: list[tuple[str, str]], metrics: list[str]) -> list[Pair]:
    return [Pair(a, b, Column(CORPUS, m)) for a, b in rows for m in metrics]


def draw_runs(
    population: Population, rng: np.random.Generator
) -> dict[RunKey, Predictions]:
    """Draw a test set for each fold, and what every model says about it."""
    runs = {}
    for fold, size in population.sizes.items():
        if fold in population.counts:
            truth = np.repeat(np.arange(5), population.counts[fold])
            size = len(truth)
        else:
            truth = rng.choice(5, size, p=SHARES)
        ids = tuple(f"f{fold}u{number:05}" for number in range(size))
        unknown = ("<unk>",) * size
        rated = rng.normal(size=(size, 3))
        hard, hardness = rng.normal(size=(size, 3)), rng.random(size)
        for (row, of, seed), model in population.models.items():
            if of != fold:
                continue
            noise = model.own**0.5 * rng.normal(size=(size, 3))
            guess = model.slope * rated + model.shift + noise
            guess += model.shared**0.5 * hard
            # Half of the utterances are as hard for this model as for the others.
            luck = np.where(rng.random(size) < 0.5, hardness, rng.random(size))
            right = luck < np.array(model.recalls)[truth]
            runs[RunKey(row, fold, seed)] = Predictions(
                path=f"{row} {fold} {seed}",
                ids=ids,
                corpus=unknown,
                speaker=unknown,
                gender=unknown,
                classes=CLASSES,
                classes_declared=True,
                true_class=truth,
                pred_class=np.where(right, truth, (truth + 1) % 5),
                probabilities=None,
                true={dim: rated[:, i] for i, dim in enumerate(ATTRIBUTES)},
                pred={dim: guess[:, i] for i, dim in enumerate(ATTRIBUTES)},
            )
    return runs


def score_draw(
    population: Population,
    pairs: list[Pair],
    rng: np.random.Generator,
    resamples: int,
    claims: tuple[Claim, ...] = (),
) -> TableResult:
    """Draw a table and score it as `ser_score` does."""
    runs = draw_runs(population, rng)
    seed = int(rng.integers(2**31))
    spec = make_spec(population, pairs, claims)
    return score_table(spec, runs, list(runs), resamples, seed)

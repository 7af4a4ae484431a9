"""Support vector machines on functionals: classes, and each attribute by itself.

Functionals are brought to mean 0 and variance 1 of the training set. What a machine
leaves open (its C, the width of its kernel) is chosen by UAR for classes and CCC for an
attribute, of predictions of the validation set and, in small corpora, of each training
speaker by a machine that was fitted on the others. The machine is then the one that was
fitted on the training set; the validation set is never trained on, as with the neural
models.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError
from espnet_ext.features.functionals import Floats

KERNELS = ("rbf", "linear")
# Times 1 / (number of functionals), scikit-learn's "scale" of standardized ones.
WIDTHS = (0.1, 0.3, 1.0, 3.0)
PENALTIES = {
    "rbf": (0.1, 1.0, 3.0, 10.0, 30.0, 100.0),
    "linear": (1e-4, 1e-3, 0.01, 0.1, 1.0),
}
# Larger training sets are not cross-validated: their validation sets are large enough,
# and a machine's time grows with the square.
MOST_CROSS_VALIDATED = 2000
MOST_PARTS = 10  # of speakers

Score = Callable[[NDArray, NDArray], float]


@dataclass(frozen=True)
class ClassicalConfig:
    """What conf/train_classical.yaml holds.

    Attributes:
        functionals: One of `functionals.KINDS`.
        kernel: ``rbf`` or ``linear``.
        class_weight: ``balanced`` (each class weighs alike) or None.
    """

    functionals: str = "mfcc"
    kernel: str = "rbf"
    class_weight: str | None = "balanced"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: Names the key.
        """
        if self.kernel not in KERNELS:
            raise UserError(f"kernel is {self.kernel!r}; choose from {KERNELS}")
        if self.class_weight not in ("balanced", None):
            raise UserError(f"class_weight is {self.class_weight!r}: balanced or null")


@dataclass(frozen=True)
class Fitted:
    """A machine and what was chosen for it.

    Attributes:
        machine: Fitted on the training set; standardizes, too.
        chosen: Parameter -> value.
        score: Of the predictions that it was chosen by.
    """

    machine: Any
    chosen: dict[str, float] = field(default_factory=dict)
    score: float = float("nan")


def fit_classes(
    config: ClassicalConfig,
    train: tuple[Floats, NDArray],
    valid: tuple[Floats, NDArray],
    speakers: Sequence[str] = (),
) -> Fitted:
    """Fit a classifier.

    Args:
        config: What to fit.
        train: Functionals (N, F) and class names (N,).
        valid: The same of the validation set.
        speakers: Of the training utterances, if known.

    Raises:
        UserError: Training has fewer than two classes.
    """
    from sklearn.metrics import recall_score
    from sklearn.svm import SVC

    if len(set(train[1])) < 2:
        only = "".join(map(str, set(train[1])))
        raise UserError(
            f"every utterance of the training set is {only or 'without a class'}; "
            "a classifier needs two classes"
        )

    def uar(truth: NDArray, predicted: NDArray) -> float:
        present = sorted(set(truth))
        return recall_score(truth, predicted, labels=present, average="macro")

    options = {"class_weight": config.class_weight}
    return _choose(SVC, config.kernel, options, train, valid, speakers, uar)


def fit_attribute(
    config: ClassicalConfig,
    train: tuple[Floats, Floats],
    valid: tuple[Floats, Floats],
    speakers: Sequence[str] = (),
) -> Fitted:
    """Fit a regression of one attribute; arguments as in `fit_classes`."""
    from sklearn.svm import SVR

    return _choose(SVR, config.kernel, {}, train, valid, speakers, concordance)


def concordance(truth: NDArray, predicted: NDArray) -> float:
    """Return the concordance correlation coefficient, 0 where it is undefined."""
    spread = truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2
    covariance = ((truth - truth.mean()) * (predicted - predicted.mean())).mean()
    return float(2 * covariance / spread) if spread > 0 else 0.0


def _choose(
    machine: Any,
    kernel: str,
    options: dict[str, Any],
    train: tuple[Floats, NDArray],
    valid: tuple[Floats, NDArray],
    speakers: Sequence[str],
    score: Score,
) -> Fitted:
    """Return the machine with the best score; of equal ones the first."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors, labels = train
    parts = _held_out(speakers) if len(labels) <= MOST_CROSS_VALIDATED else []
    widths: Sequence[float] = WIDTHS if kernel == "rbf" else (1.0,)
    best = Fitted(None)
    for penalty, width in itertools.product(PENALTIES[kernel], widths):
        gamma = width / vectors.shape[1]
        pipeline = make_pipeline(
            StandardScaler(), machine(kernel=kernel, C=penalty, gamma=gamma, **options)
        )
        truth, predicted = [], []
        for part in parts:
            if len(set(labels[~part])) > 1:
                fitted = pipeline.fit(vectors[~part], labels[~part])
                predicted.append(fitted.predict(vectors[part]))
                truth.append(labels[part])
        pipeline.fit(vectors, labels)
        if len(valid[1]):
            predicted.append(pipeline.predict(valid[0]))
            truth.append(valid[1])
        reached = 0.0
        if truth:
            reached = score(np.concatenate(truth), np.concatenate(predicted))
        if best.machine is None or reached > best.score:
            chosen = {"C": penalty, "width": width}
            best = Fitted(copy.deepcopy(pipeline), chosen, reached)
    return best


def _held_out(speakers: Sequence[str]) -> list[NDArray]:
    """Return masks (N,), one for each of at most `MOST_PARTS` parts of the speakers.

    There are none for a single speaker, and none where a speaker is unknown.
    """
    names = sorted(set(speakers))
    if len(names) < 2 or UNKNOWN in names:
        return []
    number = np.searchsorted(names, speakers) % MOST_PARTS
    return [number == part for part in sorted(set(number))]

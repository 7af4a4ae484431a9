"""Temperature scaling of class probabilities and how far they are from frequencies.

Guo et al. 2017, "On calibration of modern neural networks".
"""

from collections.abc import Mapping, Sequence

import numpy as np

from espnet_ext.scoring.metrics import calibration

BINS = 15  # of equally many rows

# Probabilities (K,) and class of each utterance.
type Answers = Mapping[str, tuple[np.ndarray, int]]


def mean_answers(members: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray]:
    """Average what members answer on utterances that none of them was trained on.

    Args:
        members: What each answers on its own validation (or test) set. An utterance
            gets the mean of those members whose set holds it.

    Returns:
        Probabilities (N, K) and classes (N,).
    """
    rows, classes = [], []
    for utt in dict.fromkeys(utt for answers in members for utt in answers):
        found = [answers[utt] for answers in members if utt in answers]
        rows.append(np.mean([probabilities for probabilities, _ in found], axis=0))
        classes.append(found[0][1])
    return np.array(rows), np.array(classes, dtype=int)


def fit_temperature(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Find the temperature of the least negative log-likelihood.

    Args:
        probabilities: (N, K) of the model, as they are.
        classes: (N,) true classes.

    Returns:
        What logits are divided by, from 0.05 to 20.
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(np.maximum(probabilities, 1e-12))

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        norm = np.logaddexp.reduce(scaled, axis=1)
        return float(np.mean(norm - scaled[np.arange(len(classes)), classes]))

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities (..., K) of logits divided by the temperature."""
    logs = np.log(np.maximum(probabilities, 1e-300)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def calibration_error(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Expected calibration error of the best class (`scoring.metrics.calibration`).

    Args:
        probabilities: (N, K).
        classes: (N,) true classes.
    """
    right = probabilities.argmax(axis=1) == classes
    return calibration(right, probabilities.max(axis=1), BINS).ece

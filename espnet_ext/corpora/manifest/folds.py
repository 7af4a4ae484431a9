"""Folds and validation sets that are drawn where a manifest gives none.

The parts of a corpus of one's own stand in ``utt2split``: ``train``, ``valid`` and
``test``, or ``fold1``, ``fold2``, ...; `own_scheme` turns them into a split.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from espnet_ext.corpora.splits import (
    Scheme,
    Split,
    SplitOptions,
    Utterances,
    published_parts,
    split_by,
)
from espnet_ext.corpora.utterance import UNKNOWN
from espnet_ext.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDS = 5
"""How many folds are drawn where there are speakers for as many."""

# How often groups are dealt into folds at random, where there are few of them.
_DEALS = 1000
_FEW_GROUPS = 1000

# A part of the training speakers that validates, where no rows are given for it.
_VALID_SHARE = 6

_FOLD = re.compile(r"fold(\d+)")


def fold_name(number: int) -> str:
    """Return what ``utt2split`` says of a fold, counted from 1."""
    return f"fold{number}"


def own_scheme(utterances: Utterances) -> Scheme:
    """Return the scheme that the parts in ``utt2split`` make up.

    Raises:
        UserError: There are neither three parts nor folds.
    """
    parts = {u.split for u in utterances.values()}
    numbers = [int(match[1]) for part in parts if (match := _FOLD.fullmatch(part))]
    if numbers:
        count = max(numbers)
        return Scheme(
            partial(_by_fold, count),
            folds=count,
            description="the folds of utt2split: test one, validate on the one before",
            unseen_test_speakers=False,  # checked, or allowed, as the manifest was read
        )
    if not {"train", "valid", "test"} <= parts:
        raise UserError(
            "utt2split has neither train, valid and test nor fold1, fold2, ...; there "
            f"are {', '.join(sorted(parts))}"
        )
    return published_parts("train", "valid", "test", "the parts of utt2split")


def _by_fold(count: int, utterances: Utterances, options: SplitOptions) -> Split:
    """Test on a fold, validate on the one before; what has no fold is trained on."""
    test = fold_name(options.fold)
    valid = fold_name((options.fold - 2) % count + 1)
    parts = {valid: "valid", test: "test"}
    return split_by(utterances, lambda u: parts.get(u.split, "train"))


def draw_folds(
    groups: Sequence[str], classes: Sequence[str], folds: int, seed: int
) -> list[int]:
    """Divide utterances into folds that share no group and are near-equal in classes.

    Args:
        groups: Speaker or session of each utterance; ``<unk>`` is drawn at random, and
            so is everything where there are fewer groups than folds.
        classes: Class of each utterance.
        folds: How many.
        seed: Of the draw.

    Returns:
        The fold of each utterance, counted from 1.
    """
    # Late: sklearn takes a second to import.
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    labels = np.unique(np.array(classes), return_inverse=True)[1]  # (n,)
    random = np.random.RandomState(seed)
    if len(set(groups) - {UNKNOWN}) < folds:
        drawn = StratifiedKFold(folds, shuffle=True, random_state=random)
        result = _number(_quietly(drawn, labels, None), len(labels))
        return result.tolist()
    # Strangers are spread over some groups of their own.
    strangers = random.randint(20 * folds, size=len(groups))  # (n,)
    names = [
        f"{UNKNOWN} {stranger}" if group == UNKNOWN else group
        for group, stranger in zip(groups, strangers, strict=True)
    ]
    members = np.unique(np.array(names), return_inverse=True)[1]  # (n,)
    return _most_even(members, labels, folds, random).tolist()


def _most_even(
    members: "NDArray[np.int64]",
    labels: "NDArray[np.int64]",
    folds: int,
    random: "np.random.RandomState",
) -> "NDArray[np.int64]":
    """Take the most even of sklearn's greedy folds and of many dealt at random.

    The greedy ones are even where there are many groups, and not where there are ten.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    count = np.zeros((members.max() + 1, labels.max() + 1))  # (groups, classes)
    np.add.at(count, (members, labels), 1)
    greedy = StratifiedGroupKFold(folds, shuffle=True, random_state=random)
    # Where no class has a member for each fold, there is no evenness to ask for.
    even = labels if np.bincount(labels).max() >= folds else np.zeros_like(labels)
    found = _number(_quietly(greedy, even, members), len(labels))  # (n,)
    best = np.zeros(len(count), int)  # (groups,)
    best[members] = found
    lowest = _unevenness(best, count, folds)
    for _ in range(_DEALS if len(count) < _FEW_GROUPS else 0):
        dealt = random.permutation(np.arange(len(count)) % folds) + 1  # (groups,)
        unevenness = _unevenness(dealt, count, folds)
        if unevenness < lowest:
            best, lowest = dealt, unevenness
    return best[members]


def _unevenness(
    fold: "NDArray[np.int64]", count: "NDArray[np.float64]", folds: int
) -> float:
    """Return how far the folds' shares of each class and of all are from equal."""
    import numpy as np

    sums = np.zeros((folds, count.shape[1]))  # (folds, classes)
    np.add.at(sums, fold - 1, count)
    totals = sums.sum(axis=1)  # (folds,)
    shares = sums / sums.sum(axis=0)
    return float(shares.var(axis=0).mean() + (totals / totals.sum()).var())


def _number(parts: list, count: int) -> "NDArray[np.int64]":
    """Turn the indices of each fold into the fold (count,) of each index, from 1."""
    import numpy as np

    result = np.zeros(count, int)
    for number, test in enumerate(parts, start=1):
        result[test] = number
    return result


def _quietly(splitter: object, labels: object, members: object) -> list:
    """Return the test indices of each fold; rare classes are no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        folds = splitter.split(labels, labels, members)  # type: ignore[attr-defined]
        return [test for _, test in folds]


def draw_valid(groups: Sequence[str], classes: Sequence[str], seed: int) -> list[bool]:
    """Say of each training utterance whether it validates: a sixth, by speakers.

    With fewer than two groups (see `draw_folds`) it is drawn at random.
    """
    known = len(set(groups) - {UNKNOWN})
    folds = min(_VALID_SHARE, len(groups), known if known > 1 else _VALID_SHARE)
    if folds < 2:
        raise UserError("a single training utterance cannot train and validate")
    return [fold == 1 for fold in draw_folds(groups, classes, folds, seed)]


def choose_groups(
    speakers: Sequence[str], sessions: Sequence[str]
) -> tuple[Sequence[str], str]:
    """Say what a fold must not share: sessions if no speaker is in two, or speakers.

    Returns:
        The groups, and what they are.
    """
    where: Mapping[str, set[str]] = defaultdict(set)
    for speaker, session in zip(speakers, sessions, strict=True):
        where[speaker].add(session)
    several = len(set(sessions) - {UNKNOWN}) >= 3 and UNKNOWN not in set(sessions)
    nested = all(len(found) == 1 for s, found in where.items() if s != UNKNOWN)
    if several and nested:
        return sessions, "sessions"
    return speakers, "speakers"

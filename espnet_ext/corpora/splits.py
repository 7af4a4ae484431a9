"""Splits: who trains, who validates, who is tested.

A scheme is a pure function from utterances to ids. What several corpora share is here;
schemes of one corpus alone are in its module.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from espnet_ext.corpora.utterance import UNKNOWN, Utterance
from espnet_ext.errors import UserError

Utterances = Mapping[str, Utterance]


@dataclass(frozen=True, slots=True)
class Split:
    """Sorted ids of the three parts."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Return the parts by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """What a scheme may depend on besides the utterances."""

    fold: int = 1  # counted from 1
    seed: int = 0  # of the schemes that draw at random
    # Sizes of drawn sets; those of IEMOCAP's fold 5, as in Table 2 of the paper.
    subset_train: int = 3161
    subset_valid: int = 389


@dataclass(frozen=True, slots=True)
class Scheme:
    """A named way to split one corpus."""

    split: Callable[[Utterances, SplitOptions], Split]  # of utterances with a class
    folds: int
    description: str  # one line
    # Whether test speakers may not occur in train or valid: checked on every split.
    unseen_test_speakers: bool = True
    # Of a scheme that draws a subset: the function that it draws from.
    whole: Callable[[Utterances, SplitOptions], Split] | None = None
    tested_only: bool = False  # whether there is nothing to train and validate on


WHOLE = "whole"
"""A corpus' scheme of this name, or ``<corpus>_whole``, tests all of it."""

TEST_ALL = Scheme(
    lambda utterances, options: Split((), (), tuple(sorted(utterances))),
    folds=1,
    description="all of the corpus is tested, none of it trained on",
    tested_only=True,
)


def published_parts(train: str, valid: str, test: str, description: str) -> Scheme:
    """Make the scheme of parts that ``utt2split`` names; speakers may be shared."""
    names = {train: "train", valid: "valid", test: "test"}
    return Scheme(
        lambda utterances, options: split_by(utterances, lambda u: names.get(u.split)),
        folds=1,
        description=description,
        unseen_test_speakers=False,
    )


def speaker_folds(folds: int, description: str) -> Scheme:
    """Make the scheme that tests one group of speakers, validates on the one before."""

    def split(utterances: Utterances, options: SplitOptions) -> Split:
        groups = speaker_groups(utterances, folds)
        test, valid = groups[options.fold - 1], groups[options.fold - 2]
        return split_by_speakers(utterances, valid, test)

    return Scheme(split, folds, description)


def make_split(scheme: Scheme, utterances: Utterances, options: SplitOptions) -> Split:
    """Apply a scheme and check what comes out.

    A scheme with a single fold ignores the fold: it may be combined with others.

    Raises:
        UserError: No such fold, an empty part, an utterance in two parts, or a test
            speaker in train or valid where the scheme excludes that.
    """
    if scheme.folds > 1 and not 1 <= options.fold <= scheme.folds:
        raise UserError(
            f"--fold {options.fold}: this scheme ({scheme.description}) has folds 1 to "
            f"{scheme.folds}"
        )
    split = scheme.split(utterances, options)
    seen: dict[str, str] = {}
    for part, ids in split.parts().items():
        if not ids and not (scheme.tested_only and part != "test"):
            raise UserError(
                f"the {part} set is empty: the data directory lacks the utterances "
                "that this scheme takes for it (or the class map drops them all)"
            )
        for id_ in ids:
            if id_ in seen:
                raise UserError(f"{id_} is both in {seen[id_]} and in {part}")
            seen[id_] = part
        shared = shared_speakers(utterances, split.test, ids)
        if scheme.unseen_test_speakers and part != "test" and shared:
            raise UserError(
                f"test speakers are also in {part}: {', '.join(shared[:10])}"
            )
    return split


def shared_speakers(
    utterances: Utterances, left: Iterable[str], right: Iterable[str]
) -> list[str]:
    """Return the sorted known speakers that occur in both lists of ids."""
    one, other = ({utterances[id_].speaker for id_ in ids} for ids in (left, right))
    return sorted(one & other - {UNKNOWN})


def sample(ids: Iterable[str], size: int, seed: int) -> tuple[str, ...]:
    """Draw `size` of `ids` without replacement; returned sorted.

    Ranked by a hash of seed and id, the draw is the same everywhere, a larger one
    contains the smaller one, and another utterance changes it by itself alone.

    Raises:
        UserError: There are fewer than `size` ids.
    """
    ranked = sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
    if size > len(ranked):
        raise UserError(
            f"cannot draw {size} utterances from {len(ranked)}; choose a smaller "
            "subset (--subset_train, --subset_valid)"
        )
    return tuple(sorted(ranked[:size]))


def split_by(
    utterances: Utterances, part_of: Callable[[Utterance], str | None]
) -> Split:
    """Put each utterance into the part that `part_of` names, or nowhere for None."""
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for id_ in sorted(utterances):
        part = part_of(utterances[id_])
        if part is not None:
            parts[part].append(id_)
    return Split(*map(tuple, parts.values()))


def split_by_speakers(
    utterances: Utterances, valid: Collection[str], test: Collection[str]
) -> Split:
    """Give the named speakers to valid and test, all others to train."""
    parts = dict.fromkeys(valid, "valid") | dict.fromkeys(test, "test")
    return split_by(utterances, lambda u: parts.get(u.speaker, "train"))


def speaker_groups(utterances: Utterances, groups: int) -> list[list[str]]:
    """Cut each gender's sorted speakers into `groups` runs, as equal as possible.

    Raises:
        UserError: There are fewer speakers than groups.
    """
    known = {u.speaker: u.gender for u in utterances.values() if u.speaker != UNKNOWN}
    if len(known) < groups:
        raise UserError(f"{len(known)} speakers cannot be divided into {groups} folds")
    result: list[list[str]] = [[] for _ in range(groups)]
    start = 0
    for gender in sorted(set(known.values())):
        speakers = sorted(speaker for speaker in known if known[speaker] == gender)
        size, longer = divmod(len(speakers), groups)
        # The first runs are longer by one where a gender's count is no multiple; the
        # next gender goes on from there.
        ends = [index * size + min(index, longer) for index in range(groups + 1)]
        for index, (left, right) in enumerate(pairwise(ends), start):
            result[index % groups] += speakers[left:right]
        start += longer
    return result

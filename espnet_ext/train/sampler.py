"""Batches that are drawn anew every epoch: similar lengths, a floor on rows, no loss.

A concordance loss over a handful of rows is noise, so a batch has at least `min_rows`
rows, unless these would not fit into memory. Rows of a batch are of similar length,
which keeps padding small. Everything is a pure function of (lengths, rule, seed,
epoch), so any number of ranks draws the same batches and a resumed training draws those
that it would have drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Lengths are multiplied by exp(u), |u| <= this, before sorting: batch mates change
# every epoch while lengths in a batch stay within about a third of each other.
_LENGTH_JITTER = 0.15


@dataclass(frozen=True, slots=True)
class BatchRule:
    """How large a batch may be; None is no bound. Frames: rows times the longest row.

    Only a whole set that is smaller than the floor, and `limit_frames`, make a batch
    smaller than it.
    """

    max_frames: int | None
    max_rows: int | None
    min_rows: int  # the floor, stronger than both bounds
    by_length: bool = True  # similar lengths together; else any
    limit_frames: int | None = None  # stronger than the floor
    fewest_rows: int = 1  # never too many, whatever the limit

    def has_room(self, rows: int, longest: int) -> bool:
        """Say whether a batch may have this many rows, the longest being so long."""
        sizes = (self.max_rows, rows), (self.max_frames, rows * longest)
        within = all(most is None or size <= most for most, size in sizes)
        return self.is_possible(rows, longest) and (within or rows <= self.min_rows)

    def is_possible(self, rows: int, longest: int) -> bool:
        """Say whether so many rows are within the limit that no floor can move."""
        most = math.inf if self.limit_frames is None else self.limit_frames
        return rows <= self.fewest_rows or rows * longest <= most


def draw_batches(
    lengths: Mapping[str, int],
    ids: Sequence[str],
    rule: BatchRule,
    rng: np.random.Generator | None = None,
) -> list[list[str]]:
    """Cut `ids`, which may repeat, into batches, longest row first in each.

    `rng` draws membership and order of batches; without it the cut is fixed.
    """
    sizes = np.array([lengths[utt] for utt in ids], dtype=np.float64)
    order = np.arange(len(ids))
    if rng is not None:
        order = rng.permutation(len(ids))
        sizes = sizes * np.exp(rng.uniform(-_LENGTH_JITTER, _LENGTH_JITTER, len(sizes)))
    if rule.by_length:
        order = order[np.argsort(-sizes[order], kind="stable")]
    batches = _cut([ids[i] for i in order.tolist()], lengths, rule)
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    # A stable sort, so that rank r's rows r::N are a fair share of the lengths.
    return [sorted(batch, key=lambda utt: -lengths[utt]) for batch in batches]


def _cut(
    ids: Sequence[str], lengths: Mapping[str, int], rule: BatchRule
) -> list[list[str]]:
    batches: list[list[str]] = []
    longest = 0
    for utt in ids:
        longest = max(longest, lengths[utt])
        if not batches or not rule.has_room(len(batches[-1]) + 1, longest):
            batches.append([])
            longest = lengths[utt]
        batches[-1].append(utt)
    if len(batches) > 1 and len(batches[-1]) < rule.min_rows:
        return [*batches[:-2], *_share(batches[-2], batches[-1], lengths, rule)]
    return batches


def _share(
    before: list[str], tail: list[str], lengths: Mapping[str, int], rule: BatchRule
) -> list[list[str]]:
    """Share a tail that is below the floor with the batch before it, if possible."""

    def are_possible(parts: Sequence[Sequence[str]]) -> bool:
        return all(rule.is_possible(len(p), max(lengths[u] for u in p)) for p in parts)

    together = before + tail
    half = len(together) // 2
    if half < rule.min_rows and are_possible([together]):
        return [together]
    halves = [together[:half], together[half:]]
    return halves if are_possible(halves) else [before, tail]


def far_longer(lengths: Mapping[str, int], at_least: float) -> list[str]:
    """Return the utterances, longest first, longer than `at_least` and 10 medians."""
    if not lengths:
        return []
    bound = max(at_least, 10 * float(np.median(list(lengths.values()))))
    found = [utt for utt, length in lengths.items() if length > bound]
    return sorted(found, key=lambda utt: (-lengths[utt], utt))


def balance_corpora(
    ids: Sequence[str], corpora: Mapping[str, str], rng: np.random.Generator
) -> list[str]:
    """Repeat utterances of the smaller corpora until all are as large as the largest.

    Whole copies first, then a random part drawn anew every epoch.
    """
    members: dict[str, list[str]] = {}
    for utt in ids:
        members.setdefault(corpora[utt], []).append(utt)
    target = max(len(group) for group in members.values())
    balanced: list[str] = []
    for _, group in sorted(members.items()):
        whole, rest = divmod(target, len(group))
        extra = rng.choice(len(group), size=rest, replace=False)
        balanced += group * whole + [group[i] for i in sorted(extra)]
    return balanced


def padding_share(
    batches: Sequence[Sequence[str]], lengths: Mapping[str, int]
) -> float:
    """Return which share of the padded frames is padding, in [0, 1)."""
    true = sum(lengths[utt] for batch in batches for utt in batch)
    padded = sum(len(b) * max(lengths[utt] for utt in b) for b in batches)
    return 1 - true / padded if padded else math.nan

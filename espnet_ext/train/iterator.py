"""The iterator factory behind ``--iterator_type task``: new batches for every epoch."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import worker_init_fn
from torch.utils.data import DataLoader, Dataset

from espnet_ext.errors import UserError
from espnet_ext.train.sampler import (
    BatchRule,
    balance_corpora,
    draw_batches,
    padding_share,
)


class EpochIterator(DataLoader):
    """One epoch's batches (ids, tensors), and the corpus of each utterance if known."""

    corpora: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BatchDrawer:
    """Draws the batches of an epoch, equal on all ranks, from lengths by utterance.

    Without `shuffle` there is one fixed cut (validation). `balanced` repeats smaller
    corpora up to the size of the largest.
    """

    lengths: Mapping[str, int]
    rule: BatchRule
    seed: int
    shuffle: bool
    corpora: Mapping[str, str]
    balanced: bool = False

    def draw(self, epoch: int) -> list[list[str]]:
        """Return the batches of `epoch` (1, 2, ...)."""
        ids = sorted(self.lengths)
        if not self.shuffle:
            return draw_batches(self.lengths, ids, self.rule)
        rng = np.random.default_rng([self.seed, epoch])
        if self.balanced:
            ids = balance_corpora(ids, self.corpora, rng)
        return draw_batches(self.lengths, ids, self.rule, rng)


@dataclass
class SERIterFactory(AbsIterFactory):
    """Builds the iterator of each epoch from a `BatchDrawer`.

    Rank r of N loads rows r::N of every batch, so that the batch is the same set of
    utterances for any number of ranks. `num_workers` and the like: torch's DataLoader.
    """

    dataset: Dataset
    drawer: BatchDrawer
    collate_fn: Callable[[Sequence[Any]], Any]
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0
    pin_memory: bool = False

    def __post_init__(self) -> None:
        if (utterances := len(self.drawer.lengths)) < self.world_size:
            raise UserError(
                f"a set of {utterances} utterances cannot be shared by "
                f"{self.world_size} ranks; use fewer"
            )

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> EpochIterator:
        """Return the batches of `epoch`; `shuffle` has no effect."""
        batches = self.drawer.draw(epoch)
        loader = EpochIterator(
            self.dataset,
            batch_sampler=[batch[self.rank :: self.world_size] for batch in batches],
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            collate_fn=self.collate_fn,
            worker_init_fn=partial(worker_init_fn, base_seed=epoch + self.drawer.seed),
        )
        loader.corpora = self.drawer.corpora
        return loader

    def log_summary(self, mode: str) -> None:
        """Log sizes of the first epoch's batches, and what balancing repeats."""
        batches, lengths = self.drawer.draw(epoch=1), self.drawer.lengths
        rows = [len(batch) for batch in batches]
        logging.info(
            f"[{mode}] {len(lengths)} utterances in {len(batches)} batches of "
            f"{min(rows)} to {max(rows)} rows (mean {np.mean(rows):.1f}), "
            f"{padding_share(batches, lengths):.1%} padding"
        )
        if self.drawer.balanced:
            corpora = self.drawer.corpora
            drawn = Counter(corpora[utt] for batch in batches for utt in batch)
            shares = ", ".join(
                f"{corpus}: {count} utterances x {drawn[corpus] / count:.2f}"
                for corpus, count in sorted(
                    Counter(corpora[u] for u in lengths).items()
                )
            )
            logging.info(
                f"[{mode}] corpora are balanced: smaller ones repeat within an epoch "
                f"({shares})"
            )

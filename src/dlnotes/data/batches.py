"""Which documents make up each step: batch, stochastic and mini-batch gradient descent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlnotes.errors import UserError


class BatchSampler:
    """Cuts an epoch into batches.

    The notes' three regimes are three settings of `batch_size`: None is batch gradient descent
    (BGD, every update sees all samples), 1 is stochastic (SGD), any other number is mini-batch
    (MBGD).

    The order is a pure function of (`seed`, epoch): an interrupted epoch is continued by
    drawing it again and skipping the batches that were done.

    Args:
        lengths: Length of every document in tokens, shape (documents,).
        batch_size: Documents in a batch; None for all of them.
        seed: Decides the order.
        shuffle: Draw a new order each epoch. Without it the documents come in their order.
        bucket: Documents of like length share a batch: so many batches' worth of documents are
            drawn at random, sorted by length and cut. 1 turns it off. Without this most of a
            batch of texts is padding.

    Raises:
        UserError: `batch_size` or `bucket` below 1.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int | None,
        *,
        seed: int = 0,
        shuffle: bool = True,
        bucket: int = 50,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size must be at least 1 or None (all), not {batch_size}")
        if bucket < 1:
            raise UserError(f"bucket must be at least 1, not {bucket}")
        self.lengths = lengths
        self.batch_size = min(batch_size or len(lengths), max(1, len(lengths)))
        self.seed = seed
        self.shuffle = shuffle
        self.bucket = bucket

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """Indices of the documents of each batch of an epoch."""
        order = np.arange(len(self.lengths))
        if self.shuffle:
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(order)
            pool = np.arange(len(order)) // (self.batch_size * self.bucket)
            if self.bucket > 1:
                order = order[np.lexsort((self.lengths[order], pool))]
        batches = np.split(order, np.arange(self.batch_size, len(order), self.batch_size))
        if self.shuffle and self.bucket > 1:
            batches = [batches[i] for i in random.permutation(len(batches))]
        return batches


def by_length(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Batches for evaluation: sorted by length, each of at most `batch_tokens` padded tokens."""
    order = np.argsort(lengths, kind="stable")[::-1]
    batches, start = [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        stop = start + max(1, batch_tokens // longest)
        batches.append(order[start:stop])
        start = stop
    return batches

"""Which documents each update uses: batch, stochastic and mini-batch gradient descent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler
from typing_extensions import Self

from dlnotes.data.mapped import slices
from dlnotes.errors import UserError

_SORTED = 1 << 20  # documents of an evaluation that are sorted by length together


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
        shuffle: Whether to draw a new order each epoch; otherwise the documents keep their order.
        bucket: How many batches' worth of documents to draw at random, sort by length and cut into
            batches, so that documents of similar length share a batch and little of it is padding.
            1 turns this off.

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

    def epoch(self, epoch: int) -> Epoch:
        """The batches of an epoch, each as the indices of its documents."""
        documents = len(self.lengths)
        order = np.arange(documents, dtype=np.int32 if documents < 1 << 31 else np.int64)
        batches = np.arange(len(self))
        if self.shuffle:
            random = np.random.default_rng([self.seed, epoch])
            random.shuffle(order)
            if self.bucket > 1:
                for pool in slices(documents, self.batch_size * self.bucket):
                    some = order[pool]
                    order[pool] = some[np.argsort(self.lengths[some], kind="stable")]
                random.shuffle(batches)
        return Epoch(order, self.batch_size, batches)


class Epoch(Sequence[NDArray[np.int64]]):
    """The batches of an epoch, each the indices of its documents, shape (b,), made on access.

    Args:
        order: Indices of all documents, batch by batch.
        batch_size: Documents in a batch.
        batches: Numbers of the batches in the order of the updates.
    """

    def __init__(
        self, order: NDArray[np.integer[Any]], batch_size: int, batches: NDArray[np.int64]
    ) -> None:
        self._order, self._batch_size, self._batches = order, batch_size, batches

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, index: slice) -> Epoch: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.int64] | Epoch:
        """A batch, or some of them as an epoch of their own."""
        if isinstance(index, slice):
            return Epoch(self._order, self._batch_size, self._batches[index])
        start = int(self._batches[index]) * self._batch_size
        return self._order[start : start + self._batch_size].astype(np.int64)


def by_length(
    lengths: NDArray[np.int64], batch_tokens: int, most: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Batches for evaluation: sorted by length, each of at most `batch_tokens` padded tokens.

    If there are more than a million documents, each million is sorted separately.

    Args:
        lengths: Length of every document in tokens, shape (documents,).
        batch_tokens: See above; a document that is longer is a batch by itself.
        most: Largest number of documents in a batch.
    """
    for some in slices(len(lengths), _SORTED):
        order = np.argsort(lengths[some], kind="stable")[::-1] + some.start
        start = 0
        while start < len(order):
            longest = max(1, int(lengths[order[start]]))
            stop = start + max(1, min(batch_tokens // longest, most or len(order)))
            yield order[start:stop]
            start = stop


class MBGD(Sampler[list[int]]):
    """Mini-batch gradient descent: every update uses ``batch_size`` samples.

    All three regimes of the notes use the same rule, ``dlnotes.optim.GradientDescent``. They differ
    in the samples behind each gradient, so each regime is a batch sampler::

        loader = DataLoader(dataset, batch_sampler=MBGD(dataset, batch_size=32))

    Every epoch goes through all samples in a new order; the last batch may be smaller.

    Args:
        samples: The data set, or the number of its samples.
        batch_size: Samples per update, at least 1.
        generator: Generator that draws the order; by default torch's own.

    Raises:
        UserError: There are no samples, ``samples`` are a model's parameters, an argument belongs
            to an optimizer, or ``batch_size`` is below 1.
    """

    def __new__(cls, samples: Any = None, *_: Any, **given: Any) -> Self:
        """Refuse what is meant for an optimizer, before ``__init__`` raises a TypeError."""
        of_optimizers = [name for name in given if name not in ("batch_size", "generator")]
        if "samples" not in given and (of_optimizers or _are_parameters(samples)):
            raise UserError(
                f"{cls.__name__} is not an optimizer, but draws the samples of each update: use "
                "dlnotes.optim.GradientDescent(params, lr=0.1), or Momentum"
            )
        return super().__new__(cls)

    def __init__(
        self, samples: Sized | int, batch_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        if isinstance(samples, bool) or not isinstance(samples, int | Sized):
            raise UserError(f"samples must be a data set or its size, not {samples!r}")
        self.samples = samples if isinstance(samples, int) else len(samples)
        if self.samples < 1:
            raise UserError(f"samples must be at least 1, not {self.samples}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size must be an integer of at least 1, not {batch_size!r}")
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        """Number of updates in an epoch."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of one epoch, as lists of indices."""
        order = torch.randperm(self.samples, generator=self.generator)
        return (batch.tolist() for batch in order.split(self.batch_size))


class BGD(MBGD):
    """Batch gradient descent: every update uses all samples, in their order.

    Args:
        samples: The data set, or the number of its samples.

    Raises:
        UserError: As for `MBGD`.
    """

    def __init__(self, samples: Sized | int) -> None:
        super().__init__(samples, 1)
        self.batch_size = self.samples

    def __iter__(self) -> Iterator[list[int]]:
        """The one batch."""
        yield list(range(self.samples))


class SGD(MBGD):
    """Stochastic gradient descent: every update uses one sample, in a new order each epoch.

    Args:
        samples: The data set, or the number of its samples.
        generator: Generator that draws the order; by default torch's own.

    Raises:
        UserError: As for `MBGD`.
    """

    def __init__(self, samples: Sized | int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(samples, 1, generator=generator)


def _are_parameters(samples: Any) -> bool:
    """Whether these are what an optimizer takes: parameters, pairs with their names, or groups."""
    if isinstance(samples, torch.nn.Module | torch.nn.Parameter | Iterator):
        return True  # an iterator is no data set
    if not isinstance(samples, list | tuple | set | dict):
        return False
    first = next(iter(samples.values() if isinstance(samples, dict) else samples), None)
    if isinstance(first, Mapping):
        return "params" in first
    if isinstance(first, tuple):
        return any(isinstance(one, torch.nn.Parameter) for one in first)
    return isinstance(first, torch.nn.Parameter)

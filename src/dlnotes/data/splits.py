"""Cutting one set of labelled examples into parts that keep the proportions of the classes.

`stratified_split` is for one label per example, `iterative_split` for any number of labels.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlnotes.data.labels import LabelSets
from dlnotes.data.mapped import empty, positions, slices

_BINS, _CELLS = 1 << 12, 1 << 22  # most bins of random keys: per class, and of all classes
_AT_ONCE = 1 << 20  # examples whose keys are counted together

__all__ = ["iterative_split", "stratified_split"]


def stratified_split(
    labels: Sequence[object] | npt.NDArray[np.generic],
    fractions: Sequence[float],
    seed: int,
    folder: Path | None = None,
) -> list[npt.NDArray[np.int64]]:
    """Split examples 0 … n-1 at random into parts, class by class.

    Each class is divided as `fractions` say, rounded by largest remainder; a class with at least
    as many examples as there are parts is in every part, a smaller one is in the largest parts
    (the first of equal ones).

    The result depends on the labels' partition of the examples and on the seed, never on the
    version of a library: example i draws the i-th number of ``random.Random(seed).random()``, the
    one stream that Python promises to keep, and a class is sorted by these numbers; sizes are
    computed in exact fractions.

    Args:
        labels: The class of each example, n strings or integers.
        fractions: The share of each part, positive, with sum 1.
        seed: Another seed gives another split.
        folder: Folder for the files of large arrays; None for memory.

    Returns:
        For each fraction the indices of its examples, ascending.

    Raises:
        ValueError: The fractions are not positive or do not add up to 1.
    """
    shares = _shares(fractions)
    classes = np.asarray(labels)
    if classes.dtype != np.int64 or classes.min(initial=0) < 0:
        _, classes = np.unique(classes, return_inverse=True)
    if not len(classes):
        return [np.empty(0, np.int64) for _ in shares]
    keys = _random_keys(len(classes), seed, folder)
    sizes = np.bincount(classes)
    counts = np.array([_counts(size, shares) for size in sizes.tolist()], np.int64)
    limits = _with_ranks(keys, classes, sizes, counts.cumsum(1)[:, :-1])
    part_of = empty(len(classes), np.int64, folder)
    for some in slices(len(classes)):
        of_class = classes[some]
        key, index = keys[some, None], np.arange(some.start, some.stop)[:, None]
        first_keys, first = (limit[of_class] for limit in limits)
        reached = (key > first_keys) | ((key == first_keys) & (index >= first))
        part_of[some] = reached.sum(1)
    return [positions(part_of, part, folder) for part in range(len(shares))]


def _random_keys(count: int, seed: int, folder: Path | None) -> npt.NDArray[np.float64]:
    """What ``random.Random(seed).random()`` draws, in a tenth of the time."""
    _, state, _ = random.Random(seed).getstate()
    twister = np.random.RandomState()  # the same generator, whose stream is frozen as well
    twister.set_state(("MT19937", np.array(state[:-1], np.uint32), state[-1], 0, 0.0))
    keys = empty(count, np.float64, folder)
    for some in slices(count):
        keys[some] = twister.random_sample(some.stop - some.start)
    return keys


def _with_ranks(
    keys: npt.NDArray[np.float64],
    classes: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    ranks: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The examples that have given ranks when each class is sorted by key, then index.

    Not all examples are sorted: keys are counted in bins, and only bins that must hold such an
    example are sorted.

    Args:
        keys: Between 0 and 1, shape (n,).
        classes: The class of each example, shape (n,).
        sizes: Examples of each class, shape (c,).
        ranks: Ranks in each class, from 0, shape (c, r).

    Returns:
        Keys and indices of these examples, shape (c, r); infinity and 0 where a rank is as large as
        its class.
    """
    bins = max(1, min(_BINS, _CELLS // len(sizes)))

    def cells(some: slice) -> npt.NDArray[np.int64]:
        return classes[some] * bins + (keys[some] * bins).astype(np.int64)

    counts = np.zeros(len(sizes) * bins, np.int64)
    for some in slices(len(keys), _AT_ONCE):
        counts += np.bincount(cells(some), minlength=len(counts))
    ends = counts.reshape(-1, bins).cumsum(1)  # c bins
    there = ranks < sizes[:, None]
    bin_of = np.minimum((ends[:, None] <= ranks[:, :, None]).sum(2), bins - 1)
    cell_of = np.arange(len(sizes))[:, None] * bins + bin_of
    within = ranks - (np.take_along_axis(ends, bin_of, 1) - counts[cell_of])
    sought = np.zeros(len(counts), bool)
    sought[cell_of[there]] = True
    found = []
    for some in slices(len(keys)):
        cell = cells(some)
        hits = np.flatnonzero(sought[cell])
        found.append((cell[hits], keys[some][hits], hits + some.start))
    cell, key, index = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((key, cell))  # stable: equal keys keep the order of their indices
    chosen = order[np.searchsorted(cell[order], cell_of[there]) + within[there]]
    limits = np.full(ranks.shape, np.inf), np.zeros(ranks.shape, np.int64)
    limits[0][there], limits[1][there] = key[chosen], index[chosen]
    return limits


def iterative_split(
    labels: LabelSets, fractions: Sequence[float], seed: int
) -> list[npt.NDArray[np.int64]]:
    """Split examples 0 … n-1 with any number of labels each, the rarest labels first.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011,
    https://doi.org/10.1007/978-3-642-23808-6_10). Each part should get its share of the examples of
    each label. The label with the fewest examples left comes first, and each of these examples goes
    to the part that lacks the most examples of this label, or, among equals, the most examples.
    Examples without any label are treated as if they had one label of their own.

    Differs from the paper: among parts that are equal in both, an example goes to the first one,
    not to a random one. Afterwards examples are moved, so that every label with at least two
    examples is in the largest part. Then, as long as the largest part loses no label by it, each
    other part gets the labels of which its share is one example or more, and no part stays empty.

    Like that of `stratified_split`, the result never depends on the version of a library: all
    numbers are integers, and the examples come in the order of the numbers that
    ``random.Random(seed).random()`` draws.

    Args:
        labels: The labels of each example.
        fractions: The share of each part, positive, with sum 1.
        seed: Another seed gives another split.

    Returns:
        For each fraction the indices of its examples, ascending.

    Raises:
        ValueError: The fractions are not positive or do not add up to 1.
    """
    split = _IterativeSplit(labels, _shares(fractions), seed)
    split.divide()
    split.mend()
    parts = np.array(split.part_of, np.int64)
    return [np.flatnonzero(parts == part) for part in range(len(fractions))]


class _IterativeSplit:
    """Which part each example is in so far, and what that decision needs."""

    def __init__(self, labels: LabelSets, shares: Sequence[Fraction], seed: int) -> None:
        n = len(labels)
        rng = random.Random(seed)
        keys = np.array([rng.random() for _ in range(n)])
        # An example without labels gets one more label, which means none.
        sizes = np.maximum(1, labels.sizes)
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        ids = np.full(self.starts[-1], labels.classes, np.int64)
        ids[np.repeat(labels.sizes > 0, sizes)] = labels.ids
        self.ids: list[int] = ids.tolist()
        counts = np.bincount(ids, minlength=labels.classes + 1)
        owners = np.repeat(np.arange(n), sizes)
        # The examples of each label, label by label, each in random order.
        self.examples: list[int] = owners[np.lexsort((keys[owners], ids))].tolist()
        self.ends: list[int] = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self.counts: list[int] = counts.tolist()
        self.none = labels.classes
        self.scale = math.lcm(*(share.denominator for share in shares))
        self.shares = [int(share * self.scale) for share in shares]
        self.largest = self.shares.index(max(self.shares))
        self.part_of = [-1] * n
        self.sizes = [0] * len(shares)
        self.have = [[0] * len(self.counts) for _ in shares]  # examples of each label in each part

    def labels_of(self, example: int) -> list[int]:
        return self.ids[self.starts[example] : self.starts[example + 1]]

    def examples_of(self, label: int) -> list[int]:
        return self.examples[self.ends[label] : self.ends[label + 1]]

    def put(self, example: int, part: int) -> None:
        """Move an example into a part."""
        before = self.part_of[example]
        for to, change in ((part, 1), (before, -1)):
            if to >= 0:
                self.sizes[to] += change
                for label in self.labels_of(example):
                    self.have[to][label] += change
        self.part_of[example] = part

    def divide(self) -> None:
        left = self.counts.copy()
        rarest = [(count, label) for label, count in enumerate(left) if count]
        heapq.heapify(rarest)
        parts = range(len(self.shares))
        n = len(self.part_of)
        while rarest:
            count, label = heapq.heappop(rarest)
            if count != left[label]:
                continue  # out of date: another entry has the current count
            for example in self.examples_of(label):
                if self.part_of[example] >= 0:
                    continue

                def lacks(part: int, label: int = label) -> tuple[int, int]:
                    share = self.shares[part]
                    return (
                        share * self.counts[label] - self.scale * self.have[part][label],
                        share * n - self.scale * self.sizes[part],
                    )

                self.put(example, max(parts, key=lacks))
                for each in self.labels_of(example):
                    left[each] -= 1
                    if each != label and left[each]:
                        heapq.heappush(rarest, (left[each], each))

    def mend(self) -> None:
        """Move examples into parts that lack a label, or have no example at all."""
        largest = self.largest
        for label, count in enumerate(self.counts):
            if count > 1 and label != self.none and not self.have[largest][label]:
                self.put(self.examples_of(label)[0], largest)
        for part, share in enumerate(self.shares):
            for label, count in enumerate(self.counts):
                if share * count >= self.scale and not self.have[part][label]:
                    self.spare(part, self.examples_of(label))
            if not self.sizes[part]:
                self.spare(part, range(len(self.part_of)))

    def spare(self, part: int, examples: Sequence[int]) -> None:
        """Move one of the examples from the largest part, unless that would then lack a label."""
        have = self.have[self.largest]
        for example in examples:
            if self.part_of[example] == self.largest != part and all(
                have[label] > 1 for label in self.labels_of(example)
            ):
                self.put(example, part)
                return


def _shares(fractions: Sequence[float]) -> list[Fraction]:
    shares = [Fraction(f).limit_denominator(10**6) for f in fractions]
    if not shares or min(shares) <= 0 or abs(sum(shares, Fraction(0)) - 1) > Fraction(1, 10**5):
        raise ValueError(f"fractions must be positive and add up to 1, got {list(fractions)}")
    return shares


def _counts(size: int, shares: Sequence[Fraction]) -> list[int]:
    """Divide one class of `size` examples into parts."""
    largest_first = sorted(range(len(shares)), key=lambda i: -shares[i])
    if size < len(shares):
        return [int(i in largest_first[:size]) for i in range(len(shares))]
    counts = [int(share * size) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i] * size)
    for i in by_remainder[: size - sum(counts)]:
        counts[i] += 1
    while 0 in counts:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return counts

"""Cutting one set of labelled examples into parts that keep the proportions of the classes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

__all__ = ["stratified_split"]


def stratified_split(
    labels: Sequence[object] | npt.NDArray[np.generic],
    fractions: Sequence[float],
    seed: int,
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
        labels: the class of each example, n strings or integers.
        fractions: the share of each part, positive, with sum 1.
        seed: another seed gives another split.

    Returns:
        For each fraction the indices of its examples, ascending.

    Raises:
        ValueError: for fractions that are not positive or do not add up to 1.
    """
    shares = [Fraction(f).limit_denominator(10**6) for f in fractions]
    if not shares or min(shares) <= 0 or abs(sum(shares, Fraction(0)) - 1) > Fraction(1, 10**5):
        raise ValueError(f"fractions must be positive and add up to 1, got {list(fractions)}")
    rng = random.Random(seed)
    keys = np.array([rng.random() for _ in range(len(labels))])
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    order = np.lexsort((keys, classes))  # class by class, each in random order
    parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in shares]
    end = 0
    for size in np.bincount(classes).tolist():
        for part, count in zip(parts, _counts(size, shares), strict=True):
            part.append(order[end : end + count])
            end += count
    return [np.sort(np.concatenate(part)) if part else np.empty(0, np.int64) for part in parts]


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

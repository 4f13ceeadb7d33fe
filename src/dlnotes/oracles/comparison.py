"""How results are compared with their oracles, so that NaN never counts as a small difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: What a difference is relative to: each number of the oracle, its largest number, or each number
#: or 1, whichever is larger.
Scale = Literal["each", "largest", "one"]

Outputs = Sequence[Tensor]


@dataclass(frozen=True)
class Row:
    """The outcome of a comparison: one line of the table that ``scripts/verify.py`` prints.

    Attributes:
        note: What was compared, by its name in the notes.
        oracle: What it was compared with.
        mapping: How the arguments of the two correspond.
        cases: Number of cases.
        difference: The largest relative difference over all cases; NaN or infinite if the two
            cannot be compared (see ``difference``).
        tolerance: The largest difference allowed.
    """

    note: str
    oracle: str
    mapping: str
    cases: int
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether anything was compared, and the difference is not NaN and within the tolerance."""
        return self.cases > 0 and self.difference <= self.tolerance


class Case(NamedTuple):
    """Two functions that should return the same tensors."""

    ours: Callable[[], Outputs]
    theirs: Callable[[], Outputs]


@dataclass(frozen=True)
class Comparison:
    """A comparison of our code with its oracle, not yet run.

    Attributes:
        note: What is compared, by its name in the notes.
        oracle: What it is compared with.
        mapping: How the arguments of the two correspond.
        cases: Pairs of functions whose results are compared.
        tolerance: The largest difference allowed.
        scale: What differences are relative to.
        zeros: Indices of the outputs that are 0 everywhere by definition.
    """

    note: str
    oracle: str
    mapping: str
    cases: Sequence[Case]
    tolerance: float
    scale: Scale = "largest"
    zeros: tuple[int, ...] = ()

    def row(self) -> Row:
        """Run all cases and return the outcome."""
        worst = largest(
            largest_difference(ours(), theirs(), self.scale, self.zeros)
            for ours, theirs in self.cases
        )
        return Row(self.note, self.oracle, self.mapping, len(self.cases), worst, self.tolerance)


def difference(
    ours: Tensor, theirs: Tensor, scale: Scale = "largest", *, zero: bool = False
) -> float:
    """Return the largest relative difference of two tensors, the second being the oracle's.

    Equal infinities count as no difference. Some results cannot be compared; then the returned
    value exceeds every tolerance:

    - NaN, if either tensor contains NaN, or if ``scale`` is "each" and both are 0 somewhere;
    - infinity, if the shapes or the dtypes differ, if an infinity occurs on one side only, or if
      the oracle's tensor is empty, infinite everywhere or (without ``zero``) 0 everywhere, since
      two functions that compute nothing should not count as equal.

    Args:
        ours: The result of our function.
        theirs: The result of the oracle.
        scale: What the difference is relative to.
        zero: Whether the oracle's tensor is 0 everywhere by definition.
    """
    ours, theirs = ours.detach(), theirs.detach()
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return math.inf
    if ours.isnan().any() or theirs.isnan().any():
        return math.nan
    finite = ours.isfinite() & theirs.isfinite()
    if not finite.any() or not torch.equal(ours[~finite], theirs[~finite]):
        return math.inf
    if not zero and not theirs.any():
        return math.inf
    size = theirs[finite].abs()
    if scale == "largest":
        size = size.max()
    elif scale == "one":
        size = size.clamp(min=1)
    # Tensor.max, unlike Python's max, returns NaN when there is one anywhere.
    return float(((ours[finite] - theirs[finite]).abs() / size).max())


def largest_difference(
    ours: Outputs, theirs: Outputs, scale: Scale = "largest", zeros: Sequence[int] = ()
) -> float:
    """Return the largest ``difference`` of pairs of tensors; infinity if their counts differ."""
    if len(ours) != len(theirs):
        return math.inf
    pairs = zip(ours, theirs, strict=True)
    return largest(difference(a, b, scale, zero=i in zeros) for i, (a, b) in enumerate(pairs))


def largest(differences: Iterable[float]) -> float:
    """Return the maximum, which is NaN if one of the numbers is NaN or if there are none.

    Python's ``max`` drops a NaN that does not come first, since every comparison with it is false.
    """
    numbers = list(differences)
    if not numbers or any(math.isnan(number) for number in numbers):
        return math.nan
    return max(numbers)

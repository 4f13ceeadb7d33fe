"""How results are compared with their oracles: what is not a number never counts as small."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: What a difference is relative to: each number of the oracle, its largest number, or each number
#: but at least 1.
Scale = Literal["each", "largest", "one"]

Outputs = Sequence[Tensor]


@dataclass(frozen=True)
class Row:
    """The outcome of a comparison: one line of the table that ``scripts/verify.py`` prints.

    Attributes:
        note: What of ours was compared.
        oracle: What it was compared with.
        mapping: How the arguments of the two correspond.
        cases: Number of cases.
        difference: The largest relative difference of all cases; NaN or infinite where the two
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
        """Whether something was compared and the difference is a number within the tolerance."""
        return self.cases > 0 and self.difference <= self.tolerance


class Case(NamedTuple):
    """Two functions that should return the same tensors."""

    ours: Callable[[], Outputs]
    theirs: Callable[[], Outputs]


@dataclass(frozen=True)
class Comparison:
    """Something of ours beside its oracle, not yet run.

    Attributes:
        note: What of ours is compared.
        oracle: What it is compared with.
        mapping: How the arguments of the two correspond.
        cases: Where the two are compared.
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
        """Run all cases."""
        worst = largest(
            largest_difference(ours(), theirs(), self.scale, self.zeros)
            for ours, theirs in self.cases
        )
        return Row(self.note, self.oracle, self.mapping, len(self.cases), worst, self.tolerance)


def difference(
    ours: Tensor, theirs: Tensor, scale: Scale = "largest", *, zero: bool = False
) -> float:
    """Return the largest relative difference of two tensors, the second being the oracle's.

    Equal infinities are no difference. Some results cannot be compared, and no tolerance admits
    what is returned then:

    - NaN, if either tensor contains NaN, or if ``scale`` is "each" and both are 0 somewhere;
    - infinity, if the shapes or the dtypes differ, if an infinity stands on one side only, or if
      the oracle's tensor is empty, infinite everywhere or (without ``zero``) 0 everywhere: two
      functions that compute nothing are not thereby equal.

    Args:
        ours: What our function returned.
        theirs: What the oracle returned.
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
    """Return the largest ``difference`` of tensors in pairs; infinity if their numbers differ."""
    if len(ours) != len(theirs):
        return math.inf
    pairs = zip(ours, theirs, strict=True)
    return largest(difference(a, b, scale, zero=i in zeros) for i, (a, b) in enumerate(pairs))


def largest(differences: Iterable[float]) -> float:
    """Return the maximum, which is NaN if one of the numbers is NaN or if there are none.

    Python's ``max`` drops a NaN that does not come first: every comparison with it is false.
    """
    numbers = list(differences)
    if not numbers or any(math.isnan(number) for number in numbers):
        return math.nan
    return max(numbers)

"""Paired differences over seeds: their mean, intervals and tests, all in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlnotes.claims.claim import Verdict

LEAST_PAIRS = 10
"""The number of pairs that a verdict needs; with five, no two-sided sign-flip test reaches .05."""

_ENUMERATED = 16  # up to this number of pairs, all 2ⁿ sign patterns are tried
_DRAWN = 20_000  # sign patterns that are drawn for more pairs

Array = NDArray[np.float64]


def paired_differences(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    higher_is_better: bool = True,
    worst: float | None = None,
) -> list[float]:
    """By how much one method is better than another, seed by seed.

    A run whose figure is NaN or infinite has diverged. It is not dropped, but counts as `worst`, so
    that a method that diverges loses to one that does not, and two that diverge are equal.

    Args:
        ours: A figure for each seed.
        theirs: The figures of the other method for the same seeds.
        higher_is_better: False for losses and times.
        worst: The figure that a diverged run is given, such as 0 for an accuracy. Default: the
            worst finite figure of both methods, made worse by the range of all finite ones.

    Returns:
        Positive where `ours` is better.

    Raises:
        ValueError: The methods do not have equally many figures.
    """
    a, b = _array(ours), _array(theirs)
    if a.shape != b.shape:
        raise ValueError(f"there must be as many runs of both methods, got {a.size} and {b.size}")
    sign = 1.0 if higher_is_better else -1.0
    a, b = sign * a, sign * b
    both = np.concatenate([a, b])
    finite = both[np.isfinite(both)]
    if worst is not None:
        floor = sign * worst
    elif finite.size:
        spread = np.ptp(finite) or abs(finite[0]) or 1.0
        floor = float(finite.min() - spread)
    else:
        floor = 0.0
    a, b = (np.where(np.isfinite(x), x, floor) for x in (a, b))
    differences: list[float] = (a - b).tolist()
    return differences


def student_interval(x: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    r"""Student's confidence interval of the mean.

    .. math::
        \bar x ± t_{n−1} s / √n

    Args:
        x: Differences; fewer than two give an infinite interval.
        level: Coverage of the interval if the differences are normally distributed.
    """
    values = _finite(x)
    n = values.size
    mean = float(values.mean())
    if n < 2:
        return -math.inf, math.inf
    half = student_quantile(level, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def student_quantile(level: float, degrees: int) -> float:
    """The t with P(|T| ≤ t) = `level`, for Student's distribution.

    Args:
        level: Between 0 and 1.
        degrees: Degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while student_probability(high, degrees) < level:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if student_probability(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return high


def student_probability(t: float, degrees: int) -> float:
    r"""P(|T| ≤ t) for Student's distribution, by the finite sums for whole degrees of freedom.

    Abramowitz & Stegun, 26.7.3 and 26.7.4, https://personal.math.ubc.ca/~cbm/aands/page_948.htm:
    with :math:`\tan φ = t/√ν`

    .. math::
        \sin φ \, (1 + \tfrac{1}{2} \cos^2 φ + \tfrac{1·3}{2·4} \cos^4 φ + …) \quad (ν\ even) \\
        \tfrac{2}{π} (φ + \sin φ \, (\cos φ + \tfrac{2}{3} \cos^3 φ + …)) \quad (ν\ odd)

    Args:
        t: At least 0.
        degrees: Degrees of freedom ν, at least 1.
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def wilson_interval(share: float, n: float, z: float = 1.96) -> tuple[float, float]:
    r"""Wilson's confidence interval of a share.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953:

    .. math::
        \frac{p + z^2/2n ± z \sqrt{p(1−p)/n + z^2/4n^2}}{1 + z^2/n}

    Args:
        share: Of the successes among the trials, :math:`p`.
        n: Number of trials.
        z: Quantile of the normal distribution; 1.96 for 95 %.
    """
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def sign_flip_test(x: ArrayLike, *, seed: int = 0) -> float:
    r"""Two-sided p-value of the mean under random signs.

    If neither method is better, each difference could have had the other sign. The p-value is the
    share of all sign patterns whose mean is at least as far from 0 as the mean found. It is exact
    for up to 16 differences (all :math:`2^n` patterns); for more it is estimated from 20,000 random
    patterns and the observed one.

    Args:
        x: Differences.
        seed: Seed of the random patterns.
    """
    values = _finite(x)
    n = values.size
    if n <= _ENUMERATED:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        patterns = np.random.default_rng(seed).integers(2, size=(_DRAWN, n))
    sums = np.abs((1 - 2 * patterns) @ values)
    found = abs(values.sum())
    as_far = int(np.count_nonzero(sums >= found - 1e-12 * np.abs(values).sum()))
    return as_far / 2**n if n <= _ENUMERATED else (as_far + 1) / (_DRAWN + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number.

    Holm 1979, https://www.jstor.org/stable/4615733: rejecting those <= α
    keeps the family-wise error rate at or below α.

    Args:
        p_values: One for each hypothesis, in any order; the results have the same order.
    """
    n, largest = len(p_values), 0.0
    corrected = [0.0] * n
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (n - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def decide(differences: ArrayLike, margin: float = 0.0, alpha: float = 0.05) -> Verdict:
    """Whether the mean difference is greater than `margin`, by the exact sign-flip test.

    Args:
        differences: From `paired_differences`: positive where the claim is true.
        margin: What counts as a difference, in the unit of the differences.
        alpha: Probability of a verdict if the true mean is exactly `margin`.

    Returns:
        `Verdict.HOLDS` if it is greater, `Verdict.DOES_NOT_HOLD` if it is smaller,
        `Verdict.NOT_DECIDED` if the test is inconclusive or there are fewer than ten pairs.
    """
    values = _finite(differences) - margin
    if values.size < LEAST_PAIRS or sign_flip_test(values) > alpha:
        return Verdict.NOT_DECIDED
    return Verdict.HOLDS if values.mean() > 0 else Verdict.DOES_NOT_HOLD


def decide_each(
    groups: Sequence[ArrayLike], margin: float = 0.0, alpha: float = 0.05
) -> list[Verdict]:
    """`decide` for each of several tests, their p-values corrected by `holm`.

    Args:
        groups: Differences of each test, positive where the claim is true.
        margin: See `decide`.
        alpha: Maximum probability of any false verdict among all tests.
    """
    shifted = [_finite(group) - margin for group in groups]
    enough = all(values.size >= LEAST_PAIRS for values in shifted)
    corrected = holm([sign_flip_test(values) for values in shifted])
    return [
        Verdict.NOT_DECIDED
        if not enough or p > alpha
        else (Verdict.HOLDS if values.mean() > 0 else Verdict.DOES_NOT_HOLD)
        for values, p in zip(shifted, corrected, strict=True)
    ]


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a case with several parts: it fails if one does, and holds if all do."""
    if Verdict.DOES_NOT_HOLD in verdicts:
        return Verdict.DOES_NOT_HOLD
    return Verdict.HOLDS if {*verdicts} == {Verdict.HOLDS} else Verdict.NOT_DECIDED


def over_cases(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim about several cases.

    `Verdict.HOLDS` or `Verdict.DOES_NOT_HOLD` if all cases agree; `Verdict.HOLDS_ONLY_IF` if it
    holds in some; otherwise `Verdict.NOT_DECIDED`.
    """
    said = {*verdicts}
    if len(said) == 1:
        return verdicts[0]
    return Verdict.HOLDS_ONLY_IF if Verdict.HOLDS in said else Verdict.NOT_DECIDED


def against_the_closest(ours: ArrayLike, others: Sequence[ArrayLike]) -> list[float]:
    """How far a method is ahead of the closest of several competitors, seed by seed.

    The closest competitor for a seed is chosen on all other seeds. Chosen on the run that is
    reported, it could be the closest by luck.

    Args:
        ours: A figure for each seed; lower is better.
        others: The same for each competitor; at least two seeds are needed.

    Returns:
        Positive where `ours` is better.
    """
    mine, theirs = _array(ours), np.stack([_array(each) for each in others])
    without = theirs.sum(axis=1, keepdims=True) - theirs  # means over all seeds but one
    closest = without.argmin(axis=0)
    ahead: list[float] = (theirs[closest, np.arange(mine.size)] - mine).tolist()
    return ahead


def decide_alike(differences: ArrayLike, margin: float, alpha: float = 0.05) -> Verdict:
    """Whether two methods are equal up to `margin`: two one-sided t tests.

    Schuirmann 1987, https://doi.org/10.1007/BF01068419. A difference that is not significant may
    still exist; this test shows that it is smaller than `margin`.

    Args:
        differences: From `paired_differences`.
        margin: The largest difference that does not matter, > 0.
        alpha: Probability of `Verdict.HOLDS` where the mean is exactly ±`margin`.

    Returns:
        `Verdict.HOLDS` if the interval of coverage 1 − 2α lies within ±`margin`,
        `Verdict.DOES_NOT_HOLD` if it lies outside, otherwise `Verdict.NOT_DECIDED`.
    """
    values = _finite(differences)
    if values.size < LEAST_PAIRS:
        return Verdict.NOT_DECIDED
    low, high = student_interval(values, 1 - 2 * alpha)
    if -margin <= low and high <= margin:
        return Verdict.HOLDS
    if low > margin or high < -margin:
        return Verdict.DOES_NOT_HOLD
    return Verdict.NOT_DECIDED


def _array(x: ArrayLike) -> Array:
    values = np.asarray(x, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"there must be one list of figures, got the shape {values.shape}")
    return values


def _finite(x: ArrayLike) -> Array:
    """Differences as an array, in which an infinite one is replaced by the largest finite one.

    Raises:
        ValueError: One is NaN, so that it is unknown which method is better.
    """
    values = _array(x)
    if np.isnan(values).any():
        raise ValueError("differences must not be NaN: make them with paired_differences")
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0)) or 1.0
    return np.clip(values, -largest, largest)

"""What the dev documents say about candidates: how sure a figure is, and a difference of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dlnotes.claims.statistics import (
    holm,
    sign_flip_test,
    student_probability,
    student_quantile,
    wilson_interval,
)
from dlnotes.training.trials import Trial

_FEW = 200  # documents: with more, the mean is close to normal
_MAX_DEGREES = 1_000  # of freedom: Student's distribution is normal by then

# The standard deviation between seeds that is expected before any is seen, and the degrees of
# freedom with which this expectation counts. Both are estimated from the networks on text corpora
# in results/, by Smyth's equations (2004, section 6.2); a test computes them from the records. The
# records do not say which documents were correct, so the whole variance of the test figures is
# used. The part of it that single documents explain is also in the variance over documents: it is
# counted twice, and intervals are rather too wide.
EXPECTED, EXPECTED_DEGREES = 0.0038, 2.6


@dataclass(frozen=True)
class SeedVariance:
    """How much a figure varies between seeds.

    Attributes:
        variance: Variance of the figure of one training, beyond what the documents explain.
        degrees: Degrees of freedom of this estimate.
    """

    variance: float = EXPECTED**2
    degrees: float = EXPECTED_DEGREES


@dataclass(frozen=True)
class Difference:
    """By how much one candidate is better than another.

    Attributes:
        mean: Difference of the mean figures on dev.
        error: Its standard error.
        degrees: Degrees of freedom of the error.
        p: Two-sided p-value of no difference by Student's test; of few documents, the larger one of
            this and the p-value of the exact `sign_flip_test`.
    """

    mean: float
    error: float
    degrees: int
    p: float

    @property
    def margin(self) -> float:
        """Half the width of the 95 % confidence interval."""
        return self.error * student_quantile(0.95, self.degrees)


def paired_difference(
    ours: Sequence[Trial], theirs: Sequence[Trial], seeds: SeedVariance | None = None
) -> Difference:
    r"""By how much a candidate is better, paired over the dev documents.

    With the parts :math:`x_i` of the documents in the difference :math:`d` of two figures (for
    accuracies, 1 where only the first is correct, −1 where only the second is, else 0)

    .. math::
        SE^2 = \frac{\sum_i (x_i - \bar x)^2 + 1}{(n + 2)^2}
            + s^2 \left(\frac1{S_1} + \frac1{S_2}\right)

    The first summand is the variance over documents, with two more documents on one of which the
    two candidates differ, so that it is not 0 where few documents are answered alike (Agresti & Min
    2005, https://doi.org/10.1002/sim.1781). :math:`s^2` is the variance between seeds and :math:`S`
    the number of seeds; the baseline depends on no seed and has no such variance. With one seed
    each, the variance cannot be estimated from these two, but is not taken for 0: see
    `seed_variance`. The degrees of freedom are those of the sum
    (Satterthwaite 1946, https://doi.org/10.2307/3002019).

    Args:
        ours: Trials of one candidate, one per seed.
        theirs: Trials of the other, on the same dev documents.
        seeds: The variance between seeds; default: estimated from these two.
    """
    seeds = seeds or seed_variance(ours, theirs)
    mean = _mean(ours) - _mean(theirs)
    n = len(ours[0].hits)
    parts = _parts(ours) - _parts(theirs)
    own = (n * float(parts.var()) + 1) / (n + 2) ** 2
    luck = seeds.variance * sum(1 / len(trials) for trials in (ours, theirs) if trials[0].epochs)
    error = math.sqrt(own + luck)
    degrees = _degrees(own, n - 1, luck, seeds.degrees)
    p = 1 - student_probability(abs(mean) / error, degrees)
    if n < _FEW:
        p = max(p, sign_flip_test(parts))
    return Difference(mean, error, degrees, p)


def seed_variance(*candidates: Sequence[Trial]) -> SeedVariance:
    r"""Variance of a figure between seeds that the documents do not explain.

    Two trainings answer some documents differently, so that their figures differ even where neither
    is better: this part is already in the variance over documents. The variance beyond it is pooled
    over the candidates that have several seeds, and with the variance that is expected before any
    is seen (Smyth 2004, https://doi.org/10.2202/1544-6115.1027):

    .. math::
        s^2 = \frac{d_0 s_0^2 + \sum_c (S_c - 1) s_c^2}{d_0 + \sum_c (S_c - 1)}

    Where no candidate has several seeds, only the expectation remains: two single trainings must
    then be more than 2.3 points apart to be called different, however many documents there are (the
    degrees of freedom, 2.6, are rounded down to 2).
    """
    excess, degrees = 0.0, 0
    for trials in candidates:
        if len(trials) < 2:
            continue
        figures = np.array([trial.score for trial in trials])
        parts = np.stack([_parts([trial]) for trial in trials])
        own = float(parts.var(axis=0, ddof=1).mean()) / parts.shape[1]
        excess += (len(trials) - 1) * (float(figures.var(ddof=1)) - own)
        degrees += len(trials) - 1
    expected = SeedVariance()
    total = expected.degrees + degrees
    return SeedVariance((expected.degrees * expected.variance + max(0.0, excess)) / total, total)


def _degrees(own: float, of_own: int, luck: float, of_luck: float) -> int:
    """Degrees of freedom of the sum of two variances, by Satterthwaite's formula, rounded down."""
    found = (own + luck) ** 2 / (own**2 / max(1, of_own) + luck**2 / of_luck)
    return max(1, min(int(found + 1e-9), _MAX_DEGREES))


def interval(
    trials: Sequence[Trial], level: float = 0.95, seeds: SeedVariance | None = None
) -> tuple[float, float]:
    """Confidence interval of a candidate's figure on documents like those of dev.

    It is `wilson_interval` for the number of documents that would give the variance found.

    Args:
        trials: Trials of the candidate, one per seed.
        level: Coverage of the interval.
        seeds: The variance between seeds; default: estimated from these trials.
    """
    seeds = seeds or seed_variance(trials)
    p, n = _mean(trials), len(trials[0].hits)
    own = float(_parts(trials).var(ddof=1)) / n if 0 < p < 1 and n > 1 else 0.25 / n
    luck = seeds.variance / len(trials) if trials[0].epochs else 0.0
    z = student_quantile(level, _degrees(own, n - 1, luck, seeds.degrees))
    # Where all documents are correct, the variance over them is 0, which is no estimate.
    like = p * (1 - p) / (own + luck) if 0 < p < 1 else n
    return wilson_interval(p, min(n, like), z)


def differences_from_best(
    best: Sequence[Trial], others: Sequence[Sequence[Trial]], seeds: SeedVariance | None = None
) -> list[Difference]:
    """How much better the best one is than each other one, with p-values corrected by Holm.

    The best one was chosen on the same dev documents, so its figure and its leads are optimistic.
    Holm's correction is for the number of the others and not for this choice: differences with
    p-values just below .05 may still be chance.

    Args:
        best: Trials of the candidate with the best figure.
        others: Trials of each other candidate.
        seeds: The variance between seeds; default: estimated from each two that are compared.
    """
    found = [paired_difference(best, other, seeds) for other in others]
    corrected = holm([each.p for each in found])
    return [replace(each, p=p) for each, p in zip(found, corrected, strict=True)]


def _mean(trials: Sequence[Trial]) -> float:
    return sum(trial.score for trial in trials) / len(trials)


def _parts(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """The contribution of each document to the mean figure, which is their mean to first order.

    A ratio of sums is linearised: (a - r b) / mean(b) + r.
    """
    parts = []
    for trial in trials:
        r, b = trial.score, max(1e-12, float(trial.outcomes.mean()))
        parts.append((trial.hits - r * trial.outcomes) / b + r)
    mean: NDArray[np.float64] = np.mean(parts, axis=0)
    return mean

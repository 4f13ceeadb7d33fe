"""What the dev documents tell of two candidates: how sure a figure is, and a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlnotes.claims.statistics import holm, sign_flip_test, student_probability, student_quantile
from dlnotes.training.trials import Trial

_FEW = 200  # documents: with more, the mean is close to normal
_MOST_DEGREES = 1_000  # of freedom: Student's distribution is normal by then


# The standard deviation between seeds that is expected before any is seen: the median of the
# networks' records in results/, of 3 to 5 seeds measured on the same test documents, is half a
# point (from 0.05 to 1.1). It counts as much as four differences between seeds.
_EXPECTED, _EXPECTED_DEGREES = 0.005, 4


@dataclass(frozen=True)
class Seeds:
    """How much a figure varies between seeds.

    Attributes:
        variance: Of the figure of one training, beyond what the documents explain.
        degrees: Of freedom of this estimate.
    """

    variance: float = _EXPECTED**2
    degrees: int = _EXPECTED_DEGREES


@dataclass(frozen=True)
class Difference:
    """By how much one candidate is better than another.

    Attributes:
        mean: Of the figures on dev.
        error: Its standard error.
        p: Two-sided p-value, that there is no difference: of Student's test, and of few documents
            of the exact `sign_flip_test`, whichever is larger.
    """

    mean: float
    error: float
    p: float


def compared(
    ours: Sequence[Trial], theirs: Sequence[Trial], seeds: Seeds | None = None
) -> Difference:
    r"""By how much a candidate is better, paired over the dev documents.

    With the parts :math:`x_i` of the documents in the difference :math:`d` of two figures (for
    accuracies, 1 where only the first is correct, −1 where only the second is, else 0)

    .. math::
        SE^2 = \frac{s_x^2}{n} + s^2 \left(\frac1{S_1} + \frac1{S_2}\right)

    :math:`s^2` is the variance between seeds and :math:`S` the number of seeds; the baseline has
    none, and no such variance. Where there is one seed each, the variance cannot be seen in these
    two and is never taken for 0: see `between_seeds`. The degrees of freedom are those of the sum
    (Satterthwaite 1946, https://doi.org/10.2307/3002019).

    Args:
        ours: Trials of one candidate, a seed each.
        theirs: Trials of the other, on the same dev documents.
        seeds: The variance between seeds; default: of these two.
    """
    seeds = seeds or between_seeds(ours, theirs)
    mean = _mean(ours) - _mean(theirs)
    n = len(ours[0].hits)
    parts = _parts(ours) - _parts(theirs)
    own = float(parts.var(ddof=1)) / n if n > 1 else math.inf
    luck = seeds.variance * sum(1 / len(trials) for trials in (ours, theirs) if trials[0].epochs)
    error = math.sqrt(own + luck)
    if mean == 0 or error == 0:
        return Difference(mean, error, 1.0 if mean == 0 else 0.0)
    p = 1 - student_probability(abs(mean) / error, _degrees(own, n - 1, luck, seeds.degrees))
    if n < _FEW:
        p = max(p, sign_flip_test(parts))
    return Difference(mean, error, p)


def between_seeds(*candidates: Sequence[Trial]) -> Seeds:
    r"""Variance of a figure between seeds that the documents do not explain.

    Two trainings answer some documents differently, so that their figures differ even where none of
    the two is better: this part is in the variance over documents already. What the figures vary
    beyond it is pooled over the candidates that have several seeds, and with what is expected
    before any is seen, 0.5 points with 4 degrees of freedom (Smyth 2004,
    https://doi.org/10.2202/1544-6115.1027):

    .. math::
        s^2 = \frac{d_0 s_0^2 + \sum_c (S_c - 1) s_c^2}{d_0 + \sum_c (S_c - 1)}

    Without any candidate of several seeds it is the expectation alone, and two trainings must be
    2.0 points apart at least before they are called different.
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
    expected = Seeds()
    total = expected.degrees + degrees
    return Seeds((expected.degrees * expected.variance + max(0.0, excess)) / total, total)


def _degrees(own: float, of_own: int, luck: float, of_luck: int) -> int:
    """Degrees of freedom of the sum of two variances, by Satterthwaite's formula, rounded down."""
    if not math.isfinite(own):
        return 1
    found = (own + luck) ** 2 / (own**2 / max(1, of_own) + luck**2 / of_luck)
    return max(1, min(int(found + 1e-9), _MOST_DEGREES))


def interval(
    trials: Sequence[Trial], level: float = 0.95, seeds: Seeds | None = None
) -> tuple[float, float]:
    r"""Confidence interval of a candidate's figure on documents like those of dev: Wilson's.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953, with the number of documents that
    gives the variance found,

    .. math::
        \frac{p + z^2/2n ± z \sqrt{p(1−p)/n + z^2/4n^2}}{1 + z^2/n}

    Args:
        trials: A seed each.
        level: Its coverage.
        seeds: The variance between seeds; default: of these trials.
    """
    seeds = seeds or between_seeds(trials)
    n = len(trials[0].hits)
    p = _mean(trials)
    own = float(_parts(trials).var(ddof=1)) / n if n > 1 else 0.25
    luck = seeds.variance / len(trials) if trials[0].epochs else 0.0
    # Where all documents are correct, the variance over them is no estimate.
    degrees = _degrees(own, n - 1, luck, seeds.degrees) if own > 0 else max(1, n - 1)
    if own + luck > 0 and 0 < p < 1:
        n = min(n, p * (1 - p) / (own + luck))  # type: ignore[assignment]
    z = student_quantile(level, min(degrees, _MOST_DEGREES))
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def against_the_best(
    best: Sequence[Trial], others: Sequence[Sequence[Trial]], seeds: Seeds | None = None
) -> list[Difference]:
    """How much better the best is than each other, with p-values corrected for their number.

    Which one is the best was found on the same dev documents: its own figure is optimistic, and so
    are its leads. Holm's correction is for the number of the others and not for this choice, so
    that differences near the limit may still be chance.

    Args:
        best: Trials of the candidate with the best figure.
        others: Those of each other candidate.
        seeds: The variance between seeds; default: of each two that are compared.
    """
    found = [compared(best, other, seeds) for other in others]
    corrected = holm([each.p for each in found])
    return [Difference(d.mean, d.error, p) for d, p in zip(found, corrected, strict=True)]


def _mean(trials: Sequence[Trial]) -> float:
    return sum(trial.score for trial in trials) / len(trials)


def _parts(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """The part of each document in the mean figure, which is their mean to first order.

    A ratio of sums is linearised: (a - r b) / mean(b) + r.
    """
    parts = []
    for trial in trials:
        r, b = trial.score, max(1e-12, float(trial.outcomes.mean()))
        parts.append((trial.hits - r * trial.outcomes) / b + r)
    mean: NDArray[np.float64] = np.mean(parts, axis=0)
    return mean

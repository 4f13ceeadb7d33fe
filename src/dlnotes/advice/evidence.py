"""What the dev documents tell of two candidates: how sure a figure is, and a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlnotes.claims.statistics import holm, sign_flip_test, student_probability, student_quantile
from dlnotes.training.trials import Trial

_FEW = 200  # documents: with more, the means of these coarse differences are normal
_MOST_DEGREES = 1_000  # of freedom: Student's distribution is normal by then


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


def compared(ours: Sequence[Trial], theirs: Sequence[Trial]) -> Difference:
    r"""By how much a candidate is better, paired over the dev documents.

    With the parts :math:`x_i` of the documents in the difference :math:`d` of two figures (for
    accuracies, 1 where only the first is correct, −1 where only the second is, else 0)

    .. math::
        SE^2 = \frac{s_x^2}{n} + s^2 \left(\frac1{S_1} + \frac1{S_2}\right)

    :math:`s^2` is the variance between seeds beyond that of the documents, pooled over both
    candidates and 0 where it cannot be seen, and :math:`S` the number of seeds; the baseline has
    none, and no such variance.

    Args:
        ours: Trials of one candidate, a seed each.
        theirs: Trials of the other, on the same dev documents.
    """
    mean = _mean(ours) - _mean(theirs)
    n = len(ours[0].hits)
    parts = _parts(ours) - _parts(theirs)
    variance = float(parts.var(ddof=1)) / n if n > 1 else math.inf
    variance += between_seeds(ours, theirs) * sum(
        1 / len(trials) for trials in (ours, theirs) if trials[0].epochs
    )
    error = math.sqrt(variance)
    if error == 0:
        return Difference(mean, error, 1.0 if mean == 0 else 0.0)
    degrees = max(1, min(n - 1, _MOST_DEGREES))
    p = 1 - student_probability(abs(mean) / error, degrees)
    if n < _FEW:
        p = max(p, sign_flip_test(parts))
    return Difference(mean, error, p)


def between_seeds(*candidates: Sequence[Trial]) -> float:
    """Variance of a figure between seeds that the documents do not explain, pooled.

    Two trainings answer some documents differently, so that their figures differ even where none of
    the two is better: this part is in the variance over documents already.
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
    return max(0.0, excess / degrees) if degrees else 0.0


def interval(trials: Sequence[Trial], level: float = 0.95) -> tuple[float, float]:
    r"""Confidence interval of a candidate's figure on documents like those of dev: Wilson's.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953, with the number of documents that
    gives the variance found,

    .. math::
        \frac{p + z^2/2n ± z \sqrt{p(1−p)/n + z^2/4n^2}}{1 + z^2/n}

    Args:
        trials: A seed each.
        level: Its coverage.
    """
    n = len(trials[0].hits)
    p = _mean(trials)
    variance = float(_parts(trials).var(ddof=1)) / n if n > 1 else 0.25
    variance += between_seeds(trials) / len(trials)
    if variance > 0 and 0 < p < 1:
        n = min(n, p * (1 - p) / variance)  # type: ignore[assignment]
    z = student_quantile(level, max(1, min(len(trials[0].hits) - 1, _MOST_DEGREES)))
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def against_the_best(best: Sequence[Trial], others: Sequence[Sequence[Trial]]) -> list[Difference]:
    """How much better the best is than each other, with p-values corrected for their number."""
    found = [compared(best, other) for other in others]
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

"""What the dev documents tell of two candidates: how sure a figure is, and a difference."""

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
_MOST_DEGREES = 1_000  # of freedom: Student's distribution is normal by then

# The standard deviation between seeds that is expected before any is seen, and for how many degrees
# of freedom it counts: those of the networks on text corpora in results/, by Smyth's equations
# (2004, section 6.2). A test computes them from the records. They are of the whole variance of the
# test figures, since the records do not say which documents were correct: what single documents
# explain is in it and in the variance over documents, too, so that intervals are rather too wide.
EXPECTED, EXPECTED_DEGREES = 0.0038, 2.6


@dataclass(frozen=True)
class Seeds:
    """How much a figure varies between seeds.

    Attributes:
        variance: Of the figure of one training, beyond what the documents explain.
        degrees: Of freedom of this estimate.
    """

    variance: float = EXPECTED**2
    degrees: float = EXPECTED_DEGREES


@dataclass(frozen=True)
class Difference:
    """By how much one candidate is better than another.

    Attributes:
        mean: Of the figures on dev.
        error: Its standard error.
        degrees: Of freedom of the error.
        p: Two-sided p-value, that there is no difference: of Student's test, and of few documents
            of the exact `sign_flip_test`, whichever is larger.
    """

    mean: float
    error: float
    degrees: int
    p: float

    @property
    def margin(self) -> float:
        """Half the width of the 95 % confidence interval."""
        return self.error * student_quantile(0.95, self.degrees)


def compared(
    ours: Sequence[Trial], theirs: Sequence[Trial], seeds: Seeds | None = None
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
    the number of seeds; the baseline has none, and no such variance. Where there is one seed each,
    the variance cannot be seen in these two and is never taken for 0: see `between_seeds`. The
    degrees of freedom are those of the sum
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
    own = (n * float(parts.var()) + 1) / (n + 2) ** 2
    luck = seeds.variance * sum(1 / len(trials) for trials in (ours, theirs) if trials[0].epochs)
    error = math.sqrt(own + luck)
    degrees = _degrees(own, n - 1, luck, seeds.degrees)
    p = 1 - student_probability(abs(mean) / error, degrees)
    if n < _FEW:
        p = max(p, sign_flip_test(parts))
    return Difference(mean, error, degrees, p)


def between_seeds(*candidates: Sequence[Trial]) -> Seeds:
    r"""Variance of a figure between seeds that the documents do not explain.

    Two trainings answer some documents differently, so that their figures differ even where none of
    the two is better: this part is in the variance over documents already. What the figures vary
    beyond it is pooled over the candidates that have several seeds, and with what is expected
    before any is seen (Smyth 2004, https://doi.org/10.2202/1544-6115.1027):

    .. math::
        s^2 = \frac{d_0 s_0^2 + \sum_c (S_c - 1) s_c^2}{d_0 + \sum_c (S_c - 1)}

    Without any candidate of several seeds it is the expectation alone: two single trainings must
    be more than 2.3 points apart before they are called different, however many documents there
    are (the degrees of freedom, 2.6, are rounded down to 2).
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


def _degrees(own: float, of_own: int, luck: float, of_luck: float) -> int:
    """Degrees of freedom of the sum of two variances, by Satterthwaite's formula, rounded down."""
    found = (own + luck) ** 2 / (own**2 / max(1, of_own) + luck**2 / of_luck)
    return max(1, min(int(found + 1e-9), _MOST_DEGREES))


def interval(
    trials: Sequence[Trial], level: float = 0.95, seeds: Seeds | None = None
) -> tuple[float, float]:
    """Confidence interval of a candidate's figure on documents like those of dev.

    It is `wilson_interval` with the number of documents that gives the variance found.

    Args:
        trials: A seed each.
        level: Its coverage.
        seeds: The variance between seeds; default: of these trials.
    """
    seeds = seeds or between_seeds(trials)
    p, n = _mean(trials), len(trials[0].hits)
    own = float(_parts(trials).var(ddof=1)) / n if 0 < p < 1 and n > 1 else 0.25 / n
    luck = seeds.variance / len(trials) if trials[0].epochs else 0.0
    z = student_quantile(level, _degrees(own, n - 1, luck, seeds.degrees))
    # Where all documents are correct, the variance over them is no estimate.
    like = p * (1 - p) / (own + luck) if 0 < p < 1 else n
    return wilson_interval(p, min(n, like), z)


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
    return [replace(each, p=p) for each, p in zip(found, corrected, strict=True)]


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

"""Whether a difference between two models is real: tests, and groups of models that are alike."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dlnotes.claims.statistics import holm, student_probability, student_quantile

DRAWS = 10_000
"""Number of bootstrap samples."""

SURE = 0.05
"""If the corrected p-value is below this, the difference of two models counts as real."""

_CHUNK = 1 << 24  # numbers in memory at a time

Array = NDArray[np.float64]
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Measured:
    """The trainings of a model, all measured on the same documents.

    There is a row for each seed. With folds, a row has all documents, each measured by the training
    that had not seen it.

    Attributes:
        hits: See `dlnotes.training.trials.Trial`, shape (rows, documents).
        outcomes: See `dlnotes.training.trials.Trial`, shape (rows, documents).
    """

    hits: Array
    outcomes: Array

    @property
    def figures(self) -> Array:
        """The accuracy, or micro-F1, of each row."""
        found: Array = self.hits.sum(1) / np.maximum(1.0, self.outcomes.sum(1))
        return found


@dataclass(frozen=True)
class Difference:
    """By how much one model is better than another.

    Attributes:
        mean: Difference of their mean figures.
        low: Lower end of the 95 % confidence interval.
        high: Upper end of the 95 % confidence interval.
        p: Two-sided p-value of the hypothesis that there is no difference.
        corrected: The p-value after Holm's correction for the number of pairs; NaN before it.
    """

    mean: float
    low: float
    high: float
    p: float
    corrected: float = math.nan


def paired_bootstrap(
    models: Mapping[str, Measured], *, draws: int = DRAWS, seed: int = 0
) -> Bootstrap:
    r"""Figures of models on bootstrap samples of the documents and of the trainings.

    All models see the same samples of documents (Efron & Tibshirani 1993, chapter 8; for text
    classifiers Berg-Kirkpatrick et al. 2012, https://aclanthology.org/D12-1091), so that
    differences are paired. If a model was trained from :math:`S > 1` seeds, the seeds are also
    sampled, so that the result is about the method and not about these trainings. A bootstrap
    sample of few seeds varies too little: its variance is too small by the factor :math:`(S-1)/S`,
    and the uncertainty of this variance, which leads to Student's distribution, is missing.
    Therefore the weights :math:`u_s` of the seeds, with mean :math:`1/S`, become

    .. math::
        \frac1S + \sqrt{\frac{S}{S-1} \, \frac{S-1}{χ^2_{S-1}}} \, (u_s - \frac1S)

    With few seeds, the intervals tend to be too wide rather than too narrow; five or more seeds
    show more differences.

    Args:
        models: The models by name, all measured on the same documents.
        draws: Number of samples.
        seed: Seed of the samples.
    """
    random = np.random.default_rng(seed)
    n = next(iter(models.values())).hits.shape[1]
    figures: dict[str, list[Array]] = {name: [] for name in models}
    left = draws
    while left:
        some = min(left, max(1, _CHUNK // max(1, n)))
        left -= some
        weights = np.empty((n, some))
        for k in range(some):
            weights[:, k] = np.bincount(random.integers(n, size=n), minlength=n)
        for name, model in models.items():
            rows = (model.hits @ weights) / np.maximum(1e-12, model.outcomes @ weights)
            figures[name].append((_seeds(len(rows), some, random) * rows).sum(0))
    return Bootstrap(
        n,
        {name: float(model.figures.mean()) for name, model in models.items()},
        {name: np.concatenate(parts) for name, parts in figures.items()},
        random.poisson(1.0, draws) - random.poisson(1.0, draws),
    )


def _seeds(rows: int, draws: int, random: np.random.Generator) -> Array:
    """Weights of the trainings of a model, shape (rows, draws)."""
    if rows == 1:
        return np.ones((1, draws))
    counts = random.multinomial(rows, [1 / rows] * rows, size=draws).T / rows
    wider = np.sqrt(rows / random.chisquare(rows - 1, draws))
    found: Array = 1 / rows + wider * (counts - 1 / rows)
    return found


@dataclass(frozen=True)
class Bootstrap:
    """The result of `paired_bootstrap`.

    Attributes:
        documents: Number of documents.
        means: Mean figure of each model.
        samples: Figures of each model on the bootstrap samples, shape (draws,).
        pseudo: Effect of the two additional documents of `difference` on each sample: how often the
            first model is better on them minus how often the second is, shape (draws,).
    """

    documents: int
    means: Mapping[str, float]
    samples: Mapping[str, Array]
    pseudo: NDArray[np.int64]

    def difference(self, ours: str, theirs: str) -> Difference:
        """By how much a model is better, with the percentile interval.

        If two models differ on five documents only, all in favour of the same model, the bootstrap
        alone gives a smaller p-value than the exact sign test. Therefore two documents are added,
        one on which each of the two models is better (as Agresti & Min 2005,
        https://doi.org/10.1002/sim.1781, do for intervals). With them, the bootstrap agrees with
        that test where p is near .05.

        Args:
            ours: Name of the first model.
            theirs: Name of the second model.
        """
        mean = self.means[ours] - self.means[theirs]
        n = self.documents
        drawn = (n * (self.samples[ours] - self.samples[theirs]) + self.pseudo) / (n + 2)
        low, high = np.quantile(drawn, [0.025, 0.975])
        beyond = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
        p = min(1.0, 2 * (int(beyond) + 1) / (len(drawn) + 1))
        return Difference(mean, min(float(low), mean), max(float(high), mean), p)


def corrected_resampled_t_test(
    ours: Sequence[float], theirs: Sequence[float], *, folds: int, documents: int
) -> Difference:
    r"""By how much a model is better over the folds of a cross-validation, repeated or not.

    This is the corrected resampled t-test (Nadeau & Bengio 2003,
    https://doi.org/10.1023/A:1024068626366; for folds Bouckaert & Frank 2004,
    https://doi.org/10.1007/978-3-540-24775-3_3). The trainings of a cross-validation share most of
    their documents, so that the differences :math:`d_j` of the :math:`J` folds are correlated, and
    the usual t-test finds differences where there are none. Corrected by the ratio of test to
    training documents,

    .. math::
        t = \bar d \Big/ \sqrt{\Big(\frac1J + \frac{n_{test}}{n_{train}}\Big) s_d^2}

    has approximately Student's distribution with :math:`J - 1` degrees of freedom. Figures over
    :math:`m` documents are multiples of :math:`1/m`; therefore :math:`s_d^2` is set to at least
    the variance of this rounding alone, :math:`1/6m^2`.

    Args:
        ours: The figure of a model on each fold, at least two.
        theirs: The figures of the other model on the same folds.
        folds: Number of folds of a cross-validation; those of its repetitions follow one another.
        documents: Number of documents in all folds of a cross-validation.
    """
    d = np.subtract(ours, theirs)
    each = documents / folds
    variance = max(float(d.var(ddof=1)), 1 / (6 * each**2))
    error = math.sqrt((1 / len(d) + 1 / (folds - 1)) * variance)
    mean, degrees = float(d.mean()), len(d) - 1
    half = error * student_quantile(0.95, degrees)
    p = 1 - student_probability(abs(mean) / error, degrees)
    return Difference(mean, mean - half, mean + half, p)


def holm_corrected(differences: Mapping[_Key, Difference]) -> dict[_Key, Difference]:
    """Add p-values after Holm's correction for the number of differences."""
    found = holm([each.p for each in differences.values()])
    return {
        key: replace(each, corrected=p)
        for (key, each), p in zip(differences.items(), found, strict=True)
    }


def compact_letter_display(ranked: Sequence[str], apart: set[frozenset[str]]) -> dict[str, str]:
    """Letters such that two models share one if and only if they cannot be told apart.

    This is the compact letter display of Piepho 2004, https://doi.org/10.1198/1061860043515, by
    insertion and absorption: a group with two models that differ is split into two groups, each
    without one of them, and a group that is contained in another is dropped.

    Args:
        ranked: Names of the models, the best first.
        apart: Pairs of models whose difference is real.

    Returns:
        The letters of each model: "a", "ab" and so on.
    """
    groups = [frozenset(ranked)]
    for one, other in combinations(ranked, 2):
        if frozenset((one, other)) not in apart:
            continue
        split = [
            part
            for group in groups
            for part in ([group - {one}, group - {other}] if {one, other} <= group else [group])
        ]
        groups = [g for g in dict.fromkeys(split) if not any(g < more for more in split)]
    places = {name: i for i, name in enumerate(ranked)}
    groups.sort(key=lambda group: sorted(places[name] for name in group))
    return {
        name: "".join(_letter(i) for i, group in enumerate(groups) if name in group)
        for name in ranked
    }


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else f"({i + 1})"

"""Differences and intervals over dev documents and seeds."""

import numpy as np
import pytest
from fakes import trial

from dlnotes.advice.evidence import against_the_best, between_seeds, compared, interval
from dlnotes.claims.statistics import student_interval


def drawn(p, n, seed):
    return np.random.default_rng(seed).random(n) < p


def test_a_difference_of_accuracies_is_the_paired_difference():
    a, b = drawn(0.8, 500, 0), drawn(0.7, 500, 1)
    found = compared([trial(a)], [trial(b)])
    differences = a.astype(float) - b
    assert found.mean == pytest.approx(differences.mean())
    assert found.error == pytest.approx(differences.std(ddof=1) / 500**0.5)
    low, high = student_interval(differences)
    assert (found.p < 0.05) == (low > 0 or high < 0)


def test_equal_trials_are_no_different_and_opposite_ones_are():
    a = drawn(0.8, 300, 0)
    assert compared([trial(a)], [trial(a)]).p == 1
    assert compared([trial(np.ones(300))], [trial(np.zeros(300))]).p == 0


def test_of_a_dozen_documents_the_test_is_exact():
    """Five of twelve more: Student's test would call it a difference; 2/2⁵ is the exact p-value."""
    found = compared([trial(np.arange(12) < 10)], [trial(np.arange(12) < 5)])
    assert found.p == pytest.approx(2 / 2**5)


def test_false_positives_are_rare():
    """Two candidates that are equally good: at most about one in twenty is called different."""
    for n in (12, 400):
        found = [
            compared([trial(drawn(0.8, n, 2 * i))], [trial(drawn(0.8, n, 2 * i + 1))]).p < 0.05
            for i in range(300)
        ]
        assert np.mean(found) < 0.09


def test_micro_f1_is_linearised():
    """The standard error of a ratio of sums is that of a bootstrap."""
    random = np.random.default_rng(0)
    n = 400
    outcomes = 1.0 + random.integers(0, 4, n)
    more = outcomes + random.integers(0, 4, n)
    ours, theirs = (np.minimum(o, random.integers(0, 5, n)) for o in (outcomes, more))
    found = compared([trial(ours, outcomes)], [trial(theirs, more)])
    assert found.mean == pytest.approx(ours.sum() / outcomes.sum() - theirs.sum() / more.sum())
    resampled = [
        ours[i].sum() / outcomes[i].sum() - theirs[i].sum() / more[i].sum()
        for i in random.integers(0, n, (4000, n))
    ]
    assert found.error == pytest.approx(np.std(resampled), rel=0.05)


def test_seeds_that_differ_make_a_difference_less_sure():
    a, b = drawn(0.8, 2000, 0), drawn(0.77, 2000, 0)
    sure = compared([trial(a)] * 3, [trial(b)] * 3)
    # Two of three trainings of the first fail on a tenth more of the documents.
    worse = a & drawn(0.9, 2000, 5)
    unsure = compared([trial(a), trial(worse), trial(worse)], [trial(b)] * 3)
    assert between_seeds([trial(a)] * 3, [trial(b)] * 3) == 0
    assert between_seeds([trial(a), trial(worse), trial(worse)]) > 0
    assert unsure.error > 2 * sure.error


def test_luck_on_single_documents_is_no_variance_between_seeds():
    hard = np.random.default_rng(0).random(2000)
    found, plain = [], []
    for start in range(20):
        trials = [
            trial(hard + np.random.default_rng(100 * start + seed).normal(0, 0.1, 2000) < 0.8)
            for seed in range(3)
        ]
        found.append(between_seeds(trials))
        plain.append(np.var([t.score for t in trials], ddof=1))
    assert np.median(found) < 0.3 * np.median(plain)


def test_the_interval_is_wilsons():
    hits = np.arange(100) < 90
    low, high = interval([trial(hits)])
    assert low == pytest.approx(0.8256, abs=2e-3)  # R: prop.test(90, 100, correct = FALSE)
    assert high == pytest.approx(0.9448, abs=2e-3)
    low, high = interval([trial(np.ones(12))])
    assert low < 0.8
    assert high == pytest.approx(1.0)


def test_p_values_are_corrected_for_their_number():
    a, b = drawn(0.8, 500, 0), drawn(0.8, 500, 0) & drawn(0.985, 500, 9)
    alone = compared([trial(a)], [trial(b)]).p
    found = against_the_best([trial(a)], [[trial(b)]] * 5)
    assert found[0].p == pytest.approx(min(1, 5 * alone))

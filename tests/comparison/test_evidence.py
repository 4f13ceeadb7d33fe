"""The tests of differences: their level, their power, and groups of what is alike."""

import math
from itertools import combinations

import numpy as np
import pytest

from dlnotes.comparison.evidence import (
    Measured,
    compact_letter_display,
    corrected_resampled_t_test,
    holm_corrected,
    paired_bootstrap,
)


def measured(rows):
    hits = np.atleast_2d(np.asarray(rows, float))
    return Measured(hits, np.ones_like(hits))


def difference(ours, theirs, **options):
    return paired_bootstrap({"a": measured(ours), "b": measured(theirs)}, **options).difference(
        "a", "b"
    )


def trained(random, n, seeds, between):
    """Whether each of `seeds` trainings of a model classifies each document correctly."""
    good = random.normal(1.2, 1.0, n) + between * random.normal(size=(seeds, 1))
    return random.logistic(0, 0.5, (seeds, n)) < good


def test_the_interval_is_that_of_the_normal_distribution():
    random = np.random.default_rng(0)
    a, b = random.random(1000) < 0.8, random.random(1000) < 0.7
    found = difference(a, b, draws=4000)
    error = (a.astype(float) - b).std() / math.sqrt(1000)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)


def test_documents_are_paired():
    random = np.random.default_rng(0)
    easy = random.random(1000) < 0.5
    better = easy.copy()
    better[np.flatnonzero(~easy)[:20]] = True
    assert difference(better, easy).p < 0.001
    # Not paired, two points are far less than chance: SE is 2.2.
    assert difference(random.permutation(better), easy).p > 0.05


@pytest.mark.parametrize(("seeds", "between"), [(1, 0.0), (5, 0.0), (5, 0.15), (2, 0.3)])
def test_equal_models_are_rarely_told_apart(seeds, between):
    random = np.random.default_rng(1)
    n, times = 500, 150
    found = [
        difference(*(trained(random, n, seeds, between) for _ in "ab"), draws=300, seed=i).p
        for i in range(times)
    ]
    # .05 of 150 are 7.5; 15 or more come by chance in one of 100 times.
    assert sum(p < 0.05 for p in found) < 15


def test_trainings_are_not_methods():
    """Seeds that vary more than two models differ: one seed each is no evidence for others."""
    random = np.random.default_rng(0)
    a, b = trained(random, 4000, 5, 0.3), trained(random, 4000, 5, 0.3)
    one = max(range(5), key=lambda i: abs(a[i].mean() - b[i].mean()))
    assert difference(a[one], b[one]).p < 0.001
    assert difference(a, b).p > 0.05


def test_better_models_are_told_apart():
    random = np.random.default_rng(0)
    a = trained(random, 1000, 5, 0.02)
    b = a & (random.random(a.shape) < 0.95)
    found = difference(a, b)
    assert found.p < 0.01
    assert found.low > 0
    assert difference(b, a).high < 0


@pytest.mark.parametrize("n", [20, 400])
def test_few_documents_that_differ_are_judged_as_by_the_test_of_signs(n):
    equal = np.zeros(n)
    for differ, exact in ((4, 0.125), (5, 0.0625), (6, 0.03125)):
        better = equal.copy()
        better[:differ] = 1
        assert difference(better, equal).p == pytest.approx(exact, rel=0.4)
    assert difference(equal, equal).p == 1


def test_the_corrected_t_test_of_a_worked_example():
    t = pytest.importorskip("scipy.stats").t
    ours, theirs = [0.80, 0.83, 0.79, 0.85, 0.82], [0.78, 0.80, 0.79, 0.81, 0.80]
    found = corrected_resampled_t_test(ours, theirs, folds=5, documents=1000)
    d = np.subtract(ours, theirs)
    error = math.sqrt((1 / 5 + 200 / 800) * d.var(ddof=1))
    assert found.p == pytest.approx(2 * t.sf(d.mean() / error, 4))
    assert found.high == pytest.approx(d.mean() + t.ppf(0.975, 4) * error)
    twice = corrected_resampled_t_test(2 * ours, 2 * theirs, folds=5, documents=1000)
    error = math.sqrt((1 / 10 + 200 / 800) * np.var(2 * [*d], ddof=1))
    assert twice.p == pytest.approx(2 * t.sf(d.mean() / error, 9))


def test_folds_that_share_documents_are_no_independent_evidence():
    """Differences with the correlation of a cross-validation: the usual t-test would be too sure."""
    t = pytest.importorskip("scipy.stats").t
    random = np.random.default_rng(0)
    folds, times, mistaken, usual = 10, 400, 0, 0
    for _ in range(times):
        # Correlated by the share of the documents that are measured on.
        shared = math.sqrt(1 / folds) * random.normal()
        d = 0.01 * (shared + math.sqrt(1 - 1 / folds) * random.normal(size=folds))
        mistaken += corrected_resampled_t_test(d, 0 * d, folds=folds, documents=100_000).p < 0.05
        usual += 2 * t.sf(abs(d.mean()) / (d.std(ddof=1) / math.sqrt(folds)), folds - 1) < 0.05
    assert mistaken / times < 0.08
    assert usual / times > 0.1


def test_equal_differences_on_all_folds_are_not_certain():
    assert corrected_resampled_t_test([0.6, 0.6], [0.5, 0.5], folds=2, documents=20).p > 0.05


def test_p_values_are_corrected_for_the_number_of_pairs():
    pairs = {
        i: corrected_resampled_t_test([0.8, 0.83, 0.8], [0.7, 0.7, 0.72], folds=3, documents=900)
        for i in range(3)
    }
    found = holm_corrected(pairs)
    assert all(found[i].corrected == pytest.approx(3 * pairs[i].p) for i in range(3))


def test_letters():
    apart = {frozenset(pair) for pair in ("ac", "ad", "bd")}
    assert compact_letter_display("abcd", apart) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}
    assert compact_letter_display("abc", set()) == dict.fromkeys("abc", "a")
    assert compact_letter_display("ab", {frozenset("ab")}) == {"a": "a", "b": "b"}


def test_letters_are_in_the_order_of_the_models():
    """The best model has an a, and letters go on from the best to the worst."""
    pairs = {frozenset(pair) for pair in ("zx", "zw", "zv", "yw", "yv", "xv")}
    expected = {"z": "a", "y": "ab", "x": "bc", "w": "cd", "v": "d"}
    assert compact_letter_display("zyxwv", pairs) == expected
    assert list(compact_letter_display("zyxwv", pairs)) == [*"zyxwv"]
    random = np.random.default_rng(0)
    for _ in range(50):
        ranked = [f"model{i}" for i in random.permutation(7)]
        apart = {frozenset(p) for p in combinations(ranked, 2) if random.random() < 0.4}
        found = compact_letter_display(ranked, apart)
        places = [[i for i, m in enumerate(ranked) if k in found[m]] for k in "abcdefghijklm"]
        used = [place for place in places if place]
        assert places[: len(used)] == sorted(used)  # no letter is left out, the best come first
        assert found[ranked[0]].startswith("a")


def test_a_letter_is_shared_exactly_by_what_is_not_told_apart():
    random = np.random.default_rng(0)
    names = "abcdefg"
    for _ in range(50):
        apart = {frozenset(p) for p in combinations(names, 2) if random.random() < random.random()}
        found = compact_letter_display(names, apart)
        for pair in combinations(names, 2):
            assert bool({*found[pair[0]]} & {*found[pair[1]]}) == (frozenset(pair) not in apart)

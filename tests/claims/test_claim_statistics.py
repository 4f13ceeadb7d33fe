import itertools
import math

import numpy as np
import pytest

from dlnotes.claims.claim import Verdict
from dlnotes.claims.statistics import (
    against_the_closest,
    decide,
    decide_alike,
    decide_each,
    holm,
    over_cases,
    paired_differences,
    sign_flip_test,
    student_interval,
    student_probability,
    student_quantile,
    together,
    wilson_interval,
)

HOLDS, DOES_NOT_HOLD, UNDECIDED = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.NOT_DECIDED


def test_wilsons_interval():
    low, high = wilson_interval(0.9, 100)  # R: prop.test(90, 100, correct = FALSE)
    assert (low, high) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))
    # Of no success and of successes alone, z² / (n + z²) is left out at the other end.
    assert wilson_interval(1.0, 20) == (pytest.approx(20 / (20 + 1.96**2)), pytest.approx(1.0))
    assert wilson_interval(0.0, 20) == (pytest.approx(0.0), pytest.approx(1.96**2 / (20 + 1.96**2)))


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.70620), (2, 4.302653), (9, 2.262157), (10, 2.228139), (30, 2.042272)],
)
def test_quantiles_of_student_are_those_of_the_tables(degrees, quantile):
    assert student_quantile(0.95, degrees) == pytest.approx(quantile, rel=1e-6)
    assert student_probability(quantile, degrees) == pytest.approx(0.95, abs=1e-7)


def test_interval_of_student_by_hand():
    x = [1.0, 2.0, 3.0]  # mean 2, standard deviation 1
    half = 4.302653 / math.sqrt(3)
    assert student_interval(x) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert student_interval([1.0]) == (-math.inf, math.inf)


def test_intervals_of_student_cover_the_mean_as_often_as_they_say():
    samples = np.random.default_rng(0).normal(1.0, 2.0, size=(2000, 10))
    covered = sum(low <= 1 <= high for low, high in map(student_interval, samples))
    assert pytest.approx(covered, abs=4 * math.sqrt(2000 * 0.95 * 0.05)) == 0.95 * 2000


def test_sign_flip_test_counts_all_patterns():
    x = np.random.default_rng(2).normal(0.4, 1, size=9)
    means = [abs(np.dot(signs, x)) for signs in itertools.product([1, -1], repeat=9)]
    assert sign_flip_test(x) == np.mean([m >= abs(x.sum()) - 1e-12 for m in means])
    assert sign_flip_test([1.0] * 10) == 2 / 1024
    assert sign_flip_test([1.0] * 5) > 0.05  # why five pairs decide nothing
    assert sign_flip_test([0.0] * 10) == 1


def test_many_pairs_are_tested_by_drawn_patterns():
    x = np.random.default_rng(3).normal(0.3, 1, size=16)
    exact = sign_flip_test(x)
    padded = sign_flip_test([*x, 0.0])  # 17 pairs, the same p-value
    assert padded == pytest.approx(exact, abs=5 * math.sqrt(exact / 20_000))
    assert sign_flip_test([1.0] * 40) == 1 / 20_001


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_run_counts_as_the_worst(bad):
    ours, theirs = [0.9, bad, 0.8, bad], [0.8, 0.7, bad, bad]
    assert paired_differences(ours, theirs, worst=0.0) == pytest.approx([0.1, -0.7, 0.8, 0.0])
    by_default = paired_differences(ours, theirs)  # 0.7, less the range of 0.2
    assert by_default == pytest.approx([0.1, -0.2, 0.3, 0.0])
    losses = paired_differences([1.0, bad], [2.0, 1.0], higher_is_better=False)
    assert losses == pytest.approx([1.0, -2.0])
    assert paired_differences([bad], [bad]) == [0.0]


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="got 2 and 1"):
        paired_differences([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="must not be NaN"):
        decide([math.nan] * 10)


def test_an_infinite_difference_counts_as_the_largest():
    x = [1.0, 2.0, 3.0] * 4
    assert student_interval([*x, math.inf]) == student_interval([*x, 3.0])
    assert student_interval([*x, -math.inf]) == student_interval([*x, -3.0])


def test_decisions():
    x = np.random.default_rng(4).normal(1, 0.5, size=10)
    assert decide(x) is Verdict.HOLDS
    assert decide(-x) is Verdict.DOES_NOT_HOLD
    assert decide(x[:9]) is Verdict.NOT_DECIDED  # too few pairs, however clear
    assert decide(x, margin=1) is Verdict.NOT_DECIDED
    assert decide(x, margin=3) is Verdict.DOES_NOT_HOLD
    assert decide(x, margin=-3) is Verdict.HOLDS
    assert decide([0.0] * 10) is Verdict.NOT_DECIDED


def test_that_two_methods_are_alike_is_shown_and_not_assumed():
    x = np.random.default_rng(5).normal(0, 1, size=12)
    assert decide(x) is Verdict.NOT_DECIDED
    assert decide_alike(x, margin=2) is Verdict.HOLDS
    assert decide_alike(x, margin=0.1) is Verdict.NOT_DECIDED
    assert decide_alike(x + 5, margin=2) is Verdict.DOES_NOT_HOLD
    assert decide_alike(x - 5, margin=2) is Verdict.DOES_NOT_HOLD
    assert decide_alike(x[:9], margin=9) is Verdict.NOT_DECIDED


def test_several_tests_are_corrected_for_their_number():
    weak = [1.0] * 8 + [-0.1, -1.2]  # p is about .03 alone
    assert decide(weak) is Verdict.HOLDS
    assert decide_each([weak] * 4) == [Verdict.NOT_DECIDED] * 4
    strong = np.linspace(1, 2, 10)
    found = decide_each([strong, -strong, weak, strong - 1.5])
    assert found == [HOLDS, DOES_NOT_HOLD, UNDECIDED, UNDECIDED]
    assert decide_each([strong, strong], margin=3) == [DOES_NOT_HOLD] * 2
    assert decide_each([strong, strong[:9]]) == [UNDECIDED] * 2


@pytest.mark.parametrize(
    ("verdicts", "of_parts", "of_cases"),
    [
        ([HOLDS, HOLDS], HOLDS, HOLDS),
        ([HOLDS, UNDECIDED], UNDECIDED, Verdict.HOLDS_ONLY_IF),
        ([HOLDS, DOES_NOT_HOLD], DOES_NOT_HOLD, Verdict.HOLDS_ONLY_IF),
        ([UNDECIDED, DOES_NOT_HOLD], DOES_NOT_HOLD, UNDECIDED),
        ([DOES_NOT_HOLD, DOES_NOT_HOLD], DOES_NOT_HOLD, DOES_NOT_HOLD),
        ([UNDECIDED, UNDECIDED], UNDECIDED, UNDECIDED),
    ],
)
def test_verdicts_of_parts_and_of_cases(verdicts, of_parts, of_cases):
    assert together(verdicts) is of_parts
    assert over_cases(verdicts) is of_cases


def test_the_closest_rival_is_not_chosen_by_its_own_luck():
    noise = np.random.default_rng(0).normal(size=(8, 2000))
    ahead = against_the_closest(np.zeros(2000), noise)
    assert abs(np.mean(ahead)) < 0.1  # the least of eight is −1.4 on average
    assert against_the_closest([1, 1], [[3, 3], [2, 2.5]]) == [1, 1.5]


def test_p_values_corrected_by_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []

"""What counts as a difference, and that nothing that cannot be compared counts as a small one."""

import math

import pytest
import torch

from dlnotes.oracles import Case, Comparison, Row, difference, largest, largest_difference

A = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
SCALES = ["each", "largest", "one"]


def test_what_a_difference_is_relative_to():
    b = torch.tensor([0.5, -2.0, 4.0], dtype=torch.float64)
    a = b + torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)
    assert difference(a, b, "each") == pytest.approx(0.2)
    assert difference(a, b, "largest") == pytest.approx(0.025)
    assert difference(a, b, "one") == pytest.approx(0.1)
    assert difference(a, b) == difference(a, b, "largest")
    assert difference(b, a) > 0


@pytest.mark.parametrize("scale", SCALES)
def test_equal_tensors_do_not_differ(scale):
    assert difference(A, A.clone(), scale) == 0
    infinite = torch.tensor([1.0, math.inf, -math.inf])
    assert difference(infinite, infinite.clone(), scale) == 0
    assert difference(torch.tensor([1.5, math.inf]), torch.tensor([1.0, math.inf]), scale) > 0


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_on_one_side_is_a_difference(scale, position, value):
    wrong = A.clone()
    wrong[position] = value
    for ours, theirs in ((wrong, A), (A, wrong), (wrong, torch.zeros_like(A))):
        assert not difference(ours, theirs, scale) <= 1e300
    if math.isnan(value):
        assert math.isnan(difference(wrong, wrong, scale))
        assert math.isnan(difference(wrong, A, scale))
    else:
        assert not difference(wrong, -wrong, scale) <= 1e300


@pytest.mark.parametrize("scale", SCALES)
def test_what_compares_nothing_is_not_equal(scale):
    for nothing in (torch.zeros(3), torch.zeros(0), torch.full((2,), math.inf), torch.zeros(())):
        assert not difference(nothing, nothing.clone(), scale) <= 1e300
    assert largest_difference([], [], scale) != 0
    assert not largest_difference([A], [], scale) <= 1e300
    assert not largest_difference([A], [A, A], scale) <= 1e300


def test_a_zero_is_compared_where_it_is_said_to_be_one():
    zero = torch.zeros(3)
    assert difference(zero, zero, "one", zero=True) == 0
    assert difference(zero + 0.5, zero, "one", zero=True) == 0.5
    assert largest_difference([A, zero], [A, zero], "one", zeros=(1,)) == 0
    assert largest_difference([A, zero], [A, zero], "one", zeros=(0,)) == math.inf
    some = torch.tensor([0.0, 1.0])
    assert difference(some, some, "largest") == 0
    assert math.isnan(difference(some, some, "each"))  # 0/0


@pytest.mark.parametrize("scale", SCALES)
def test_shape_and_dtype_belong_to_the_result(scale):
    for wrong in (A.float(), A[None], A[:, None], A[:1], A[:0], A.sum(), A.long(), A.cdouble()):
        assert difference(wrong, A, scale) == math.inf
        assert difference(A, wrong, scale) == math.inf
    assert difference(A[:1].expand(3), A, scale) > 0


def test_the_largest_of_some_differences():
    assert largest([0.5, 2.0, 1.0]) == 2
    assert largest([0.0, math.inf]) == math.inf
    for place in range(3):
        numbers = [0.0, 1.0, math.inf]
        numbers[place] = math.nan
        assert math.isnan(largest(numbers))
    assert math.isnan(largest([]))
    assert math.isnan(largest(x for x in ()))


def test_when_a_row_is_ok():
    def row(cases, difference):
        return Row("", "", "", cases, difference, 1e-12)

    assert row(1, 1e-12).ok
    assert row(3, 0.0).ok
    assert not row(1, 1.1e-12).ok
    assert not row(1, math.nan).ok
    assert not row(1, math.inf).ok
    assert not row(0, 0.0).ok
    case = Case(lambda: [A], lambda: [A])
    assert Comparison("", "", "", [case], 0.0).row() == Row("", "", "", 1, 0.0, 0.0)
    assert not Comparison("", "", "", [], 0.0).row().ok
    assert not Comparison("", "", "", [case, Case(lambda: [], lambda: [])], 0.0).row().ok

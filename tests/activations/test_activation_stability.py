"""Slopes far out, where the textbook forms underflow to 0."""

import pytest
import torch

from dlnotes.activations import elu, relu, sigmoid, tanh
from dlnotes.activations.stability import FAR, slopes, table, ulps

each = pytest.mark.parametrize("far", FAR, ids=lambda far: far.name)


@each
def test_right_to_two_ulp_in_float32_where_torch_says_zero(far):
    ours, torchs, truth = slopes(far, torch.linspace(far.start, far.end, 10_001))
    assert truth.float().min() > 0
    assert ulps(ours, truth).max() <= 2
    assert (torchs == 0).all()


@each
def test_right_in_float64(far):
    ours, _, truth = slopes(far, torch.linspace(far.start, far.end, 1001, dtype=torch.float64))
    torch.testing.assert_close(ours, truth, rtol=1e-14, atol=0)


def test_no_overflow_at_the_largest_numbers():
    huge = torch.tensor([-3e38, -1e4, 1e4, 3e38], requires_grad=True)
    for f in (sigmoid, tanh, elu, relu):
        y = f(huge)
        (dx,) = torch.autograd.grad(y.sum(), huge)
        assert y.isfinite().all()
        assert dx.isfinite().all()


def test_the_table_shows_it():
    assert "| sigmoid′ | 17 | 4.14e-08 | 0 | 4.14e-08 |" in table()

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.foundations.gradient_descent import minimise

START = torch.tensor(1.0, dtype=torch.float64)


def parabola(curvature):
    return lambda x: curvature * x**2 / 2


@given(st.floats(0.01, 100), st.floats(-1, 4))
def test_on_a_parabola_each_step_multiplies_by_one_minus_alpha_lambda(curvature, product):
    path = minimise(parabola(curvature), START, lr=product / curvature, steps=8)
    factor = torch.tensor(1 - product, dtype=torch.float64)
    theory = factor ** torch.arange(9)
    torch.testing.assert_close(path, theory, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("product", "far_after_100"),
    [(0.01, 0.366), (1.0, 0.0), (1.9, 2.66e-5), (2.0, 1.0), (2.1, 1.378e4), (-0.01, 2.705)],
)
def test_stable_exactly_between_zero_and_two(product, far_after_100):
    distance = minimise(parabola(3.0), START, lr=product / 3, steps=100)[-1].abs().item()
    assert distance == pytest.approx(far_after_100, rel=2e-3, abs=1e-12)
    assert (distance < 0.999) == (0 < product < 2)


def test_in_more_dimensions_the_steepest_curvature_sets_the_limit():
    curvatures = torch.tensor([1.0, 10.0], dtype=torch.float64)
    start = torch.ones(2, dtype=torch.float64)

    def bowl(x):
        return (curvatures * x**2).sum() / 2

    assert minimise(bowl, start, lr=0.199, steps=2000)[-1].norm() < 1e-3
    assert minimise(bowl, start, lr=0.201, steps=2000)[-1].norm() > 1e3


def test_the_path_starts_at_the_start_and_leaves_it_alone():
    start = torch.tensor([[2.0, -3.0]])
    path = minimise(lambda x: (x - 1).square().sum(), start, lr=0.25, steps=3)
    assert path.shape == (4, 1, 2)
    assert path[0].equal(start)
    assert path[:, 0].tolist() == [[2, -3], [1.5, -1], [1.25, 0], [1.125, 0.5]]


def test_equals_torchs_sgd_on_rosenbrock():
    def rosenbrock(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    start = torch.tensor([-1.0, 1.5], dtype=torch.float64)
    path = minimise(rosenbrock, start, lr=1e-3, steps=500)
    x = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=1e-3)
    for _ in range(500):
        optimizer.zero_grad()
        rosenbrock(x).backward()
        optimizer.step()
    torch.testing.assert_close(path[-1], x.detach(), rtol=1e-10, atol=0)
    assert rosenbrock(path[-1]) < 0.2 * rosenbrock(start)

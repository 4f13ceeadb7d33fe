"""The surfaces that optimizers are drawn on, and the claim about them."""

import math

import pytest
import torch
from torch.nn import Parameter

from dlnotes.claims import adam_converges_faster_on_surfaces as claim
from dlnotes.claims.claim import Budget, Verdict
from dlnotes.claims.surfaces import SURFACES, ends, excess, walk
from dlnotes.optim import OPTIMIZERS

BEALE = SURFACES["Beale's function"]


@pytest.mark.parametrize("name", [*claim.OTHERS, "adam"])
def test_a_path_is_the_optimizers_own(name):
    surface = BEALE._replace(steps=30)
    rates = torch.tensor([0.001, 0.02], dtype=torch.float64)
    starts = torch.tensor([surface.start, (0.5, -0.5)], dtype=torch.float64)
    walked = walk(OPTIMIZERS[name], surface, starts, rates)
    assert walked.shape == (2, 2, 31, 2)
    for i, lr in enumerate(rates.tolist()):
        for j, start in enumerate(starts):
            theta = Parameter(start.clone())
            optimizer = OPTIMIZERS[name]([theta], lr=lr)
            for point in walked[i, j]:
                torch.testing.assert_close(theta.detach(), point, rtol=1e-9, atol=1e-12)
                optimizer.zero_grad()
                surface.height(theta[0], theta[1]).backward()
                optimizer.step()


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_minima_are_minima(surface):
    for minimum in surface.minima:
        point = torch.tensor(minimum, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(surface.height(point[0], point[1]), point)
        assert slope.abs().max() < 1e-9
        assert abs(excess(surface, point).item()) < 1e-12
        hessian = torch.autograd.functional.hessian(
            lambda p: surface.height(p[0], p[1]), point.detach()
        )
        assert torch.linalg.eigvalsh(hessian).min() > 0


def test_a_path_that_leaves_the_picture_ends_infinitely_high():
    left, right, low, high = BEALE.view
    inside = torch.tensor([(left + right) / 2, (low + high) / 2], dtype=torch.float64)
    paths = inside.expand(4, BEALE.steps + 1, 2).clone()
    paths[1, 3, 0] = right + 1  # and comes back
    paths[2, 3, 1] = low - 1
    paths[3, 3] = math.nan
    found = ends(BEALE, paths)
    assert found[0] == pytest.approx(float(excess(BEALE, inside)))
    assert found[1:].isinf().all()


def test_seeds_start_near_the_surfaces_own_start():
    near = claim.starts(BEALE, range(200)) - torch.tensor(BEALE.start, dtype=torch.float64)
    left, right, low, high = BEALE.view
    most = claim.NEAR / 2 * torch.tensor([right - left, high - low])
    assert (near.abs() <= most).all()
    assert (near.abs().max(0).values > 0.9 * most).all()


@pytest.mark.parametrize(
    ("ours", "other", "says"),
    [
        ("adam", "gradient-descent", "holds only if the surface is Beale's function"),
        ("gradient-descent", "adam", "holds only if the surface is ravine or saddle"),
        ("gradient-descent", "gradient-descent", "not decided"),
    ],
)
def test_who_is_lower_at_the_end(ours, other, says, monkeypatch):
    some = {name: SURFACES[name] for name in ("ravine", "Beale's function", "saddle")}
    monkeypatch.setattr(claim, "SURFACES", some)
    assert claim.experiment(Budget(), ours, (other,)).says == says


def test_a_quick_run_decides_nothing():
    finding = claim.experiment(Budget(quick=True))
    assert finding.verdict is Verdict.NOT_DECIDED
    assert all(axes.has_data() for axes in finding.figure.axes)
    assert finding.interval[0] <= finding.effect <= finding.interval[1]

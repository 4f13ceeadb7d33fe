"""Four surfaces to go down, and a rule's paths on them at many learning rates at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from dlnotes.optim import UpdateRule


class Surface(NamedTuple):
    """A function of two variables to go down."""

    formula: str
    height: Callable[[Any, Any], Any]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    view: tuple[float, float, float, float]
    steps: int


SURFACES = {
    "Ravine": Surface(
        "0.1x² + 2y²",
        lambda x, y: 0.1 * x**2 + 2 * y**2,
        (-5.0, -2.0),
        ((0.0, 0.0),),
        (-6, 3, -3, 3),
        100,
    ),
    "Rosenbrock": Surface(
        "(1 − x)² + 100(y − x²)²",
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        (-1.2, 1.0),
        ((1.0, 1.0),),
        (-2, 2, -1, 3),
        400,
    ),
    "Beale": Surface(
        "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        lambda x, y: (
            (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
        ),
        (1.0, 1.5),
        ((3.0, 0.5),),
        (-1, 4.5, -1.5, 2.5),
        200,
    ),
    "Saddle": Surface(
        "x² − y² + ¼y⁴",
        lambda x, y: x**2 - y**2 + 0.25 * y**4,
        (1.5, 1e-3),
        ((0.0, math.sqrt(2)), (0.0, -math.sqrt(2))),
        (-2, 2, -2, 2),
        100,
    ),
}


RATES = torch.logspace(-4, 2, 61, dtype=torch.float64)


def excess(surface: Surface, points: Tensor) -> Tensor:
    """Height above the minimum; infinite where a path became NaN."""
    height = surface.height(points[..., 0], points[..., 1])
    above: Tensor = height - surface.height(*surface.minima[0])
    return above.nan_to_num(nan=math.inf)


def sweep(rule: type[UpdateRule], surface: Surface, rates: Tensor) -> Tensor:
    """The paths from the surface's start at all learning rates, from one vmapped call.

    Args:
        rule: The optimizer.
        surface: Where to walk.
        rates: Learning rates. Shape (r,).

    Returns:
        Shape (r, steps + 1, 2).
    """
    defaults = rule([Parameter(torch.zeros(1))]).defaults
    hyper = {name: defaults[name] for name in rule.kernel_names() if name != "lr"}
    start = torch.tensor(surface.start, dtype=torch.float64)
    slope = torch.func.grad(lambda theta: surface.height(theta[0], theta[1]))

    def path(lr: Tensor) -> Tensor:
        theta, accumulators = start, [torch.zeros_like(start) for _ in rule.accumulators]
        points = [theta]
        for step in range(surface.steps):
            t = {"t": step + 1.0} if "t" in rule.hyper_names() else {}
            options = {**hyper, **t, "lr": lr}
            theta, *accumulators = rule.update(theta, slope(theta), *accumulators, **options)
            points.append(theta)
        return torch.stack(points)

    swept: Tensor = torch.func.vmap(path)(rates)
    return swept


def ends(surface: Surface, paths: Tensor) -> Tensor:
    """The mean height over the last tenth of the steps; infinite for a path that left the view."""
    left, right, low, high = surface.view
    x, y = paths[..., 0], paths[..., 1]
    inside = ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all(1)
    height = excess(surface, paths)[:, -max(1, surface.steps // 10) :].mean(1)
    return torch.where(inside, height, math.inf)

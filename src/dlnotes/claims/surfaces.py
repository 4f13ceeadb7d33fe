"""Four functions of two variables on which optimizers are usually drawn, and paths on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import Parameter

from dlnotes.optim import UpdateRule


class Surface(NamedTuple):
    """A function of two variables to descend.

    Attributes:
        formula: The formula as it is shown.
        height: The function of x and y, which are numbers, arrays or tensors.
        start: Where paths begin.
        minima: All global minima.
        view: The region that is drawn: least and greatest x, least and greatest y.
        steps: Number of updates of a path.
    """

    formula: str
    height: Callable[[Any, Any], Any]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    view: tuple[float, float, float, float]
    steps: int


SURFACES = {
    "ravine": Surface(
        "0.1x² + 2y²",
        lambda x, y: 0.1 * x**2 + 2 * y**2,
        (-5.0, -2.0),
        ((0.0, 0.0),),
        (-6, 3, -3, 3),
        100,
    ),
    "Rosenbrock's valley": Surface(
        "(1 − x)² + 100(y − x²)²",
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        (-1.2, 1.0),
        ((1.0, 1.0),),
        (-2, 2, -1, 3),
        400,
    ),
    "Beale's function": Surface(
        "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        lambda x, y: (
            (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
        ),
        (1.0, 1.5),
        ((3.0, 0.5),),
        (-1, 4.5, -1.5, 2.5),
        200,
    ),
    "saddle": Surface(
        "x² − y² + ¼y⁴",
        lambda x, y: x**2 - y**2 + 0.25 * y**4,
        (1.5, 1e-3),
        ((0.0, math.sqrt(2)), (0.0, -math.sqrt(2))),
        (-2, 2, -2, 2),
        100,
    ),
}


def excess(surface: Surface, points: Tensor) -> Tensor:
    """Height above the minimum; infinite where a path became NaN.

    Args:
        surface: The function.
        points: Shape (…, 2).
    """
    height = surface.height(points[..., 0], points[..., 1])
    above: Tensor = height - surface.height(*surface.minima[0])
    return above.nan_to_num(nan=math.inf)


def walk(rule: type[UpdateRule], surface: Surface, starts: Tensor, rates: Tensor) -> Tensor:
    """The paths of a rule from all starts at all learning rates, computed at once.

    Args:
        rule: An elementwise rule; its other hyper-parameters have their defaults.
        surface: Where to walk.
        starts: Shape (s, 2), float64.
        rates: Shape (r,).

    Returns:
        Shape (r, s, steps + 1, 2).
    """
    defaults = rule([Parameter(torch.zeros(1))]).defaults
    hyper: dict[str, Any] = {name: defaults[name] for name in rule.kernel_names() if name != "lr"}
    theta = starts.expand(len(rates), -1, -1)
    lr = rates[:, None, None]
    accumulators = [torch.zeros_like(theta) for _ in rule.accumulators]
    path = [theta]
    for step in range(surface.steps):
        point = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(surface.height(point[..., 0], point[..., 1]).sum(), point)
        options = {**hyper, "t": step + 1.0} if "t" in rule.hyper_names() else hyper
        theta, *accumulators = rule.update(theta, g, *accumulators, lr=lr, **options)
        path.append(theta)
    return torch.stack(path, 2)


def ends(surface: Surface, paths: Tensor) -> Tensor:
    """The mean height over the last tenth of the steps; infinite for a path that left the view.

    Args:
        surface: The function on which the paths lie.
        paths: From `walk`.
    """
    left, right, low, high = surface.view
    x, y = paths[..., 0], paths[..., 1]
    inside = ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all(-1)
    height = excess(surface, paths)[..., -max(1, surface.steps // 10) :].mean(-1)
    return torch.where(inside, height, math.inf)


def contours(axes: Axes, surface: Surface) -> None:
    """Draw contour lines, the start (a square) and the minima (stars).

    Args:
        axes: The axes to draw on.
        surface: The function to draw.
    """
    left, right, low, high = surface.view
    x, y = np.meshgrid(np.linspace(left, right, 80), np.linspace(low, high, 80))
    z = surface.height(x, y) - surface.height(*surface.minima[0])
    levels = np.logspace(-2, math.log10(z.max()), 12)
    axes.contour(x, y, z, levels, colors="gray", alpha=0.6, linewidths=0.6, zorder=0)
    axes.plot(*surface.start, "s", color="black", ms=5, zorder=4)
    axes.plot(*zip(*surface.minima, strict=True), "*", color="red", ms=11, zorder=4, ls="")
    axes.set(xlim=(left, right), ylim=(low, high))

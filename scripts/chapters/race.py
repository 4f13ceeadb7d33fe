"""The nine rules of the notes on the surfaces on which optimizers are usually drawn.

``docs/_static/race.js`` computes the same paths in the browser; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from chapters.measured import numbers
from dlnotes.claims.surfaces import SURFACES
from dlnotes.optim import OPTIMIZERS

SAMPLES = 16
"""Number of samples over which the loss is a mean."""


class Racer(NamedTuple):
    """One of the nine.

    Attributes:
        rule: The optimizer, as the command line calls it.
        color: Color of its path.
        batch: Samples per update.
        dash: Lengths of dashes and gaps, for SVG.
    """

    rule: str
    color: str
    batch: int = SAMPLES
    dash: str = ""


RACERS: dict[str, Racer] = {
    "BGD": Racer("gradient-descent", "#8a8a8a"),
    "SGD": Racer("gradient-descent", "#a98fd8", 1),
    "MBGD": Racer("gradient-descent", "#7c62c4", 4, "5 2"),
    "Momentum": Racer("momentum", "#4c8fd6"),
    "Nesterov": Racer("nesterov", "#22a9b0", dash="5 2"),
    "Adagrad": Racer("adagrad", "#3f9e4f"),
    "RMSProp": Racer("rmsprop", "#e0762f"),
    "Adadelta": Racer("adadelta", "#d65c9e", dash="5 2"),
    "Adam": Racer("adam", "#d63a3a"),
}
"""Name in the notes → who runs."""


def _beale(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y * y * y
    along_x = a * (y - 1) + b * (y * y - 1) + c * (y * y * y - 1)
    return 2 * along_x, 2 * x * (a + 2 * b * y + 3 * c * y * y)


GRADIENTS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "ravine": lambda x, y: (0.2 * x, 4 * y),
    "Rosenbrock's valley": lambda x, y: (
        -2 * (1 - x) - 400 * x * (y - x * x),
        200 * (y - x * x),
    ),
    "Beale's function": _beale,
    "saddle": lambda x, y: (2 * x, -2 * y + y * y * y),
}
"""Surface → its gradient, in the same order of operations as in JavaScript: some of the paths make
a rounding error so large that it can be seen. A test compares it with autograd."""

NOISE: dict[str, float] = {
    "ravine": 1.0,
    "Rosenbrock's valley": 3.0,
    "Beale's function": 1.0,
    "saddle": 0.5,
}
"""Surface → length of the vectors a_i in `shifts`."""


@cache
def best_rate(name: str, surface: str) -> float:
    """The rate with which the rule ended lowest in the claims' race on this surface.

    Args:
        name: One of `RACERS`; SGD and MBGD have BGD's rate.
        surface: One of `SURFACES`.
    """
    (row,) = numbers(
        "adam-converges-faster-on-surfaces", {"surface": surface, "rule": RACERS[name].rule}
    )
    return float(row["best rate"])


@cache
def shifts(surface: str) -> Tensor:
    r"""By how much the gradient of each sample differs from the gradient of the surface f.

    The loss of sample i is :math:`f(θ) + a_i · θ`. The :math:`a_i` point in all directions and sum
    to 0, so that f is the mean of all samples. They come in a fixed random order.

    Args:
        surface: One of `SURFACES`.

    Returns:
        The vectors a_i, float64, ``(SAMPLES, 2)``.
    """
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))
    angle = 2 * torch.pi * order.double() / SAMPLES
    return NOISE[surface] * torch.stack((angle.cos(), angle.sin()), 1)


@cache
def path(name: str, surface: str, lr: float, steps: int) -> Tensor:
    """The path of a racer.

    Args:
        name: One of `RACERS`.
        surface: One of `SURFACES`.
        lr: Learning rate α.
        steps: Number of updates.

    Returns:
        The points in float64, ``(steps + 1, 2)``, the start first.
    """
    racer, gradient = RACERS[name], GRADIENTS[surface]
    theta = torch.nn.Parameter(torch.tensor(SURFACES[surface].start, dtype=torch.float64))
    optimizer = make(name, [theta], lr)
    points = [theta.detach().clone()]
    for t in range(steps):
        g = torch.stack(gradient(*theta.detach()))
        if racer.batch < SAMPLES:
            first = t * racer.batch % SAMPLES
            g = g + shifts(surface)[first : first + racer.batch].sum(0) / racer.batch
        theta.grad = g
        optimizer.step()
        points.append(theta.detach().clone())
    return torch.stack(points)


def make(name: str, params: Any, lr: float) -> Optimizer:
    """The optimizer of a racer, with the defaults of its rule except for the learning rate."""
    return OPTIMIZERS[RACERS[name].rule](params, lr=lr, fused=False)


def given(names: list[str], surface: str) -> dict[str, Any]:
    """What the interactive figure needs to compute the same paths.

    Args:
        names: Who runs, of `RACERS`.
        surface: The first surface that is shown.
    """
    return {
        "surface": surface,
        "racers": {name: RACERS[name]._asdict() for name in names},
        "surfaces": {
            each: {
                "formula": formula,
                "start": start,
                "minima": minima,
                "view": view,
                "steps": steps,
                "shifts": shifts(each).tolist(),
                "rates": {name: best_rate(name, each) for name in names},
            }
            for each, (formula, _, start, minima, view, steps) in SURFACES.items()
        },
    }

"""The ravine on which the book shows its rules: flat along x, steep along y.

``docs/_static/ravine.js`` computes the same paths in the browser; a test compares the two.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor
from typing_extensions import Required

from dlnotes.optim import GradientDescent, Momentum

KAPPA = 20.0
START = (-9.0, 2.0)
RATES: dict[str, tuple[float, ...]] = {
    "gradient-descent": (
        *(0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09),
        *(0.095, 0.098, 0.099, 0.1, 0.101, 0.102, 0.105, 0.11, 0.12),
    ),
    "momentum": (
        *(0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.09, 0.1, 0.12, 0.15, 0.18, 0.2, 0.22, 0.25),
        *(0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 1.8, 1.88, 1.9, 1.92, 2.0),
    ),
}
"""The learning rates to choose from in the interactive figure."""


def height(at: Tensor) -> Tensor:
    r"""The ravine.

    .. math::
        f(x, y) = \tfrac{1}{2} (x^2 + κ y^2), \quad κ = 20

    Args:
        at: Points, ``(..., 2)``.

    Returns:
        The heights, ``(...)``.
    """
    return (at[..., 0] ** 2 + KAPPA * at[..., 1] ** 2) / 2


class Values(TypedDict, total=False):
    """What a rule takes."""

    lr: Required[float]
    beta: float


def path(rule: str, lr: float, beta: float = 0.0, steps: int = 40) -> Tensor:
    """The path of an optimizer through the ravine.

    Args:
        rule: "gradient-descent" or "momentum".
        lr: Learning rate α.
        beta: Momentum's β; gradient descent has none.
        steps: Number of updates.

    Returns:
        The points in float64, ``(steps + 1, 2)``, the start first.
    """
    theta = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = (
        Momentum([theta], lr=lr, beta=beta, fused=False)
        if rule == "momentum"
        else GradientDescent([theta], lr=lr, fused=False)
    )
    points = [theta.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        height(theta).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        points.append(theta.detach().clone())
    return torch.stack(points)


def best(rule: str) -> Values:
    """The α and β with which a rule comes nearest to the minimum in the long run (Polyak 1964).

    Args:
        rule: "gradient-descent" or "momentum".
    """
    if rule == "gradient-descent":
        return {"lr": 2 / (1 + KAPPA)}
    root = math.sqrt(KAPPA)
    beta = ((root - 1) / (root + 1)) ** 2
    return {"lr": (2 / (root + 1)) ** 2 / (1 - beta), "beta": beta}

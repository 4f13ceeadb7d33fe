"""The activations that the book draws, one curve each.

``docs/_static/slope.js`` computes the same values and slopes in the browser; a test compares the
two.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from dlnotes.oracles.activations import ORACLES
from plot_activations import MORE, SHEET

CURVES: dict[str, Callable[[Tensor], Tensor]] = dict(
    zip((oracle.name for oracle in ORACLES), {**SHEET, **MORE}.values(), strict=True)
)
"""Name in `dlnotes.activations` → function of one variable."""

OF_THE_NOTES = ("step", "sigmoid", "tanh", "relu", "prelu", "rrelu", "maxout", "elu")

SETTINGS = {
    "leaky_relu": "a = 0.1",
    "prelu": "a = 1/4",
    "rrelu": "a = 11/48",
    "maxout": "−x/2 − 1, x/4, x − 1",
    "elu": "α = 1",
    "celu": "α = 2",
    "softshrink": "λ = 1",
    "hardshrink": "λ = 1",
    "glu": "1 − x/2, x",
    "swiglu": "1 − x/2, x",
}
"""Settings that turn activations with further arguments into functions of one variable."""


def title(name: str) -> str:
    """The name with its setting.

    Args:
        name: One of `CURVES`.
    """
    return f"{name} ({SETTINGS[name]})" if name in SETTINGS else name


def value_and_slope(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """An activation and its derivative, which autograd takes from the activation.

    Args:
        name: One of `CURVES`.
        x: Points, ``(n,)``.

    Returns:
        Two tensors ``(n,)``.
    """
    return CURVES[name](x), vmap(grad(CURVES[name]))(x)


def with_gaps(y: Tensor) -> Tensor:
    """Values of a curve, with NaN where it jumps, so that no line is drawn there.

    Args:
        y: At points that lie close together, ``(n,)``.
    """
    y = y.clone()
    y[1:][y.diff().abs() > 0.1] = torch.nan
    return y

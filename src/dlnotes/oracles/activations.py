"""What each activation is compared with: torch's function of the same name."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlnotes import activations as ours
from dlnotes.oracles.comparison import Case, Comparison, Outputs


class Oracle(NamedTuple):
    """An activation, torch's function of the same name, and how their arguments correspond."""

    name: str
    ours: Callable[[Tensor], Tensor]
    torch: Callable[[Tensor], Tensor]
    mapping: str
    flat: bool = False
    """Whether the gradient is 0 everywhere by definition."""
    settings: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = ()
    """The two functions with other arguments."""


def _slope(x: Tensor, slope: float = 0.25) -> Tensor:
    return torch.full((1,), slope, dtype=x.dtype, device=x.device)


def _pieces(x: Tensor) -> Tensor:
    return torch.stack((-x / 2 - 1, x / 4, x - 1), -1)


def _flat_at_nan(x: Tensor, y: Tensor) -> Tensor:
    """No gradient where x is NaN: in training, ours draws a slope there and torch takes 1."""
    return torch.where(x.isnan(), math.nan, y)


def _heaviside(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, torch.heaviside(x.detach(), x.new_zeros(())))


ORACLES = [
    Oracle("step", ours.step, _heaviside, "heaviside(x, 0), except NaN → NaN; gradient 0", True),
    Oracle("sigmoid", ours.sigmoid, torch.sigmoid, "same"),
    Oracle("tanh", ours.tanh, torch.tanh, "same"),
    Oracle("relu", ours.relu, torch.relu, "same"),
    Oracle(
        "leaky_relu",
        ours.leaky_relu,
        F.leaky_relu,
        "same",
        settings=((lambda x: ours.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3)),),
    ),
    Oracle(
        "prelu",
        lambda x: ours.prelu(x, _slope(x)),
        lambda x: F.prelu(x, _slope(x)),
        "same; at 0 torch's forward mode says 1",
        settings=(
            (lambda x: ours.prelu(x, _slope(x, -0.5)), lambda x: F.prelu(x, _slope(x, -0.5))),
        ),
    ),
    Oracle(
        "rrelu",
        ours.rrelu,
        F.rrelu,
        "evaluation; training with one slope, but not the slope at NaN: 0.3, torch's 1",
        settings=(
            (lambda x: ours.rrelu(x, 0.2, 0.4), lambda x: F.rrelu(x, 0.2, 0.4)),
            (
                lambda x: _flat_at_nan(x, ours.rrelu(x, 0.3, 0.3, True)),
                lambda x: _flat_at_nan(x, F.rrelu(x, 0.3, 0.3, True)),
            ),
        ),
    ),
    Oracle(
        "maxout",
        lambda x: ours.maxout(_pieces(x)),
        lambda x: _pieces(x).max(-1).values,
        "max(dim).values",
    ),
    Oracle(
        "elu",
        lambda x: ours.elu(x, 1.5),
        lambda x: F.elu(x, 1.5),
        "same",
        settings=((lambda x: ours.elu(x, 0.7), lambda x: F.elu(x, 0.7)),),
    ),
    Oracle(
        "softplus",
        ours.softplus,
        lambda x: F.softplus(x, threshold=40),
        "threshold=40, where the two forms agree to the last digit",
        settings=(
            (lambda x: ours.softplus(x, 2.0), lambda x: F.softplus(x, 2.0, threshold=40)),
            (lambda x: ours.softplus(x, 0.5), lambda x: F.softplus(x, 0.5, threshold=40)),
        ),
    ),
    Oracle("gelu", ours.gelu, F.gelu, "approximate='none'"),
    Oracle("silu", ours.silu, F.silu, "same"),
]


#: Where a formula may go wrong: not finite, 0 with either sign, small and large.
_POINTS = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0),
    *(sign * x for x in (1e-8, 1e-6, 1e-4, 1e-3, 9.0, 20.0, 50.0) for sign in (1, -1)),
)


def comparisons() -> Iterator[Comparison]:
    """Yield value and gradient of each activation against torch's, in float64.

    They are compared on [-8, 8] and at single points from 0 to infinity, and NaN.
    """
    for oracle in ORACLES:
        yield Comparison(
            oracle.name,
            f"torch {oracle.name}, value and gradient",
            oracle.mapping,
            [
                Case(*(partial(_value_and_slope, f, oracle.flat) for f in pair))
                for pair in ((oracle.ours, oracle.torch), *oracle.settings)
            ],
            1e-12,
            "one",
            zeros=(1,) if oracle.flat else (),
        )


def _value_and_slope(f: Callable[[Tensor], Tensor], flat: bool) -> Outputs:
    """Value and slope, both with 0 for NaN, and where they are NaN.

    That is an output of its own, so that a NaN counts as equal where the oracle has one, too, and
    nowhere else. A flat function's slope at NaN is left out: that of the oracle is an artifact.
    """
    grid = torch.linspace(-8, 8, 4000, dtype=torch.float64)
    x = torch.cat((grid.new_tensor(_POINTS), grid)).requires_grad_()
    y = f(x)
    slope = torch.autograd.grad(y.sum(), x)[0]
    y, slope = y.detach(), slope[~x.isnan()] if flat else slope
    return *(each.where(~each.isnan(), 0) for each in (y, slope)), torch.cat(
        (y.isnan(), slope.isnan())
    ).double()

"""Oracles of the activations: torch's function of the same name, or the formula."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
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
    layer: bool = False
    """Whether both are built from a function that returns fewer elements than it takes."""
    settings: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = ()
    """Further pairs of the two functions, with other arguments."""


def _slope(x: Tensor, slope: float = 0.25) -> Tensor:
    return torch.full((1,), slope, dtype=x.dtype, device=x.device)


def _pieces(x: Tensor) -> Tensor:
    return torch.stack((-x / 2 - 1, x / 4, x - 1), -1)


def _halves(x: Tensor) -> Tensor:
    return torch.stack((1 - x / 2, x), -1)


def _through_nan(f: Callable[..., Tensor], *arguments: float) -> Callable[[Tensor], Tensor]:
    """Slope 1 where x is NaN: torch's kernels give 0 or 1, depending on the element's position."""
    return lambda x: torch.where(x.isnan(), x, f(x, *arguments))


class _SwiGLU(torch.autograd.Function):
    """Shazeer's equation and its derivatives in NumPy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        a, b = np.split(x.detach().numpy(), 2, -1)
        with np.errstate(all="ignore"):
            s = 1 / (1 + np.exp(-b))
            ctx.slopes = np.concatenate((b * s, a * (s + b * s * (1 - s))), -1)
            return torch.from_numpy(a * b * s)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.from_numpy(ctx.slopes)


def _flat_at_nan(x: Tensor, y: Tensor) -> Tensor:
    """Slope 0 where x is NaN."""
    return torch.where(x.isnan(), math.nan, y)


def _softsign(x: Tensor) -> Tensor:
    """Slope 0 where x is infinite: torch's formula computes inf / inf there."""
    return torch.where(x.isinf(), math.nan, F.softsign(x.where(~x.isinf(), 0)))


def _hardswish(x: Tensor) -> Tensor:
    """Slopes 0 and 1 at -3 and 3: up to version 2.6, torch's are -1/2 and 3/2."""
    return torch.where(x.abs() == 3, F.relu(x), F.hardswish(x))


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
        "evaluation mode, and training with equal bounds; the slope at NaN is not compared "
        "(ours 0.3, torch's 1)",
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
        layer=True,
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
    Oracle(
        "hardtanh",
        ours.hardtanh,
        _through_nan(F.hardtanh),
        "same, but the slope at NaN: 1, torch's 0 or 1",
        settings=(
            (lambda x: ours.hardtanh(x, -0.5, 2.0), _through_nan(F.hardtanh, -0.5, 2.0)),
            (lambda x: ours.hardtanh(x, 1.0, 1.5), _through_nan(F.hardtanh, 1.0, 1.5)),
        ),
    ),
    Oracle(
        "relu6", ours.relu6, _through_nan(F.relu6), "same, but the slope at NaN: 1, torch's 0 or 1"
    ),
    Oracle(
        "hardsigmoid",
        ours.hardsigmoid,
        lambda x: _flat_at_nan(x, F.relu6(x + 3) / 6),
        "relu6(x + 3) / 6: the slope of torch's is 1/6 in float32, in float64 too",
    ),
    Oracle(
        "hardswish",
        ours.hardswish,
        _hardswish if torch.__version__ < "2.8" else F.hardswish,
        "same; but up to torch 2.6 not the slopes at -3 and 3",
    ),
    Oracle("selu", ours.selu, F.selu, "same"),
    Oracle(
        "celu",
        ours.celu,
        F.celu,
        "same; torch rounds alpha to float32 in the slope",
        settings=(
            (lambda x: ours.celu(x, 1.5), lambda x: F.celu(x, 1.5)),
            (lambda x: ours.celu(x, 0.75), lambda x: F.celu(x, 0.75)),
        ),
    ),
    Oracle("mish", ours.mish, F.mish, "same"),
    Oracle(
        "softsign",
        ours.softsign,
        _softsign,
        "same, but the slope at infinity: 0, torch's NaN",
    ),
    Oracle("logsigmoid", ours.logsigmoid, F.logsigmoid, "same"),
    Oracle(
        "softshrink",
        ours.softshrink,
        _through_nan(F.softshrink),
        "same, but the slope at NaN: 1, torch's 0 or 1",
        settings=(
            (lambda x: ours.softshrink(x, 0.3), _through_nan(F.softshrink, 0.3)),
            (lambda x: ours.softshrink(x, 0.0), _through_nan(F.softshrink, 0.0)),
        ),
    ),
    Oracle(
        "hardshrink",
        ours.hardshrink,
        _through_nan(F.hardshrink),
        "same, but the slope at NaN: 1, torch's 0 or 1",
        settings=(
            (lambda x: ours.hardshrink(x, 0.3), _through_nan(F.hardshrink, 0.3)),
            (lambda x: ours.hardshrink(x, 0.0), _through_nan(F.hardshrink, 0.0)),
        ),
    ),
    Oracle("tanhshrink", ours.tanhshrink, F.tanhshrink, "same"),
    Oracle("squared_relu", ours.squared_relu, lambda x: F.relu(x) ** 2, "relu(x)²"),
    Oracle(
        "glu",
        lambda x: ours.glu(_halves(x)).squeeze(-1),
        lambda x: F.glu(_halves(x)).squeeze(-1),
        "same",
        layer=True,
        settings=(
            (
                lambda x: ours.glu(_halves(x).transpose(0, -1), 0).squeeze(0),
                lambda x: F.glu(_halves(x).transpose(0, -1), 0).squeeze(0),
            ),
        ),
    ),
    Oracle(
        "swiglu",
        lambda x: ours.swiglu(_halves(x)).squeeze(-1),
        lambda x: (1 - x / 2) * F.silu(x),
        "the first half times silu of the second; the equation in NumPy",
        layer=True,
        settings=(
            (
                lambda x: ours.swiglu(_halves(x)).squeeze(-1),
                lambda x: cast(Tensor, _SwiGLU.apply(_halves(x))).squeeze(-1),
            ),
            (
                lambda x: ours.swiglu(_halves(x).transpose(0, -1), 0).squeeze(0),
                lambda x: cast(Tensor, _SwiGLU.apply(_halves(x))).squeeze(-1),
            ),
        ),
    ),
]


#: Points at which a formula may go wrong: not finite, 0 with either sign, small and large ones.
_POINTS = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0),
    *(sign * x for x in (1e-8, 1e-6, 1e-4, 1e-3, 9.0, 20.0, 50.0) for sign in (1, -1)),
)


def comparisons() -> Iterator[Comparison]:
    """Yield value and gradient of each activation against torch's, in float64.

    They are compared on [-8, 8] and at single points, which include NaN and infinity.
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
    """Value and slope, both with 0 in place of NaN, and the positions of NaN.

    The positions are an output of their own, so that a NaN counts as equal only where the oracle
    also has one. The slope of a flat function at NaN is left out, since the oracle's is an artifact
    of its construction.
    """
    grid = torch.linspace(-8, 8, 4000, dtype=torch.float64)
    x = torch.cat((grid.new_tensor(_POINTS), grid)).requires_grad_()
    y = f(x)
    slope = torch.autograd.grad(y.sum(), x)[0]
    y, slope = y.detach(), slope[~x.isnan()] if flat else slope
    return *(each.where(~each.isnan(), 0) for each in (y, slope)), torch.cat(
        (y.isnan(), slope.isnan())
    ).double()

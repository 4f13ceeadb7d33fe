"""What each activation is compared with: torch's function of the same name."""

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


def _slope(x: Tensor) -> Tensor:
    return torch.full((1,), 0.25, dtype=x.dtype, device=x.device)


def _pieces(x: Tensor) -> Tensor:
    return torch.stack((-x / 2 - 1, x / 4, x - 1), -1)


def _heaviside(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, torch.heaviside(x.detach(), x.new_zeros(())))


ORACLES = [
    Oracle("step", ours.step, _heaviside, "heaviside(x, 0), except NaN → NaN; gradient 0", True),
    Oracle("sigmoid", ours.sigmoid, torch.sigmoid, "same"),
    Oracle("tanh", ours.tanh, torch.tanh, "same"),
    Oracle("relu", ours.relu, torch.relu, "same"),
    Oracle("leaky_relu", ours.leaky_relu, F.leaky_relu, "same"),
    Oracle(
        "prelu",
        lambda x: ours.prelu(x, _slope(x)),
        lambda x: F.prelu(x, _slope(x)),
        "same; at 0 torch's forward mode says 1",
    ),
    Oracle("rrelu", ours.rrelu, F.rrelu, "evaluation; in training through torch's own noise"),
    Oracle(
        "maxout",
        lambda x: ours.maxout(_pieces(x)),
        lambda x: _pieces(x).max(-1).values,
        "max(dim).values",
    ),
    Oracle("elu", lambda x: ours.elu(x, 1.5), lambda x: F.elu(x, 1.5), "same"),
    Oracle(
        "softplus",
        ours.softplus,
        lambda x: F.softplus(x, threshold=40),
        "threshold=40, where the two forms agree to the last digit",
    ),
    Oracle("gelu", ours.gelu, F.gelu, "approximate='none'"),
    Oracle("silu", ours.silu, F.silu, "same"),
]


def comparisons() -> Iterator[Comparison]:
    """Yield value and gradient of each activation against torch's, in float64 on [-8, 8]."""
    for oracle in ORACLES:
        yield Comparison(
            oracle.name,
            f"torch {oracle.name}, value and gradient",
            oracle.mapping,
            [Case(partial(_value_and_slope, oracle.ours), partial(_value_and_slope, oracle.torch))],
            1e-12,
            "one",
            zeros=(1,) if oracle.flat else (),
        )


def _value_and_slope(f: Callable[[Tensor], Tensor]) -> Outputs:
    x = torch.linspace(-8, 8, 4000, dtype=torch.float64, requires_grad=True)
    y = f(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]

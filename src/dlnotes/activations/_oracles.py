"""What each activation is checked against: one table for the tests and the benchmark."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlnotes import activations as ours


class Oracle(NamedTuple):
    """An activation, torch's function of the same name, and how their arguments correspond."""

    name: str
    ours: Callable[[Tensor], Tensor]
    torch: Callable[[Tensor], Tensor]
    mapping: str


def _slope(x: Tensor) -> Tensor:
    return torch.full((1,), 0.25, dtype=x.dtype, device=x.device)


def _pieces(x: Tensor) -> Tensor:
    return torch.stack((-x / 2 - 1, x / 4, x - 1), -1)


def _heaviside(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, torch.heaviside(x.detach(), x.new_zeros(())))


ORACLES = [
    Oracle("step", ours.step, _heaviside, "heaviside(x, 0), except NaN → NaN; gradient 0"),
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


class Row(NamedTuple):
    """One line of a table of checks: it holds if ``difference <= tolerance``."""

    note: str
    oracle: str
    mapping: str
    difference: float
    tolerance: float


def rows() -> Iterator[Row]:
    """Value and gradient of each activation against torch's, in float64 on [-8, 8].

    The difference is the largest one, relative to 1 or to torch's number if that is larger.
    """
    x = torch.linspace(-8, 8, 4000, dtype=torch.float64, requires_grad=True)
    for name, mine, theirs, mapping in ORACLES:
        differences = []
        for a, b in zip(_value_and_slope(mine, x), _value_and_slope(theirs, x), strict=True):
            differences.append(((a - b).abs() / b.abs().clamp(min=1)).max().item())
        yield Row(name, f"torch {name}, value and gradient", mapping, max(differences), 1e-12)


def _value_and_slope(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    y = f(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]

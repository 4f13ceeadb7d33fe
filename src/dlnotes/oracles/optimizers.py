"""What each rule is compared with: the torch optimizer and the exact mapping of the arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlnotes.optim.adadelta import Adadelta
from dlnotes.optim.adagrad import Adagrad
from dlnotes.optim.adam import Adam, AdamW
from dlnotes.optim.clipping import clip_grad_norm_, clip_grad_value_
from dlnotes.optim.gradient_descent import GradientDescent
from dlnotes.optim.momentum import Momentum
from dlnotes.optim.nesterov import Nesterov
from dlnotes.optim.rmsprop import RMSProp
from dlnotes.oracles.comparison import Case, Comparison, Outputs


class Oracle(NamedTuple):
    """A rule beside the torch optimizer that it is equal to."""

    note: str
    rule: Callable[..., Optimizer]
    torch: Callable[..., Optimizer]
    mapped: Callable[..., dict[str, Any]]
    """From our hyper-parameters to torch's; what is not named stays as it is."""
    mapping: str
    """The same in words."""
    grid: tuple[dict[str, Any], ...]
    """Hyper-parameters to compare at."""


def _momentum(lr: float, beta: float, **same: Any) -> dict[str, Any]:
    return {"lr": lr * (1 - beta), "momentum": beta, **same}


def _adagrad(eps: float, **same: Any) -> dict[str, Any]:
    return {"initial_accumulator_value": eps, "eps": 0.0, **same}


def _rmsprop(beta: float, **same: Any) -> dict[str, Any]:
    return {"alpha": beta, **same}


_BETAS = (
    {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8},
    {"lr": 3e-3, "betas": (0.5, 0.9), "eps": 1e-3},
    {"lr": 1e-3, "betas": (0.0, 0.99), "eps": 1e-10},
)

ORACLES: dict[str, Oracle] = {
    "gradient-descent": Oracle(
        "BGD, SGD, MBGD",
        GradientDescent,
        torch.optim.SGD,
        lambda **same: same,
        "lr",
        ({"lr": 1e-3}, {"lr": 1e-2}),
    ),
    "momentum": Oracle(
        "Momentum",
        Momentum,
        torch.optim.SGD,
        _momentum,
        "lr = α(1−β), momentum = β",
        ({"lr": 1e-2, "beta": 0.9}, {"lr": 1e-2, "beta": 0.5}, {"lr": 3e-2, "beta": 0.99}),
    ),
    "nesterov": Oracle(
        "Nesterov",
        Nesterov,
        torch.optim.SGD,
        lambda **ours: {**_momentum(**ours), "nesterov": True},
        "lr = α(1−β), momentum = β, nesterov; parameters are the look-ahead point",
        ({"lr": 1e-2, "beta": 0.9}, {"lr": 1e-2, "beta": 0.5}, {"lr": 3e-2, "beta": 0.99}),
    ),
    "rmsprop": Oracle(
        "RMSProp",
        RMSProp,
        torch.optim.RMSprop,
        _rmsprop,
        "alpha = β, eps outside of the root",
        (
            {"lr": 1e-3, "beta": 0.9, "eps": 1e-8},
            {"lr": 1e-3, "beta": 0.999, "eps": 1e-8},
            {"lr": 1e-2, "beta": 0.5, "eps": 1e-2},
        ),
    ),
    "adagrad": Oracle(
        "Adagrad",
        Adagrad,
        torch.optim.Adagrad,
        _adagrad,
        "initial_accumulator_value = ε, eps = 0: ε under the root",
        ({"lr": 1e-2, "eps": 1e-8}, {"lr": 1e-1, "eps": 1e-2}),
    ),
    "adadelta": Oracle(
        "Adadelta",
        Adadelta,
        torch.optim.Adadelta,
        lambda **same: same,
        "lr, rho, eps",
        (
            {"lr": 1.0, "rho": 0.95, "eps": 1e-6},
            {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
            {"lr": 0.5, "rho": 0.99, "eps": 1e-4},
        ),
    ),
    "adam": Oracle(
        "Adam", Adam, torch.optim.Adam, lambda **same: same, "lr, betas, eps: Algorithm 1", _BETAS
    ),
    "adamw": Oracle(
        "AdamW (not in the notes)",
        AdamW,
        torch.optim.AdamW,
        lambda **same: same,
        "lr, betas, eps, weight_decay",
        _BETAS,
    ),
}


def loss(w: Tensor, step: int) -> Tensor:
    """A coupled convex bowl around ±3 that is shaken at each step.

    Shaken, so that no gradient fades away, and convex, so that rounding errors do not grow: two
    trajectories of this loss differ by as much as their rules do. No coordinate comes near 0, so
    relative differences mean something.
    """
    n = torch.arange(len(w), dtype=w.dtype, device=w.device)
    minimum = 3 - 6 * (n % 2)
    off = w - minimum
    shaken = 0.5 * torch.sin(1.7 * n + 0.9 * step)
    return ((0.2 + n / len(n)) * off**2 + 0.1 * off * off.roll(1) + shaken * off).sum()


def start(n: int = 23, dtype: torch.dtype = torch.float64) -> Parameter:
    """Where the trajectories start."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(n, dtype=torch.float64, generator=generator)
    return Parameter(((4 + noise) * (1 - 2 * (torch.arange(n) % 2))).to(dtype))


def trajectory(
    make: Callable[[Iterable[Tensor]], Optimizer], steps: int = 300, maximize: bool = False
) -> Tensor:
    """The float64 parameters after each of ``steps`` steps in closed loop, down or up ``loss``."""
    w = start()
    optimizer = make([w])
    path = []
    for step in range(steps):
        optimizer.zero_grad()
        height = loss(w, step)
        (-height if maximize else height).backward()
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


def case(
    oracle: Oracle, hyper: dict[str, Any], steps: int = 300, fused: bool | None = None
) -> Case:
    """Two trajectories in float64, through the mapping, and how far each moved in all."""
    return Case(
        lambda: _moved(trajectory(lambda p: oracle.rule(p, **hyper, fused=fused), steps)),
        lambda: _moved(trajectory(lambda p: oracle.torch(p, **oracle.mapped(**hyper)), steps)),
    )


def _moved(path: Tensor) -> Outputs:
    """The path, and its last point less the start: 0 where an optimizer does nothing."""
    return path, path[-1] - start().detach()


def comparisons(steps: int = 300) -> Iterator[Comparison]:
    """Yield every rule against torch's, both ways of running it, and clipping against torch's."""
    for oracle in ORACLES.values():
        cases = [
            case(oracle, {**hyper, **options}, steps, fused)
            for hyper in oracle.grid
            for options in ({}, {"weight_decay": 0.05})
            for fused in (None, False)
        ]
        name = f"torch.optim.{getattr(oracle.torch, '__name__', '')}"
        yield Comparison(oracle.note, name, oracle.mapping, cases, 1e-10, "each")
    for what, function, cases in (
        ("norm", "clip_grad_norm_", [_norm(s, p) for s in _SCALES for p in (1.0, 2.0, math.inf)]),
        ("value", "clip_grad_value_", [_value(scale) for scale in _SCALES]),
    ):
        name = f"torch.nn.utils.{function}"
        yield Comparison(f"Clipping by {what}", name, "same arguments", cases, 0.0, "each")


_SCALES = (1e-3, 1.0, 1e3)


def _gradients(scale: float) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [Parameter(torch.zeros(n, dtype=torch.float64)) for n in (5, 1, 40)]
    for p in params:
        p.grad = scale * torch.randn(p.shape, dtype=torch.float64, generator=generator)
    return params


def _norm(scale: float, norm_type: float) -> Case:
    def clipped(clip: Callable[..., Tensor]) -> Outputs:
        params = _gradients(scale)
        return clip(params, 1.0, norm_type), *(p.grad for p in params if p.grad is not None)

    return Case(lambda: clipped(clip_grad_norm_), lambda: clipped(torch.nn.utils.clip_grad_norm_))


def _value(scale: float) -> Case:
    def clipped(clip: Callable[..., None]) -> Outputs:
        params = _gradients(scale)
        clip(params, 0.5)
        return [p.grad for p in params if p.grad is not None]

    return Case(lambda: clipped(clip_grad_value_), lambda: clipped(torch.nn.utils.clip_grad_value_))

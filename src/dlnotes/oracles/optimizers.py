"""Oracles of the rules: torch's optimizers, with the exact mapping of their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlnotes.optim.adadelta import Adadelta
from dlnotes.optim.adagrad import Adagrad
from dlnotes.optim.adam import Adam, AdamW, AMSGrad
from dlnotes.optim.adamax import Adamax
from dlnotes.optim.clipping import clip_grad_norm_, clip_grad_value_
from dlnotes.optim.gradient_descent import GradientDescent
from dlnotes.optim.lion import Lion
from dlnotes.optim.momentum import Momentum
from dlnotes.optim.muon import Muon
from dlnotes.optim.nadam import NAdam
from dlnotes.optim.nesterov import Nesterov
from dlnotes.optim.radam import RAdam
from dlnotes.optim.rmsprop import RMSProp
from dlnotes.optim.schedule_free import ScheduleFree
from dlnotes.oracles.comparison import Case, Comparison, Outputs


class Oracle(NamedTuple):
    """A rule, and the torch optimizer or the paper's program that it must be equal to."""

    note: str
    rule: Callable[..., Optimizer]
    torch: Callable[..., Optimizer]
    mapped: Callable[..., dict[str, Any]]
    """Maps our hyper-parameters to torch's; those that it does not name are passed unchanged."""
    mapping: str
    """Description of ``mapped`` in words."""
    grid: tuple[dict[str, Any], ...]
    """Hyper-parameters at which the two are compared."""
    source: str = ""
    """Description of ``torch``, if it is not an optimizer of torch."""
    climbs: bool = True
    """Whether ``torch`` has the argument ``maximize``."""


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


class TorchsNAdam(torch.optim.NAdam):
    """torch's NAdam, with its product of momenta in float64, since in float32 it is off by 1e-7."""

    def __init__(self, params: Any, **hyper: Any) -> None:
        super().__init__(params, **hyper)
        for p in (p for group in self.param_groups for p in group["params"]):
            real: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
            self.state[p].update(
                step=torch.zeros((), dtype=torch.float32, device="cpu"),
                mu_product=torch.ones((), **real),
                exp_avg=torch.zeros_like(p),
                exp_avg_sq=torch.zeros_like(p),
            )


TorchsNAdam.__name__ = "NAdam"


def _climbs(optimizer: type[Optimizer]) -> bool:
    """Whether an optimizer has ``maximize``; in torch 2.3, NAdam and RAdam do not."""
    return "maximize" in signature(optimizer).parameters


class Program(Optimizer):
    """A program of a paper, written with NumPy in float64, as an optimizer."""

    def __init__(self, params: Any, maximize: bool = False, **hyper: Any) -> None:
        super().__init__(params, {"maximize": maximize, **hyper})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            hyper = {k: x for k, x in group.items() if k not in ("params", "maximize")}
            for p in (p for p in group["params"] if p.grad is not None):
                g = p.grad.double().numpy() * (-1.0 if group["maximize"] else 1.0)
                state = self.state[p]
                state["t"] = state.get("t", 0) + 1
                theta = self.updated(p.double().numpy(), g, state, **hyper)
                p.copy_(torch.from_numpy(np.asarray(theta)))

    def updated(self, theta: Any, g: Any, state: dict[str, Any], **hyper: Any) -> Any:
        """Return the new parameter; ``state`` is kept between steps and has the step ``t``."""
        raise NotImplementedError


class LionOfThePaper(Program):
    """Chen et al. 2023, Program 1."""

    def updated(  # type: ignore[override]
        self,
        theta: Any,
        g: Any,
        state: dict[str, Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> Any:
        """``update = interp(g, m, β1) ; m = interp(g, m, β2) ; p − (sign(update) + λp) lr``."""
        beta1, beta2 = betas
        m = state.get("m", np.zeros_like(theta))
        update = np.sign(beta1 * m + (1 - beta1) * g) + weight_decay * theta
        state["m"] = beta2 * m + (1 - beta2) * g
        return theta - lr * update


class MuonOfThePaper(Program):
    """Jordan et al. 2024, with the polynomial of the iteration applied to the singular values."""

    def updated(  # type: ignore[override]
        self,
        theta: Any,
        g: Any,
        state: dict[str, Any],
        *,
        lr: float,
        beta: float = 0.95,
        weight_decay: float = 0.1,
        eps: float = 1e-7,
        ns_steps: int = 5,
    ) -> Any:
        """X ← aX + b(XXᵀ)X + c(XXᵀ)²X changes only the singular values: σ ← aσ + bσ³ + cσ⁵."""
        state["B"] = beta * state.get("B", 0.0) + (1 - beta) * g
        nesterov = beta * state["B"] + (1 - beta) * g
        left, sigma, right = np.linalg.svd(nesterov, full_matrices=False)
        sigma = sigma / max(np.sqrt((sigma**2).sum()), eps)
        for _ in range(ns_steps):
            sigma = 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5
        rows, columns = theta.shape
        rate = lr * np.sqrt(max(1.0, rows / columns))
        return theta * (1 - lr * weight_decay) - rate * (left * sigma) @ right


class ScheduleFreeOfThePaper(Program):
    """Defazio et al. 2024, equations 2 to 4, with 1/t as in the authors' package."""

    def updated(  # type: ignore[override]
        self,
        theta: Any,
        g: Any,
        state: dict[str, Any],
        *,
        lr: float,
        beta: float = 0.9,
        weight_decay: float = 0.0,
    ) -> Any:
        """Update the iterates z and x, and return the next y, which is a mixture of them."""
        z, x = state.get("z", theta), state.get("x", theta)
        state["z"] = z - lr * (g + weight_decay * theta)
        state["x"] = (1 - 1 / state["t"]) * x + state["z"] / state["t"]
        return (1 - beta) * state["z"] + beta * state["x"]


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
    "amsgrad": Oracle(
        "AMSGrad (not in the notes)",
        AMSGrad,
        torch.optim.Adam,
        lambda **same: {**same, "amsgrad": True},
        "lr, betas, eps, amsgrad",
        _BETAS,
    ),
    "nadam": Oracle(
        "NAdam (not in the notes)",
        NAdam,
        TorchsNAdam,
        lambda **same: same,
        "lr, betas, eps, momentum_decay; torch's product of momenta in float64",
        (
            {**_BETAS[0], "lr": 2e-2},  # long steps, since a float32 ulp near 4 is 5e-7
            *_BETAS[1:],
            {"lr": 2e-3, "betas": (0.8, 0.99), "momentum_decay": 0.1},
        ),
        climbs=_climbs(torch.optim.NAdam),
    ),
    "radam": Oracle(
        "RAdam (not in the notes)",
        RAdam,
        torch.optim.RAdam,
        lambda **same: same,
        "lr, betas, eps",
        (*_BETAS, {"lr": 1e-3, "betas": (0.9, 0.6)}),  # ρ never exceeds 5, and ρ_∞ is 4
        climbs=_climbs(torch.optim.RAdam),
    ),
    "adamax": Oracle(
        "Adamax (not in the notes)",
        Adamax,
        torch.optim.Adamax,
        lambda **same: same,
        "lr, betas, eps",
        _BETAS,
    ),
    "lion": Oracle(
        "Lion (not in the notes)",
        Lion,
        LionOfThePaper,
        lambda **same: same,
        "lr, betas, weight_decay",
        ({"lr": 1e-2, "betas": (0.9, 0.99)}, {"lr": 3e-3, "betas": (0.5, 0.9)}),
        "Chen et al. 2023, Program 1, in NumPy",
    ),
}


def loss(w: Tensor, step: int) -> Tensor:
    """A coupled convex bowl around ±3 that is shaken at each step.

    It is shaken so that gradients do not vanish, and convex so that rounding errors do not grow:
    two trajectories on this loss differ only as much as their rules do. No coordinate comes near 0,
    so that relative differences are meaningful.
    """
    n = torch.arange(len(w), dtype=w.dtype, device=w.device)
    minimum = 3 - 6 * (n % 2)
    off = w - minimum
    shaken = 0.5 * torch.sin(1.7 * n + 0.9 * step)
    return ((0.2 + n / len(n)) * off**2 + 0.1 * off * off.roll(1) + shaken * off).sum()


def start(n: int = 23, dtype: torch.dtype = torch.float64) -> Parameter:
    """The point from which trajectories start."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(n, dtype=torch.float64, generator=generator)
    return Parameter(((4 + noise) * (1 - 2 * (torch.arange(n) % 2))).to(dtype))


def trajectory(
    make: Callable[[Iterable[Tensor]], Optimizer], steps: int = 300, maximize: bool = False
) -> Tensor:
    """The float64 parameters after each of ``steps`` steps that minimise or maximise ``loss``."""
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
    """The trajectories of a rule and its oracle in float64, and how far each has moved in total.

    With ``maximize`` among the hyper-parameters, they maximise the loss.
    """
    up = hyper.get("maximize", False)
    return Case(
        lambda: _moved(trajectory(lambda p: oracle.rule(p, **hyper, fused=fused), steps, up)),
        lambda: _moved(trajectory(lambda p: oracle.torch(p, **oracle.mapped(**hyper)), steps, up)),
    )


def _moved(path: Tensor) -> Outputs:
    """The path, and its last point minus the start, which is 0 if an optimizer does nothing."""
    return path, path[-1] - start().detach()


#: Parameters that are updated together; the last is in a group of its own, with its own lr.
_SHAPES = (
    ((23,), torch.float64),
    ((19,), torch.float32),
    ((40, 30), torch.float64),
    ((66_000,), torch.float64),
    ((7,), torch.float64),
)


def several(oracle: Oracle, dtype: torch.dtype, fused: bool | None = None) -> Case:
    """Parameters of ``dtype`` after 3 steps together with others, and how far each has moved."""
    hyper = oracle.grid[0]
    shapes = [each for each in _SHAPES if dtype == torch.float64 or math.prod(each[0]) < 10_000]
    other = {**hyper, "lr": hyper["lr"] / 2}

    def stepped(
        make: Callable[..., Optimizer], hyper: dict[str, Any], other: dict[str, Any]
    ) -> Outputs:
        starts = [start(math.prod(shape), kind).detach().view(shape) for shape, kind in shapes]
        params = [Parameter(w.clone()) for w in starts]
        optimizer = make([{"params": params[:-1]}, {"params": params[-1:], **other}], **hyper)
        for step in range(3):
            optimizer.zero_grad()
            for w in params:
                loss(w.flatten(), step).backward()
            optimizer.step()
        ours = [(w.detach(), w0) for w, w0 in zip(params, starts, strict=True) if w.dtype == dtype]
        return *(w for w, _ in ours), torch.stack([(w - w0).abs().mean() for w, w0 in ours])

    return Case(
        lambda: stepped(oracle.rule, {**hyper, "fused": fused}, other),
        lambda: stepped(oracle.torch, oracle.mapped(**hyper), oracle.mapped(**other)),
    )


def comparisons(steps: int = 300) -> Iterator[Comparison]:
    """Yield comparisons of every rule, fused and plain, and of clipping with those of torch."""
    for oracle in ORACLES.values():
        cases = [
            case(oracle, {**hyper, **options}, steps, fused)
            for hyper in oracle.grid
            for options in ({}, {"weight_decay": 0.05})
            for fused in (None, False)
        ]
        up = {**oracle.grid[0], "maximize": True}
        for fused in (None, False):
            cases += [case(oracle, up, steps, fused)] * oracle.climbs
            cases += [several(oracle, torch.float64, fused)]
        name = oracle.source or f"torch.optim.{getattr(oracle.torch, '__name__', '')}"
        yield Comparison(oracle.note, name, oracle.mapping, cases, 1e-10, "each")
    yield from beside_the_others(steps)
    yield Comparison(
        "float32 beside float64",
        "torch.optim, every rule",
        "as above; 3 steps, float32's digits",
        [
            several(oracle, torch.float32, fused)
            for oracle in ORACLES.values()
            for fused in (None, False)
        ],
        1e-5,
        "each",
    )
    for what, function, cases in (
        (
            "norm",
            "clip_grad_norm_",
            [
                _norm(scale, limit, p)
                for scale in _SCALES
                for limit in (0.3, 1.0)
                for p in (1.0, 2.0, 3.0, math.inf)
            ],
        ),
        (
            "value",
            "clip_grad_value_",
            [_value(scale, limit) for scale in _SCALES for limit in (0.1, 0.5)],
        ),
    ):
        name = f"torch.nn.utils.{function}"
        yield Comparison(f"Clipping by {what}", name, "same arguments", cases, 0.0, "each")


def matrices(make: Callable[..., Optimizer], steps: int = 30) -> Outputs:
    """How far a wide, a tall and a square matrix have moved after each step."""
    shapes = ((4, 9), (9, 4), (6, 6))
    params = [Parameter(start(math.prod(shape)).detach().view(shape)) for shape in shapes]
    starts = [p.detach().clone() for p in params]
    optimizer = make(params)
    path = []
    for step in range(steps):
        optimizer.zero_grad()
        for p in params:
            loss(p.flatten(), step).backward()
        optimizer.step()
        path += [p.detach() - old for p, old in zip(params, starts, strict=True)]
    return path


def _of_matrices(
    rule: Callable[..., Optimizer], other: Callable[..., Optimizer], hyper: Any, steps: int = 30
) -> Case:
    return Case(
        lambda: matrices(partial(rule, **hyper), steps),
        lambda: matrices(partial(other, **hyper), steps),
    )


def beside_the_others(steps: int = 300) -> Iterator[Comparison]:
    """Yield comparisons of rules outside of `OPTIMIZERS`: Muon, for matrices, and Schedule-Free."""
    grid: tuple[dict[str, Any], ...] = (
        {"lr": 1e-2},
        {"lr": 3e-3, "beta": 0.5, "weight_decay": 0.0},
    )
    yield Comparison(
        "Muon (not in the notes)",
        "Jordan et al. 2024 in NumPy, on the singular values",
        "lr, beta, weight_decay",
        [_of_matrices(Muon, MuonOfThePaper, hyper) for hyper in grid],
        1e-10,
        "largest",
    )
    if hasattr(torch.optim, "Muon"):  # it came with torch 2.9
        yield Comparison(
            "Muon, one step",
            "torch.optim.Muon",
            "momentum = β; torch iterates in bfloat16",
            [_of_matrices(Muon, _torchs_muon, hyper, 1) for hyper in grid],
            5e-2,
            "largest",
        )
    oracle = Oracle(
        "Schedule-Free (not in the notes)",
        ScheduleFree,
        ScheduleFreeOfThePaper,
        lambda **same: same,
        "lr, beta, weight_decay",
        ({"lr": 0.1}, {"lr": 0.03, "beta": 0.5, "weight_decay": 0.05}),
        "Defazio et al. 2024 in NumPy",
    )
    cases = [case(oracle, hyper, steps, fused) for hyper in oracle.grid for fused in (None, False)]
    yield Comparison(oracle.note, oracle.source, oracle.mapping, cases, 1e-10, "each")


def _torchs_muon(params: Any, beta: float = 0.95, **same: Any) -> Optimizer:
    return torch.optim.Muon(params, momentum=beta, **same)


_SCALES = (1e-3, 1.0, 1e3)


def _gradients(scale: float) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [Parameter(torch.zeros(n, dtype=torch.float64)) for n in (5, 1, 40)]
    for p in params:
        p.grad = scale * torch.randn(p.shape, dtype=torch.float64, generator=generator)
    return params


def _norm(scale: float, max_norm: float, norm_type: float) -> Case:
    def clipped(clip: Callable[..., Tensor]) -> Outputs:
        params = _gradients(scale)
        return clip(params, max_norm, norm_type), *(p.grad for p in params if p.grad is not None)

    return Case(lambda: clipped(clip_grad_norm_), lambda: clipped(torch.nn.utils.clip_grad_norm_))


def _value(scale: float, clip_value: float) -> Case:
    def clipped(clip: Callable[..., None]) -> Outputs:
        params = _gradients(scale)
        clip(params, clip_value)
        return [p.grad for p in params if p.grad is not None]

    return Case(lambda: clipped(clip_grad_value_), lambda: clipped(torch.nn.utils.clip_grad_value_))

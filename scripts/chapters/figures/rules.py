"""The optimizers: batch sizes, how the rules grow out of one another, the race, and the errata."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from chapters import race, ravine
from chapters.colors import BLUE, GREY, ORANGE, RED
from chapters.measured import numbers
from dlnotes.claims.rmsprop_first_step_is_alpha import first_steps
from dlnotes.claims.surfaces import SURFACES, excess
from dlnotes.optim import (
    Adadelta,
    Adagrad,
    Adam,
    GradientDescent,
    Momentum,
    Nesterov,
    RMSProp,
    UpdateRule,
)

GREEN, PINK = "#3f9e4f", "#d65c9e"


def batches() -> Figure:
    """A line fitted to 50 points, with gradients from all of them, from 10 and from one."""
    figure = Figure(figsize=(6, 5.2), layout="constrained")
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)
    y = 3 * x + 1 + 0.5 * torch.randn(50, dtype=torch.float64, generator=generator)

    def mean(w: Tensor, b: Tensor, some: Tensor) -> Tensor:
        loss: Tensor = (w[..., None] * x[some] + b[..., None] - y[some]).square().mean(-1)
        return loss

    grid = torch.meshgrid(
        torch.linspace(-0.5, 4.5, 60).double(),
        torch.linspace(-1.7, 2.2, 60).double(),
        indexing="xy",
    )
    heights = mean(grid[0], grid[1], torch.arange(50))
    axes = figure.subplot_mosaic([["BGD", "MBGD", "SGD"], ["loss"] * 3], height_ratios=[3, 2])
    for name, size in (("BGD", 50), ("MBGD", 10), ("SGD", 1)):
        theta = torch.nn.Parameter(torch.tensor([0.0, -1.2], dtype=torch.float64))
        optimizer = GradientDescent([theta], lr=0.2, fused=False)
        path = [theta.detach().clone()]
        for _ in range(60):
            some = torch.randperm(50, generator=generator)[:size]
            optimizer.zero_grad()
            mean(theta[0], theta[1], some).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            path.append(theta.detach().clone())
        points = torch.stack(path)
        color = race.RACERS[name].color
        ax = axes[name]
        ax.contour(*grid, heights, levels=12, colors=GREY, linewidths=0.5)
        ax.plot(*points.T, "o-", color=color, ms=2, lw=1)
        ax.plot(*points[0], "o", color=BLUE, ms=6)
        ax.set(title=f"{name}: {size}", xlabel="w", ylabel="b" if name == "BGD" else None)
        all_of_them = mean(points[:, 0], points[:, 1], torch.arange(50))
        axes["loss"].plot(all_of_them, color=color, label=name, lw=1.5)
    axes["loss"].set(xlabel="t", ylabel="J(w, b)", yscale="log")
    axes["loss"].legend(frameon=False)
    return figure


def family() -> Figure:
    """What each rule adds to the one that it grows out of."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    ax = figure.subplots()
    places = {
        "BGD, SGD, MBGD": (0.5, 0.92, "θ ← θ − αg"),
        "Momentum": (0.2, 0.64, "V = avg(g)"),
        "Nesterov": (0.11, 0.36, "g(θ − αβV)"),
        "Adagrad": (0.74, 0.64, "g / √Σg²"),
        "RMSProp": (0.52, 0.36, "g / √avg(g²)"),
        "Adadelta": (0.86, 0.36, "α → √avg(Δ²)"),
        "Adam": (0.38, 0.08, "V̂ / √avg(g²)"),
    }
    for name, (x, y, what) in places.items():
        color = race.RACERS.get(name, race.RACERS["BGD"]).color
        box = {"boxstyle": "round,pad=0.5", "fc": "none", "ec": color, "lw": 2}
        ax.text(x, y, f"{name}\n{what}", ha="center", va="center", bbox=box, linespacing=1.5)
    for old, new in (
        ("BGD, SGD, MBGD", "Momentum"),
        ("BGD, SGD, MBGD", "Adagrad"),
        ("Momentum", "Nesterov"),
        ("Adagrad", "RMSProp"),
        ("Adagrad", "Adadelta"),
        ("Momentum", "Adam"),
        ("RMSProp", "Adam"),
    ):
        (x0, y0, _), (x1, y1, _) = places[old], places[new]
        arrow = {"arrowstyle": "->", "color": GREY, "lw": 1.5, "shrinkA": 24, "shrinkB": 24}
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=arrow, zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    return figure


def race_all() -> Figure:
    """The nine rules in the ravine, each at its best rate."""
    return _race("ravine", list(race.RACERS))


def race_adaptive() -> Figure:
    """The adaptive rules and gradient descent on Beale's function."""
    return _race("Beale's function", ["BGD", "Adagrad", "RMSProp", "Adadelta"])


def race_adam() -> Figure:
    """Adam and its parts in Rosenbrock's valley."""
    return _race("Rosenbrock's valley", ["Momentum", "RMSProp", "Adam"])


def _race(name: str, racers: Sequence[str]) -> Figure:
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    ax: Axes = figure.subplots()
    surface = SURFACES[name]
    left, right, low, high = surface.view
    x, y = torch.linspace(left, right, 120), torch.linspace(low, high, 90)
    heights = excess(surface, torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
    levels = torch.logspace(-2, math.log10(heights.max()), 12)
    ax.contour(x, y, heights, levels, colors=GREY, linewidths=0.5)
    for each in racers:
        racer = race.RACERS[each]
        path = race.path(each, name, race.best_rate(each, name), surface.steps)
        ax.plot(*path.T, color=racer.color, lw=1.6, ls="--" if racer.dash else "-", label=each)
    ax.plot(*surface.start, "s", color=BLUE, ms=8)
    ax.plot(*zip(*surface.minima, strict=True), "+", color=BLUE, ms=12, mew=2, ls="")
    ax.set(xlabel="x", ylabel="y", xlim=(left, right), ylim=(low, high))
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def look_ahead() -> Figure:
    """One step of momentum and one of Nesterov from φ: where each takes the gradient."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax = figure.subplots()
    curvature = torch.tensor([1.0, 4.0])
    x, y = torch.meshgrid(torch.linspace(-3.6, 1.7, 80), torch.linspace(-2, 1.6, 80), indexing="xy")
    ax.contour(x, y, (x**2 + 4 * y**2) / 2, levels=10, colors=GREY, linewidths=0.5)

    phi, known = torch.tensor([-3.0, 1.2]), torch.tensor([1.5, -1.4])  # known is −αβV
    ahead, rate = phi + known, 0.3  # α(1 − β)
    arrows: tuple[tuple[Tensor, Tensor, str], ...] = (
        (phi, known, GREY),
        (ahead, -rate * curvature * phi, race.RACERS["Momentum"].color),
        (ahead, -rate * curvature * ahead, race.RACERS["Nesterov"].color),
    )
    for start, step, color in arrows:
        ax.annotate(
            "",
            xy=tuple((start + step).tolist()),
            xytext=tuple(start.tolist()),
            arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0},
        )
    for at, offset, text in (
        (phi, (-0.15, 0.2), "φ"),
        (phi + known / 2, (0.08, 0.05), "−αβV"),
        (ahead, (-1.15, -0.25), "θ = φ − αβV"),
        (ahead - rate * curvature * phi, (0.1, 0), "Momentum: g = ∇J(φ)"),
        (ahead - rate * curvature * ahead, (0.1, 0), "Nesterov: g = ∇J(θ)"),
    ):
        x_text, y_text = (at + torch.tensor(offset)).tolist()
        ax.text(x_text, y_text, text)
    for at in (phi, ahead):
        ax.plot(*at.tolist(), "o", color=BLUE, ms=7)
    ax.set(xlabel="x", ylabel="y", aspect="equal")
    return figure


def nesterov_damps() -> Figure:
    """Momentum and Nesterov in the ravine at the same rate: the steep coordinate and the height."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    ax = figure.subplots()
    for rule, name in ((Momentum, "Momentum"), (Nesterov, "Nesterov")):
        theta = torch.nn.Parameter(torch.tensor(ravine.START, dtype=torch.float64))
        optimizer = rule([theta], lr=1 / ravine.KAPPA, fused=False)
        steep = [theta[1].item()]
        for _ in range(80):
            optimizer.zero_grad()
            ravine.height(theta).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steep.append(theta[1].item())
        ax.plot(steep, color=race.RACERS[name].color, lw=2, label=name)
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set(xlabel="t", ylabel="y", title="α = 1/20, β = 0.9")
    ax.legend(frameon=False)
    return figure


_STEPS = 1000
_RULES: dict[str, tuple[type[UpdateRule], dict[str, Any]]] = {
    "BGD": (GradientDescent, {}),
    "Adagrad": (Adagrad, {"eps": 1e-8}),
    "RMSProp": (RMSProp, {"beta": 0.9, "eps": 1e-8}),
    "Adadelta": (Adadelta, {"rho": 0.95, "eps": 1e-6}),
}


@cache
def _lengths(name: str, end: float) -> list[float]:
    """Length of each step per α if the gradient goes from 1 to ``end``, geometrically."""
    rule, hyper = _RULES[name]
    theta = torch.zeros((), dtype=torch.float64)
    kept = [torch.zeros_like(theta) for _ in rule.accumulators]
    lengths = []
    for g in torch.logspace(0, math.log10(end), _STEPS, dtype=torch.float64):
        new, *kept = rule.update(theta, g, *kept, lr=1.0, **hyper)
        lengths.append((theta - new).item())
        theta = new
    return lengths


def effective_rates() -> Figure:
    """How long a step is per α when the gradient is 1 at every step; then when it shrinks."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    above, below = figure.subplots(2, 1)
    t = range(1, _STEPS + 1)
    for name in _RULES:
        racer = race.RACERS[name]
        style = "--" if racer.dash else "-"
        for ax, end in ((above, 1.0), (below, 1e-3)):
            ax.plot(t, _lengths(name, end), color=racer.color, lw=2, ls=style, label=name)
    above.set(title="g = 1", xscale="log", yscale="log", ylabel="|Δθ| / α")
    below.set(title="g = 1 … 0.001", yscale="log", xlabel="t", ylabel="|Δθ| / α")
    above.legend(frameon=False)
    return figure


def bias_correction() -> Figure:
    """Steps per α with the gradient 1: Adam, Adam uncorrected, and RMSProp with Adam's β₂."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    ax = figure.subplots()
    t = torch.arange(1, 3001).double()
    first, second = 1 - 0.9**t, 1 - 0.999**t
    for label, sizes, color, style in (
        ("V / √S", first / second.sqrt(), GREY, "--"),
        ("g / √S", 1 / second.sqrt(), ORANGE, "-"),
        ("V / √Ŝ", first, BLUE, "-"),
        ("V̂ / √Ŝ", torch.ones_like(t), RED, "-"),
    ):
        ax.plot(t, sizes, color=color, ls=style, lw=2, label=label)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="t",
        ylabel="|Δθ| / α",
        title="g = 1, β₁ = 0.9, β₂ = 0.999",
    )
    ax.legend(frameon=False)
    return figure


def standings() -> Figure:
    """Test accuracy of each rule, and how it grows with the number of rates tried."""
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 4])
    rows = {
        row["method"]: row
        for row in numbers("adam-is-the-best", {"problem": "all", "rate is": "tuned"})
    }
    named = {racer.rule: (name, racer) for name, racer in race.RACERS.items() if racer.batch > 4}
    order = sorted(named, key=lambda rule: rows[rule]["test (%)"])
    for place, rule in enumerate(order):
        name, racer = named[rule]
        test = rows[rule]["test (%)"]
        above.plot(test, place, "o", color=racer.color, ms=8)
        above.text(test + 0.4, place + 0.05, f"{test:.1f}", va="bottom")
        tries = [1, 2, 4, 8]
        below.plot(
            tries,
            [rows[rule][f"dev, best of {k} rates (%)"] for k in tries],
            "o--" if racer.dash else "o-",
            color=racer.color,
            ms=4,
            label=_name(rule, name),
        )
    above.set_yticks(range(len(order)), [_name(rule, named[rule][0]) for rule in order])
    above.set(xlim=(73, 93), xlabel="%")
    above.grid(axis="y", lw=0.5)
    below.set(xscale="log", xlabel="k", ylabel="%")
    below.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    below.minorticks_off()
    below.legend(frameon=False, fontsize=9, ncols=2)
    return figure


def _name(rule: str, name: str) -> str:
    return "SGD, MBGD" if rule == "gradient-descent" else name


_first_steps = cache(first_steps)


def errata() -> Figure:
    """Four of the errata, measured: how large a step is, as printed and as it should be."""
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    (adam, rmsprop), (momentum, eps) = figure.subplots(2, 2)
    t = torch.arange(1, 61).double()
    ones, V, S = torch.ones(1).double(), torch.zeros(1).double(), torch.zeros(1).double()
    theta, sizes = torch.zeros(1).double(), []
    for step in t.tolist():
        new, V, S = Adam.rule(theta, ones, V, S, t=step, lr=1.0, betas=(0.9, 0.999), eps=1e-8)
        sizes.append((theta - new).item())
        theta = new
    adam.plot(t, sizes, color=RED, lw=2, label="V̂ / (√Ŝ + ε)")
    adam.plot(t, 1 - 0.9**t, color=BLUE, lw=2, label="V / √Ŝ")
    adam.set(title="Adam", xlabel="t", ylabel="|Δθ| / α", ylim=(0, 1.1))
    for beta, color in ((0.9, GREEN), (0.99, ORANGE), (0.999, PINK)):
        rmsprop.plot(
            range(1, 1001), _first_steps(beta)[:1000], color=color, lw=2, label=f"β = {beta}"
        )
    rmsprop.set(title="RMSProp", xlabel="t", yscale="log", xscale="log")
    for lr, color, label in ((0.05, BLUE, "α"), (0.5, ORANGE, "α / (1 − β)")):
        path = ravine.path("momentum", lr, 0.9, 60)
        momentum.plot(path[:, 0], color=color, lw=2, label=label)
    momentum.set(title="Momentum", xlabel="t", ylabel="x")
    rows = numbers("epsilon-may-stand-under-the-root", {})
    gradients = [float(row["gradient"]) for row in rows]
    ratios = [row["step under the root / beside it"] for row in rows]
    eps.loglog(gradients, ratios, "o-", color=PINK, ms=3)
    eps.axvline(1e-4, color=GREY, ls=":")
    eps.set(title="√(S + ε) : √S + ε", xlabel="|g|")
    for ax in (adam, rmsprop, momentum):
        ax.legend(frameon=False, fontsize=9)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "batches": batches,
    "family": family,
    "race_all": race_all,
    "race_adaptive": race_adaptive,
    "race_adam": race_adam,
    "look_ahead": look_ahead,
    "nesterov_damps": nesterov_damps,
    "effective_rates": effective_rates,
    "bias_correction": bias_correction,
    "standings": standings,
    "errata": errata,
}

"""Gradient descent and momentum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from chapters import ravine
from chapters.colors import BLUE, GREY, ORANGE
from dlnotes.foundations.gradient_descent import minimise


def step_sizes() -> Figure:
    """Four rates on the parabola x²/2, whose curvature is 1."""
    figure = Figure(figsize=(6, 4.8), layout="constrained")
    x = torch.linspace(-4, 4, 200)
    for ax, (lr, first) in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat,
        ((0.1, -3.5), (0.7, -3.5), (1.8, -3.5), (2.1, -1.6)),
        strict=True,
    ):
        path = minimise(lambda x: x**2 / 2, torch.tensor(first), lr, steps=8)
        ax.plot(x, x**2 / 2, color=GREY, lw=1.2)
        ax.plot(path, path**2 / 2, "o-", color=ORANGE, ms=4, lw=1)
        ax.plot(path[0], path[0] ** 2 / 2, "o", color=BLUE, ms=8)
        ax.set(title=f"α = {lr}", xlim=(-4.2, 4.2), ylim=(-0.3, 8))
        ax.label_outer()
    figure.supxlabel("x")
    figure.supylabel("f(x) = x²/2")
    return figure


def oscillation() -> Figure:
    """The steep coordinate with and without momentum; then the heights, each rule at its best."""
    figure = Figure(figsize=(6, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    descent, momentum = ravine.best("gradient-descent"), ravine.best("momentum")
    above.plot(ravine.path("gradient-descent", **descent)[:, 1], color=GREY, label="β = 0")
    above.plot(
        ravine.path("momentum", descent["lr"], 0.9)[:, 1], color=ORANGE, label="β = 0.9", lw=2
    )
    above.set(xlabel="t", ylabel="y", title=f"α = {descent['lr']:.3f}")
    for rule, given, color in (
        ("gradient-descent", descent, GREY),
        ("momentum", momentum, ORANGE),
    ):
        below.plot(
            ravine.height(ravine.path(rule, steps=80, **given)),
            color=color,
            lw=2,
            label=f"β = {given.get('beta', 0):.2g}, α = {given['lr']:.2g}",
        )
    below.set(xlabel="t", ylabel="f(x, y)", yscale="log", ylim=(1e-12, 1e3))
    for ax in (above, below):
        ax.legend(frameon=False, loc="upper right")
    return figure


def ravine_gradient_descent() -> Figure:
    """Gradient descent in the ravine, just below the largest rate that converges."""
    return _ravine({"α = 0.09": (ravine.path("gradient-descent", 0.09), ORANGE)})


def ravine_momentum() -> Figure:
    """Momentum in the ravine, with gradient descent at the same rate."""
    return _ravine(
        {
            "β = 0, α = 0.09": (ravine.path("gradient-descent", 0.09), GREY),
            "β = 0.8, α = 0.09": (ravine.path("momentum", 0.09, 0.8), ORANGE),
        }
    )


def _ravine(paths: dict[str, tuple[Tensor, str]]) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax: Axes = figure.subplots()
    x, y = torch.linspace(-10, 4, 200), torch.linspace(-2.6, 2.6, 120)
    heights = ravine.height(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    ax.contour(x, y, heights, levels=[0.5, 2, 6, 14, 28, 50, 80], colors=GREY, linewidths=0.6)
    for label, (path, color) in paths.items():
        ax.plot(*path.T, "o-", color=color, ms=3.5, lw=1.2, label=label)
    ax.plot(*ravine.START, "o", color=BLUE, ms=8)
    ax.plot(0, 0, "+", color=BLUE, ms=12, mew=2)
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False, loc="upper right")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "step_sizes": step_sizes,
    "oscillation": oscillation,
    "ravine_gradient_descent": ravine_gradient_descent,
    "ravine_momentum": ravine_momentum,
}

"""Gradients by layer, clipping, and functions with a constant slope."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chapters import depth
from chapters.colors import BLUE, GREY, ORANGE
from dlnotes.optim import clip_grad_norm_, clip_grad_value_

LAYERS = 20


def gradient_by_layer() -> Figure:
    """Four networks of 20 layers with 64 units each, and the formula for wide networks."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    ax = figure.subplots()
    networks = (
        ("ReLU", 4.0, "s", ORANGE),
        ("ReLU", math.sqrt(2), "o", BLUE),
        ("tanh", 1.0, "^", GREY),
        ("sigmoid", 1.0, "D", ORANGE),
    )
    layers = range(1, LAYERS + 1)
    for activation, scale, marker, color in networks:
        label = f"{activation}, s = {scale:.3g}"
        ax.plot(layers, depth.sizes(activation, scale, LAYERS), color=color, lw=1)
        found = depth.measured(activation, scale, LAYERS)
        ax.plot(layers, found, marker, color=color, ms=5, label=label)
    _by_layer(ax)
    ax.legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def depth_sigmoid() -> Figure:
    """The interactive figure as it begins."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    ax = figure.subplots()
    ax.plot(range(1, LAYERS + 1), depth.sizes("sigmoid", 1.0, LAYERS), "o-", color=ORANGE, ms=4)
    ax.set(title="sigmoid, s = 1", ylim=(1e-25, 1e25))
    _by_layer(ax)
    return figure


def clipping() -> Figure:
    """A gradient, clipped to norm 2 and to values of at most 2."""
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    ax = figure.subplots()
    gradient = torch.tensor([5.0, 2.5])
    parameter = torch.nn.Parameter(torch.zeros(2))

    def clipped(clip: Callable[..., object]) -> list[float]:
        parameter.grad = gradient.clone()
        clip(parameter, 2.0)
        found: list[float] = parameter.grad.tolist()
        return found

    angle = torch.linspace(0, math.pi / 2, 100)
    ax.plot(2 * angle.cos(), 2 * angle.sin(), color=BLUE, lw=1, ls="--")
    ax.plot([0, 2, 2], [2, 2, 0], color=ORANGE, lw=1, ls="--")
    for end, color, label in (
        (gradient.tolist(), GREY, "g"),
        (clipped(clip_grad_value_), ORANGE, "|gᵢ| ≤ 2"),
        (clipped(clip_grad_norm_), BLUE, "‖g‖ ≤ 2"),
    ):
        arrow = {"arrowstyle": "-|>", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (end[0], end[1]), (0, 0), arrowprops=arrow)
        ax.plot([], [], color=color, lw=2, label=label)
    ax.set(xlim=(0, 5.4), ylim=(0, 3.6), aspect="equal", xlabel="g₁", ylabel="g₂")
    ax.legend(frameon=False, loc="upper left", ncols=3, fontsize=9)
    return figure


def constant_slopes() -> Figure:
    """A linear function, an affine one, and ReLU."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    ax = figure.subplots()
    x = torch.linspace(-2, 2, 201)
    ax.axhline(0, color=GREY, lw=0.5)
    ax.axvline(0, color=GREY, lw=0.5)
    ax.plot(x, x, color=BLUE, lw=4, label="x")
    ax.plot(x, x + 1, color=BLUE, lw=2, ls="--", label="x + 1")
    ax.plot(x, x.clamp(min=0), color=ORANGE, lw=1.5, label="ReLU(x)")
    ax.plot(0, 0, "o", color=BLUE, ms=6)
    ax.set(xlabel="x", ylabel="f(x)", xticks=range(-2, 3), yticks=range(-2, 4))
    ax.legend(frameon=False)
    return figure


def _by_layer(ax: Axes) -> None:
    ax.set(yscale="log", xlabel="l", ylabel="|δₗ| / |δ₂₀|", xticks=range(2, LAYERS + 1, 2))
    ax.axhline(1, color=GREY, lw=0.5)


FIGURES: dict[str, Callable[[], Figure]] = {
    "gradient_by_layer": gradient_by_layer,
    "depth_sigmoid": depth_sigmoid,
    "clipping": clipping,
    "constant_slopes": constant_slopes,
}

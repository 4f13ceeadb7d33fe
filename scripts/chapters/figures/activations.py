"""The activations with their slopes, and why a network needs one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from chapters.colors import BLUE, GREY, ORANGE
from chapters.curves import CURVES, OF_THE_NOTES, SETTINGS, value_and_slope, with_gaps
from dlnotes.activations import relu

# An even number of points: 0 itself, where some jump, lies between two.
_X = torch.linspace(-4, 4, 802, dtype=torch.float64)


def bends() -> Figure:
    """The same three units without an activation, and with ReLU: a sum of lines is a line."""
    x = torch.linspace(-3, 3, 301)
    weights, kinks = (1.0, -2.2, 2.6), (-2.0, -0.5, 1.0)
    figure = Figure(figsize=(6, 3), layout="constrained")
    functions: dict[str, Callable[[Tensor], Tensor]] = {"f(z) = z": lambda z: z, "ReLU": relu}
    for ax, (name, f) in zip(figure.subplots(1, 2, sharey=True), functions.items(), strict=True):
        units = [v * f(x - kink) for v, kink in zip(weights, kinks, strict=True)]
        for unit in units:
            ax.plot(x, unit, color=GREY, lw=1, ls="--")
        ax.plot(x, sum(units), color=ORANGE, lw=2.5)
        ax.set(title=name, xlabel="x", ylim=(-4.5, 4.5))
        ax.label_outer()
    return figure


def _curve(ax: Axes, name: str) -> None:
    """An activation with its slope; jumps are left open."""
    y, slope = value_and_slope(name, _X)
    ax.axhline(0, color=GREY, lw=0.6)
    ax.axvline(0, color=GREY, lw=0.6)
    ax.plot(_X, with_gaps(slope), color=ORANGE, lw=1.6, ls="--", label="f′(x)")
    ax.plot(_X, with_gaps(y), color=BLUE, lw=2.2, label="f(x)")
    if name == "rrelu":
        left = _X[_X <= 0]
        ax.fill_between(left, left / 3, left / 8, color=BLUE, alpha=0.25, lw=0)
    setting = SETTINGS.get(name)
    ax.set(xlim=(-4, 4), ylim=(-1.4, 2.3), xticks=[-4, 0, 4], yticks=[-1, 0, 1, 2])
    ax.set_title(f"{name}\n{setting}" if setting else name, fontsize=10)


def _sheet(names: Sequence[str], columns: int, height: float) -> Figure:
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True).ravel()
    for ax, name in zip(axes, names, strict=False):
        _curve(ax, name)
    for ax in axes[len(names) :]:
        ax.axis("off")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2, frameon=False)
    return figure


def activations() -> Figure:
    """Those of the notes."""
    return _sheet(OF_THE_NOTES, 2, 8.6)


def more_activations() -> Figure:
    """The others."""
    return _sheet([name for name in CURVES if name not in OF_THE_NOTES], 3, 11)


def tangent() -> Figure:
    """The sigmoid, its slope, and its tangent at 1."""
    x = torch.linspace(-6, 6, 601, dtype=torch.float64)
    y, slope = value_and_slope("sigmoid", x)
    at = torch.ones(1, dtype=torch.float64)
    (value,), (k,) = value_and_slope("sigmoid", at)
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.axhline(0, color=GREY, lw=0.6)
    ax.axvline(0, color=GREY, lw=0.6)
    ax.plot(x, slope, color=ORANGE, lw=1.6, ls="--", label="f′(x)")
    ax.plot(x, y, color=BLUE, lw=2.2, label="f(x)")
    near = torch.tensor([-1.0, 3.0], dtype=torch.float64)
    ax.plot(near, value + k * (near - at), color=GREY, lw=1.5)
    ax.plot(at, value, "o", color=BLUE, ms=8)
    ax.plot(at, k, "o", color=ORANGE, ms=5)
    ax.set(xlabel="x", xlim=(-6, 6))
    ax.legend(frameon=False, loc="upper left")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "bends": bends,
    "activations": activations,
    "more_activations": more_activations,
    "tangent": tangent,
}

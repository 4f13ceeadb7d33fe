"""The perceptron: lines that separate, XOR, which has none, and its hidden layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from chapters import gates
from chapters.colors import BLUE, GREY, ORANGE, RED
from dlnotes.foundations.perceptron import CORNERS, GATES, Perceptron

LOW, HIGH = -0.5, 1.5


WEIGHTS = {"AND": (1.0, 1.0, -1.5), "OR": (1.0, 1.0, -0.5), "NAND": (-1.0, -1.0, 1.5)}
"""w₁, w₂ and b of perceptrons whose lines keep away from the corners."""


def decision_lines() -> Figure:
    """AND and OR with a line that separates them; XOR, whose diagonals cross."""
    figure = Figure(figsize=(5, 2.3), layout="constrained")
    for ax, gate in zip(figure.subplots(1, 3, sharey=True), ("AND", "OR", "XOR"), strict=True):
        if gate == "XOR":
            ax.plot([0, 1], [1, 0], color=BLUE, lw=1.5, ls="--")
            ax.plot([0, 1], [0, 1], color=ORANGE, lw=1.5, ls="--")
        else:
            _separate(ax, gates.perceptron(*WEIGHTS[gate]))
        _corners(ax, CORNERS, GATES[gate])
        ax.set(title=gate, xlabel="x₁")
    figure.axes[0].set(ylabel="x₂")
    return figure


def hidden_layer() -> Figure:
    """XOR in the plane of the inputs, and in the plane of what OR and NAND say of them."""
    figure = Figure(figsize=(5, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    first, second = (gates.perceptron(*WEIGHTS[name]) for name in ("OR", "NAND"))
    for unit, name, at in ((first, "OR", (-0.42, 0.62)), (second, "NAND", (0.72, 1.3))):
        _line(left, unit)
        left.text(*at, name, fontsize=9)
    grid = _grid()
    both = torch.stack([first(grid), second(grid)]).amin(0)
    _shade(left, both)
    _corners(left, CORNERS, GATES["XOR"])
    left.set(xlabel="x₁", ylabel="x₂")
    hidden = torch.stack([first(CORNERS.double()), second(CORNERS.double())], 1)
    _separate(right, gates.perceptron(*WEIGHTS["AND"]))
    _corners(right, hidden, GATES["XOR"])
    right.set(xlabel="h₁ = OR", ylabel="h₂ = NAND")
    return figure


def perceptron_start() -> Figure:
    """The interactive figure before the first sample."""
    figure = Figure(figsize=(3.4, 3.4), layout="constrained")
    ax = figure.subplots()
    unit = gates.perceptron(*gates.START)
    _separate(ax, unit)
    _corners(ax, CORNERS, GATES["AND"])
    first = tuple(CORNERS[0].tolist())
    ax.add_patch(Circle(first, 0.15, fill=False, ec=GREY, ls="--", lw=1.5))
    for (x1, x2), is_wrong in zip(
        CORNERS.tolist(), (unit(CORNERS.double()) != GATES["AND"]).tolist(), strict=True
    ):
        if is_wrong:
            ax.plot(x1 + 0.18, x2 + 0.14, "x", color=RED, ms=8, mew=2)
    ax.set(xlabel="x₁", ylabel="x₂", title="AND")
    return figure


def _corners(ax: Axes, points: Tensor, y: Tensor) -> None:
    """Full where the function is 1; hollow where it is 0."""
    for (x1, x2), value in zip(points.tolist(), y.tolist(), strict=True):
        ax.plot(
            *(x1, x2, "o"),
            ms=9,
            mec=BLUE if value else ORANGE,
            mfc=BLUE if value else "none",
            mew=2,
            zorder=3,
        )
    ax.set(xlim=(LOW, HIGH), ylim=(LOW, HIGH), xticks=[0, 1], yticks=[0, 1], aspect="equal")


def _separate(ax: Axes, unit: Perceptron) -> None:
    _shade(ax, unit(_grid()))
    _line(ax, unit)


def _line(ax: Axes, unit: Perceptron) -> None:
    """Where w·x + b = 0."""
    z = (_grid() @ unit.w + unit.b).view(200, 200)
    side = torch.linspace(LOW, HIGH, 200, dtype=torch.float64)
    ax.contour(side, side, z, levels=[0.0], colors=GREY, linewidths=1.5)


def _shade(ax: Axes, ones: Tensor) -> None:
    side = torch.linspace(LOW, HIGH, 200, dtype=torch.float64)
    ax.contourf(side, side, ones.view(200, 200), levels=[0.5, 1.5], colors=[BLUE], alpha=0.2)


def _grid() -> Tensor:
    """Points of the square, row by row, ``(200², 2)``."""
    side = torch.linspace(LOW, HIGH, 200, dtype=torch.float64)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).view(-1, 2)


FIGURES: dict[str, Callable[[], Figure]] = {
    "decision_lines": decision_lines,
    "hidden_layer": hidden_layer,
    "perceptron_start": perceptron_start,
}

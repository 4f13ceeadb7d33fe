"""Back-propagation: what flows through a small network, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chapters.colors import BLUE, GREY, ORANGE
from dlnotes.foundations.backpropagation import Network, Pass

PLACES = (((0.0, 1.0), (0.0, 0.0)), ((1.6, 1.0), (1.6, 0.0)), ((3.2, 0.5),))
"""Where the units stand: two inputs, two hidden units, one output."""
X, Y = (1.0, 2.0), 1.0


def small_network() -> Network:
    """The network of the page: two inputs, two sigmoid units, one sigmoid unit, squared error."""
    network = Network([2, 2, 1], cross_entropy=False, dtype=torch.float64)
    network.weights = [
        torch.tensor([[0.5, -1.0], [1.0, 0.5]], dtype=torch.float64),
        torch.tensor([[2.0, -1.0]], dtype=torch.float64),
    ]
    return network


def forward_backward() -> Figure:
    """Above the values of the forward pass; below the gradients of the backward pass."""
    network = small_network()
    x, y = torch.tensor([X], dtype=torch.float64), torch.tensor([[Y]], dtype=torch.float64)
    values = network.forward(x)
    gradients = network.backward(values, y)
    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    _draw(above, values, [W.tolist() for W in network.weights], BLUE, "W, a →")
    slopes = [W.grad.tolist() for W in network.weights if W.grad is not None]
    _draw(below, gradients, slopes, ORANGE, "← ∂J/∂W, δ")
    loss = network.loss(values.a[-1], y).item()
    above.text(3.2, -0.05, f"y = {Y:g}\nJ = {loss:.3f}", ha="center", va="center")
    return figure


def _draw(ax: Axes, shown: Pass, weights: list[list[list[float]]], color: str, title: str) -> None:
    forward = color == BLUE
    for layer, matrix in enumerate(weights):
        for j, row in enumerate(matrix):
            for i, weight in enumerate(row):
                edge = PLACES[layer][i], PLACES[layer + 1][j]
                begin, end = edge if forward else edge[::-1]
                arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 26, "shrinkB": 26}
                ax.annotate("", end, begin, arrowprops=arrow)
                (x1, y1), (x2, y2) = edge
                if layer == 0 and i != j:  # they cross: both numbers stand left of the crossing
                    at, side = (0.54, 0.5 + 0.09 * (y1 - y2)), "right"
                else:
                    above = 0.1 if y1 >= y2 else -0.12
                    at, side = ((x1 + x2) / 2, (y1 + y2) / 2 + above), "center"
                ax.text(*at, _number(weight, forward), ha=side, va="center", fontsize=10)
    units = shown.a if forward else [None, *shown.z]
    for layer, places in enumerate(PLACES):
        for unit, (px, py) in enumerate(places):
            ax.plot(px, py, "o", ms=44, mec=color, mfc="none", mew=1.5)
            held = units[layer]
            number = layer == 0 and forward  # an input, whole
            name = "" if held is None else _number(held[0, unit].item(), number)
            ax.text(px, py, name or f"x{'₁₂'[unit]}", ha="center", va="center", fontsize=10)
    ax.set(title=title, xlim=(-0.4, 3.6), ylim=(-0.35, 1.35))
    ax.axis("off")


def _number(value: float, short: bool) -> str:
    return (f"{value:g}" if short else f"{value:.3f}").replace("-", "−")


FIGURES: dict[str, Callable[[], Figure]] = {"forward_backward": forward_backward}

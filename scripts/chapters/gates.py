"""The perceptron of the interactive figure, which learns a gate from one sample after another.

``docs/_static/perceptron.js`` computes the same in the browser; a test compares the two.
"""

from __future__ import annotations

import torch

from dlnotes.foundations.perceptron import CORNERS, GATES, Perceptron

RATE = 0.5
"""Learning rate α; every weight of the figure is a multiple of it, exact in floating point."""
START = (-1.0, 1.5, 0.5)
"""w₁, w₂ and b before the first sample."""


def perceptron(w1: float, w2: float, b: float) -> Perceptron:
    """A perceptron in float64 with the given weights.

    Args:
        w1: Weight of the first input.
        w2: Weight of the second input.
        b: Bias.
    """
    unit = Perceptron(2, torch.float64)
    unit.w, unit.b = torch.tensor([w1, w2]).double(), torch.tensor(b).double()
    return unit


def learn(unit: Perceptron, gate: str, corner: int) -> None:
    """Show one of the four corners to a perceptron, which is changed in place.

    Args:
        unit: The perceptron.
        gate: A name of ``GATES``.
        corner: Index of the corner in ``CORNERS``.
    """
    one = slice(corner, corner + 1)
    unit.learn(CORNERS.double()[one], GATES[gate].double()[one], lr=RATE, epochs=1)

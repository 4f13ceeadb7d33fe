"""A network's rate must stay below two over its largest curvature, as a quadratic's must."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import tanh
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.networks import initial, outputs
from dlnotes.claims.statistics import student_interval
from dlnotes.optim import GradientDescent

SIZES, SEEDS, STEPS, EVERY = (1, 16, 16, 1), 10, 8000, 200
RATES = (0.05, 0.1, 0.2)
X = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
Y = 4 * X**3 - 3 * X


def loss(theta: list[Tensor]) -> Tensor:
    """Half the mean squared error of each run on Chebyshev's third polynomial."""
    return (outputs(theta, X, tanh) - Y).square().mean((1, 2)) / 2

"""Fully connected networks of many runs at once: the first dimension of parameters is the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dlnotes.activations import tanh
from dlnotes.foundations.backpropagation import INITIALISATIONS
from dlnotes.foundations.perceptron import CORNERS, GATES
from dlnotes.optim import UpdateRule


def initial(
    sizes: Sequence[int], seeds: Iterable[int] | Tensor, initialisation: str
) -> list[Tensor]:
    """The first weights and biases of a network for each seed, in float64.

    Args:
        sizes: The number of inputs, of units in each hidden layer, and of outputs.
        seeds: One for each run. Equal seeds give equal weights.
        initialisation: A name of ``dlnotes.foundations.backpropagation.INITIALISATIONS``.

    Returns:
        W of shape (runs, inputs, outputs) and b of shape (runs, 1, outputs) for each layer.
    """
    std = INITIALISATIONS[initialisation]
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    parameters = []
    for n, m in pairwise(sizes):
        W = [torch.randn(n, m, dtype=torch.float64, generator=each) for each in generators]
        parameters += [std(n, m) * torch.stack(W), W[0].new_zeros(len(W), 1, m)]
    return parameters


def outputs(parameters: Sequence[Tensor], x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """The outputs of every network, (runs, samples, outputs); the last layer has no activation.

    Args:
        parameters: From `initial`.
        x: Shape (samples, inputs), or (runs, samples, inputs).
        f: The activation.
    """
    a = x.expand(len(parameters[0]), *x.shape[-2:])
    for layer in range(0, len(parameters), 2):
        W, b = parameters[layer : layer + 2]
        a = torch.baddbmm(b, f(a) if layer else a, W)
    return a


def gradients(
    losses: Callable[[list[Tensor]], Tensor], parameters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The loss of each run, and the gradient of each run's loss with respect to its parameters.

    Runs share no parameter, so the gradient of the sum of losses has the gradient of each run.

    Args:
        losses: From parameters to one loss per run.
        parameters: From `initial`.
    """
    leaves = [p.detach().requires_grad_() for p in parameters]
    each = losses(leaves)
    return each.detach(), list(torch.autograd.grad(each.sum(), leaves))


def xor_losses(parameters: list[Tensor]) -> Tensor:
    """Half the mean squared error of each network of tanh units on XOR with the targets ±1.

    Args:
        parameters: From `initial`, for two inputs and one output.
    """
    x, targets = CORNERS.double(), 2 * GATES["XOR"].double()[:, None] - 1
    return (tanh(outputs(parameters, x, tanh)) - targets).square().mean((1, 2)) / 2


class Descent:
    """A rule of ``dlnotes.optim`` that steps all runs, each with its own learning rate.

    Args:
        rule: An elementwise rule.
        rates: One per run.
        hyper: Its other hyper-parameters.
    """

    def __init__(self, rule: type[UpdateRule], rates: Tensor, **hyper: Any) -> None:
        self._rule, self._hyper = rule, hyper
        self.rates = rates[:, None, None]
        self._accumulators: list[list[Tensor]] = []
        self._t = 0

    def step(self, parameters: list[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """The parameters after one more step."""
        self._t += 1
        if not self._accumulators:
            zeros = [[torch.zeros_like(p) for _ in self._rule.accumulators] for p in parameters]
            self._accumulators = zeros
        count: dict[str, Any] = {"t": float(self._t)} if "t" in self._rule.hyper_names() else {}
        updated = [
            self._rule.update(theta, g, *state, lr=self.rates, **self._hyper, **count)
            for theta, g, state in zip(parameters, gradients, self._accumulators, strict=True)
        ]
        self._accumulators = [list(each[1:]) for each in updated]
        return [each[0] for each in updated]

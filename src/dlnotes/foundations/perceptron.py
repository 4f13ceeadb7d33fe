"""The perceptron and the neuron: one unit, a = f(w·x + b)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dlnotes.activations import Step, activation
from dlnotes.errors import UserError
from dlnotes.foundations.backpropagation import Differentiable, check_targets, differentiable


@activation(lambda: 1.0)
def identity(z: Tensor) -> Tensor:
    """The linear unit's activation, whose slope is 1."""
    return z


class Neuron:
    r"""One unit with an activation f: sigmoid or tanh for a neuron, ``identity`` for a linear unit.

    It is trained with the squared error of m samples:

    .. math::
        z_i &= w · x_i + b \\
        a_i &= f(z_i) \\
        J(w, b) &= \frac{1}{2m} \sum_i (a_i − y_i)^2

    Its gradient and the update are

    .. math::
        \frac{∂J}{∂w} &= \frac{1}{m} \sum_i (a_i − y_i) \, f'(z_i) \, x_i \\
        \frac{∂J}{∂b} &= \frac{1}{m} \sum_i (a_i − y_i) \, f'(z_i) \\
        w &← w − α \frac{∂J}{∂w} \\
        b &← b − α \frac{∂J}{∂b}

    For one sample and a linear unit without a bias, ∂J/∂w₁ is the notes' x₁ (w·x − y).

    Args:
        inputs: Number of weights, which are 0 at first, as the bias is.
        activation: f, with its derivative ``f.slope``: a function of ``dlnotes.activations``, or
            one of its modules.
        dtype: Of the parameters.

    Shapes:
        x ``m inputs``, y ``m`` → outputs ``m``.

    Raises:
        TypeError: The activation has no slope.
    """

    def __init__(
        self,
        inputs: int,
        activation: Differentiable | Callable[[Tensor], Tensor],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.w = torch.zeros(inputs, dtype=dtype)
        self.b = torch.zeros((), dtype=dtype)
        self.activation = differentiable(activation)

    def __call__(self, x: Tensor) -> Tensor:
        """Return a = f(w·x + b) for every sample."""
        return self.activation(x @ self.w + self.b)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return J.

        Raises:
            ValueError: y is not one number per sample.
        """
        a = self(x)
        check_targets(a, y)
        return (a - y).square().mean() / 2

    @torch.no_grad()
    def gradient(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∂J/∂w and ∂J/∂b, by the formula above."""
        z = x @ self.w + self.b
        check_targets(z, y)
        delta = (self.activation(z) - y) / len(y) * self.activation.slope(z)
        return delta @ x, delta.sum()

    def learn(self, x: Tensor, y: Tensor, lr: float, epochs: int) -> list[float]:
        """Take one step per sample, ``epochs`` times through all; return J after each epoch.

        Raises:
            UserError: A weight or J is not finite after an epoch: the descent has diverged.
        """
        losses = []
        for epoch in range(1, epochs + 1):
            for xi, yi in zip(x.split(1), y.split(1), strict=True):
                dw, db = self.gradient(xi, yi)
                self.w = self.w - lr * dw
                self.b = self.b - lr * db
            losses.append(self.loss(x, y).item())
            if not all(math.isfinite(n) for n in (losses[-1], *self.w.tolist(), self.b.item())):
                raise UserError(
                    f"the weights or the loss are not finite after epoch {epoch}: the descent has "
                    f"diverged; lower lr (now {lr:g})"
                )
        return losses


class Perceptron(Neuron):
    r"""A unit with the step function (Rosenblatt 1958, https://doi.org/10.1037/h0042519).

    The derivative of the step is 0 wherever it exists, so gradient descent would change nothing.
    The perceptron learning rule, here also called delta rule, leaves it out:

    .. math::
        w &← w − α (a − y) \, x \\
        b &← b − α (a − y)

    If a line separates the two classes, the perceptron makes only a limited number of mistakes,
    however long it is trained (Novikoff 1962).

    AND, OR and NAND have such a line. **XOR has none**, since w₁, w₂ and b would have to satisfy

    .. math::
        b &≤ 0 \\
        w_1 + b &> 0 \\
        w_2 + b &> 0 \\
        w_1 + w_2 + b &≤ 0

    The sum of the two in the middle is w₁ + w₂ + 2b > 0, and therefore w₁ + w₂ + b > −b ≥ 0. That
    contradicts the last one. XOR needs a hidden layer.

    Args:
        inputs: Number of weights, which are 0 at first, as the bias is.
        dtype: Of the parameters.
    """

    def __init__(self, inputs: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(inputs, Step(straight_through=True), dtype)


CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
"""The corners of the unit square, ``(4, 2)``."""
GATES = {
    "AND": torch.tensor([0.0, 0.0, 0.0, 1.0]),
    "OR": torch.tensor([0.0, 1.0, 1.0, 1.0]),
    "NAND": torch.tensor([1.0, 1.0, 1.0, 0.0]),
    "XOR": torch.tensor([0.0, 1.0, 1.0, 0.0]),
}
"""Name of a gate → its value at each corner: AND, OR, NAND and XOR."""

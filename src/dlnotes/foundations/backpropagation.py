"""A multi-layer network whose forward and backward passes are written by hand."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from dlnotes.activations import sigmoid

#: Name → standard deviation of a layer's first weights, from its numbers of inputs and outputs.
INITIALISATIONS: dict[str, Callable[[int, int], float]] = {
    "small": lambda inputs, outputs: 0.01,
    "glorot": lambda inputs, outputs: math.sqrt(2 / (inputs + outputs)),
    "he": lambda inputs, outputs: math.sqrt(2 / inputs),
    "unit": lambda inputs, outputs: 1.0,
}


class Differentiable(Protocol):
    """A function f with its derivative: one of ``dlnotes.activations`` or a module of it."""

    def __call__(self, z: Tensor, /) -> Tensor:
        """Return f(z)."""

    def slope(self, z: Tensor, /) -> Tensor:
        """Return f'(z)."""


class Pass(NamedTuple):
    """What one pass computes at every layer: in the forward pass values, in the backward gradients.

    ``z[l]`` is layer l's sum W a + b and ``a[l]`` its input, so that ``a[0]`` is x; the last ``a``
    is the network's output.
    """

    z: list[Tensor]
    a: list[Tensor]


class Network:
    r"""Fully connected layers, trained by back-propagation (Rumelhart, Hinton & Williams 1986).

    Forward, for the layers l = 1 … L:

    .. math::
        a^{(0)} &= x \\
        z^{(l)} &= a^{(l−1)} W^{(l)\top} + b^{(l)} \\
        a^{(l)} &= f(z^{(l)})

    With cross-entropy the last layer has no f: a⁽ᴸ⁾ = z⁽ᴸ⁾.

    The loss is a mean over m samples. The squared error and its derivative are

    .. math::
        J &= \frac{1}{2m} \sum_i ‖a^{(L)}_i − y_i‖^2 \\
        \frac{∂J}{∂a^{(L)}} &= \frac{1}{m} (a^{(L)} − y)

    and those of cross-entropy, for targets that add up to 1 per sample,

    .. math::
        J &= −\frac{1}{m} \sum_i y_i · \log \operatorname{softmax}(a^{(L)}_i) \\
        \frac{∂J}{∂a^{(L)}} &= \frac{1}{m} (\operatorname{softmax}(a^{(L)}) − y)

    Backward, for l = L … 1:

    .. math::
        \frac{∂J}{∂z^{(l)}} &= \frac{∂J}{∂a^{(l)}} ⊙ f'(z^{(l)}) \\
        \frac{∂J}{∂W^{(l)}} &= \left( \frac{∂J}{∂z^{(l)}} \right)^\top a^{(l−1)} \\
        \frac{∂J}{∂b^{(l)}} &= \sum_i \frac{∂J}{∂z^{(l)}_i} \\
        \frac{∂J}{∂a^{(l−1)}} &= \frac{∂J}{∂z^{(l)}} W^{(l)}

    f' is the activation's own ``slope``, written by hand too: autograd has no part in ``backward``.
    It puts ∂J/∂W and ∂J/∂b into the parameters' ``.grad``, where optimizers look. A tensor that is
    the weight (or bias) of several layers gets the sum of their gradients.

    Args:
        sizes: The number of inputs, of units in each hidden layer, and of outputs.
        activation: f, elementwise and without randomness, with its derivative ``f.slope``: a
            function of ``dlnotes.activations``, or one of its modules where f has settings.
        cross_entropy: The loss; False for the squared error.
        initialisation: A name of ``INITIALISATIONS``. Biases start at 0.
        dtype: Of the parameters.
        generator: For the first weights.

    Raises:
        ValueError: The sizes are not positive, or the initialisation has another name.
        TypeError: The activation has no slope.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Differentiable | Callable[[Tensor], Tensor] = sigmoid,
        *,
        cross_entropy: bool = True,
        initialisation: str = "glorot",
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least two positive numbers, got {list(sizes)}")
        if initialisation not in INITIALISATIONS:
            names = ", ".join(INITIALISATIONS)
            raise ValueError(f"initialisation must be one of {names}, got {initialisation!r}")
        std = INITIALISATIONS[initialisation]
        self.weights = [
            torch.randn(outputs, inputs, dtype=dtype, generator=generator) * std(inputs, outputs)
            for inputs, outputs in pairwise(sizes)
        ]
        self.biases = [torch.zeros(outputs, dtype=dtype) for outputs in sizes[1:]]
        self.activation = differentiable(activation)
        self.cross_entropy = cross_entropy

    def parameters(self) -> list[Tensor]:
        """Return the weights and biases, first layer first, each once."""
        layers = zip(self.weights, self.biases, strict=True)
        return list({id(p): p for layer in layers for p in layer}.values())

    def forward(self, x: Tensor) -> Pass:
        """Return every layer's z and a for x of shape ``(m, inputs)``."""
        values = Pass([], [x])
        for layer, (W, b) in enumerate(zip(self.weights, self.biases, strict=True), start=1):
            z = values.a[-1] @ W.T + b
            last = layer == len(self.weights)
            values.z.append(z)
            values.a.append(z if last and self.cross_entropy else self.activation(z))
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs, ``(m, outputs)``."""
        return self.forward(x).a[-1]

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return J; y has the output's shape, for classes one row of a unit matrix each.

        Raises:
            ValueError: y has another shape.
        """
        check_targets(output, y)
        if self.cross_entropy:
            return -(y * output.log_softmax(-1)).sum() / len(y)
        return (output - y).square().sum() / (2 * len(y))

    @torch.no_grad()
    def backward(self, values: Pass, y: Tensor) -> Pass:
        """Set the parameters' ``.grad`` and return ∂J/∂z and ∂J/∂a of every layer."""
        output = values.a[-1]
        check_targets(output, y)
        if self.cross_entropy:
            da = (output.softmax(-1) * y.sum(-1, keepdim=True) - y) / len(y)
        else:
            da = (output - y) / len(y)
        gradients = Pass([], [da])
        for p in self.parameters():
            p.grad = None
        last = len(self.weights) - 1
        for layer in range(last, -1, -1):
            W, b, z, a = self.weights[layer], self.biases[layer], values.z[layer], values.a[layer]
            linear = layer == last and self.cross_entropy
            dz = da if linear else da * self.activation.slope(z)
            for p, gradient in ((W, dz.T @ a), (b, dz.sum(0))):
                p.grad = gradient if p.grad is None else p.grad + gradient
            da = dz @ W
            gradients.z.insert(0, dz)
            gradients.a.insert(0, da)
        return gradients

    def check(self, x: Tensor, y: Tensor, eps: float = 1e-5, rtol: float = 1e-5) -> float:
        """Compare each ∂J/∂θ with (J(θ + ε) − J(θ − ε)) / 2ε, in float64.

        Returns:
            The largest difference, as a share of the largest slope of its parameter.

        Raises:
            AssertionError: It is above ``rtol``; the message names the parameter.
            ValueError: x is not float64.
        """
        if x.dtype != torch.float64:
            raise ValueError(f"x must be float64 for a numerical check, got {x.dtype}")
        self.backward(self.forward(x), y)
        worst = 0.0
        for p in self.parameters():
            numerical = torch.empty_like(p)
            for i in range(p.numel()):
                theta = p.view(-1)[i].item()
                ends = []
                for shifted in (theta + eps, theta - eps):
                    p.view(-1)[i] = shifted
                    ends.append(self.loss(self(x), y).item())
                p.view(-1)[i] = theta
                numerical.view(-1)[i] = (ends[0] - ends[1]) / (2 * eps)
            assert p.grad is not None
            difference = (p.grad - numerical).abs().max() / numerical.abs().max().clamp(min=1e-8)
            if not difference <= rtol:  # NaN is a failure too
                raise AssertionError(
                    f"∂J/∂{self._name(p)} differs from its numerical value by "
                    f"{difference:.1e}, allowed {rtol:.1e}"
                )
            worst = max(worst, difference.item())
        return worst

    def _name(self, p: Tensor) -> str:
        """What a parameter is called, by the first layer that has it."""
        kind, tensors = ("W", self.weights) if p.dim() == 2 else ("b", self.biases)
        layer = next(i for i, tensor in enumerate(tensors, start=1) if tensor is p)
        return f"{kind} of layer {layer}"


def differentiable(f: Any) -> Differentiable:
    """Return f as it is.

    Raises:
        TypeError: It has no slope.
    """
    if not callable(getattr(f, "slope", None)):
        name = getattr(f, "__name__", None) or repr(f)
        raise TypeError(
            f"activation must have a slope, its derivative, got {name}; allowed: a function of "
            "dlnotes.activations (sigmoid), a module of it (ELU(0.5)), or what its decorator "
            "`activation(slope)` returns"
        )
    return cast(Differentiable, f)


def check_targets(output: Tensor, y: Tensor) -> None:
    """Refuse targets that would be broadcast against the outputs.

    Raises:
        ValueError: y has not the output's shape.
    """
    if y.shape != output.shape:
        raise ValueError(
            f"y must have the output's shape {tuple(output.shape)}, got {tuple(y.shape)}"
        )

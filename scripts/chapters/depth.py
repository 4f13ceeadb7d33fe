r"""How large gradients are in the layers of a deep network with random weights.

``docs/_static/depth.js`` computes the same sizes in the browser; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dlnotes.activations import relu, sigmoid, tanh
from dlnotes.foundations.backpropagation import Differentiable, Network, differentiable
from dlnotes.foundations.perceptron import identity

ACTIVATIONS: dict[str, Differentiable] = {
    name: differentiable(f)
    for name, f in {"sigmoid": sigmoid, "tanh": tanh, "ReLU": relu, "none": identity}.items()
}
SCALES = (
    *(0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
    *(math.sqrt(2), 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0),
)
"""Standard deviations of the weights to choose from in the interactive figure, times √n."""
POINTS, REACH = 160, 8.0
"""Number of points and largest deviation of the sums that stand for the means of a normal z."""


def sizes(activation: str, scale: float, depth: int) -> Tensor:
    r"""The gradient's size in each layer of an infinitely wide network, relative to the last.

    Weights are independent with mean 0 and variance :math:`s^2 / n`, biases are 0, and the inputs
    have the mean square 1. Then z is normal in every layer, and per layer

    .. math::
        q_1 = s^2, \qquad q_{l+1} = s^2\, E[f(\sqrt{q_l}\, u)^2], \qquad
        \frac{|δ_l|}{|δ_{l+1}|} = s \sqrt{E[f'(\sqrt{q_l}\, u)^2]},
        \qquad u \sim N(0, 1)

    (Poole et al. 2016, https://arxiv.org/abs/1606.05340; Schoenholz et al. 2017,
    https://arxiv.org/abs/1611.01232).

    Args:
        activation: A name of ``ACTIVATIONS``.
        scale: s.
        depth: Number of layers.

    Returns:
        The sizes in float64, ``(depth,)``, the first layer first; the last one is 1.
    """
    f = ACTIVATIONS[activation]
    width = 2 * REACH / POINTS
    u = -REACH + (torch.arange(POINTS, dtype=torch.float64) + 0.5) * width
    density = torch.exp(-(u**2) / 2) * width / math.sqrt(2 * math.pi)
    q, factors = scale**2, []
    for _ in range(depth - 1):
        z = math.sqrt(q) * u
        slopes = f.slope(z).expand_as(z)
        factors.append(scale * math.sqrt((density * slopes**2).sum().item()))
        q = scale**2 * (density * f(z) ** 2).sum().item()
    size, found = 1.0, [1.0]
    for factor in reversed(factors):
        size *= factor
        found.append(size)
    return torch.tensor(found[::-1], dtype=torch.float64)


def measured(activation: str, scale: float, depth: int, width: int = 64, seed: int = 0) -> Tensor:
    """The same sizes in a network with random weights, by back-propagation.

    Args:
        activation: A name of ``ACTIVATIONS``.
        scale: Standard deviation of the weights, times √width.
        depth: Number of layers below the output.
        width: Number of units per layer.
        seed: Seed of weights, inputs and targets.

    Returns:
        Root mean squares of ∂J/∂z, divided by that of the last of the layers: ``(depth,)``.
    """
    generator = torch.Generator().manual_seed(seed)
    f: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]
    network = Network(
        [width] * (depth + 1) + [10],
        f,
        initialisation="unit",
        dtype=torch.float64,
        generator=generator,
    )
    for W in network.weights:
        W *= scale / math.sqrt(width)
    x = torch.randn(64, width, dtype=torch.float64, generator=generator)
    y = torch.eye(10, dtype=torch.float64)[torch.randint(10, (64,), generator=generator)]
    gradients = network.backward(network.forward(x), y)
    found = torch.stack([z.square().mean().sqrt() for z in gradients.z[:-1]])
    return found / found[-1]

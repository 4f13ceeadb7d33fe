"""What the foundations are checked against: autograd, and torch's SGD."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dlnotes import activations
from dlnotes.activations._oracles import Row
from dlnotes.foundations.backpropagation import Network
from dlnotes.foundations.gradient_descent import minimise
from dlnotes.foundations.perceptron import Neuron, Perceptron, identity

UNITS = {
    "perceptron (delta rule)": Perceptron(5, torch.float64),
    "linear unit": Neuron(5, identity, torch.float64),
    "sigmoid neuron": Neuron(5, activations.sigmoid, torch.float64),
    "tanh neuron": Neuron(5, activations.tanh, torch.float64),
}


def rows() -> Iterator[Row]:
    """Each hand-written gradient against autograd's, in float64; the descent against torch's."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    for name, unit in UNITS.items():
        x, y = random(20, 5), random(20)
        unit.w, unit.b = random(5), random()
        by_hand = unit.gradient(x, y)
        leaves = (unit.w.requires_grad_(), unit.b.requires_grad_())
        by_autograd = torch.autograd.grad(unit.loss(x, y), leaves)
        difference = _largest_difference(by_hand, by_autograd)
        yield Row(name, "autograd, ∂J/∂w and ∂J/∂b", "same", difference, 1e-12)

    def bowl(x: Tensor) -> Tensor:
        return (x**4).sum() + (x[0] - x[1]) ** 2

    path = minimise(bowl, random(3), lr=0.01, steps=300)
    x = path[0].clone().requires_grad_()
    sgd = torch.optim.SGD([x], lr=0.01)
    for _ in range(300):
        (x.grad,) = torch.autograd.grad(bowl(x), x)
        sgd.step()
    difference = _largest_difference([path[-1]], [x.detach()])
    yield Row("gradient descent", "torch.optim.SGD, 300 steps", "same", difference, 1e-10)

    for cross_entropy in (True, False):
        loss = "softmax cross-entropy" if cross_entropy else "squared error"
        network = Network(
            [6, 5, 4, 3],
            activations.tanh,
            cross_entropy=cross_entropy,
            dtype=torch.float64,
            generator=generator,
        )
        x, y = random(7, 6), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2, 0]]
        gradients = network.backward(network.forward(x), y)
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        parameters = [p.requires_grad_() for p in network.parameters()]
        values = network.forward(x.requires_grad_())
        by_autograd = torch.autograd.grad(
            network.loss(values.a[-1], y), parameters + values.z + values.a
        )
        difference = _largest_difference(grads + gradients.z + gradients.a, by_autograd)
        name = f"back-propagation, {loss}"
        yield Row(name, "autograd, every W, b, z and a", "same", difference, 1e-10)


def _largest_difference(
    ours: list[Tensor] | tuple[Tensor, ...], theirs: list[Tensor] | tuple[Tensor, ...]
) -> float:
    """Of two lists of tensors, each difference relative to the tensor's largest number."""
    pairs = zip(ours, theirs, strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)

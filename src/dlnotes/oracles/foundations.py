"""Oracles of the foundations: autograd, and torch's SGD."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlnotes import activations
from dlnotes.foundations.backpropagation import Network
from dlnotes.foundations.gradient_descent import minimise
from dlnotes.foundations.perceptron import Neuron, Perceptron, identity
from dlnotes.oracles.comparison import Case, Comparison, Outputs

UNITS: dict[str, Callable[[], Neuron]] = {
    "perceptron (delta rule)": lambda: Perceptron(5, torch.float64),
    "linear unit": lambda: Neuron(5, identity, torch.float64),
    "sigmoid neuron": lambda: Neuron(5, activations.sigmoid, torch.float64),
    "tanh neuron": lambda: Neuron(5, activations.tanh, torch.float64),
}


def comparisons() -> Iterator[Comparison]:
    """Yield comparisons of hand-written gradients with autograd, and of descent with SGD."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    for name, make in UNITS.items():
        case = _unit(make, x=random(20, 5), y=random(20), w=random(5), b=random())
        yield Comparison(name, "autograd, ∂J/∂w and ∂J/∂b", "same", [case], 1e-12)
    yield Comparison(
        "gradient descent", "torch.optim.SGD, 300 steps", "same", [_descent(random(3))], 1e-10
    )
    for cross_entropy in (True, False):
        loss = "softmax cross-entropy" if cross_entropy else "squared error"
        x, y = random(7, 6), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2, 0]]
        yield Comparison(
            f"back-propagation, {loss}",
            "autograd, every W, b, z and a",
            "same",
            [_network(cross_entropy, x, y)],
            1e-10,
        )


def _unit(make: Callable[[], Neuron], x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Case:
    def unit() -> Neuron:
        made = make()
        made.w, made.b = w.clone(), b.clone()
        return made

    def theirs() -> Outputs:
        by_autograd = unit()
        leaves = by_autograd.w.requires_grad_(), by_autograd.b.requires_grad_()
        return torch.autograd.grad(by_autograd.loss(x, y), leaves)

    return Case(lambda: unit().gradient(x, y), theirs)


def _descent(start: Tensor) -> Case:
    def bowl(x: Tensor) -> Tensor:
        return (x**4).sum() + (x[0] - x[1]) ** 2

    def theirs() -> Outputs:
        x = start.clone().requires_grad_()
        sgd = torch.optim.SGD([x], lr=0.01)
        for _ in range(300):
            (x.grad,) = torch.autograd.grad(bowl(x), x)
            sgd.step()
        return x, x - start

    def ours() -> Outputs:
        end = minimise(bowl, start, lr=0.01, steps=300)[-1]
        return end, end - start

    return Case(ours, theirs)


def _network(cross_entropy: bool, x: Tensor, y: Tensor) -> Case:
    def network() -> Network:
        return Network(
            [6, 5, 4, 3],
            activations.tanh,
            cross_entropy=cross_entropy,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(1),
        )

    def ours() -> Outputs:
        by_hand = network()
        gradients = by_hand.backward(by_hand.forward(x), y)
        grads = [p.grad for p in by_hand.parameters() if p.grad is not None]
        return grads + gradients.z + gradients.a

    def theirs() -> Outputs:
        by_autograd = network()
        parameters = [p.requires_grad_() for p in by_autograd.parameters()]
        values = by_autograd.forward(x.clone().requires_grad_())
        loss = by_autograd.loss(values.a[-1], y)
        return torch.autograd.grad(loss, parameters + values.z + values.a)

    return Case(ours, theirs)

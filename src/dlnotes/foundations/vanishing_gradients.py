"""Vanishing and exploding gradients: how large a gradient is at each layer, and what helps."""

from collections.abc import Callable

import torch
from torch import Tensor

from dlnotes.activations import relu, sigmoid, tanh
from dlnotes.foundations.backpropagation import Network
from dlnotes.optim import clip_grad_norm_

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
}
WIDTH, CLASSES = 64, 10


def task(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random points, and as a unit vector the largest of their first coordinates: learnable."""
    x = torch.randn(samples, WIDTH, generator=torch.Generator().manual_seed(seed))
    return x, torch.eye(CLASSES)[x[:, :CLASSES].argmax(1)]


def deep_network(depth: int, activation: str, initialisation: str, seed: int = 0) -> Network:
    """``depth`` layers of weights, 64 units wide, followed by a softmax over 10 classes."""
    return Network(
        [WIDTH] * depth + [CLASSES],
        ACTIVATIONS[activation],
        initialisation=initialisation,
        generator=torch.Generator().manual_seed(seed),
    )


def gradient_norms(depth: int, activation: str, initialisation: str, seed: int = 0) -> Tensor:
    """Return ‖∂J/∂W⁽ˡ⁾‖ of every layer of a fresh network, first layer first.

    By the chain rule ∂J/∂z⁽ˡ⁾ is ∂J/∂z⁽ᴸ⁾ times L − l factors W f'(z), so that it shrinks or grows
    like a power of their size: σ' ≤ 1/4 makes it vanish whatever the layer; weights of deviation
    1 in layers 64 wide make it explode. Weights of variance 2/64 keep it with ReLU, whose slope is
    1 on one half (He et al. 2015, https://arxiv.org/abs/1502.01852).
    """
    network = deep_network(depth, activation, initialisation, seed)
    x, y = task(256, seed)
    network.backward(network.forward(x), y)
    return torch.stack([W.grad.norm() for W in network.weights if W.grad is not None])


def losses(network: Network, lr: float, steps: int, clip_norm: float | None = None) -> list[float]:
    """Train with plain gradient descent and return the loss before every step.

    Args:
        network: Changed in place.
        lr: The learning rate α.
        steps: Number of steps, each over all of :func:`task`'s 256 samples.
        clip_norm: A larger gradient (of all parameters together) is scaled down to this norm.
    """
    x, y = task(256)
    history = []
    for _ in range(steps):
        values = network.forward(x)
        history.append(network.loss(values.a[-1], y).item())
        network.backward(values, y)
        if clip_norm is not None:
            clip_grad_norm_(network.parameters(), clip_norm)
        for p in network.parameters():
            assert p.grad is not None
            p -= lr * p.grad
    return history

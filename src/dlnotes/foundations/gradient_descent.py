"""Gradient descent on any differentiable function, with its path."""

from collections.abc import Callable

import torch
from torch import Tensor


def minimise(f: Callable[[Tensor], Tensor], start: Tensor, lr: float, steps: int) -> Tensor:
    """Follow the steepest descent from ``start``.

    .. math::
        x ← x − α ∇f(x)

    On a parabola f(x) = λx²/2 every step multiplies x by 1 − αλ. The descent

    - approaches the minimum from one side for 0 < αλ < 1, slowly if αλ is near 0;
    - reaches it in one step for αλ = 1;
    - steps over it but comes closer for 1 < αλ < 2;
    - moves further away with every step for αλ > 2.

    In more dimensions the largest λ, the steepest curvature of f, sets the limit.

    Args:
        f: From a tensor to a scalar.
        start: Where to begin; left as it is.
        lr: The learning rate α.
        steps: How many steps to take.

    Returns:
        The path, ``(steps + 1, *start.shape)``, ``start`` first.
    """
    gradient = torch.func.grad(f)
    path = [start.detach()]
    for _ in range(steps):
        x = path[-1]
        path.append(x - lr * gradient(x))
    return torch.stack(path)

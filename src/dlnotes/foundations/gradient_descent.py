"""Gradient descent on any differentiable function, with its path."""

from collections.abc import Callable

import torch
from torch import Tensor


def minimise(f: Callable[[Tensor], Tensor], start: Tensor, lr: float, steps: int) -> Tensor:
    """Follow the steepest descent from ``start``.

        x ← x − α ∇f(x)

    On a parabola f(x) = λx²/2 every step multiplies x by 1 − αλ. So the descent

        creeps to the minimum           for 0 < αλ < 1      (too small: many steps)
        is there in one step            for αλ = 1
        jumps over it but comes closer  for 1 < αλ < 2
        moves away, further each time   for αλ > 2          (too large)

    and in more dimensions the largest λ, the steepest curvature of f, sets the limit.

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

r"""ReLU with a random slope on the left."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import one_or
from dlnotes.activations._function import Activation, apply, keep
from dlnotes.activations.leaky_relu import _LeakyReLU


class _RReLU(Activation):
    @staticmethod
    def forward(x: Tensor, slope: Tensor) -> Tensor:
        return x * slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        keep(ctx, inputs[1])  # the sampled slopes alone tell the derivative

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        slope: Tensor = ctx.saved_tensors[0]
        return g * slope, None

    @staticmethod
    def tangent(ctx: Any, t: Tensor, _: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0]
        return t * slope


def rrelu(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Randomized leaky ReLU (Xu et al. 2015, https://arxiv.org/abs/1505.00853).

        f(x)  = max(x, 0) + a min(x, 0)
        f'(x) = 1 if x > 0 else a            (a at 0)

    In training each element draws its own a ~ U(lower, upper), used again in the backward pass;
    otherwise a = (lower + upper) / 2.

    f (*) and f' (.) on x in [-4, 4], height -1 to 2, a = 11/48:

                                |          ***
                                |        **
                                |      **
                                |....**..................
                                | ***
        .......................***-----------------------
                     ********** |
           **********           |
        ***                     |

    Differs from torch: draws for every element, whatever its sign, so that one seed gives other
    slopes than torch's; takes a ``generator``; keeps the slopes alone, half of torch's memory.

    Raises:
        ValueError: ``lower`` is greater than ``upper``.
    """
    if lower > upper:
        raise ValueError(f"rrelu: lower must be at most upper, got lower={lower} and upper={upper}")
    if not training:
        return apply("rrelu", _LeakyReLU, x, (lower + upper) / 2)
    a = torch.empty_like(x).uniform_(lower, upper, generator=generator)
    return apply("rrelu", _RReLU, x, one_or(a, x > 0, like=a))


class RReLU(nn.Module):
    """:func:`rrelu` as a module: random in training mode, the mean slope in evaluation mode."""

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.lower, self.upper, self.generator = lower, upper, generator

    def forward(self, x: Tensor) -> Tensor:
        """Return ``rrelu(x, lower, upper)`` in the module's mode."""
        return rrelu(x, self.lower, self.upper, self.training, self.generator)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"lower={self.lower:.4g}, upper={self.upper:.4g}"

r"""A smooth ReLU."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise, log1p
from dlnotes.activations._function import Activation, apply


@elementwise
def _value(x: Tensor, *, beta: float) -> Tensor:
    z = beta * x
    return (z.clamp(min=0) + log1p(torch.exp(-z.abs()))) * (1 / beta)


@elementwise
def _slope_times(g: Tensor, x: Tensor, *, beta: float) -> Tensor:
    return g / (1 + torch.exp(-beta * x))


class _Softplus(Activation):
    @staticmethod
    def forward(x: Tensor, beta: float) -> Tensor:
        return _value(x, beta=beta)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _slope_times(g, *ctx.saved_tensors, beta=ctx.settings[0]), None

    @staticmethod
    def tangent(ctx: Any, t: Tensor, _: None) -> Tensor:
        return _slope_times(t, *ctx.saved_tensors, beta=ctx.settings[0])


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    r"""Softplus (Dugas et al. 2001), the integral of the sigmoid.

        f(x)  = log(1 + e^βx) / β = max(x, 0) + log(1 + e^−|βx|) / β
        f'(x) = σ(βx)

    f (*) and f' (.) on x in [-4, 4], height 0 to 2:

                                |         ***
                                |       **
                                |    ***
                                | ***     ...............
                              ****........
                      ********..|
        **************.---------+------------------------

    Differs from torch: no threshold. From βx = 20 on torch returns x itself, off by 2e-9 there;
    the second form above neither overflows nor needs that.
    """
    return apply("softplus", _Softplus, x, beta)


class Softplus(nn.Module):
    """:func:`softplus` as a module."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Return ``softplus(x, beta)``."""
        return softplus(x, self.beta)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"beta={self.beta}"

r"""The exponential linear unit."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise, expm1, scaled_below
from dlnotes.activations._function import Activation, apply


@elementwise
def _value(x: Tensor, *, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * expm1(x))


@elementwise
def _slope_times(g: Tensor, x: Tensor, *, alpha: float) -> Tensor:
    return scaled_below(g, alpha * x.clamp(max=0).exp(), x > 0)


class _ELU(Activation):
    @staticmethod
    def forward(x: Tensor, alpha: float) -> Tensor:
        return _value(x, alpha=alpha)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _slope_times(g, *ctx.saved_tensors, alpha=ctx.settings[0]), None

    @staticmethod
    def tangent(ctx: Any, t: Tensor, _: None) -> Tensor:
        return _slope_times(t, *ctx.saved_tensors, alpha=ctx.settings[0])


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    r"""Exponential linear unit (Clevert et al. 2016, https://arxiv.org/abs/1511.07289).

        f(x)  = x if x > 0 else α(eˣ − 1)
        f'(x) = 1 if x > 0 else α eˣ         (α at 0, as in torch)

    f (*) and f' (.) on x in [-4, 4], height -1 to 2:

                                |          ***
                                |        **
                                |      **
                              .......**..................
                          ....  | ***
        ..................------**-----------------------
                             ***|
                      *******   |
        **************          |

    eˣ − 1 is computed as ``expm1``, which keeps the digits near 0. The derivative is taken from x:
    from the output, f(x) + α, it would be 0 in float32 from x = −17 down.
    """
    return apply("elu", _ELU, x, alpha)


class ELU(nn.Module):
    """:func:`elu` as a module."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return ``elu(x, alpha)``."""
        return elu(x, self.alpha)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"alpha={self.alpha}"

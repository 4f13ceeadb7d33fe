r"""The sigmoid linear unit, also called swish."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise
from dlnotes.activations._function import Activation, apply


@elementwise
def _value(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


@elementwise
def _slope_times(g: Tensor, x: Tensor) -> Tensor:
    s = 1 / (1 + torch.exp(-x))
    return g * s * (1 + x * (1 - s))


class _SiLU(Activation):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _value(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _slope_times(g, *ctx.saved_tensors)

    @staticmethod
    def tangent(ctx: Any, t: Tensor) -> Tensor:
        return _slope_times(t, *ctx.saved_tensors)


def silu(x: Tensor) -> Tensor:
    r"""Sigmoid linear unit (Elfwing et al. 2017, https://arxiv.org/abs/1702.03118).

        f(x)  = x σ(x)
        f'(x) = σ(x) (1 + x (1 − σ(x)))

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2:

                                |            **
                                |          **
                                |        **
                                |     ..*................
                                | ....**
                              .... ***
        ----------------......--***----------------------
        ************************|
                                |
    """
    return apply("silu", _SiLU, x)


class SiLU(nn.Module):
    """:func:`silu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``silu(x)``."""
        return silu(x)

r"""The Gaussian error linear unit."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise
from dlnotes.activations._function import Activation, apply


@elementwise
def _value(x: Tensor) -> Tensor:
    z = x * math.sqrt(0.5)
    return x * 0.5 * (1 + torch.erf(z))


@elementwise
def _slope_times(g: Tensor, x: Tensor) -> Tensor:
    z = x * math.sqrt(0.5)
    density = torch.exp(-z * z) * math.sqrt(0.5 / math.pi)
    return g * (0.5 * (1 + torch.erf(z)) + x * density)


class _GELU(Activation):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _value(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _slope_times(g, *ctx.saved_tensors)

    @staticmethod
    def tangent(ctx: Any, t: Tensor) -> Tensor:
        return _slope_times(t, *ctx.saved_tensors)


def gelu(x: Tensor) -> Tensor:
    r"""Gaussian error linear unit (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415).

        f(x)  = x Φ(x)                       Φ(x) = (1 + erf z) / 2, z = x/√2
        f'(x) = Φ(x) + x φ(x)                φ(x) = e^(−z²) / √(2π)

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2:

                                |           **
                                |         **
                                |        *
                                |   ...**................
                                |... **
                               ..  **
        ***********---------...-***----------------------
                 ..*************|
                                |
    """
    return apply("gelu", _GELU, x)


class GELU(nn.Module):
    """:func:`gelu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``gelu(x)``."""
        return gelu(x)

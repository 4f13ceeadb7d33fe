r"""The logistic sigmoid, the neuron's activation."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise, exp, exp_is_ours
from dlnotes.activations._function import Activation, apply


@elementwise
def _value(x: Tensor) -> Tensor:
    if not exp_is_ours(x):
        return 1 / (1 + torch.exp(-x))
    # The slope's exponential: a compiler that sees both passes keeps it from one to the other.
    e = exp(-x.abs())
    return torch.where(x > 0, 1.0, e) / (1 + e)


@elementwise
def _slope_times(g: Tensor, x: Tensor) -> Tensor:
    e = exp(-x.abs())
    return g * e / (1 + e) ** 2


class _Sigmoid(Activation):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _value(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _slope_times(g, *ctx.saved_tensors)

    @staticmethod
    def tangent(ctx: Any, t: Tensor) -> Tensor:
        return _slope_times(t, *ctx.saved_tensors)


def sigmoid(x: Tensor) -> Tensor:
    r"""Logistic sigmoid.

        σ(x)  = 1 / (1 + e⁻ˣ)
        σ'(x) = σ(x) σ(−x) = e / (1 + e)²    with e = e^−|x|

    f (*) and f' (.) on x in [-4, 4], height 0 to 1:

                                |                ********
                                |        ********
                                |    ****
                                | ***
                               ***
                            *** |
                        ****...........
                ********..      |      .........
        ********.---------------+---------------.........

    Differs from the notes: they write y' = y(1 − y) from the output y. In float32 y is exactly 1
    from x = 17 on, so that form is 0 where the slope is 4.1e-8; the one above is right as far as
    float32 goes, at the price of a second exponential and of keeping x in place of y.
    """
    return apply("sigmoid", _Sigmoid, x)


class Sigmoid(nn.Module):
    """:func:`sigmoid` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``sigmoid(x)``."""
        return sigmoid(x)

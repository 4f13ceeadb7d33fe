r"""The rectified linear unit."""

from typing import Any

from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise
from dlnotes.activations._function import MaskedActivation, apply


@elementwise
def _value(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.clamp(min=0)
    return y, y != 0  # the mask takes one byte an element in place of four


@elementwise
def _slope_times(g: Tensor, positive: Tensor) -> Tensor:
    return g * positive


class _ReLU(MaskedActivation):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return _value(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, _: Any) -> Tensor | None:
        return None if g is None else _slope_times(g, *ctx.saved_tensors)

    @staticmethod
    def tangent(ctx: Any, t: Tensor) -> tuple[Tensor, None]:
        return _slope_times(t, *ctx.saved_tensors), None


def relu(x: Tensor) -> Tensor:
    r"""Rectified linear unit (Nair & Hinton 2010, https://icml.cc/Conferences/2010/papers/432.pdf).

        f(x)  = max(x, 0)
        f'(x) = 1 if x > 0 else 0            (0 at 0, as in torch)

    f (*) and f' (.) on x in [-4, 4], height 0 to 2:

                                |           *
                                |         **
                                |      ***
                                |.....*..................
                                |  ***
                                |**
        *************************------------------------

    Cheap, and its slope does not shrink on the right; on the left it is exactly 0, so that a unit
    whose input is negative for every sample has died.

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    An upstream gradient of NaN or ∞ reaches a dead unit as 0·∞ = NaN; torch's kernel drops it.
    """
    return apply("relu", _ReLU, x)


class ReLU(nn.Module):
    """:func:`relu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(x)``."""
        return relu(x)

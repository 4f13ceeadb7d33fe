r"""The rectified linear unit."""

from typing import Any

from torch import Tensor, nn

from dlnotes.activations._function import Activation, apply, keep


class _ReLU(Activation):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        keep(ctx, output.bool())  # where y ≠ 0: one byte an element in place of four

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return g * positive

    @staticmethod
    def tangent(ctx: Any, t: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return t * positive


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

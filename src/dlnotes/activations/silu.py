r"""The sigmoid linear unit, also called swish."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    s = 1 / (1 + torch.exp(-x))
    return s * (1 + x * (1 - s))


@activation(slope)
def silu(x: Tensor) -> Tensor:
    r"""Sigmoid linear unit (Elfwing et al. 2017, https://arxiv.org/abs/1702.03118).

    .. math::
        f(x) = x\, \sigma(x), \qquad
        f'(x) = \sigma(x)\, \bigl(1 + x\, (1 - \sigma(x))\bigr)

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2::

                                |            **
                                |          **
                                |        **
                                |     ..*................
                                | ....**
                              .... ***
        ----------------......--***----------------------
        ************************|
                                |

    Shapes: any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x / (1 + torch.exp(-x))


class SiLU(Module, function=silu):
    """:func:`silu` as a module."""

r"""The sigmoid linear unit, also called swish."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    e = torch.exp(torch.where(x > 0, -x, x))
    s, rest = torch.where(x > 0, 1.0, e) / (1 + e), torch.where(x > 0, e, 1.0) / (1 + e)
    return s * (1 + x * rest)


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

    Both are computed from :math:`e^{-|x|}`, which does not overflow, nor do its derivatives.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    e = torch.exp(torch.where(x > 0, -x, x))
    return x * (torch.where(x > 0, 1.0, e) / (1 + e))


class SiLU(Module, function=silu):
    """:func:`silu` as a module."""

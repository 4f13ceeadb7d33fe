r"""The Gaussian error linear unit."""

import math

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    z = x * math.sqrt(0.5)
    density = torch.exp(-z * z) * math.sqrt(0.5 / math.pi)
    return 0.5 * (1 + torch.erf(z)) + x * density


@activation(slope)
def gelu(x: Tensor) -> Tensor:
    r"""Gaussian error linear unit (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415).

    .. math::
        f(x) = x\, \Phi(x), \qquad f'(x) = \Phi(x) + x\, \varphi(x), \qquad
        \Phi(x) = \tfrac12 \bigl(1 + \operatorname{erf} \tfrac{x}{\sqrt2}\bigr), \quad
        \varphi(x) = \tfrac{1}{\sqrt{2\pi}}\, e^{-x^2/2}

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2::

                                |           **
                                |         **
                                |        *
                                |   ...**................
                                |... **
                               ..  **
        ***********---------...-***----------------------
                 ..*************|
                                |

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x * 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))


class GELU(Module, function=gelu):
    """:func:`gelu` as a module."""

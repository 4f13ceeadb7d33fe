r"""The square of ReLU."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def positive(x: Tensor) -> Tensor:
    """ReLU, with a derivative that is 1 at NaN, too: that of a clamp is 0 there."""
    return torch.where(x.clamp(min=0) != 0, x, 0.0)


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    return 2 * positive(x)


@activation(slope)
def squared_relu(x: Tensor) -> Tensor:
    r"""Squared ReLU (So et al. 2021, https://arxiv.org/abs/2109.08668).

    .. math::
        f(x) = \max(x, 0)^2, \qquad f'(x) = 2 \max(x, 0)

    f (*) and f' (.) on x in [-4, 4], height 0 to 4::

                                |           *
                                |         .*
                                |        .*
                                |      ..
                                |     . **
                                |   .. *
                                |  .  *
                                |.. **
        ****************************---------------------

    Its slope is continuous, and grows with x. In float16 it overflows from x = 256 on. The second
    derivative is 2 where x > 0 or NaN, else 0.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return positive(x) ** 2


class SquaredReLU(Module, function=squared_relu):
    """:func:`squared_relu` as a module."""

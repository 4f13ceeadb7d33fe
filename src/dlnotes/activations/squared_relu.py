r"""The square of ReLU."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    return 2 * x.clamp(min=0)


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

    Its slope is continuous, and grows with x. In float16 it overflows from x = 256 on.

    Shapes: any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x.clamp(min=0) ** 2


class SquaredReLU(Module, function=squared_relu):
    """:func:`squared_relu` as a module."""

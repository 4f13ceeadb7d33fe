r"""What tanh takes away."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import expm1, minus_abs
from dlnotes.activations.tanh import tanh


def slope(x: Tensor) -> Tensor:
    """The derivative, tanh²."""
    t = expm1(2 * minus_abs(x))
    return (t / (t + 2)) ** 2


@activation(slope)
def tanhshrink(x: Tensor) -> Tensor:
    r"""Tanh shrinkage.

    .. math::
        f(x) = x - \tanh(x), \qquad f'(x) = 1 - \tanh'(x) = \tanh^2(x)

    f (*) and f' (.) on x in [-4, 4], height -2 to 2::

                                |                ***
                                |             ***
        .................       |       ...***...........
                         ....   |   ...****
        ------------------*************------------------
                      ****      |
                   ***          |
                ***             |
             ***                |

    Near 0, where f(x) ≈ x³/3, the value is a small difference: like torch's, it is accurate to one
    rounding of x. The derivative is a square and keeps its digits; torch's 1 − tanh' is 0 in
    float32 up to \|x\| = 2e-4.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x - tanh.value(x)


class Tanhshrink(Module, function=tanhshrink):
    """:func:`tanhshrink` as a module."""

r"""A sigmoid of x and its absolute value alone."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    return (1 / (1 + x.abs())) ** 2


@activation(slope)
def softsign(x: Tensor) -> Tensor:
    r"""Softsign (Turian, Bergstra & Bengio 2009, https://aclanthology.org/N09-2062).

    .. math::
        f(x) = \frac{x}{1 + |x|}, \qquad f'(x) = \frac{1}{(1 + |x|)^2}

    f (*) and f' (.) on x in [-4, 4], height -1 to 1::

                                .
                               .|.         **************
                             .. | ..*******
                      .......   |***.......
        ..............----------*----------..............
                             ***|
                      *******   |
        **************          |
                                |

    It approaches ±1 as 1/x does, much more slowly than tanh. At ±∞ itself the value is ∞/∞ = NaN,
    as in torch.

    Differs from torch: at ±∞ the derivative is 0; torch returns NaN.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x / (1 + x.abs())


class Softsign(Module, function=softsign):
    """:func:`softsign` as a module."""

r"""The exponential linear unit."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import expm1


def slope(x: Tensor, alpha: float) -> Tensor:
    """The derivative."""
    return torch.where(x > 0, 1.0, alpha * x.clamp(max=0).exp())


@activation(slope)
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    r"""Exponential linear unit (Clevert et al. 2016, https://arxiv.org/abs/1511.07289).

    .. math::
        f(x) = \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}, \qquad
        f'(x) = \begin{cases} 1 & x > 0 \\ \alpha e^x & x \le 0 \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -1 to 2::

                                |          ***
                                |        **
                                |      **
                              .......**..................
                          ....  | ***
        ..................------**-----------------------
                             ***|
                      *******   |
        **************          |

    At 0 the derivative is α, as in torch. :math:`e^x - 1` is computed as ``expm1``, which keeps the
    digits near 0. The derivative is computed from x: from the output, as f(x) + α, it would be 0 in
    float32 from x = −17 down.

    Differs from torch: at NaN the derivative is NaN; torch's is 1.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``alpha`` is not a number.
        ValueError: It is not finite, or ``x`` is not a real floating-point tensor.
    """
    return torch.where(x > 0, x, alpha * expm1(x))


class ELU(Module, function=elu):
    """:func:`elu` as a module."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)

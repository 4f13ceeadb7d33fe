r"""The exponential linear unit with a continuous slope."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import expm1


def slope(x: Tensor, alpha: float) -> Tensor:
    """The derivative."""
    return torch.where(x > 0, 1.0, (x.clamp(max=0) / alpha).exp())


@activation(slope, condition=(lambda alpha: alpha > 0, "alpha must be greater than 0"))
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    r"""Continuously differentiable exponential linear unit (Barron 2017).

    https://arxiv.org/abs/1704.07483

    .. math::
        f(x) = \begin{cases} x & x > 0 \\ \alpha (e^{x/\alpha} - 1) & x \le 0 \end{cases}, \qquad
        f'(x) = \begin{cases} 1 & x > 0 \\ e^{x/\alpha} & x \le 0 \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -2 to 2, α = 2::

                                |          ***
                                |       ***
                             ........***.................
                .............   | ***
        ........---------------***-----------------------
                           **** |
                     ******     |
        *************           |
                                |

    Differs from torch: a negative α, with which f grows exponentially on the left, is refused.
    At NaN the derivative is NaN; torch's is 1.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``alpha`` is not a number.
        ValueError: It is not greater than 0 or not finite, or ``x`` is not a real floating-point
            tensor.
    """
    return torch.where(x > 0, x, alpha * expm1(x / alpha))


class CELU(Module, function=celu):
    """:func:`celu` as a module."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)

r"""SiLU with the hard sigmoid in place of the sigmoid."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    return torch.where(3 - x.abs() > 0, (2 * x + 3) / 6, x.clamp(0.0, 1.0))


@activation(slope)
def hardswish(x: Tensor) -> Tensor:
    r"""Hard swish of MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244).

    .. math::
        f(x) = \tfrac x6 \min(\max(x + 3, 0), 6), \qquad
        f'(x) = \begin{cases} 0 & x \le -3 \\ (2x + 3) / 6 & |x| < 3 \\ 1 & x \ge 3 \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2::

                                |            **
                                |           *
                                |         ** .....
                                |       **...     .......
                                | ....**
                             ..... ***
        *******--------......---***----------------------
               ******..   ******|
               ..    *****      |

    At -3 and at 3 the derivative is 0 and 1, as in torch; up to 2.6, torch said -1/2 and 3/2.

    Differs from torch: divides first, so that a product with 6 cannot overflow. At NaN the
    derivative is NaN; torch's is 1.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x * ((x + 3).clamp(0.0, 6.0) / 6)


class Hardswish(Module, function=hardswish):
    """:func:`hardswish` as a module."""

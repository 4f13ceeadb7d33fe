r"""The exponential linear unit that normalises itself."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import expm1

ALPHA, SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    return torch.where(x > 0, SCALE, SCALE * ALPHA * x.clamp(max=0).exp())


@activation(slope)
def selu(x: Tensor) -> Tensor:
    r"""Scaled exponential linear unit (Klambauer et al. 2017, https://arxiv.org/abs/1706.02515).

    .. math::
        f(x) = \lambda \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}, \qquad
        f'(x) = \lambda \begin{cases} 1 & x > 0 \\ \alpha e^x & x \le 0 \end{cases}

    with :math:`\alpha \approx 1.6733` and :math:`\lambda \approx 1.0507`, which keep mean 0 and
    variance 1 from layer to layer.

    f (*) and f' (.) on x in [-4, 4], height -2 to 2::

                                .         ***
                              ..|       **
                           ...  |....***.................
                     ......     | ***
        .............-----------**-----------------------
                             ***|
                         ****   |
        *****************       |
                                |

    At 0 the derivative is λα, as in torch.

    Differs from torch: at NaN the derivative is NaN; torch's is λ.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return torch.where(x > 0, SCALE * x, SCALE * ALPHA * expm1(x))


class SELU(Module, function=selu):
    """:func:`selu` as a module."""

r"""The logarithm of the sigmoid."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import log1p


def slope(x: Tensor) -> Tensor:
    """The derivative, the sigmoid of -x."""
    e = torch.exp(torch.where(x > 0, -x, x))
    return torch.where(x > 0, e, 1.0) / (1 + e)


@activation(slope)
def logsigmoid(x: Tensor) -> Tensor:
    r"""Logarithm of the logistic sigmoid, the log-likelihood of a binary label.

    .. math::
        f(x) = \log \sigma(x) = \min(x, 0) - \log(1 + e^{-|x|}), \qquad
        f'(x) = \sigma(-x)

    f (*) and f' (.) on x in [-4, 4], height -4 to 1::

        ..................      |
                          .............
        ------------------------+------.*****************
                                ********
                           *****|
                       ****     |
                    ***         |
                ****            |
             ***                |
          ***                   |
        **                      |

    The logarithm of a sigmoid that was rounded is −∞ in float32 from x = −104 down and 0 from
    x = 17 up; the second form above does not overflow and keeps the digits.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x.clamp(max=0) - log1p(torch.exp(torch.where(x > 0, -x, x)))


class LogSigmoid(Module, function=logsigmoid):
    """:func:`logsigmoid` as a module."""

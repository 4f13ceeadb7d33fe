r"""A smooth, self-gated unit."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def gate(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The t of the formula, (1 - t) / 2 and e."""
    e = torch.exp(torch.where(x > 0, -x, x))
    n = torch.where(x > 0, 1 + 2 * e, e * (e + 2))
    rest = torch.where(x > 0, e * e, 1.0)
    d = n + 2 * rest
    return n / d, rest / d, e


def slope(x: Tensor) -> Tensor:
    """The derivative."""
    t, half, e = gate(x)
    sigmoid = torch.where(x > 0, 1.0, e) / (1 + e)
    return t + x * (2 * half * (1 + t) * sigmoid)


@activation(slope)
def mish(x: Tensor) -> Tensor:
    r"""Mish (Misra 2019, https://arxiv.org/abs/1908.08681).

    .. math::
        f(x) = x\, t, \qquad f'(x) = t + x\, (1 - t^2)\, \sigma(x), \qquad
        t = \tanh(\log(1 + e^x)) = \frac{(1 + e^x)^2 - 1}{(1 + e^x)^2 + 1}
          = \begin{cases} (1 + 2e) / (1 + 2e + 2e^2) & x > 0 \\
                          (e^2 + 2e) / (e^2 + 2e + 2) & x \le 0 \end{cases}
        \quad\text{with } e = e^{-|x|}

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2::

                                |           **
                                |         **
                                |       **
                                |   ...*.................
                                .... **
                             ...|  **
        -----------------....---***----------------------
        ************************|
                                |

    The last form needs one exponential, does not overflow, and neither it nor 1 − t is a
    difference: no digits are lost on either side.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x * gate(x)[0]


class Mish(Module, function=mish):
    """:func:`mish` as a module."""

r"""A smooth ReLU."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import log1p


def slope(x: Tensor, beta: float) -> Tensor:
    """The derivative, a sigmoid."""
    z = beta * x
    e = torch.exp(torch.where(z > 0, -z, z))
    return torch.where(z > 0, 1.0, e) / (1 + e)


@activation(slope, nonzero=("beta",))
def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    r"""Softplus (Dugas et al. 2001), the integral of the sigmoid.

    https://papers.nips.cc/paper/1920-incorporating-second-order-functional-knowledge-for-better-option-pricing

    .. math::
        f(x) = \frac1\beta \log(1 + e^{\beta x})
            = \frac1\beta \bigl(\max(\beta x, 0) + \log(1 + e^{-|\beta x|})\bigr), \qquad
        f'(x) = \sigma(\beta x)

    f (*) and f' (.) on x in [-4, 4], height 0 to 2::

                                |         ***
                                |       **
                                |    ***
                                | ***     ...............
                              ****........
                      ********..|
        **************.---------+------------------------

    Differs from torch: no threshold. From βx = 20 on torch returns x itself, off by 2e-9 there;
    the second form above neither overflows nor needs that. A negative β is allowed: f is then the
    smooth form of min(x, 0).

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``beta`` is not a number.
        ValueError: It is 0 or not finite, or ``x`` is not a real floating-point tensor.
    """
    z = beta * x
    # Not |z|, whose derivative at 0 is 0: that of max(z, 0) is 1 there, and this one's -1.
    w = -z
    return (z.clamp(min=0) + log1p(torch.exp(torch.where(w > 0, z, w)))) * (1 / beta)


class Softplus(Module, function=softplus):
    """:func:`softplus` as a module."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(beta=beta)

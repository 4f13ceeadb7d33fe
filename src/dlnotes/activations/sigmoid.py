r"""The logistic sigmoid, the neuron's activation."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations._elementwise import minus_abs


def slope(x: Tensor) -> Tensor:
    """The derivative; of e^−|x|, so that it neither overflows nor becomes 0 too early."""
    e = torch.exp(minus_abs(x))
    return e / (1 + e) ** 2


@activation(slope)
def sigmoid(x: Tensor) -> Tensor:
    r"""Logistic sigmoid.

    .. math::
        \sigma(x) = \frac{1}{1 + e^{-x}}, \qquad
        \sigma'(x) = \sigma(x)\, \sigma(-x) = \frac{e}{(1 + e)^2}
        \quad\text{with } e = e^{-|x|}

    f (*) and f' (.) on x in [-4, 4], height 0 to 1::

                                |                ********
                                |        ********
                                |    ****
                                | ***
                               ***
                            *** |
                        ****...........
                ********..      |      .........
        ********.---------------+---------------.........

    Differs from the notes: they write y' = y(1 − y) in terms of the output y. In float32, y is
    exactly 1 from x = 17 on, so that form is 0 where the slope is 4.1e-8. The one above is accurate
    to the end of float32's range; it costs a second exponential and keeps x in place of y.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return 1 / (1 + torch.exp(-x))


class Sigmoid(Module, function=sigmoid):
    """:func:`sigmoid` as a module."""

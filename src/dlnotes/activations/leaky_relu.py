r"""ReLU with a small fixed slope on the left."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def positive(x: Tensor) -> Tensor:
    """On which side of 0 an element lies."""
    return x > 0


def slope(positive: Tensor, negative_slope: float) -> Tensor:
    """The derivative: 1 on the right, a on the left."""
    return torch.where(positive > 0, positive, negative_slope)


@activation(slope, mask=positive)
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    r"""Leaky ReLU (Maas, Hannun & Ng 2013), whose units cannot die; a is ``negative_slope``.

    https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf

    .. math::
        f(x) = \max(x, 0) + a \min(x, 0), \qquad
        f'(x) = \begin{cases} 1 & x > 0 \\ a & x \le 0 \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2, a = 0.1::

                                |          ***
                                |        **
                                |.....***................
                                |   **
                                |***
        .......******************------------------------
        *******                 |

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``negative_slope`` is not a number.
        ValueError: It is not finite, or ``x`` is not a real floating-point tensor.
    """
    return torch.where(x > 0, x, negative_slope * x)


class LeakyReLU(Module, function=leaky_relu):
    """:func:`leaky_relu` as a module."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope=negative_slope)

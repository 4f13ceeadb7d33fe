r"""The identity, cut off on both sides."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def inside(x: Tensor, min_val: float, max_val: float) -> Tensor:
    """Where the gradient passes; at NaN too."""
    y = x.clamp(min_val, max_val)
    return torch.where(y != min_val, y, max_val) != max_val


def slope(inside: Tensor) -> Tensor:
    """The derivative: 1 between the bounds, else 0."""
    return inside


@activation(
    slope,
    mask=inside,
    condition=(lambda min_val, max_val: min_val <= max_val, "min_val must be at most max_val"),
)
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    r"""Hard tanh (Collobert 2004), with the bounds l = ``min_val`` and u = ``max_val``.

    https://ronan.collobert.com/pub/matos/2004_phdthesis_lip6.pdf

    .. math::
        f(x) = \min(\max(x, l), u), \qquad
        f'(x) = \begin{cases} 1 & l < x < u \\ 0 & \text{else} \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -1 to 1::

                           ...........*******************
                                |   **
                                |  *
                                |**
        ...................-----*-----...................
                              **|
                             *  |
                           **   |
        *******************     |

    At the bounds the derivative is 0, as in torch.

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    At NaN the derivative is 1; torch's kernels say 0 or 1, depending on where the element lies.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``min_val`` or ``max_val`` is not a number.
        ValueError: ``min_val`` is greater than ``max_val``, or one of them is not finite, or ``x``
            is not a real floating-point tensor.
    """
    return x.clamp(min_val, max_val)


class Hardtanh(Module, function=hardtanh):
    """:func:`hardtanh` as a module."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__(min_val=min_val, max_val=max_val)

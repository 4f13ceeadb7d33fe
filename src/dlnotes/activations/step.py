r"""The step function, the perceptron's activation."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation


def slope(straight_through: bool) -> float:
    """The derivative, or the one that is used in its place."""
    return 1.0 if straight_through else 0.0


@activation(slope)
def step(x: Tensor, straight_through: bool = False) -> Tensor:
    r"""Step function (Rosenblatt 1958, https://doi.org/10.1037/h0042519).

    .. math::
        f(x) = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}, \qquad
        f'(x) = 0

    f (*) and f' (.) on x in [-4, 4], height 0 to 1::

                                |************************
                                |
                                |
                                |
        *************************........................

    f(NaN) is NaN, and the slope is 0 also at 0, where it does not exist.

    Nothing learns through a zero gradient. ``straight_through`` lets the gradient pass unchanged,
    as if f were the identity (Bengio, Léonard & Courville 2013, https://arxiv.org/abs/1308.3432).

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``straight_through`` is not a bool.
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return torch.where(x > 0, 1.0, x.clamp(min=0))


class Step(Module, function=step):
    """:func:`step` as a module."""

    def __init__(self, straight_through: bool = False) -> None:
        super().__init__(straight_through=straight_through)

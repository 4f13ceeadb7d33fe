r"""The rectified linear unit."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation


def active(x: Tensor) -> Tensor:
    """Where the gradient passes; at NaN too, as in torch."""
    return x.clamp(min=0) != 0


def slope(active: Tensor) -> Tensor:
    """The derivative: 1 where the unit is active, else 0."""
    return active


@activation(slope, mask=active)
def relu(x: Tensor) -> Tensor:
    r"""Rectified linear unit (Nair & Hinton 2010, https://icml.cc/Conferences/2010/papers/432.pdf).

    .. math::
        f(x) = \max(x, 0), \qquad
        f'(x) = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}

    f (*) and f' (.) on x in [-4, 4], height 0 to 2::

                                |           *
                                |         **
                                |      ***
                                |.....*..................
                                |  ***
                                |**
        *************************------------------------

    Cheap, and its slope does not shrink on the right. On the left it is exactly 0, so that a unit
    whose input is negative for every sample has died.

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    An upstream gradient of NaN or ∞ reaches a dead unit as 0·∞ = NaN; torch's kernel drops it.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x.clamp(min=0)


class ReLU(Module, function=relu):
    """:func:`relu` as a module."""

r"""The sigmoid in three straight pieces."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation


def inside(x: Tensor) -> Tensor:
    """Where the slope is not 0."""
    return 3 - x.abs() > 0


def slope(inside: Tensor) -> Tensor:
    """The derivative: 1/6 between -3 and 3, else 0."""
    return inside / 6


@activation(slope, mask=inside)
def hardsigmoid(x: Tensor) -> Tensor:
    r"""Hard sigmoid (Courbariaux et al. 2015), here as in MobileNetV3 (Howard et al. 2019).

    https://arxiv.org/abs/1511.00363, https://arxiv.org/abs/1905.02244

    .. math::
        f(x) = \tfrac16 \min(\max(x + 3, 0), 6), \qquad
        f'(x) = \begin{cases} 1/6 & |x| < 3 \\ 0 & \text{else} \end{cases}

    f (*) and f' (.) on x in [-4, 4], height 0 to 1::

                                |               *********
                                |           ****
                                |      *****
                                |  ****
                              *****
                          ****  |
                     *****      |
               ..****.............................
        *********---------------+-----------------.......

    At -3 and at 3 the derivative is 0, as in torch.

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return (x + 3).clamp(0.0, 6.0) / 6


class Hardsigmoid(Module, function=hardsigmoid):
    """:func:`hardsigmoid` as a module."""

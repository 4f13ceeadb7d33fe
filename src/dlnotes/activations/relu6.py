r"""ReLU, cut off at 6."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations.hardtanh import inside as between
from dlnotes.activations.hardtanh import slope


def inside(x: Tensor) -> Tensor:
    """Where the gradient passes; at NaN too."""
    return between(x, 0.0, 6.0)


@activation(slope, mask=inside)
def relu6(x: Tensor) -> Tensor:
    r"""ReLU6 (Krizhevsky 2010), whose values fit into few bits.

    https://www.cs.toronto.edu/~kriz/conv-cifar10-aug2010.pdf

    .. math::
        f(x) = \min(\max(x, 0), 6), \qquad
        f'(x) = \begin{cases} 1 & 0 < x < 6 \\ 0 & \text{else} \end{cases}

    f (*) and f' (.) on x in [-4, 4], height 0 to 4::

                                |                      **
                                |                   ***
                                |                ***
                                |             ***
                                |          ***
                                |       ***
                                |....***.................
                                | ***
        **************************-----------------------

    At 0 and at 6 the derivative is 0, as in torch.

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    At NaN the derivative is 1; torch's kernels say 0 or 1, depending on where the element lies.

    Shapes:
        any, and the same.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    return x.clamp(0.0, 6.0)


class ReLU6(Module, function=relu6):
    """:func:`relu6` as a module."""

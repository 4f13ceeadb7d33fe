r"""The identity, moved towards 0."""

from torch import Tensor

from dlnotes.activations._activation import Module, activation


def outside(x: Tensor, lambd: float) -> Tensor:
    """Where the gradient passes; at NaN too."""
    return x.clamp(-lambd, lambd) != x


def slope(outside: Tensor) -> Tensor:
    """The derivative: 0 between -λ and λ, else 1."""
    return outside


@activation(
    slope,
    mask=outside,
    condition=(lambda lambd: lambd >= 0, "lambd must be at least 0"),
)
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    r"""Soft shrinkage (Donoho 1995, https://doi.org/10.1109/18.382009); λ is ``lambd``.

    .. math::
        f(x) = x - \min(\max(x, -\lambda), \lambda), \qquad
        f'(x) = \begin{cases} 0 & |x| \le \lambda \\ 1 & |x| > \lambda \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -2 to 2, λ = 1::

                                |                ***
                                |             ***
        ..................      |      ....***...........
                                |       ***
        -----------------***************-----------------
                      ***       |
                   ***          |
                ***             |
             ***                |

    It minimises (y - x)²/2 + λ|y| over y: small inputs become exactly 0.

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    At NaN the derivative is 1; torch's kernels say 0 or 1, depending on where the element lies.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``lambd`` is not a number.
        ValueError: It is negative or not finite, or ``x`` is not a real floating-point tensor.
    """
    return x - x.clamp(-lambd, lambd)


class Softshrink(Module, function=softshrink):
    """:func:`softshrink` as a module."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

r"""The identity, with 0 in place of what is small."""

import torch
from torch import Tensor

from dlnotes.activations._activation import Module, activation
from dlnotes.activations.softshrink import outside, slope


@activation(
    slope,
    mask=outside,
    condition=(lambda lambd: lambd >= 0, "lambd must be at least 0"),
)
def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    r"""Hard shrinkage (Donoho & Johnstone 1994); λ is ``lambd``.

    https://doi.org/10.1093/biomet/81.3.425

    .. math::
        f(x) = \begin{cases} 0 & |x| \le \lambda \\ x & |x| > \lambda \end{cases}, \qquad
        f'(x) = \begin{cases} 0 & |x| \le \lambda \\ 1 & |x| > \lambda \end{cases}

    f (*) and f' (.) on x in [-4, 4], height -2 to 2, λ = 1::

                                |          ***
                                |       ***
        ..................      |      *.................
                                |
        ------------------*************------------------
                                |
                         *      |
                      ***       |
                   ***          |

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    At NaN the derivative is 1; torch's kernels say 0 or 1, depending on where the element lies. A
    negative λ, with which torch returns x, is refused.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``lambd`` is not a number.
        ValueError: It is negative or not finite, or ``x`` is not a real floating-point tensor.
    """
    return torch.where(x.clamp(-lambd, lambd) != x, x, 0.0)


class Hardshrink(Module, function=hardshrink):
    """:func:`hardshrink` as a module."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

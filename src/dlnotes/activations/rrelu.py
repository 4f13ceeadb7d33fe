r"""ReLU with a random slope on the left."""

import torch
from torch import Tensor, nn

from dlnotes.activations._activation import (
    activation,
    check_flag,
    check_input,
    check_number,
    with_slope,
)
from dlnotes.activations._elementwise import elementwise
from dlnotes.activations.leaky_relu import leaky_relu


@elementwise
def noisy(x: Tensor, a: Tensor) -> Tensor:
    """The derivative, given the drawn slopes."""
    return torch.where(x > 0, 1.0, a)


@activation(lambda noise: noise)
def scaled(x: Tensor, noise: Tensor) -> Tensor:
    """The value, given the derivative."""
    return x * noise


def slope(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The derivative in evaluation mode.

    Raises:
        ValueError: In training mode, where it is random.
    """
    if check_flag("rrelu", "training", training):
        raise ValueError("rrelu: in training mode the slope is random; training must be False")
    check_input("rrelu", x)
    lower, upper = _bounds(lower, upper, x.dtype)
    return leaky_relu.slope(x, (lower + upper) / 2)


@with_slope(slope)
def rrelu(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Randomized leaky ReLU (Xu et al. 2015, https://arxiv.org/abs/1505.00853).

    .. math::
        f(x) = \max(x, 0) + a \min(x, 0), \qquad
        f'(x) = \begin{cases} 1 & x > 0 \\ a & x \le 0 \end{cases}

    In training each element draws its own :math:`a \sim U(\text{lower}, \text{upper})`, used again
    in the backward pass; otherwise a = (lower + upper) / 2.

    f (*) and f' (.) on x in [-4, 4], height -1 to 2, a = 11/48::

                                |          ***
                                |        **
                                |      **
                                |....**..................
                                | ***
        .......................***-----------------------
                     ********** |
           **********           |
        ***                     |

    Differs from torch: draws for every element, whatever its sign, so that one seed gives other
    slopes than torch's; takes a ``generator``; keeps the slopes alone, half of torch's memory.

    Shapes:
        any, and the same.

    Raises:
        TypeError: ``lower`` or ``upper`` is not a number, or ``training`` not a bool.
        ValueError: ``lower`` is greater than ``upper``, or one of them is not finite, or ``x`` is
            not a real floating-point tensor.
    """
    check_input("rrelu", x)
    lower, upper = _bounds(lower, upper, x.dtype)
    if not check_flag("rrelu", "training", training):
        return leaky_relu(x, (lower + upper) / 2)
    with torch.no_grad():
        a = torch.empty_like(x).uniform_(lower, upper, generator=generator)
        noise = noisy(x, a)
    return scaled(x, noise)


def _bounds(lower: float, upper: float, dtype: torch.dtype) -> tuple[float, float]:
    """The bounds of the slope, as numbers that can be computed with."""
    lower = check_number("rrelu", "lower", lower, dtype)
    upper = check_number("rrelu", "upper", upper, dtype)
    if lower > upper:
        raise ValueError(f"rrelu: lower must be at most upper, got lower={lower} and upper={upper}")
    return lower, upper


class RReLU(nn.Module):
    """:func:`rrelu` as a module: random in training mode, the mean slope in evaluation mode.

    Raises:
        TypeError: ``lower`` or ``upper`` is not a number, or ``generator`` is something else.
        ValueError: ``lower`` is greater than ``upper``, or one of them is not finite.
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.lower, self.upper = _bounds(lower, upper, torch.float64)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"RReLU: generator must be a torch.Generator, got {generator!r}")
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return ``rrelu(x, lower, upper)`` in the module's mode."""
        return rrelu(x, self.lower, self.upper, self.training, self.generator)

    def slope(self, x: Tensor) -> Tensor:
        """Return the derivative, in evaluation mode."""
        return rrelu.slope(x, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"lower={self.lower:.4g}, upper={self.upper:.4g}"

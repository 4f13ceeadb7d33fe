r"""ReLU with a learned slope on the left."""

import torch
from torch import Tensor, nn

from dlnotes.activations._activation import activation, check_input, check_number, with_slope


def slopes(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives with respect to x and to a."""
    return torch.where(x > 0, 1.0, a), x.clamp(max=0)


@activation(slopes)
def _prelu(x: Tensor, a: Tensor) -> Tensor:
    return torch.where(x > 0, x, a * x)


def slope(x: Tensor, weight: Tensor) -> Tensor:
    """The derivative with respect to x."""
    return _prelu.slope(x, _per_channel(x, weight))


@with_slope(slope)
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    r"""Parametric ReLU (He et al. 2015, https://arxiv.org/abs/1502.01852); a is ``weight``.

    .. math::
        f(x) = \max(x, 0) + a \min(x, 0), \qquad
        \frac{\partial f}{\partial x} = \begin{cases} 1 & x > 0 \\ a & x \le 0 \end{cases}, \qquad
        \frac{\partial f}{\partial a} = \min(x, 0)

    f (*) and f' (.) on x in [-4, 4], height -1 to 2, a = 1/4::

                                |          ***
                                |        **
                                |      **
                                |....**..................
                                | ***
        .......................***-----------------------
                      ********* |
             *********          |
        *****                   |

    Differs from torch: at 0 its reverse mode says a and its forward mode 1; here both say a.

    Args:
        x: A tensor of any shape.
        weight: One slope, or one for each channel (dimension 1 of x, or 0 if x has only one).

    Shapes:
        x's, and the same.

    Raises:
        TypeError: ``weight`` is not a real floating-point tensor.
        ValueError: It has neither one element nor one for each channel, or ``x`` is not a
            real floating-point tensor.
    """
    return _prelu(x, _per_channel(x, weight))


def _per_channel(x: Tensor, weight: Tensor) -> Tensor:
    """The slopes in a shape that broadcasts to x."""
    check_input("prelu", x)
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        got = weight.dtype if isinstance(weight, Tensor) else repr(weight)
        raise TypeError(f"prelu: weight must be a real floating-point tensor, got {got}")
    channel = min(1, x.dim() - 1)
    if weight.dim() > 1 or (
        weight.numel() != 1 and (x.dim() == 0 or weight.numel() != x.size(channel))
    ):
        raise ValueError(
            f"prelu: weight must have 1 element or 1 for each channel of x, "
            f"got weight of shape {tuple(weight.shape)} and x of shape {tuple(x.shape)}"
        )
    if weight.numel() == 1:
        return weight.reshape(())
    return weight.reshape(-1, *[1] * (x.dim() - channel - 1))


class PReLU(nn.Module):
    """:func:`prelu` with its own weights; ``num_parameters`` is 1 or the number of channels.

    Raises:
        TypeError: ``init`` is not a number.
        ValueError: It is not finite, or ``num_parameters`` is not an integer >= 1.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        integer = isinstance(num_parameters, int) and not isinstance(num_parameters, bool)
        if not integer or num_parameters < 1:
            raise ValueError(
                f"PReLU: num_parameters must be an integer >= 1, got {num_parameters!r}"
            )
        init = check_number("PReLU", "init", init, torch.get_default_dtype())
        self.weight = nn.Parameter(torch.full((num_parameters,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``prelu(x, weight)``."""
        return prelu(x, self.weight)

    def slope(self, x: Tensor) -> Tensor:
        """Return the derivative with respect to x."""
        return prelu.slope(x, self.weight)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"num_parameters={self.weight.numel()}"

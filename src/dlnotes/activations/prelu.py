r"""ReLU with a learned slope on the left."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise, scaled_below
from dlnotes.activations._function import Activation, apply, keep


@elementwise
def _value(x: Tensor, a: Tensor) -> Tensor:
    return scaled_below(x, a, x > 0)


@elementwise
def _slopes_times(g: Tensor, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    return scaled_below(g, a, x > 0), g * x.clamp(max=0)


class _PReLU(Activation):
    @staticmethod
    def forward(x: Tensor, a: Tensor) -> Tensor:
        return _value(x, a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, a = ctx.saved_tensors
        in_x, in_a = _slopes_times(g, x, a)
        return in_x, in_a.sum_to_size(a.shape)

    @staticmethod
    def tangent(ctx: Any, t: Tensor, t_a: Tensor) -> Tensor:
        x: Tensor
        x, a = ctx.saved_tensors
        return scaled_below(t, a, x > 0) + t_a * x.clamp(max=0)


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    r"""Parametric ReLU (He et al. 2015, https://arxiv.org/abs/1502.01852); a is ``weight``.

        f(x)     = max(x, 0) + a min(x, 0)
        ∂f/∂x    = 1 if x > 0 else a         (a at 0)
        ∂f/∂a    = min(x, 0)

    f (*) and f' (.) on x in [-4, 4], height -1 to 2, a = 1/4:

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
        x: a tensor of any shape.
        weight: one slope, or one for each channel (dimension 1 of x, or 0 if x has only one).

    Raises:
        ValueError: ``weight`` has neither one element nor one for each channel.
    """
    channel = min(1, x.dim() - 1)
    if weight.dim() > 1 or (
        weight.numel() != 1 and (x.dim() == 0 or weight.numel() != x.size(channel))
    ):
        raise ValueError(
            f"prelu: weight must have 1 element or 1 for each channel of x, "
            f"got weight of shape {tuple(weight.shape)} and x of shape {tuple(x.shape)}"
        )
    if weight.numel() == 1:
        a = weight.reshape(())
    else:
        a = weight.reshape(-1, *[1] * (x.dim() - channel - 1))
    return apply("prelu", _PReLU, x, a)


class PReLU(nn.Module):
    """:func:`prelu` with its own weights; ``num_parameters`` is 1 or the number of channels."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_parameters,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``prelu(x, weight)``."""
        return prelu(x, self.weight)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"num_parameters={self.weight.numel()}"

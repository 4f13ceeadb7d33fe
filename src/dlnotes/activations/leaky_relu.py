r"""ReLU with a small fixed slope on the left."""

from typing import Any

from torch import Tensor, nn

from dlnotes.activations._elementwise import elementwise, scaled_below
from dlnotes.activations._function import MaskedActivation, apply


@elementwise
def _value(x: Tensor, *, negative_slope: float) -> tuple[Tensor, Tensor]:
    positive = x > 0
    return scaled_below(x, negative_slope, positive), positive


@elementwise
def _slope_times(g: Tensor, positive: Tensor, *, negative_slope: float) -> Tensor:
    return scaled_below(g, negative_slope, positive)


class _LeakyReLU(MaskedActivation):
    @staticmethod
    def forward(x: Tensor, negative_slope: float) -> tuple[Tensor, Tensor]:
        return _value(x, negative_slope=negative_slope)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, _: Any) -> tuple[Tensor | None, None]:
        if g is None:
            return None, None
        return _slope_times(g, *ctx.saved_tensors, negative_slope=ctx.settings[0]), None

    @staticmethod
    def tangent(ctx: Any, t: Tensor, _: None) -> tuple[Tensor, None]:
        return _slope_times(t, *ctx.saved_tensors, negative_slope=ctx.settings[0]), None


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    r"""Leaky ReLU (Maas, Hannun & Ng 2013), whose units cannot die; a is ``negative_slope``.

        f(x)  = max(x, 0) + a min(x, 0)
        f'(x) = 1 if x > 0 else a            (a at 0, as in torch)

    f (*) and f' (.) on x in [-4, 4], height -0.5 to 2, a = 0.1:

                                |          ***
                                |        **
                                |.....***................
                                |   **
                                |***
        .......******************------------------------
        *******                 |

    Differs from torch: keeps a mask of bools for the backward pass, a quarter of float32's memory.
    """
    return apply("leaky_relu", _LeakyReLU, x, negative_slope)


class LeakyReLU(nn.Module):
    """:func:`leaky_relu` as a module."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """Return ``leaky_relu(x, negative_slope)``."""
        return leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"negative_slope={self.negative_slope}"

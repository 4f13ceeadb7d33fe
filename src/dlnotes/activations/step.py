r"""The step function, the perceptron's activation."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._function import Activation, apply


class _Step(Activation):
    @staticmethod
    def forward(x: Tensor, straight_through: bool) -> Tensor:
        return torch.where(x.isnan(), x, (x > 0).to(x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.straight_through = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g.clone() if ctx.straight_through else torch.zeros_like(g), None

    @staticmethod
    def tangent(ctx: Any, t: Tensor, _: None) -> Tensor:
        return t.clone() if ctx.straight_through else torch.zeros_like(t)


def step(x: Tensor, straight_through: bool = False) -> Tensor:
    r"""Step function (Rosenblatt 1958, https://doi.org/10.1037/h0042519).

        f(x)  = 1 if x > 0 else 0        (so f(0) = 0, and f(NaN) = NaN)
        f'(x) = 0                        (also at 0, where it does not exist)

    f (*) and f' (.) on x in [-4, 4], height 0 to 1:

                                |************************
                                |
                                |
                                |
        *************************........................

    Nothing learns through a zero gradient. ``straight_through`` lets the gradient pass unchanged,
    as if f were the identity (Bengio, Léonard & Courville 2013, https://arxiv.org/abs/1308.3432).
    """
    return apply("step", _Step, x, straight_through)


class Step(nn.Module):
    """:func:`step` as a module."""

    def __init__(self, straight_through: bool = False) -> None:
        super().__init__()
        self.straight_through = straight_through

    def forward(self, x: Tensor) -> Tensor:
        """Return ``step(x)``."""
        return step(x, self.straight_through)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"straight_through={self.straight_through}"

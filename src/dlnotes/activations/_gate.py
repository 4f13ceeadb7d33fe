"""What a gated unit is made of: a formula of the two halves of x, and its two slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from dlnotes.activations._activation import (
    Differentiable,
    apply,
    check_dim,
    check_input,
    differentiable,
    keep,
)
from dlnotes.activations._elementwise import elementwise

Formula = Callable[[Tensor, Tensor], Tensor]
Unit = Callable[[Tensor, int], Tensor]


def gate(
    slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Callable[[Formula], Unit]:
    r"""Make a differentiable function of x and a dimension of a formula of the halves a and b of x.

    The decorated function is the formula f. With :math:`g = \partial J/\partial y`,

    .. math::
        \frac{\partial J}{\partial a} = g\, \frac{\partial f}{\partial a}, \qquad
        \frac{\partial J}{\partial b} = g\, \frac{\partial f}{\partial b}.

    On a CPU with compiled loops, one pass through memory writes both into the halves of
    :math:`\partial J/\partial x`.

    Args:
        slopes: The derivatives with respect to a and to b.
    """

    def derive(value: Formula) -> Unit:
        name = value.__name__.lstrip("_")
        of_halves = elementwise(value)

        @elementwise
        def times_slopes(g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            of_a, of_b = slopes(a, b)
            return g * of_a, g * of_b

        @elementwise
        def along(t: Tensor, u: Tensor, a: Tensor, b: Tensor) -> Tensor:
            of_a, of_b = slopes(a, b)
            return t * of_a + u * of_b

        class Gate(Differentiable):
            @staticmethod
            def forward(x: Tensor, dim: int) -> Tensor:
                return cast(Tensor, of_halves(*x.chunk(2, dim)))

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
                x, ctx.dim = inputs
                ctx.set_materialize_grads(False)  # no gradient is not a gradient of zeros
                keep(ctx, x)

            @staticmethod
            def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, None]:
                if g is None:
                    return None, None
                (x,) = ctx.saved_tensors
                return times_slopes(g, *x.chunk(2, ctx.dim), joined=ctx.dim), None

            @staticmethod
            def tangent(ctx: Any, t: Tensor | None, _: None) -> Tensor | None:
                if t is None:
                    return None
                (x,) = ctx.saved_tensors
                return cast(Tensor, along(*t.chunk(2, ctx.dim), *x.chunk(2, ctx.dim)))

        cast(Any, Gate).operations = staticmethod(
            lambda x, dim: differentiable(value, slopes, x.chunk(2, dim), {})
        )
        Gate.__name__ = Gate.with_jvp.__name__ = name

        def call(x: Tensor, dim: int) -> Tensor:
            check_input(name, x)
            dim = check_dim(name, dim)
            if x.dim() == 0 or x.size(dim) % 2:
                raise ValueError(
                    f"{name}: needs an even size along dim={dim}, got x of shape {tuple(x.shape)}"
                )
            return apply(Gate, x, dim)

        call.value = value  # type: ignore[attr-defined]
        return call

    return derive

"""The form that every activation's ``autograd.Function`` takes, and how it is called."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

if torch.__version__.startswith("2.3."):
    import torch._dynamo  # the first Function in a vmap imports it, and there it fails


class Activation(Function):
    """A function of one tensor and some settings that keeps its input for the derivatives.

    A subclass writes ``forward`` without a context, ``backward`` in differentiable operations of
    the saved tensors (so that it can be differentiated again), and ``tangent`` for forward mode.
    """

    generate_vmap_rule = True
    with_jvp: type[Function]

    def __init_subclass__(cls) -> None:
        """Make ``tangent`` the ``jvp`` of a twin: ``torch.compile`` traces no Function with one."""
        super().__init_subclass__()
        if cls.jvp is Function.jvp:
            cls.with_jvp = type(cls.__name__, (cls,), {"jvp": staticmethod(cls.tangent)})

    @staticmethod
    def tangent(*args: Any, **kwargs: Any) -> Tensor:
        """From the context and the inputs' tangents, return the output's tangent."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, *ctx.settings = inputs
        keep(ctx, x)


def keep(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for both the reverse and the forward mode."""
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def apply(name: str, function: type[Activation], x: Tensor, *others: Any) -> Tensor:
    """Call an activation's Function.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    if not x.is_floating_point():
        raise ValueError(f"{name}: x must be a real floating-point tensor, got {x.dtype}")
    if torch.compiler.is_compiling():
        return cast(Tensor, function.apply(x, *others))
    return cast(Tensor, function.with_jvp.apply(x, *others))


def rounded_once(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute half precision in float32, as torch's kernels do: one rounding, at the end."""

    @wraps(formula)
    def call(*tensors: Tensor, **settings: float) -> Tensor:
        dtype = tensors[0].dtype
        if dtype not in (torch.float16, torch.bfloat16):
            return formula(*tensors, **settings)
        return formula(*(t.float() for t in tensors), **settings).to(dtype)

    return call


def one_or(below: Tensor | float, positive: Tensor, like: Tensor) -> Tensor:
    """The slope of a piecewise function: 1 where ``positive`` is 1, ``below`` where it is 0.

    ``torch.where`` says the same; on a CPU it branches at every element, and on signs that follow
    no pattern takes several times longer. ``lerp`` gives its ends exactly at weights 0 and 1.
    """
    one = like.new_ones(())
    low = torch.as_tensor(below, dtype=one.dtype, device=one.device)
    return torch.lerp(low, one, positive.to(one))

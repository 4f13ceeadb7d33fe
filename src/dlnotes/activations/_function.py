"""The form that every activation's ``autograd.Function`` takes, and how it is called."""

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
    def tangent(*args: Any, **kwargs: Any) -> Any:
        """From the context and the inputs' tangents, return the outputs' tangents."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, *ctx.settings = inputs
        keep(ctx, x)


class MaskedActivation(Activation):
    """An activation of a fixed slope on either side, which keeps a mask.

    ``forward`` returns the mask beside the value, so that one pass makes both. Autograd
    differentiates no bool: what it gives to ``backward`` for the mask has no meaning.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.settings = inputs[1:]
        ctx.set_materialize_grads(False)  # or a tensor of zeros is made for the mask
        keep(ctx, output[1])


def keep(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for both the reverse and the forward mode."""
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def apply(name: str, function: type[Activation], x: Tensor, *others: Any) -> Tensor:
    """Call an activation's Function and return the value.

    Raises:
        ValueError: ``x`` is not a real floating-point tensor.
    """
    if not x.is_floating_point():
        raise ValueError(f"{name}: x must be a real floating-point tensor, got {x.dtype}")
    if torch.compiler.is_compiling():
        result = function.apply(x, *others)
    elif torch._C._are_functorch_transforms_active():
        result = function.with_jvp.apply(x, *others)
    else:
        # What Function.apply comes to without a transform, less the signature that it inspects at
        # every call: that alone takes as long as ten thousand numbers.
        plain: Any = super(Function, function.with_jvp)
        result = plain.apply(x, *others)
    return cast(Tensor, result[0] if isinstance(result, tuple) else result)

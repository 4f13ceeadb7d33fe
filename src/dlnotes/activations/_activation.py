"""What an activation is made of: a value, a slope, and everything that follows from the two."""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from inspect import Parameter, signature
from numbers import Real
from typing import Any, ClassVar, ParamSpec, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function, forward_ad

from dlnotes.activations._elementwise import elementwise, in_operations

if torch.__version__.startswith("2.3."):
    import torch._dynamo  # the first Function in a vmap imports it, and there it fails

P = ParamSpec("P")


class Activation(Protocol[P]):
    """A function that knows its derivative; :func:`activation` makes one."""

    __name__: str
    value: Callable[..., Tensor]
    """The formula alone."""
    slope: Callable[P, Tensor]
    """The derivative in x; it takes the function's arguments."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """Return the value, from which autograd can find the derivatives."""


def activation(
    slope: Callable[..., Any],
    *,
    mask: Callable[..., Tensor] | None = None,
    nonzero: tuple[str, ...] = (),
    condition: tuple[Callable[..., bool], str] | None = None,
) -> Callable[[Callable[P, Tensor]], Activation[P]]:
    r"""Make a differentiable function of two elementwise formulas.

    The decorated function is the value. A whole activation::

        def slope(x: Tensor) -> Tensor:
            return 1 / (1 + x.abs()) ** 2


        @activation(slope)
        def softsign(x: Tensor) -> Tensor:
            return x / (1 + x.abs())


        class Softsign(Module, function=softsign):
            '''Softsign as a module.'''

    What follows from the two formulas, with :math:`g = \partial J/\partial y` and with a tangent
    :math:`t` of x:

    .. math::
        \frac{\partial J}{\partial x} = g\, f'(x) \quad\text{(reverse mode)}, \qquad
        \dot y = t\, f'(x) \quad\text{(forward mode)},

    the second derivative (by autograd, from the operations of the slope), ``vmap``, half precision
    (computed in float32 and rounded once), and on a CPU one pass through memory for the value and
    one for :math:`g f'(x)`.

    A parameter of the value without a default is a tensor; one with a default is a setting, a
    number or a flag. Only the tensors that the slope names are kept for the backward pass.

    Args:
        slope: The derivative. Its parameters are those of the value that it needs, by name. With
            several tensors it may return a tuple, one derivative for each of the first ones; those
            that remain are constants.
        mask: A formula of x, and of settings that it names, that gives a bool. A slope that names
            it as a parameter receives it as 0 and 1, and it is kept in place of x: one byte per
            element.
        nonzero: Settings that must not be 0.
        condition: A test of all settings, and what to say where they fail it.

    Raises:
        TypeError: The slope has a parameter that is neither one of the value nor the mask.
    """

    def derive(value: Callable[P, Tensor]) -> Activation[P]:
        name = value.__name__
        parameters = [(p.name, p.default) for p in signature(value).parameters.values()]
        tensors = [p for p, default in parameters if default is Parameter.empty]
        function = _derive(value, slope, mask, tensors, [p for p, _ in parameters[len(tensors) :]])

        def inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
            """All arguments in the order of the value's parameters, checked."""
            if len(args) == len(parameters) and not kwargs:
                given = [*args]
            else:
                given = complete(args, kwargs)
            check_input(name, given[0])
            given[len(tensors) :] = checked(given[len(tensors) :], given[0].dtype)
            return given

        def checked(settings: Sequence[Any], dtype: torch.dtype) -> list[Any]:
            """All settings, as numbers and flags that formulas can compute with."""
            found: list[Any] = []
            for (p, default), setting in zip(parameters[len(tensors) :], settings, strict=True):
                if isinstance(default, bool):
                    found.append(check_flag(name, p, setting))
                else:
                    found.append(check_number(name, p, setting, dtype, p not in nonzero))
            if condition is not None and not condition[0](*found):
                named = zip(parameters[len(tensors) :], found, strict=True)
                got = " and ".join(f"{p}={x!r}" for (p, _), x in named)
                raise ValueError(f"{name}: {condition[1]}, got {got}")
            return found

        def complete(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
            """With keywords and defaults."""
            rest = parameters[len(args) :]
            names = [p for p, _ in rest]
            missing = [p for p, default in rest if default is Parameter.empty and p not in kwargs]
            if missing or len(args) > len(parameters) or any(p not in names for p in kwargs):
                try:
                    signature(value).bind(*args, **kwargs)
                except TypeError as error:
                    raise TypeError(f"{name}: {error}") from None
            return [*args, *[kwargs.get(p, default) for p, default in rest]]

        @wraps(value)
        def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
            return apply(function, *inputs(args, kwargs))

        @wraps(value)
        def slope_at(*args: P.args, **kwargs: P.kwargs) -> Tensor:
            return function.slope(*inputs(args, kwargs))

        slope_at.__qualname__ = f"{value.__qualname__}.slope"
        slope_at.__doc__ = f"The derivative of {name} with respect to its first argument."
        own = _with_own_code(call, name)
        cast(Any, own).check_settings = checked
        return with_slope(_with_own_code(slope_at, name), value)(own)

    return derive


def _with_own_code(function: Callable[P, Tensor], name: str) -> Callable[P, Tensor]:
    """A copy with a code object of its own.

    ``torch.compile`` counts recompilations for each code object: a process that compiles eight
    activations would reach its limit if they shared one.
    """
    shared = cast(types.FunctionType, function)
    code = shared.__code__.replace(co_name=f"{shared.__code__.co_name}_of_{name}")
    own = types.FunctionType(
        code, shared.__globals__, shared.__name__, shared.__defaults__, shared.__closure__
    )
    own.__dict__.update(shared.__dict__)
    for attribute in ("__doc__", "__qualname__", "__module__", "__annotations__"):
        setattr(own, attribute, getattr(shared, attribute))
    return cast("Callable[P, Tensor]", own)


def with_slope(
    slope: Callable[P, Tensor], value: Callable[..., Tensor] | None = None
) -> Callable[[Callable[P, Tensor]], Activation[P]]:
    """Give a slope to a function that is composed of activations."""

    def attach(function: Callable[P, Tensor]) -> Activation[P]:
        activation = cast(Any, function)
        activation.value, activation.slope = value or function, slope
        return cast("Activation[P]", activation)

    return attach


class Differentiable(Function):
    """An ``autograd.Function`` with forward mode and a rule for ``vmap``.

    A subclass writes ``forward`` without a context, ``setup_context``, ``backward`` in
    differentiable operations of the saved tensors (so that it can be differentiated again),
    ``tangent`` for forward mode, and ``operations``, the value in operations that have these
    derivatives. If ``forward`` returns more than the value, that comes first.
    """

    generate_vmap_rule = True
    with_jvp: ClassVar[type[Function]]
    slope: ClassVar[Callable[..., Tensor]]
    operations: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls) -> None:
        """Make ``tangent`` the ``jvp`` of a twin: ``torch.compile`` traces no Function with one."""
        super().__init_subclass__()
        if cls.jvp is Function.jvp:
            cls.with_jvp = type(cls.__name__, (cls,), {"jvp": staticmethod(cls.tangent)})

    @staticmethod
    def tangent(ctx: Any, *tangents: Any) -> Any:
        """From the tangents of the inputs, return those of the outputs."""
        raise NotImplementedError


def _derive(
    value: Callable[..., Tensor],
    slope: Callable[..., Any],
    mask: Callable[..., Tensor] | None,
    tensors: list[str],
    settings: list[str],
) -> type[Differentiable]:
    """The Function of a value and a slope."""
    count = len(tensors)
    parameters = list(signature(slope).parameters)
    mask_name = None if mask is None else mask.__name__
    of_mask = [] if mask is None else [p for p in signature(mask).parameters if p in settings]
    kept = [p for p in parameters if p not in settings]
    numbers = [p for p in parameters if p in settings]
    for p in kept:
        if p not in tensors and p != mask_name:
            raise TypeError(
                f"{value.__name__}: the parameters of its slope must be among "
                f"{', '.join([*tensors, *settings])} and its mask, got {p}"
            )

    @elementwise
    def value_and_mask(*x: Tensor, **s: float) -> Any:
        y = value(*x, **s)
        return y if mask is None else (y, mask(x[0], **{p: s[p] for p in of_mask}))

    @elementwise
    def times_slope(g: Tensor, *x: Tensor, **s: float) -> Any:
        slopes = slope(**dict(zip(kept, x, strict=True)), **s)
        if isinstance(slopes, tuple):
            return tuple(g * each for each in slopes)
        return g * slopes

    def products(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        s = dict(zip(numbers, ctx.numbers, strict=True))
        result = times_slope(g, *ctx.saved_tensors, **s)
        return result if isinstance(result, tuple) else (result,)

    class Derived(Differentiable):
        @staticmethod
        def forward(*inputs: Any) -> Any:
            return value_and_mask(
                *inputs[:count], **dict(zip(settings, inputs[count:], strict=True))
            )

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.set_materialize_grads(False)  # or a tensor of zeros is made for the mask
            ctx.shapes = [x.shape for x in inputs[:count]]
            ctx.numbers = [inputs[count + settings.index(p)] for p in numbers]
            keep(ctx, *[output[1] if p == mask_name else inputs[tensors.index(p)] for p in kept])

        @staticmethod
        def backward(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
            if g is None:
                return (None,) * (count + len(settings))
            gradients: list[Tensor | None] = [
                product if product.shape == shape else product.sum_to_size(shape)
                for product, shape in zip(products(ctx, g), ctx.shapes, strict=False)
            ]
            return (*gradients, *[None] * (count + len(settings) - len(gradients)))

        @staticmethod
        def tangent(ctx: Any, *tangents: Any) -> Any:
            total: Tensor | None = None
            for i, t in enumerate(tangents[:count]):
                slopes = () if t is None else products(ctx, t)
                if i < len(slopes):
                    total = slopes[i] if total is None else total + slopes[i]
            return total if mask is None else (total, None)

        @staticmethod
        def slope(*inputs: Any) -> Tensor:
            one = torch.ones_like(inputs[0])
            given = dict(zip([*tensors, *settings], inputs, strict=True))
            if mask is not None:
                given[mask.__name__] = Derived.forward(*inputs)[1]
            result = times_slope(one, *[given[p] for p in kept], **{p: given[p] for p in numbers})
            return cast(Tensor, result[0] if isinstance(result, tuple) else result)

    def slopes_at(*x: Tensor, **s: float) -> Any:
        given = dict(zip(tensors, x, strict=True))
        if mask is not None:
            given[mask.__name__] = mask(x[0], **{p: s[p] for p in of_mask}).to(x[0].dtype)
        return slope(**{p: given[p] for p in kept}, **{p: s[p] for p in numbers})

    cast(Any, Derived).operations = staticmethod(
        lambda *inputs: differentiable(
            value, slopes_at, inputs[:count], dict(zip(settings, inputs[count:], strict=True))
        )
    )
    # torch.compile counts the parameters of forward to find out whether ctx is the first.
    cast(Any, Derived.forward).__signature__ = signature(value)
    Derived.__name__ = Derived.with_jvp.__name__ = value.__name__
    return Derived


# Nodes and weights of Gauss's quadrature with three points on [0, 1].
_NODES = ((0.5 - 0.15**0.5, 5 / 18), (0.5, 4 / 9), (0.5 + 0.15**0.5, 5 / 18))


def differentiable(
    value: Callable[..., Tensor],
    slopes: Callable[..., Any],
    tensors: Sequence[Tensor],
    settings: dict[str, float],
) -> Tensor:
    r"""The value, in operations whose derivatives are the slopes, up to the sixth order.

    The operations of the value alone have others: those of :math:`|x|` say 0 at 0. With
    :math:`x_0` for x without its derivatives and :math:`d = x - x_0`, whose value is 0,

    .. math::
        f(x) = f(x_0) + \int_0^1 f'(x_0 + c\,d)\, d\; \mathrm{d}c
            \approx f(x_0) + \sum_{k=1}^3 w_k\, f'(x_0 + c_k d)\, d

    A quadrature that is exact for polynomials of degree five has the derivatives of the integral up
    to the sixth. At infinity, and where a slope is not finite, the derivatives are 0.

    Args:
        value: The formula.
        slopes: Its derivatives with respect to the first tensors: a tuple, or one of them.
        tensors: The arguments of both.
        settings: The settings of both.
    """

    def expanded(*x: Tensor, **s: float) -> Tensor:
        at = [each.detach() for each in x]
        # At infinity x − x₀ is NaN.
        moved = [torch.where(x0.isinf(), 0.0, each - x0) for x0, each in zip(at, x, strict=True)]
        y = value(*at, **s)
        for node, weight in _NODES:
            found = slopes(*[x0 + node * d for x0, d in zip(at, moved, strict=True)], **s)
            for each, d in zip(found if isinstance(found, tuple) else [found], moved, strict=False):
                finite = each
                if isinstance(each, Tensor):
                    finite = torch.where(each.isfinite(), each, 0.0)
                y = y + weight * finite * d
        return y

    return cast(Tensor, in_operations(expanded, tensors, settings))


def apply(function: type[Differentiable], *inputs: Any) -> Tensor:
    """Call a Function and return the value."""
    if torch.compiler.is_compiling():
        if _transform_differentiates():  # which includes torch.func.jvp
            torch._dynamo.graph_break()
        elif _in_dual_level():
            return function.operations(*inputs)
        result = function.apply(*inputs)
    elif torch._C._are_functorch_transforms_active():
        if _forward_modes() > 1:
            return function.operations(*inputs)
        result = function.with_jvp.apply(*inputs)
    else:
        # What Function.apply comes to without a transform, less the signature that it inspects at
        # every call: that alone takes as long as ten thousand numbers.
        plain: Any = super(Function, function.with_jvp)
        result = plain.apply(*inputs)
    return cast(Tensor, result[0] if isinstance(result, tuple) else result)


def _forward_modes() -> int:
    """How many levels of forward mode are active.

    From the second one on, torch (2.13) takes the tangent that a Function returns for a constant.
    """
    stack = torch._C._functorch.get_interpreter_stack() or []
    return sum(level.key() == torch._C._functorch.TransformType.Jvp for level in stack)


def _transform_differentiates() -> bool:
    """Whether a transform of ``torch.func`` other than ``vmap`` is active.

    Inside of one, torch.compile (2.13) drops a Function's ``backward`` and ``jvp`` and without a
    word differentiates the operations of ``forward``: sigmoid'(-120) is NaN then, and a straight-
    through gradient 0. Those parts are left to eager torch.
    """
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() != torch._C._functorch.TransformType.Vmap for level in stack)


def _in_dual_level() -> bool:
    """Whether ``forward_ad.dual_level`` is entered, in which a ``jvp`` is dropped as well."""
    return forward_ad._current_level >= 0


# What torch.compiler.assume_constant_result sets, after it has imported the compiler (0.8 s).
for _constant in (_transform_differentiates, _in_dual_level):
    cast(Any, _constant)._dynamo_marked_constant = True


def keep(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for both the reverse and the forward mode."""
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def check_input(name: str, x: Any) -> None:
    """Refuse what is not a real floating-point tensor.

    Raises:
        TypeError: ``x`` is no tensor.
        ValueError: It has another dtype, or it is sparse.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: x must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise ValueError(f"{name}: x must be a real floating-point tensor, got {x.dtype}")
    if x.layout not in (torch.strided, torch.jagged):
        raise ValueError(f"{name}: x must be a dense tensor, got {x.layout}")


def check_number(
    name: str, argument: str, number: Any, dtype: torch.dtype, zero: bool = True
) -> float:
    """Return a setting that formulas in this precision can compute with.

    Raises:
        TypeError: It is not a number.
        ValueError: It is infinite or NaN, or too large for the precision, or 0 where ``zero`` is
            False.
    """
    if isinstance(number, Tensor) and number.dim() == 0 and not number.requires_grad:
        number = number.item()  # as torch's functions do
    allowed = "a finite number" if zero else "a finite number other than 0"
    if isinstance(number, bool) or not isinstance(
        number, (float, int, Real, torch.SymFloat, torch.SymInt)
    ):
        got = f"a tensor {tuple(number.shape)}" if isinstance(number, Tensor) else repr(number)
        raise TypeError(f"{name}: {argument} must be {allowed}, got {got}")
    largest = torch.finfo(torch.promote_types(dtype, torch.float32)).max
    if not -largest <= cast(float, number) <= largest or (number == 0 and not zero):
        raise ValueError(f"{name}: {argument} must be {allowed} in {dtype}, got {number!r}")
    if not isinstance(number, (float, int, torch.SymFloat, torch.SymInt)):
        number = float(number)  # NumPy's and others, which a tensor cannot be multiplied by
    return cast(float, number)


def check_dim(name: str, dim: Any) -> int:
    """Return the number of a dimension.

    Raises:
        TypeError: It is not an integer.
    """
    if not isinstance(dim, bool):
        with suppress(TypeError):
            return operator.index(dim)
    raise TypeError(f"{name}: dim must be an integer, got {dim!r}")


def check_flag(name: str, argument: str, flag: Any) -> bool:
    """Return a setting that is True or False.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(flag, bool):
        raise TypeError(f"{name}: {argument} must be True or False, got {flag!r}")
    return flag


class Module(nn.Module):
    """An activation as a module, with its settings as attributes.

    A subclass names its function, ``class Softsign(Module, function=softsign)``, and if that has
    settings, passes them by name to ``super().__init__``; those that it leaves out have the
    function's defaults. Settings that the function refuses are refused when the module is made, and
    those that are changed later, or are too large for the dtype of x, at a call.

    Raises:
        TypeError: The function has no such setting, or a setting is not a number or a flag.
        ValueError: A setting is outside of its range.
    """

    function: ClassVar[Activation[...]]

    def __init_subclass__(cls, function: Any = None) -> None:
        """Take the function."""
        super().__init_subclass__()
        if function is not None:
            cls.function = cast(Any, staticmethod(function))
        for name in ("forward", "slope"):
            if getattr(cls, name) is getattr(Module, name):
                setattr(cls, name, _with_own_code(getattr(Module, name), cls.__name__))

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        parameters = signature(self.function).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}
        for name in settings:
            if name not in defaults:
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}; "
                    f"it takes {', '.join(defaults) or 'none'}"
                )
        self.settings = list(defaults)
        given = {**defaults, **settings}
        # A function that is composed of others, `with_slope`, checks its settings itself.
        if check := getattr(self.function, "check_settings", None):
            check([*given.values()], torch.float64)
        for name, setting in given.items():
            setattr(self, name, setting)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x."""
        return self.function(x, *[getattr(self, name) for name in self.settings])

    def slope(self, x: Tensor) -> Tensor:
        """Return the derivative at x."""
        return self.function.slope(x, *[getattr(self, name) for name in self.settings])

    def extra_repr(self) -> str:
        """Show the settings."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.settings)

"""From a pure update rule to a ``torch.optim.Optimizer``."""

from __future__ import annotations

import ctypes
import inspect
import math
import numbers
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from itertools import dropwhile
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from dlnotes.kernel import observed, warn_once_not_compiled
from dlnotes.optim import _kernel, _native, _plain, _triton
from dlnotes.optim._arguments import OPTIONS, check, suggestion
from dlnotes.optim._state import (
    check_state,
    copied,
    in_order_of_names,
    new_state,
    ordinary_tensors,
    step_tensor,
)

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT


FLOAT32_MAX = torch.finfo(torch.float32).max


class Options(TypedDict, total=False):
    """The options that every optimizer takes after its own hyper-parameters."""

    maximize: bool
    differentiable: bool
    fused: bool | None


def _untraced(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of torch's optimizers without the wrapper that hides it from torch's compiler.

    The wrapper imports the compiler when it is first called, which takes more than a second. Where
    the compiler is not loaded, it is not needed.
    """
    own = getattr(Optimizer, method.__name__) is getattr(method, "__func__", None)
    plain = getattr(method, "__wrapped__", None)
    if not own or plain is None or "torch._dynamo" in sys.modules:
        return method
    return partial(plain, cast(Any, method).__self__)


class UpdateRule(Optimizer):
    """An optimizer made from one pure function of tensors.

    A subclass gives ``rule``, the update as the notes print it, and ``accumulators``, the names of
    the tensors that it carries from step to step; all of them start at zero. Weight decay,
    ``maximize``, sparse gradients, low precision and the loop over the parameters are here, once::

        class SignDescent(UpdateRule):
            @staticmethod
            def rule(theta, g, *, lr):
                return theta - lr * (g.sign() + (g - g))  # g - g keeps NaN, whose sign is 0

        optimizer = SignDescent(model.parameters(), lr=1e-3)

    Parameters and accumulators in float16 and bfloat16 are updated in float32 and rounded once at
    the end; a complex parameter is updated as its real view. Parameters that share memory are
    updated one after the other. Of a parameter with a sparse gradient, an elementwise rule updates
    only the rows in that gradient, and only those rows of its accumulators: weight decay and
    momentum wait until a row has a gradient again, as in ``torch.optim.SparseAdam``. Gradients of
    the same row are added up first.

    Every hyper-parameter is in ``param_groups`` under the name of the constructor's argument, and
    ``rule`` gets it under the same name. ``rule`` must depend only on its arguments;
    :func:`check_rule` tests this and everything else that is said here.

    As in torch, ``eps=0`` is accepted: where every gradient so far was 0, a rule that divides by
    their size then gives 0/0 = NaN.

    Args:
        params: Parameters, named parameters or groups, as in ``torch.optim``.
        maximize: Ascend instead of descending.
        differentiable: Let autograd record the step (parameters must not be leaves, then).
        fused: True forces the compiled kernel (C on the CPU, Triton on a CUDA device), False plain
            tensor operations, None takes the kernel where it can. While a mode, a tracer or a
            transform is active, plain operations are used in any case.
        hyper: The rule's hyper-parameters and ``weight_decay``.

    Raises:
        TypeError: The rule has no hyper-parameter of this name.
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators: ClassVar[tuple[str, ...]] = ()
    """Names of the rule's accumulators, in the order in which the rule takes and returns them."""

    rule: ClassVar[Callable[..., Any]]
    """``rule(theta, g, *accumulators, **hyper)`` returns the new theta and the new accumulators."""

    elementwise: ClassVar[bool | None] = None
    """Whether each element of the results depends on that element of the arguments alone.

    If not, as with ``theta - lr * g / g.norm()``, parameters are never joined, split or updated in
    rows. With None, the default, a rule is recognized as elementwise if it is made of +, −, ·, /
    and squares, and of functions that the compiled loop has, such as ``sqrt``, ``abs``, ``sign``
    and ``maximum``; one that calls others, such as ``tanh``, counts as not elementwise.
    """

    _hyper: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "rule"):
            raise TypeError(f"{cls.__name__} needs a @staticmethod rule(theta, g, …)")
        arguments = inspect.signature(cls.rule).parameters.values()
        keywords = [a for a in arguments if a.kind is a.KEYWORD_ONLY]
        cls._hyper = tuple(a.name for a in keywords)
        cls._defaults = {a.name: a.default for a in keywords if a.default is not a.empty}
        cls._check_accumulators()
        extra = [a for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        extra = [a for a in extra[2 + len(cls.accumulators) :] if a.default is not a.empty]
        if extra:
            raise TypeError(
                f"{cls.__name__}.rule takes {extra[0].name} by position: write * before it, if it "
                f"is a hyper-parameter, as in rule(theta, g, *, {extra[0].name})"
            )
        if taken := {*cls._hyper} & {"params", "weight_decay", *OPTIONS}:
            raise TypeError(f"{cls.__name__}.rule cannot have a hyper-parameter {min(taken)!r}")

    def __init__(
        self,
        params: ParamsT,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **hyper: Any,
    ) -> None:
        accepted = self._keyword_names()
        for name in hyper:
            if name not in accepted:
                hint = suggestion(name, accepted)
                if name in inspect.signature(self.rule).parameters:
                    hint = f" (rule takes it by position: write * before {name} there)"
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}"
                    f"{hint}; it takes {', '.join(accepted)}"
                )
        if fused and differentiable:
            raise ValueError("fused must be False or None with differentiable=True, got True")
        options = {"maximize": maximize, "differentiable": differentiable, "fused": fused}
        hyper = {**self._defaults, "weight_decay": 0.0, **hyper}
        missing = [name for name in self._hyper if name not in hyper and name != "t"]
        if missing:
            raise TypeError(f"{type(self).__name__}() misses the argument {missing[0]!r}")
        super().__init__(params, {**hyper, **options})
        self._give_step_its_own_code()

    @classmethod
    def _check_accumulators(cls) -> None:
        names = cls.accumulators
        if not isinstance(names, tuple) or not all(isinstance(x, str) for x in names):
            raise TypeError(
                f"{cls.__name__}.accumulators must be a tuple of names, such as ('m',), "
                f"got {names!r}"
            )
        if len({*names}) < len(names):
            raise TypeError(f"{cls.__name__}.accumulators must have different names: {names}")
        if "step" in names:
            raise TypeError(
                f"{cls.__name__}.accumulators cannot have the name 'step', under which a state has "
                f"the number of its step: {names}"
            )

    @classmethod
    def _give_step_its_own_code(cls) -> None:
        """Copy the wrapper that torch has put around ``step``.

        All optimizers share the wrapper's code object, and ``torch.compile`` counts recompilations
        for each code object: a process that compiles eight rules would reach its limit.
        """
        step: Any = cls.__dict__.get("step")
        if not isinstance(step, types.FunctionType) or step.__code__.co_name.startswith("step"):
            return
        code = step.__code__.replace(co_name=f"step_of_{cls.__name__}")
        own = types.FunctionType(
            code, step.__globals__, step.__name__, step.__defaults__, step.__closure__
        )
        own.__dict__.update(step.__dict__)
        own.__doc__, own.__qualname__ = step.__doc__, step.__qualname__
        cls.step = own  # type: ignore[method-assign]

    @classmethod
    def _keyword_names(cls) -> list[str]:
        """The names of the keyword arguments that a rule takes."""
        names = list(cls.kernel_names())
        for ancestor in cls.__mro__[: cls.__mro__.index(UpdateRule)]:
            if "__init__" in ancestor.__dict__:
                arguments = inspect.signature(ancestor.__dict__["__init__"]).parameters.values()
                names += [a.name for a in arguments if a.kind is not a.VAR_KEYWORD][2:]
        return list(dict.fromkeys([*names, *OPTIONS]))

    @classmethod
    def hyper_names(cls) -> tuple[str, ...]:
        """The keyword arguments of ``rule``."""
        return cls._hyper

    @classmethod
    def kernel_names(cls) -> tuple[str, ...]:
        """The entries of a group that ``update`` takes as numbers."""
        return (*(name for name in cls._hyper if name != "t"), "weight_decay")

    @classmethod
    def update(
        cls,
        theta: Tensor,
        g: Tensor,
        *accumulators: Tensor,
        maximize: bool = False,
        weight_decay: float = 0.0,
        **hyper: Any,
    ) -> tuple[Tensor, ...]:
        """The rule with the two options that all rules share: a pure function of tensors.

        Args:
            theta: The parameter.
            g: Its gradient.
            accumulators: The rule's accumulators.
            maximize: Ascend instead of descending.
            weight_decay: λ of the L2 penalty λ/2 ‖θ‖² added to the loss.
            hyper: The rule's hyper-parameters.

        Returns:
            The new parameter and the new accumulators.
        """
        if maximize:
            g = -g
        if not (isinstance(weight_decay, (int, float)) and weight_decay == 0):
            theta, g = cls.decay(theta, g, lr=hyper.get("lr"), weight_decay=weight_decay)
        new = cls.rule(theta, g, *accumulators, **hyper)
        return new if isinstance(new, tuple) else (new,)

    @staticmethod
    def decay(theta: Tensor, g: Tensor, *, lr: Any, weight_decay: Any) -> tuple[Tensor, Tensor]:
        """Weight decay as the gradient of λ/2 ‖θ‖²: g ← g + λθ."""
        return theta, g + weight_decay * theta

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyper-parameters.

        Raises:
            ValueError: A hyper-parameter is outside of its range or a parameter appears twice.
        """
        for name, value in {**self.defaults, **param_group}.items():
            check(name, value)
        accepted = self._keyword_names()
        for name in param_group:
            slip = "" if name in accepted else suggestion(name, accepted)
            if slip:  # groups may have further entries, but hardly ones like this
                warnings.warn(
                    f"{type(self).__name__} does not know {name!r} of a parameter group{slip}",
                    stacklevel=3,
                )
        params = param_group["params"]
        if not isinstance(params, (Tensor, set)):  # torch itself refuses a set, which has no order
            params = param_group["params"] = list(params)
            tensors = [p[1] if isinstance(p, tuple) else p for p in params]
            if len(set(map(id, tensors))) < len(tensors):
                raise ValueError("params has the same parameter twice; each may appear once")
        _untraced(super().add_param_group)(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients.

        Args:
            set_to_none: Whether to set them to None, otherwise to zeros.
        """
        _untraced(super().zero_grad)(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state as a dictionary, in the form of `torch.optim.Optimizer.state_dict`."""
        state: dict[str, Any] = _untraced(super().state_dict)()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a copy of a state, so that later steps do not change ``state_dict``.

        If both the state and this optimizer have names of parameters, the parameters of a group are
        matched by name, otherwise by position.

        Raises:
            ValueError: It is the state of another rule, or of parameters of other shapes or names.
                :func:`dlnotes.optim.from_torch` converts the states of ``torch.optim``.
        """
        groups = in_order_of_names(state_dict["param_groups"], self.param_groups)
        with ordinary_tensors():
            _untraced(super().load_state_dict)(
                {**state_dict, "state": copied(state_dict["state"]), "param_groups": groups}
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        needed = [n for n in self._hyper if n != "t" and n not in self._defaults]
        check_state(type(self).__name__, self.accumulators, "t" in self._hyper, needed, state)
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        for accumulated in self.state.values():
            if "step" in accumulated:  # older ones may be plain numbers
                accumulated["step"] = step_tensor(accumulated["step"])

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Computes the loss and its gradients again, and returns the loss.

        Returns:
            What ``closure`` returned, or None.

        Raises:
            RuntimeError: A gradient or a state does not fit its parameter; or ``fused`` is True and
                the kernel cannot take a parameter, and nothing has been updated in that group.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with torch.set_grad_enabled(group["differentiable"]):
                self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        params, counts = group["params"], "t" in self._hyper
        differentiable = bool(group["differentiable"])
        recorded = differentiable or observed()
        maximize = bool(group["maximize"])
        if counts and not recorded:
            _refuse_cuda_graph()
        hyper = {name: _number(group[name], not recorded) for name in self.kernel_names()}
        _refuse_overflow(hyper, params)
        if not recorded and group["fused"] is not False:
            params = self._step_compiled(params, maximize, hyper, bool(group["fused"]))
        pairs = [pair for pair in [(p, p.grad) for p in params] if pair[1] is not None]
        if not pairs:
            return
        states = self._states([p for p, _ in pairs])
        columns = [[state[name] for state in states] for name in self._names()]
        rows = [(*pair, *accumulated) for pair, *accumulated in zip(pairs, *columns, strict=True)]

        def update(theta: Tensor, g: Tensor, *others: Tensor, t: Any) -> tuple[Tensor, ...]:
            counted = {"t": t} if counts else {}
            return self.update(theta, g, *others, maximize=maximize, **hyper, **counted)

        if differentiable:
            for row, state in zip(rows, states or [{}] * len(rows), strict=True):
                new = _plain.step_differentiably(row, counts, update)
                state.update(zip(self.accumulators, new, strict=True))
            return
        if torch.compiler.is_compiling():
            divisible = self.elementwise is not False
        else:
            divisible = _kernel.is_elementwise(type(self), hyper)
        if recorded:
            for row in rows:
                _plain.step_one(row, counts, update, divisible, exact=False)
        else:
            _plain.step(rows, counts, update, divisible)

    def _step_compiled(
        self, params: list[Tensor], maximize: bool, hyper: dict[str, Any], forced: bool
    ) -> list[Tensor]:
        """Update the parameters that a kernel can take, and return the others."""

        def do_without(reason: Exception) -> None:
            if forced:
                raise RuntimeError(f"fused=True, but there is no kernel: {reason}")
            warn_once_not_compiled(reason)

        def build(dtype: torch.dtype, place: int = _native.HOST) -> Any:
            if place == _native.HOST:
                kernel: Any = _kernel.build(type(self), dtype, maximize, hyper)
            else:
                device = torch.device("cuda", place)
                kernel = _triton.build(type(self), dtype, maximize, hyper, device)
            if not isinstance(kernel, Exception):
                return kernel
            do_without(kernel)
            return None

        places = _places(params)
        if not places:
            if any(p.grad is not None for p in params):
                do_without(NotImplementedError(_why_nowhere(params)))
            return params
        library = _native.load()
        if isinstance(library, Exception):
            do_without(library)
            return params
        for place in places:
            params = self._step_at(
                place, params, library, partial(build, place=place), hyper, forced
            )
        params = [p for p in params if p.grad is not None]
        if not forced:
            # Once a parameter is refused, all later ones take the plain step, since they may share
            # memory with it. One dense parameter that is not contiguous therefore keeps every later
            # sparse one from the kernel.
            return [*dropwhile(lambda p: self._step_rows(p, library, build, hyper), params)]
        if params:
            shape = tuple(params[0].shape)
            if params[0].grad is not None and params[0].grad.is_sparse:
                raise RuntimeError(
                    "fused=True, but the gradient of a parameter is sparse: a parameter of shape "
                    f"{shape}; fused=None compiles its step where that is possible"
                )
            raise RuntimeError(
                "fused=True, but a parameter, its gradient or its state is not a plain "
                "contiguous tensor with memory of its own, or not all of them are on one device: a "
                f"parameter of shape {shape}"
            )
        return params

    def _step_at(
        self,
        place: int,
        params: list[Tensor],
        library: ctypes.PyDLL,
        build: Callable[[torch.dtype], Any],
        hyper: dict[str, Any],
        forced: bool,
    ) -> list[Tensor]:
        """Update the parameters that a kernel in one place can take, and return the others."""
        names = self._names()
        states: Any = list(map(self.state.get, params)) if names else []
        if forced or not all(states):  # a state is made for those that have a gradient
            params = [p for p in params if p.grad is not None]
            states = self._states(params)
        if not params:
            return []
        columns = [list(params), *([state[name] for state in states] for name in names)]
        left = _native.step(library, columns, "step" in names, build, hyper, forced, place)
        return [*map(params.__getitem__, left)]

    def _step_rows(
        self,
        p: Tensor,
        library: ctypes.PyDLL,
        build: Callable[[torch.dtype], _kernel.Kernel | None],
        hyper: dict[str, Any],
    ) -> bool:
        """Whether a kernel has updated the rows of a sparse gradient."""
        g = p.grad
        if g is None or not g.is_sparse or not p.is_cpu:
            return False
        names = self._names()
        others = [state[name] for state in self._states([p]) for name in names]
        return _native.step_rows(library, p, g, others, "step" in names, build, hyper)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        """The keys of a parameter's state."""
        return (*cls.accumulators, "step") if "t" in cls._hyper else cls.accumulators

    def _states(self, params: list[Tensor]) -> list[dict[str, Tensor]]:
        """The states of parameters, made at the first gradient; none if the rule has no state."""
        if not self._names():
            return []
        states = [self.state.get(p) or self._state(p) for p in params]
        return cast("list[dict[str, Tensor]]", states)

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        state = self.state[p]
        if not state:  # filled at once: another thread may look
            state.update(new_state(p, self.accumulators, "t" in self._hyper))
        return cast("dict[str, Tensor]", state)


def _places(params: list[Tensor]) -> list[int]:
    """Where there are parameters that a kernel may take: the host first, then CUDA devices.

    CUDA devices are left out while a graph is captured: each replay would update the memory that
    the tensors have now, with the step numbers and hyper-parameters of now.
    """
    places = [_native.HOST] if any(p.is_cpu for p in params) else []
    if torch.cuda.is_initialized() and not _captured():  # not so in a forked process
        places += sorted({p.device.index for p in params if p.is_cuda})
    return places


def _why_nowhere(params: list[Tensor]) -> str:
    if _captured() and any(p.is_cuda for p in params):
        return "a CUDA graph is being captured, which takes tensor operations"
    return "the parameters are not on the CPU or a CUDA device"


def _captured() -> bool:
    """Whether a CUDA graph is being captured from this thread's stream."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _refuse_cuda_graph() -> None:
    if _captured():
        raise RuntimeError(
            "a rule with a bias correction cannot be captured in a CUDA graph: each replay would "
            "repeat the same step number"
        )


def _refuse_overflow(hyper: dict[str, Any], params: list[Tensor]) -> None:
    """Refuse numbers that float32 turns into infinities, as torch's own steps do."""
    for name, value in hyper.items():
        if isinstance(value, (int, float)) and FLOAT32_MAX < abs(value) < math.inf:
            narrow = [p for p in params if p.dtype not in (torch.float64, torch.complex128)]
            if any(p.grad is not None for p in narrow):
                raise RuntimeError(f"{name} = {value!r} overflows float32, the dtype of the steps")


def _number(value: Any, exact: bool = True) -> Any:
    """A hyper-parameter in Python numbers; unless ``exact``, tensors stay tensors, in float64."""
    if isinstance(value, Tensor):
        return value.item() if exact else value.double().reshape(())
    if isinstance(value, (tuple, list)):
        return tuple(_number(x, exact) for x in value)
    if isinstance(value, complex):
        raise TypeError(f"a hyper-parameter must be real, got {value!r}")
    plain = isinstance(value, (int, float)) or not isinstance(value, numbers.Real)
    return value if plain else float(value)  # a number of NumPy, say

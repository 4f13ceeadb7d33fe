"""The only loop over parameters: from a pure update rule to a ``torch.optim.Optimizer``."""

from __future__ import annotations

import inspect
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from dlnotes.optim import _kernel
from dlnotes.optim._watch import Watch

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT

LOW_PRECISION = (torch.float16, torch.bfloat16)

# What each hyper-parameter may be; one name means the same thing in every rule.
ALLOWED: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "weight_decay": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "eps": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "beta": ("in [0, 1)", lambda x: 0 <= x < 1),
    "rho": ("in [0, 1)", lambda x: 0 <= x < 1),
    "betas": ("two numbers in [0, 1)", lambda x: 0 <= x < 1),
}


SMALL = 1 << 14
"""Tensors of up to so many elements share a flat buffer when there is no kernel for them."""

PIECE = 1 << 16
"""Elements of a piece of a larger tensor: its temporaries stay in the cache."""

_PLAIN = {Tensor, torch.nn.Parameter}


class _Plan(NamedTuple):
    """The parameters of one group and dtype that the kernel takes."""

    dtype: torch.dtype
    kernel: _kernel.Kernel
    watch: Watch
    offsets: array[int]


class _Plans(NamedTuple):
    """What is known of one group."""

    size: int
    """How many parameters it has."""
    compiled: list[_Plan]
    idle: Watch | None
    """Those without a gradient."""


class Options(TypedDict, total=False):
    """What every optimizer takes after its own hyper-parameters."""

    maximize: bool
    differentiable: bool
    fused: bool | None


class UpdateRule(Optimizer):
    """An optimizer made from one pure function of tensors.

    A subclass gives ``rule``, the update as the notes print it, and ``accumulators``, the names of
    the tensors that it carries from step to step; all of them start at zero. The loop over
    parameters, weight decay, ``maximize``, sparse gradients and low precision are here, once.

    Parameters and accumulators in float16 and bfloat16 are updated in float32 and rounded once at
    the end; a complex parameter is updated as its real view.

    Every hyper-parameter lives in ``param_groups`` under the name of the constructor's argument,
    and ``rule`` gets it under the same name.

    Args:
        params: Parameters, named parameters or groups, as in ``torch.optim``.
        maximize: Ascend instead of descending.
        differentiable: Let autograd record the step (parameters must not be leaves, then).
        fused: True forces the compiled kernel, False plain tensor operations, None chooses.
        hyper: The rule's hyper-parameters, ``lr`` and ``weight_decay`` among them.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators: ClassVar[tuple[str, ...]] = ()
    """Names of the rule's accumulators, in the order in which the rule takes and returns them."""

    rule: ClassVar[Callable[..., Any]]
    """``rule(theta, g, *accumulators, **hyper)`` returns the new theta and the new accumulators."""

    _hyper: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        arguments = inspect.signature(cls.rule).parameters.values()
        cls._hyper = tuple(a.name for a in arguments if a.kind is a.KEYWORD_ONLY)

    def __init__(
        self,
        params: ParamsT,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **hyper: Any,
    ) -> None:
        if fused and differentiable:
            raise ValueError("fused must be False or None with differentiable=True, got True")
        self._plans: dict[int, _Plans] = {}
        options = {"maximize": maximize, "differentiable": differentiable, "fused": fused}
        super().__init__(params, {**hyper, **options})

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
            theta, g = cls.decay(theta, g, lr=hyper["lr"], weight_decay=weight_decay)
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
            _check(name, value)
        params = param_group["params"]
        if not isinstance(params, (Tensor, set)):  # of a set torch says itself that it has no order
            params = param_group["params"] = list(params)
            tensors = [p[1] if isinstance(p, tuple) else p for p in params]
            if len(set(map(id, tensors))) < len(tensors):
                raise ValueError("params has the same parameter twice; each may appear once")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state: a copy of it, so that later steps leave ``state_dict`` alone."""
        super().load_state_dict({**state_dict, "state": _copy(state_dict["state"])})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plans = {}
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        for accumulated in self.state.values():
            if "step" in accumulated:  # older ones may be plain numbers
                accumulated["step"] = torch.tensor(float(accumulated["step"]))

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Let hooks run round ``step``, and give it a range in the profile while somebody profiles.

        Torch's own wrapper always opens the range: a sixth of a step of 400 small tensors.
        """
        hooked = Optimizer.profile_hook_step(func)

        @wraps(func)
        def step(self: UpdateRule, *args: Any, **kwargs: Any) -> Any:
            watched = (
                torch.autograd.profiler._is_profiler_enabled
                or self._optimizer_step_pre_hooks
                or self._optimizer_step_post_hooks
                or _global_optimizer_pre_hooks
                or _global_optimizer_post_hooks
            )
            return (hooked if watched else func)(self, *args, **kwargs)

        return step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Computes the loss anew, gradients included, and returns it.

        Returns:
            What ``closure`` returned, or None.

        Raises:
            RuntimeError: ``fused`` is True and the kernel cannot take a parameter; nothing has been
                updated in that group, then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            with torch.set_grad_enabled(group["differentiable"]):
                if group["differentiable"] or torch.compiler.is_compiling():
                    for p in group["params"]:
                        if p.grad is not None:
                            self._step_one(p, p.grad, group)
                    continue
                if group["fused"] is False:
                    params = [p for p in group["params"] if p.grad is not None]
                else:
                    params = self._step_compiled(index, group)
                self._step_flat(params, group)
        return loss

    def _accumulated(self, p: Tensor) -> dict[str, Tensor]:
        """The state of one parameter, made at its first gradient."""
        if not self.accumulators and "t" not in self._hyper:
            return {}
        state = self.state[p]
        if not state:
            if "t" in self._hyper:
                state["step"] = torch.tensor(0.0)
            for name in self.accumulators:
                state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return cast("dict[str, Tensor]", state)

    def _step_one(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        """One step of one parameter, in plain tensor operations."""
        state = self._accumulated(p)
        hyper = self._scalars(group, state)
        targets = [p, *(state[name] for name in self.accumulators)]
        if group["differentiable"]:
            # Autograd may need the old tensors after they have been overwritten.
            targets[1:] = [x.clone() for x in targets[1:]]
            state.update(zip(self.accumulators, targets[1:], strict=True))
            new = self._updated([x.clone() for x in targets], g, hyper)
            for target, x in zip(targets, new, strict=True):
                _real(target).copy_(x)
        elif g.is_sparse:
            g = g.coalesce()
            rows = tuple(g.indices())
            if len(rows) == 1:  # whole rows, as an embedding gives: several times faster
                old = [x.index_select(0, rows[0]) for x in targets]
            else:
                old = [x[rows] for x in targets]
            new = self._updated(old, g.values(), hyper)
            for target, x in zip(map(_real, targets), new, strict=True):
                if len(rows) == 1:
                    target.index_copy_(0, rows[0], x.to(target.dtype))
                else:
                    target[rows] = x.to(target.dtype)
        else:
            columns = [[x] for x in (*targets, g)]
            large = type(p) in _PLAIN and p.is_cpu and p.numel() > PIECE
            if large and all(x.is_contiguous() for x in (*targets, g)):
                columns = [list(x.view(-1).split(PIECE)) for x in (*targets, g)]
            for *old, g in zip(*columns, strict=True):
                for target, x in zip(old, self._updated(old, g, hyper), strict=True):
                    _real(target).copy_(x)

    def _updated(
        self, old: Sequence[Tensor], g: Tensor, hyper: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """``update`` in float32 or wider, complex numbers as pairs of reals."""
        theta, g, *accumulated = map(_wide, (old[0], g, *old[1:]))
        return self.update(theta, g, *accumulated, **hyper)

    def _step_flat(self, params: Sequence[Tensor], group: dict[str, Any]) -> None:
        """One step in tensor operations, small tensors together in one flat buffer."""
        together: dict[Any, list[Tensor]] = {}
        for p in params:
            g = p.grad
            assert g is not None
            if {type(p), type(g)} <= _PLAIN and g.layout is torch.strided and p.numel() <= SMALL:
                state = self._accumulated(p)
                t = state["step"].item() if "step" in state else None
                together.setdefault((p.dtype, p.device, t), []).append(p)
            else:
                self._step_one(p, g, group)
        for alike in together.values():
            states = [self._accumulated(p) for p in alike]
            *_, hyper = (self._scalars(group, state) for state in states)
            columns = [alike, *([state[name] for state in states] for name in self.accumulators)]
            columns = [[_real(x) for x in column] for column in columns]
            sizes = [x.numel() for x in columns[0]]
            old = [torch.cat([x.reshape(-1) for x in column]) for column in columns]
            g = torch.cat([_real(cast("Tensor", p.grad)).reshape(-1) for p in alike])
            for column, new in zip(columns, self._updated(old, g, hyper), strict=True):
                pieces = new.to(column[0].dtype).split(sizes)
                pieces = [x.view_as(target) for x, target in zip(pieces, column, strict=True)]
                torch._foreach_copy_(column, pieces)

    def _step_compiled(self, index: int, group: dict[str, Any]) -> list[Tensor]:
        """One step of all parameters that the kernel takes; others with a gradient are returned."""
        left: list[Tensor] = []
        params = list(group["params"])  # a list whatever the user has put there: C reads it
        hyper = {name: _number(group[name]) for name in self.kernel_names()}
        build = partial(_kernel.build, type(self), maximize=bool(group["maximize"]), hyper=hyper)
        plans = self._plans.get(index)
        if plans is None or not self._as_planned(plans, params, build):
            plans, left = self._plan(params, build, bool(group["fused"]))
            self._plans[index] = plans
        for plan in plans.compiled:
            plan.kernel(plan.offsets, plan.watch.pointers, hyper)
        return left

    def _as_planned(self, plans: _Plans, params: list[Tensor], build: Callable[..., Any]) -> bool:
        """Whether nothing has changed since ``_plan`` looked; tells the plans where all is."""
        return (
            plans.size == len(params)
            and (plans.idle is None or plans.idle.idle(params))
            and all(build(plan.dtype) is plan.kernel for plan in plans.compiled)
            and all(plan.watch.look(params, self.state) for plan in plans.compiled)
        )

    def _plan(
        self, params: list[Tensor], build: Callable[..., Any], forced: bool
    ) -> tuple[_Plans, list[Tensor]]:
        """The kernels' work and the parameters that they do not take."""
        compiled: list[_Plan] = []
        left: list[Tensor] = []
        idle = [i for i, p in enumerate(params) if p.grad is None]
        dtypes = {i: p.grad.dtype for i, p in enumerate(params) if p.grad is not None}
        for dtype in set(dtypes.values()):
            places = [i for i, its in dtypes.items() if its is dtype]
            kernel = build(dtype)
            if isinstance(kernel, Exception):
                if forced:
                    raise RuntimeError(f"fused=True, but there is no kernel: {kernel}") from kernel
                left += [params[i] for i in places]
                continue
            fit = self._fit([params[i] for i in places])
            if forced and not all(fit):
                raise RuntimeError(
                    "fused=True, but a parameter, its gradient or its state is not a plain "
                    "contiguous CPU tensor with memory of its own: a parameter of shape "
                    f"{tuple(params[places[fit.index(False)]].shape)}"
                )
            left += [params[i] for i, ok in zip(places, fit, strict=True) if not ok]
            places = [i for i, ok in zip(places, fit, strict=True) if ok]
            if places:
                some = [params[i] for i in places]
                offsets = array("q", [0, *accumulate(p.numel() for p in some)])
                states = [self._accumulated(p) for p in some] if self._names() else []
                watch = Watch(some, places, states, self._names(), self.state)
                if not watch.look(params, self.state):
                    left += some
                else:
                    compiled.append(_Plan(dtype, kernel, watch, offsets))
        # Those that are left may fit at the next step: it looks closely again.
        size = len(params) if compiled and not left else -1
        waiting = Watch([params[i] for i in idle], idle) if idle and compiled else None
        return _Plans(size, compiled, waiting), left

    def _names(self) -> tuple[str, ...]:
        """What a parameter's state holds."""
        return (*self.accumulators, "step") if "t" in self._hyper else self.accumulators

    def _fit(self, params: Sequence[Tensor]) -> list[bool]:
        """Which parameters the kernel can take."""
        fit = list(map(self._fits, params))
        places = sorted(
            (p.data_ptr(), p.data_ptr() + p.numel() * p.element_size(), i)
            for i, p in enumerate(params)
            if fit[i]
        )
        for (_, end, i), (start, _, j) in pairwise(places):
            if start < end:  # two parameters in the same memory are updated one after the other
                fit[i] = fit[j] = False
        return fit

    def _fits(self, p: Tensor) -> bool:
        """Whether the kernel can take this parameter."""
        if not (type(p) in _PLAIN and p.is_cpu and p.layout is torch.strided):
            return False
        state = self._accumulated(p)
        if "step" in state and not (state["step"].is_cpu and state["step"].dtype is torch.float32):
            return False
        return all(
            type(x) in _PLAIN
            and x.layout is torch.strided
            and x.shape == p.shape
            and x.dtype is p.dtype
            and x.is_cpu
            and x.is_contiguous()
            and not x.is_neg()
            and (x.numel() == 0 or x.data_ptr() != 0)
            for x in (p, cast("Tensor", p.grad), *(state[name] for name in self.accumulators))
        )

    def _scalars(self, group: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Any]:
        """The keyword arguments of ``update``; counts the step."""
        hyper = {name: group[name] for name in ("maximize", *self.kernel_names())}
        exact = not (group["differentiable"] or torch.compiler.is_compiling())
        hyper = {name: _number(value, exact) for name, value in hyper.items()}
        if "step" in state:
            state["step"] += 1
            hyper["t"] = _number(state["step"], exact)
        return hyper


def _real(x: Tensor) -> Tensor:
    """A complex tensor as its real view, any other one as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _wide(x: Tensor) -> Tensor:
    """A tensor in the type that it is computed in."""
    x = _real(x)
    return x.float() if x.dtype in LOW_PRECISION else x


def _number(value: Any, exact: bool = True) -> Any:
    """A tensor of one element as a Python number, or else in float64 as Python's arithmetic is."""
    if isinstance(value, Tensor):
        return value.item() if exact else value.double().reshape(())
    return tuple(_number(x, exact) for x in value) if isinstance(value, (tuple, list)) else value


def _numbers(value: Any) -> Iterator[float]:
    for x in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(x, Tensor) and x.numel() != 1:
            raise ValueError(f"must be a number or a tensor of one element, not {tuple(x.shape)}")
        yield float(x.detach() if isinstance(x, Tensor) else x)


def _check(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is allowed for the hyper-parameter ``name``."""
    if name not in ALLOWED:
        return
    allowed, ok = ALLOWED[name]
    try:
        numbers = list(_numbers(value))
        valid = all(map(ok, numbers)) and len(numbers) == (2 if name == "betas" else 1)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def _copy(value: Any) -> Any:
    """A copy of nested dicts down to the tensors."""
    if isinstance(value, dict):
        return {key: _copy(x) for key, x in value.items()}
    return value.clone() if isinstance(value, Tensor) else value

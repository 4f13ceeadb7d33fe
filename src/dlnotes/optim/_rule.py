"""The only loop over parameters: from a pure update rule to a ``torch.optim.Optimizer``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

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
        options = {"maximize": maximize, "differentiable": differentiable, "fused": fused}
        super().__init__(params, {**hyper, **options})

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
        super().add_param_group(param_group)
        params = self.param_groups[-1]["params"]
        if len(set(params)) != len(params):
            self.param_groups.pop()
            raise ValueError("params has the same parameter twice; each may appear once")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state: a copy of it, so that later steps leave ``state_dict`` alone."""
        super().load_state_dict({**state_dict, "state": _copy(state_dict["state"])})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        for accumulated in self.state.values():
            if "step" in accumulated and not isinstance(accumulated["step"], Tensor):
                accumulated["step"] = torch.tensor(float(accumulated["step"]))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Computes the loss anew, gradients included, and returns it.

        Returns:
            What ``closure`` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with torch.set_grad_enabled(group["differentiable"]):
                for p in group["params"]:
                    if p.grad is not None:
                        self._step_one(p, p.grad, group)
        return loss

    def _accumulated(self, p: Tensor) -> dict[str, Tensor]:
        """The state of one parameter, made at its first gradient."""
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
        old = [_real(x) for x in (p, g, *(state[name] for name in self.accumulators))]
        rows: Any = ...
        if g.is_sparse:
            g = g.coalesce()
            rows = tuple(g.indices())
            old = [x[rows] for x in (old[0], *old[2:])]
            old.insert(1, _real(g.values()))
        if group["differentiable"]:
            old[0] = old[0].clone()  # autograd may need θ after it has been overwritten below
        wide = [x.float() if x.dtype in LOW_PRECISION else x for x in old]
        new = self.update(*wide, **hyper)
        targets = [p, *(state[name] for name in self.accumulators)]
        if group["differentiable"]:
            targets[1:] = [x.clone() for x in targets[1:]]
            state.update(zip(self.accumulators, targets[1:], strict=True))
        for target, x in zip(targets, new, strict=True):
            _real(target)[rows] = x.to(target.dtype.to_real())

    def _scalars(self, group: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Any]:
        """The keyword arguments of ``update``; counts the step."""
        hyper = {name: group[name] for name in ("maximize", "weight_decay")}
        hyper.update((name, group[name]) for name in self._hyper if name != "t")
        exact = not (group["differentiable"] or torch.compiler.is_compiling())
        if exact:
            hyper = {name: _number(value) for name, value in hyper.items()}
        if "step" in state:
            state["step"] += 1
            hyper["t"] = state["step"].item() if exact else state["step"].double()
        return hyper


def _real(x: Tensor) -> Tensor:
    """A complex tensor as its real view, any other one as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _number(value: Any) -> Any:
    """A tensor of one element as a Python number: scalar arithmetic is then in float64."""
    if isinstance(value, Tensor):
        return value.item()
    return tuple(map(_number, value)) if isinstance(value, tuple) else value


def _numbers(value: Any) -> Iterator[float]:
    for x in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(x, Tensor) and x.numel() != 1:
            raise ValueError(f"must be a number or a tensor of one element, not {tuple(x.shape)}")
        yield float(x)


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

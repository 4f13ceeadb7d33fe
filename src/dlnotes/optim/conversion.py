"""States of ``torch.optim`` as states of our rules, and back, so that a training can continue."""

from __future__ import annotations

import copy
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlnotes.deprecation import keep_old_names
from dlnotes.optim._rule import UpdateRule
from dlnotes.optim.adadelta import Adadelta
from dlnotes.optim.adagrad import Adagrad
from dlnotes.optim.adam import Adam, AdamW, AMSGrad
from dlnotes.optim.adamax import Adamax
from dlnotes.optim.gradient_descent import GradientDescent
from dlnotes.optim.momentum import Momentum
from dlnotes.optim.nadam import NAdam
from dlnotes.optim.nesterov import Nesterov
from dlnotes.optim.radam import RAdam
from dlnotes.optim.rmsprop import RMSProp

Group = dict[str, Any]
ParameterState = dict[str, Any]
"""The state of an optimizer for one parameter."""


class Conversion(NamedTuple):
    """How the states of a rule and of the equal torch optimizer correspond."""

    torch: str
    """The torch optimizer."""
    required: dict[str, Any]
    """What its group must have for the two to be equal."""
    from_group: Callable[[Group], Group]
    to_group: Callable[[Group], Group]
    from_state: Callable[[ParameterState, Group], ParameterState]
    """From torch's state and torch's group."""
    to_state: Callable[[ParameterState, Group], ParameterState]
    """From our state and our group."""


def from_torch(rule: type[UpdateRule], state_dict: dict[str, Any]) -> dict[str, Any]:
    """A state dict of the equal ``torch.optim`` optimizer as one of ``rule``.

    ====================== =============================================== =======================
    rule                   torch                                           state
    ====================== =============================================== =======================
    ``GradientDescent``    ``SGD``                                         none
    ``Momentum``           ``SGD(lr=α(1−β), momentum=β)``                  V = (1−β) buffer
    ``Nesterov``           ``SGD(lr=α(1−β), momentum=β, nesterov=True)``   V = (1−β) buffer
    ``RMSProp``            ``RMSprop(alpha=β)``                            S
    ``Adagrad``            ``Adagrad(initial_accumulator_value=ε, eps=0)`` G = sum − ε
    ``Adadelta``           ``Adadelta``                                    G, D
    ``Adam``, ``AdamW``    the same                                        m, v, step
    ``AMSGrad``            ``Adam(amsgrad=True)``                          m, v, v_max, step
    ``RAdam``              the same                                        m, v, step
    ``NAdam``              the same                                        m, v, c, step
    ``Adamax``             the same                                        m, u, step
    ====================== =============================================== =======================

    Args:
        rule: Our optimizer.
        state_dict: What ``state_dict()`` of torch's optimizer returned; left as it is.

    Returns:
        What ``rule``'s ``load_state_dict`` takes.

    Raises:
        ValueError: There is no equal rule: the state is another optimizer's, or it has an option
            (``amsgrad``, ``centered``, ``lr_decay`` …) that the rule lacks.
    """
    conversion = _conversion(rule)
    groups, states = [], dict(state_dict["state"])
    for theirs in state_dict["param_groups"]:
        _check(rule, theirs)
        ours = conversion.from_group(theirs)
        kept = {name: theirs[name] for name in ("params", "param_names") if name in theirs}
        also = {"maximize": theirs.get("maximize", False), "weight_decay": theirs["weight_decay"]}
        options = {"differentiable": False, "fused": None}
        extra = _extra(theirs, _TORCHS_NAMES, conversion.from_group)
        groups.append({**extra, **kept, **ours, **also, **options})
        for p in theirs["params"]:
            if p in states:
                states[p] = _copied(conversion.from_state(states[p], theirs))
    states = {p: state for p, state in states.items() if state}
    return {"state": states, "param_groups": groups}


def to_torch(rule: type[UpdateRule], state_dict: dict[str, Any]) -> dict[str, Any]:
    """A state dict of ``rule`` as one of the equal ``torch.optim`` optimizer.

    The inverse of :func:`from_torch`. Where the rule does not count its steps (RMSProp, Adagrad,
    Adadelta) torch's ``step`` is 0; its update does not depend on it.

    Args:
        rule: Our optimizer.
        state_dict: What its ``state_dict()`` returned; left as it is.

    Returns:
        What ``load_state_dict`` of torch's optimizer takes.

    Raises:
        ValueError: The state is of another rule, or it climbs (``maximize``), which this version of
            torch's optimizer cannot do.
    """
    conversion = _conversion(rule)
    groups, states = [], dict(state_dict["state"])
    for ours in state_dict["param_groups"]:
        missing = [n for n in (*rule.kernel_names(), "maximize") if n not in ours]
        if missing:
            raise ValueError(f"this is not a state of {rule.__name__}: a group has no {missing[0]}")
        kept = {name: ours[name] for name in ("params", "param_names") if name in ours}
        also = {name: ours[name] for name in ("maximize", "weight_decay")}
        options = {*rule.kernel_names(), "maximize", "differentiable", "fused"}
        extra = _extra(ours, options, conversion.to_group)
        theirs = {**conversion.required, **conversion.to_group(ours), **also}
        template = _torchs_defaults(conversion.torch, theirs)
        if "maximize" not in template and theirs.pop("maximize"):
            raise ValueError(
                f"maximize=True cannot be converted: torch.optim.{conversion.torch} of torch "
                f"{torch.__version__} has no maximize"
            )
        groups.append({**extra, **template, **kept, **theirs})
        for p in ours["params"]:
            if p in states:
                states[p] = _copied(conversion.to_state(states[p], ours))
    return {"state": states, "param_groups": groups}


def _same(*names: str) -> Callable[[Group], Group]:
    return lambda group: {name: group[name] for name in names}


def _renamed(
    **names: str,
) -> tuple[
    Callable[[ParameterState, Group], ParameterState],
    Callable[[ParameterState, Group], ParameterState],
]:
    """Both ways between states that differ in names only, given as ``ours="theirs"``."""

    def from_state(state: ParameterState, group: Group) -> ParameterState:
        return {mine: state[theirs] for mine, theirs in names.items()}

    def to_state(state: ParameterState, group: Group) -> ParameterState:
        back = {theirs: state[mine] for mine, theirs in names.items()}
        return {"step": torch.zeros((), dtype=torch.float32, device="cpu"), **back}

    return from_state, to_state


def _from_momentum(group: Group) -> Group:
    beta = group["momentum"]
    if not 0 <= beta < 1:
        raise ValueError(
            f"no rule is equal to torch.optim.SGD with momentum={beta!r}; it must be < 1"
        )
    if group["dampening"] == 0:
        return {"lr": group["lr"] / (1 - beta), "beta": beta}
    if group["dampening"] == beta and not group["nesterov"]:
        return {"lr": group["lr"], "beta": beta}
    raise ValueError(
        f"dampening must be 0 or equal to momentum ({beta}) for an average of gradients, "
        f"got {group['dampening']}"
    )


def _to_momentum(group: Group) -> Group:
    return {"lr": group["lr"] * (1 - group["beta"]), "momentum": group["beta"]}


def _from_buffer(state: ParameterState, group: Group) -> ParameterState:
    buffer = state.get("momentum_buffer")
    if buffer is None:
        return {}
    return {"V": buffer if group["dampening"] else (1 - group["momentum"]) * buffer}


def _to_buffer(state: ParameterState, group: Group) -> ParameterState:
    return {"momentum_buffer": state["V"] / (1 - group["beta"])}


_MOMENTUM = (_from_momentum, _to_momentum, _from_buffer, _to_buffer)
_SGD = {"dampening": 0, "nesterov": False}
_ADAM = (_same("lr", "betas", "eps"),) * 2 + _renamed(m="exp_avg", v="exp_avg_sq", step="step")
_SHARED = {"m": "exp_avg", "v": "exp_avg_sq", "step": "step"}


def _from_nadam(state: ParameterState, group: Group) -> ParameterState:
    if not state:
        return {}
    product = torch.as_tensor(state["mu_product"]).double()
    c = torch.full_like(state["exp_avg"], 1 - product.item())
    return {**{mine: state[theirs] for mine, theirs in _SHARED.items()}, "c": c}


def _to_nadam(state: ParameterState, group: Group) -> ParameterState:
    c = state["c"].flatten()
    if c.numel() and (c != c[0]).any():
        raise ValueError(
            "torch.optim.NAdam has one product of momenta for a parameter, got rows that sparse "
            "gradients have updated at different steps"
        )
    product = 1 - c[0].detach() if c.numel() else torch.ones_like(c.sum())
    return {**{theirs: state[mine] for mine, theirs in _SHARED.items()}, "mu_product": product}


CONVERSIONS: dict[type[UpdateRule], Conversion] = {
    GradientDescent: Conversion(
        "SGD",
        {**_SGD, "momentum": 0},
        _same("lr"),
        _same("lr"),
        lambda state, group: {},
        lambda state, group: {"momentum_buffer": None},
    ),
    Momentum: Conversion("SGD", _SGD, *_MOMENTUM),
    Nesterov: Conversion("SGD", {**_SGD, "nesterov": True}, *_MOMENTUM),
    RMSProp: Conversion(
        "RMSprop",
        {"centered": False, "momentum": 0},
        lambda group: {"lr": group["lr"], "beta": group["alpha"], "eps": group["eps"]},
        lambda group: {"lr": group["lr"], "alpha": group["beta"], "eps": group["eps"]},
        *_renamed(S="square_avg"),
    ),
    Adagrad: Conversion(
        "Adagrad",
        {"lr_decay": 0, "eps": 0},
        lambda group: {"lr": group["lr"], "eps": group["initial_accumulator_value"]},
        lambda group: {"lr": group["lr"], "initial_accumulator_value": group["eps"]},
        lambda state, group: {"G": state["sum"] - group["initial_accumulator_value"]},
        lambda state, group: {
            "step": torch.zeros((), dtype=torch.float32, device="cpu"),
            "sum": state["G"] + group["eps"],
        },
    ),
    Adadelta: Conversion(
        "Adadelta",
        {},
        _same("lr", "rho", "eps"),
        _same("lr", "rho", "eps"),
        *_renamed(G="square_avg", D="acc_delta"),
    ),
    Adam: Conversion("Adam", {"amsgrad": False}, *_ADAM),
    AdamW: Conversion("AdamW", {"amsgrad": False}, *_ADAM),
    AMSGrad: Conversion(
        "Adam",
        {"amsgrad": True},
        *_ADAM[:2],
        *_renamed(**_SHARED, v_max="max_exp_avg_sq"),
    ),
    NAdam: Conversion(
        "NAdam",
        {},
        _same("lr", "betas", "eps", "momentum_decay"),
        _same("lr", "betas", "eps", "momentum_decay"),
        _from_nadam,
        _to_nadam,
    ),
    RAdam: Conversion("RAdam", {}, *_ADAM),
    Adamax: Conversion("Adamax", {}, *_ADAM[:2], *_renamed(m="exp_avg", u="exp_inf", step="step")),
}


def _torchs_defaults(name: str, hyper: Group) -> Group:
    """The group of a fresh torch optimizer, in this torch's version."""
    parameter = torch.nn.Parameter(torch.zeros((), device="cpu"))
    optimizer = getattr(torch.optim, name)
    if "maximize" not in signature(optimizer).parameters:  # NAdam and RAdam in torch 2.3
        hyper = {k: v for k, v in hyper.items() if k != "maximize"}
    optimizer = optimizer([parameter], **hyper)
    return {
        k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "param_names")
    }


_TORCHS_NAMES = {
    *("params", "param_names", "lr", "weight_decay", "maximize", "foreach", "capturable"),
    *("differentiable", "fused", "momentum", "dampening", "nesterov", "alpha", "eps", "centered"),
    *("lr_decay", "initial_accumulator_value", "rho", "betas", "amsgrad"),
    *("decoupled_weight_decay", "momentum_decay"),
}


def _extra(group: Group, options: set[str], convert: Callable[[Group], Group]) -> Group:
    """Entries of a group that neither optimizer knows, such as the rates of a scheduler."""
    names = {*options, "params", "param_names"}
    extra = {name: copy.deepcopy(value) for name, value in group.items() if name not in names}
    for name in {"initial_lr", "max_lr", "min_lr"} & set(extra):
        extra[name] = convert({**group, "lr": extra[name]})["lr"]
    return extra


def _conversion(rule: type[UpdateRule]) -> Conversion:
    if rule not in CONVERSIONS:
        names = ", ".join(each.__name__ for each in CONVERSIONS)
        raise ValueError(
            f"rule must be one of {names}, whose steps are those of a torch optimizer, "
            f"got {getattr(rule, '__name__', rule)!r}"
        )
    return CONVERSIONS[rule]


def _check(rule: type[UpdateRule], group: Group) -> None:
    """Raise ValueError unless a group is of a rule's torch optimizer, with options that it has."""
    conversion = CONVERSIONS[rule]
    needed = set(_torchs_defaults(conversion.torch, {})) - {
        *("foreach", "capturable", "differentiable", "fused", "maximize", "decoupled_weight_decay")
    }
    missing = sorted(needed - set(group))
    if missing:
        raise ValueError(
            f"this is not a state of torch.optim.{conversion.torch}: a parameter group has no "
            f"{missing[0]}"
        )
    if unlike := _unlike(conversion, group):
        name = unlike[0]
        got = f"torch.optim.{conversion.torch} with {name}={group[name]!r}"
        same = [r for r, c in CONVERSIONS.items() if c.torch == conversion.torch]
        if equal := [r.__name__ for r in same if not _unlike(CONVERSIONS[r], group)]:
            raise ValueError(f"{rule.__name__} is not equal to {got}; {equal[0]} is")
        raise ValueError(f"no rule is equal to {got}; {name} must be {conversion.required[name]!r}")
    decoupled = group.get("decoupled_weight_decay")
    if conversion.torch not in ("Adam", "AdamW"):
        if decoupled and group["weight_decay"] != 0:
            raise ValueError(
                f"no rule is equal to torch.optim.{conversion.torch} with "
                f"decoupled_weight_decay=True and weight_decay={group['weight_decay']!r}"
            )
    elif decoupled is not None and decoupled != (conversion.torch == "AdamW"):
        raise ValueError(
            f"weight decay of this state is {'' if decoupled else 'not '}decoupled: it is of "
            f"torch.optim.{'AdamW' if decoupled else 'Adam'}"
        )


def _unlike(conversion: Conversion, group: Group) -> list[str]:
    """The options in which a group differs from what a conversion requires."""
    # Two values of dampening have an equal rule: see _from_momentum.
    required = {k: value for k, value in conversion.required.items() if k != "dampening"}
    return [name for name, value in required.items() if group[name] != value]


def _copied(state: ParameterState) -> ParameterState:
    return {k: x.clone() if isinstance(x, Tensor) else x for k, x in state.items()}


keep_old_names(__name__)

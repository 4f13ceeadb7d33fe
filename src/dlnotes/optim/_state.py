"""The states of the rules: making, checking and copying them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def new_state(p: Tensor, accumulators: Sequence[str], counts: bool) -> dict[str, Tensor]:
    """The state of a parameter before its first step.

    Args:
        p: The parameter.
        accumulators: Names of the tensors that start at zero.
        counts: Whether the rule counts its steps.
    """
    with ordinary_tensors():
        state = {"step": step_tensor(0.0)} if counts else {}
        for name in accumulators:
            state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
    return state


def check_state(
    rule: str,
    accumulators: Sequence[str],
    counts: bool,
    hyper: Sequence[str],
    state: dict[str, Any],
) -> None:
    """Refuse the state of another optimizer.

    Args:
        rule: The name of the rule.
        accumulators: Names of its accumulators.
        counts: Whether it counts its steps.
        hyper: The hyper-parameters that each of its groups must have.
        state: What is to be loaded, ``state`` by parameter.

    Raises:
        ValueError: It is of another rule, or of parameters of other shapes.
    """
    names = (*accumulators, "step") if counts else tuple(accumulators)
    advice = "dlnotes.optim.from_torch converts the states of torch.optim"
    for p, accumulated in state["state"].items():
        if not accumulated:
            continue
        if {*accumulated} != {*names}:
            raise ValueError(
                f"this is not a state of {rule}: it has {', '.join(map(str, accumulated))}, and "
                f"{rule} has {', '.join(names) or 'none'}; {advice}"
            )
        for name in accumulators:
            shape = getattr(accumulated[name], "shape", None)
            if isinstance(p, Tensor) and shape != p.shape:
                raise ValueError(
                    f"{name} of a parameter of shape {tuple(p.shape)} must be a tensor of that "
                    f"shape, got {'none' if shape is None else tuple(shape)}"
                )
    for group in state["param_groups"]:
        missing = [name for name in hyper if name not in group]
        if missing:
            raise ValueError(
                f"this is not a state of {rule}: a parameter group has no {missing[0]}; {advice}"
            )


def in_order_of_names(
    saved: list[dict[str, Any]], groups: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The saved groups with their parameters in the order in which ours have the same names."""
    if len(saved) != len(groups):
        return saved  # torch says so
    ordered = []
    for before, group in zip(saved, groups, strict=True):
        there, here = before.get("param_names"), group.get("param_names")
        if there and here and there != here:
            if sorted(there) != sorted(here):
                odd = sorted({*there} ^ {*here})
                where = "not in the optimizer" if odd[0] in there else "not in the state"
                raise ValueError(f"parameter {odd[0]!r} of a group is {where}: names must agree")
            number = dict(zip(there, before["params"], strict=True))
            before = {**before, "params": [number[n] for n in here], "param_names": list(here)}
        ordered.append(before)
    return ordered


def copied(value: Any, copies: dict[int, Tensor] | None = None) -> Any:
    """A copy of nested dicts down to the tensors; one that appears twice is copied once."""
    copies = {} if copies is None else copies
    if isinstance(value, dict):
        return {key: copied(x, copies) for key, x in value.items()}
    if isinstance(value, Tensor):
        return copies.setdefault(id(value), value.clone())
    return value


def ordinary_tensors() -> AbstractContextManager[Any]:
    """In inference mode: make tensors that may also be changed outside of it."""
    inside = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
    return torch.inference_mode(False) if inside else contextlib.nullcontext()


def step_tensor(value: Any) -> Tensor:
    """The number of a step, on the CPU and in float32 whatever the defaults are."""
    return torch.tensor(float(value), dtype=torch.float32, device="cpu")

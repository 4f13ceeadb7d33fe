"""What the constructors of the rules accept."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

# What each hyper-parameter may be; a name means the same in every rule.
ALLOWED: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "weight_decay": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "eps": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "momentum_decay": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "ns_steps": ("an integer from 0 to 99", lambda x: 0 <= x <= 99 and x % 1 == 0),
    "beta": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "rho": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "betas": ("two numbers in [0, 1)", lambda x: 0 <= x < 1),
}

OPTIONS = ("maximize", "differentiable", "fused")


def _float(x: Any) -> float:
    """A real number as a float; NaN, which no range allows, for anything else."""
    try:
        x = x.detach().item() if isinstance(x, Tensor) else x
        return math.nan if isinstance(x, bool) or not isinstance(x, numbers.Real) else float(x)
    except (RuntimeError, OverflowError):  # a tensor of several numbers or of none; 10**400
        return math.nan


def check(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is allowed for the hyper-parameter ``name``."""
    if name in OPTIONS and not (isinstance(value, bool) or (name == "fused" and value is None)):
        among = "True, False or None" if name == "fused" else "True or False"
        raise ValueError(f"{name} must be {among}, got {value!r}")
    if name not in ALLOWED:
        return
    allowed, ok = ALLOWED[name]
    wanted = 2 if name == "betas" else None  # how many, or a number by itself
    found = value if isinstance(value, (tuple, list)) else [value]
    count = len(value) if found is value else None
    if count != wanted or not all(ok(_float(x)) for x in found):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def suggestion(name: str, accepted: Sequence[str]) -> str:
    """A hint at the accepted name that is most similar to an unknown one, or ""."""
    close = difflib.get_close_matches(name, accepted, n=1, cutoff=0.75)
    return f" (did you mean {close[0]!r}?)" if close else ""

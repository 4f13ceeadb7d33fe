"""What the constructors of the rules accept."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

# What each hyper-parameter may be; one name means the same thing in every rule.
ALLOWED: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "weight_decay": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "eps": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "beta": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "rho": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "betas": ("two numbers in [0, 1)", lambda x: 0 <= x < 1),
}

OPTIONS = ("maximize", "differentiable", "fused")


def _numbers(value: Any) -> Iterator[float]:
    for x in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(x, Tensor):
            if x.numel() != 1:
                raise ValueError(f"must have one element, not {tuple(x.shape)}")
            x = x.detach().item()
        if isinstance(x, bool) or not isinstance(x, numbers.Real):
            raise TypeError(f"must be a number, not {type(x).__name__}")
        yield float(x)


def check(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is allowed for the hyper-parameter ``name``."""
    if name in OPTIONS and not (isinstance(value, bool) or (name == "fused" and value is None)):
        among = "True, False or None" if name == "fused" else "True or False"
        raise ValueError(f"{name} must be {among}, got {value!r}")
    if name not in ALLOWED:
        return
    allowed, ok = ALLOWED[name]
    try:
        found = list(_numbers(value))
        single = not isinstance(value, (tuple, list))
        valid = all(map(ok, found)) and (len(found) == 2 if name == "betas" else single)
    except (TypeError, ValueError, RuntimeError):
        valid = False
    if not valid:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]!r}?)" if close else ""

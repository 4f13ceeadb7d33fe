"""torch.compile for training: whether it works here, and which modules it must not compile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dlnotes.errors import UserError

_Outputs = Callable[..., Any]

_OLDEST = (2, 4)  # older versions cannot trace an autograd.Function with a setup_context
BACKEND = "inductor"


def compiled(outputs: _Outputs, device: torch.device) -> _Outputs:
    """`outputs` compiled for batches of any shape.

    Args:
        outputs: Maps a model and a batch to the outputs that a loss is computed from.
        device: Where to compute.

    Raises:
        UserError: See `check_compiler`.
    """
    check_compiler(device)
    found: _Outputs = torch.compile(outputs, dynamic=True, backend=BACKEND)
    return found


@functools.cache
def check_compiler(device: torch.device) -> None:
    """Check that torch.compile works; it needs a C++ compiler, and Triton for CUDA.

    Raises:
        UserError: It does not work.
    """
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST:
        raise UserError(f"compile needs torch 2.4 or newer, not {torch.__version__}; leave it out")
    x = torch.ones(8, device=device, requires_grad=True)
    try:
        torch.compile(_probe, backend=BACKEND)(x).backward()
    except Exception as error:  # each missing part raises an exception of its own type
        raise UserError(
            f"compile needs torch.compile, which does not work here for {device.type} "
            f"({_reason(error)}); leave it out"
        ) from error


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin().cos().sum()


def _reason(error: Exception) -> str:
    """The root cause of an error of the compiler, in one line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    inner = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0]}" if lines else type(inner).__name__


@contextmanager
def sparse_look_ups_not_compiled(model: nn.Module) -> Iterator[None]:
    """Exclude look-ups with sparse gradients from compilation while the context is active.

    torch.compile cannot trace a sparse gradient.
    """
    changed = []
    for module in model.modules():
        if getattr(module, "sparse", False) is True:
            for name in ("forward", "log_likelihood"):
                if hasattr(module, name) and name not in vars(module):
                    vars(module)[name] = torch.compiler.disable(getattr(module, name))
                    changed.append((module, name))
    try:
        yield
    finally:
        for module, name in changed:
            del vars(module)[name]

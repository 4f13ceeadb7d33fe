"""Whether weights are still numbers, asked before they are kept or handed out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

LARGEST = torch.finfo(torch.float32).max ** 0.5
"""A weight above this, 1.8e19, has a square that is no float32: the training has diverged."""


def defect(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> str | None:
    """What is wrong with the weights, in a few words; None if nothing is.

    NaN is wrong anywhere; an infinity anywhere but in a buffer, where it may be a mask; a number
    above `LARGEST` in a parameter.

    Waits for the device once and reads each weight once; only where something is wrong does it read
    them again.

    Args:
        model: Its parameters and buffers are looked at.
        optimizer: So are its states.
    """
    tensors = list(_tensors(model, optimizer))
    if not tensors:
        return None
    # A norm is finite only where every number is.
    norms = [torch.linalg.vector_norm(tensor) for _, _, tensor in tensors]
    if bool(torch.stack([n.to(norms[0].device) for n in norms]).isfinite().all()):
        return None
    for kind, name, tensor in tensors:
        if bool(tensor.isnan().any()):
            return f"{name} holds NaN"
        if kind != "buffer" and bool(tensor.isinf().any()):
            return f"{name} holds an infinity"
        if kind == "parameter" and float(tensor.abs().max()) > LARGEST:
            return f"{name} has grown to {float(tensor.abs().max()):.1e}"
    return None


def _tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> Iterator[tuple[str, str, Tensor]]:
    """Kind, name and tensor of all that must be sound."""
    names: dict[Tensor, str] = {}
    for name, parameter in model.named_parameters():
        names[parameter] = name
        if parameter.numel() and (parameter.is_floating_point() or parameter.is_complex()):
            yield "parameter", name, parameter.detach()
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and buffer.numel():
            yield "buffer", name, buffer
    if optimizer is not None:
        for of_parameter, entries in optimizer.state.items():
            of = names.get(of_parameter, "a parameter")
            for key, value in entries.items():
                if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
                    yield "state", f"the optimizer's {key} of {of}", value.detach()

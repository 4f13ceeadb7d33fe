"""Check that weights are finite, before they are saved or returned."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

MAX_WEIGHT = torch.finfo(torch.float32).max ** 0.5
"""The square of a weight above this, 1.8e19, overflows float32: the training has diverged."""


def defect(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> str | None:
    """What is wrong with the weights, in a few words; None if nothing is.

    NaN is wrong anywhere; an infinity is wrong except in a buffer, where it may be a mask; a number
    above `MAX_WEIGHT` is wrong in a parameter.

    This waits for the device once and reads each weight once, and again only if something is wrong.

    Args:
        model: The model, whose parameters and buffers are checked.
        optimizer: An optimizer, whose states are also checked.
    """
    tensors = list(_tensors(model, optimizer))
    if not tensors:
        return None
    # A norm is finite only if every number is.
    norms = [torch.linalg.vector_norm(tensor) for _, _, tensor in tensors]
    if bool(torch.stack([n.to(norms[0].device) for n in norms]).isfinite().all()):
        return None
    for kind, name, tensor in tensors:
        if bool(tensor.isnan().any()):
            return f"{name} holds NaN"
        if kind != "buffer" and bool(tensor.isinf().any()):
            return f"{name} holds an infinity"
        if kind == "parameter" and float(tensor.abs().max()) > MAX_WEIGHT:
            return f"{name} has grown to {float(tensor.abs().max()):.1e}"
    return None


def _tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> Iterator[tuple[str, str, Tensor]]:
    """Kind, name and tensor of everything that is checked."""
    names: dict[Tensor, str] = {}
    for name, parameter in model.named_parameters():
        names[parameter] = name
        if (found := _numbers(parameter)) is not None:
            yield "parameter", name, found
    for name, buffer in model.named_buffers():
        if (found := _numbers(buffer)) is not None:
            yield "buffer", name, found
    if optimizer is not None:
        for of_parameter, entries in optimizer.state.items():
            of = names.get(of_parameter, "a parameter")
            for key, value in entries.items():
                if isinstance(value, Tensor) and (found := _numbers(value)) is not None:
                    yield "state", f"the optimizer's {key} of {of}", found


def _numbers(tensor: Tensor) -> Tensor | None:
    """The numbers of a tensor as a dense one; None if it has none that could become NaN."""
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):  # sharded over processes, each of which checks its part
        tensor = tensor.to_local()
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        tensor = tensor.values()
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    if tensor.is_floating_point():
        return tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no norm
    return tensor if tensor.is_complex() else None

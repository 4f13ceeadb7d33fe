"""Gradient clipping by norm and by value: the notes' cure for exploding gradients (§6)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from dlnotes.optim._plain import coalesced, real


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    r"""Scale all gradients together so that their joint norm is at most ``max_norm``.

    Pascanu, Mikolov & Bengio 2013, https://arxiv.org/abs/1211.5063:

    .. math::
        g ← g · \min(1, c / (‖g‖ + 10^{−6}))

    where c is ``max_norm`` and ‖g‖ the norm of all gradients as one vector. Equal to
    ``torch.nn.utils.clip_grad_norm_``, the 1e-6 included, and works on sparse gradients too.

    One NaN makes every gradient NaN; one infinity becomes NaN and every other gradient 0.

    Args:
        parameters: One parameter or several; those without a gradient are left out.
        max_norm: The largest norm, >= 0.
        norm_type: p of the p-norm, > 0; ``inf`` for the largest absolute value.
        error_if_nonfinite: Raise when the norm is NaN or infinite, and leave the gradients.

    Returns:
        The norm before clipping.

    Raises:
        ValueError: ``max_norm`` or ``norm_type`` is outside of its range.
        RuntimeError: The norm is not finite and ``error_if_nonfinite`` is set.
        IndexError: A sparse gradient on a CPU has an index outside of its shape.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be >= 0, got {max_norm!r}")
    if not norm_type > 0:
        raise ValueError(f"norm_type must be > 0, got {norm_type!r}")
    grads = _dense(parameters)
    if not grads:
        return torch.tensor(0.0)
    norms = [torch.linalg.vector_norm(g, norm_type) for g in grads]
    total: Tensor = torch.linalg.vector_norm(
        torch.stack([n.to(norms[0].device) for n in norms]), norm_type
    )
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"the {norm_type}-norm of the gradients is {total.item()}, so they cannot be clipped; "
            "error_if_nonfinite=False scales them all the same"
        )
    scale = clip_scale(total, max_norm)
    for g in grads:
        g.mul_(scale.to(g.device))
    return total


def clip_scale(norm: Tensor, max_norm: float) -> Tensor:
    """What `clip_grad_norm_` multiplies gradients by.

    Args:
        norm: Norm of the gradients, of any shape: each element is that of other gradients.
        max_norm: The largest norm, >= 0.
    """
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)


@torch.no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every entry of every gradient to [−clip_value, clip_value].

    Equal to ``torch.nn.utils.clip_grad_value_``, and works on sparse and on complex gradients too
    (real and imaginary part each). Unlike the norm it changes the gradient's direction.

    Args:
        parameters: One parameter or several; those without a gradient are left out.
        clip_value: The largest absolute value, >= 0.

    Raises:
        ValueError: ``clip_value`` is outside of its range.
        IndexError: A sparse gradient on a CPU has an index outside of its shape.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_value must be >= 0, got {clip_value!r}")
    for g in _dense(parameters):
        if g.is_complex():
            g.copy_(torch.view_as_complex(real(g).clamp(-clip_value, clip_value)))
        else:
            g.clamp_(-clip_value, clip_value)


def _dense(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients; of a sparse one its values, each row once, so that they may be changed."""
    grads = []
    for p in [parameters] if isinstance(parameters, Tensor) else parameters:
        if p.grad is None:
            continue
        if p.grad.is_sparse:
            p.grad = coalesced(p.grad)
            grads.append(p.grad._values())
        else:
            grads.append(p.grad)
    return grads

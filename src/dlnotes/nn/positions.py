"""The position of a token as a vector."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoidal(
    t: int,
    embedding_dim: int,
    *,
    first: int = 0,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "t e"]:
    r"""Sines and cosines of the position (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    .. math::
        P_{p,\,2i} = \sin\bigl(p / 10000^{2i/e}\bigr), \qquad
        P_{p,\,2i+1} = \cos\bigl(p / 10000^{2i/e}\bigr)

    Computed for the given positions, so that no table limits the length of documents.

    Args:
        t: Number of positions.
        embedding_dim: :math:`e`; an odd one ends with a sine.
        first: The first position.
        device: Where to compute.
        dtype: Type of the result; half precision is rounded at the end.
    """
    fine = torch.promote_types(dtype, torch.float32)
    p = torch.arange(first, first + t, device=device, dtype=fine)  # t
    even = torch.arange(0, embedding_dim, 2, device=device, dtype=fine)  # ceil(e/2)
    angles = p.unsqueeze(1) * torch.exp(even * (-math.log(10_000) / embedding_dim))
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)  # t e or e+1
    return waves[:, :embedding_dim].to(dtype)

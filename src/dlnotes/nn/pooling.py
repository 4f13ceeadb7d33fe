"""Pooling over the real positions of a document; an empty document gives zeros.

So does every document of a batch without positions, t = 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_max(x: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b e"]:
    r"""Largest value over the real positions, :math:`y_j = \max_{i\,\text{real}} x_{ij}`."""
    if x.shape[1] == 0:
        return x.sum(dim=1)  # zeros; there is no largest of no values
    y = x.masked_fill(~real.unsqueeze(2), -torch.inf).max(dim=1).values  # b e
    return y.masked_fill(~real.any(dim=1, keepdim=True), 0.0)


def masked_mean(x: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b e"]:
    r"""Mean over the real positions, :math:`y_j = \frac1n \sum_{i\,\text{real}} x_{ij}`."""
    n = real.sum(dim=1, keepdim=True)  # b 1
    return x.masked_fill(~real.unsqueeze(2), 0.0).sum(dim=1) / n.clamp(min=1)


def last_states(x: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b e"]:
    """The final states of a bidirectional recurrence.

    The first half of ``e``, the forward direction, is read at the last real position; the second
    half, the backward direction, at the first.
    """
    if x.shape[1] == 0:
        return x.sum(dim=1)  # zeros; there is no position to read
    h = x.shape[2] // 2
    n = real.sum(dim=1)  # b
    end = (n - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, h)  # b 1 h
    y = torch.cat([x[:, :, :h].gather(1, end).squeeze(1), x[:, 0, h:]], dim=1)  # b e
    return y.masked_fill((n == 0).unsqueeze(1), 0.0)

"""Attention of one state over a memory: which of its positions the state is about."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dlnotes.activations import tanh


class Memory(NamedTuple):
    """What is attended to, prepared once for any number of queries.

    Attributes:
        keys: ``b t a``, what a query is compared with.
        values: ``b t m``, what is averaged; zero where nothing real is.
        real: ``b t``, the positions that count.
    """

    keys: Float[Tensor, "b t a"]
    values: Float[Tensor, "b t m"]
    real: Bool[Tensor, "b t"]


class _Attention(nn.Module):
    """What both kinds share; a kind says how keys are made and how a query is scored."""

    def keys(self, values: Float[Tensor, "b t m"]) -> Float[Tensor, "b t a"]:
        """The part of the scores that does not depend on the query."""
        raise NotImplementedError

    def scores(
        self, query: Float[Tensor, "b q"], keys: Float[Tensor, "b t a"]
    ) -> Float[Tensor, "b t"]:
        """Score every position of the memory, real or not."""
        raise NotImplementedError

    def memory(self, values: Float[Tensor, "b t m"], real: Bool[Tensor, "b t"]) -> Memory:
        """Prepare a memory; whatever stands at positions that are not real is forgotten."""
        # A weight of 0 does not silence NaN; a value of 0 does.
        values = values.masked_fill(~real.unsqueeze(2), 0.0)
        return Memory(self.keys(values), values, real)

    def forward(
        self, query: Float[Tensor, "b q"], memory: Memory
    ) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b t"]]:
        r"""Attend to a memory.

        Returns:
            The mean :math:`\sum_i \alpha_i h_i` and its weights :math:`\alpha`; both are zero
            where the memory has no real position.
        """
        scores = self.scores(query, memory.keys)  # b t
        # The least number and not -inf, of which softmax in an empty row would make NaN.
        scores = scores.masked_fill(~memory.real, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1).masked_fill(~memory.real, 0.0)  # b t
        mean = torch.bmm(weights.unsqueeze(1), memory.values)  # b 1 m
        return mean.squeeze(1), weights


class AdditiveAttention(_Attention):
    r"""Attention whose scores come from a small network (Bahdanau et al. 2015).

    .. math::
        e_i = v^\top \tanh(W s + U h_i), \qquad \alpha = \mathrm{softmax}(e), \qquad
        c = \sum_i \alpha_i h_i

    over the real positions i (https://arxiv.org/abs/1409.0473, appendix A.1.2).
    :math:`U h_i` is the same for every query and is computed once, in :meth:`memory`.

    Args:
        query_size: numbers of :math:`s`.
        value_size: numbers of :math:`h_i`.
        size: hidden units, the numbers of :math:`v`.
        fused: use torch's tanh instead of ours; the numbers are the same.

    Shapes:
        query ``b q``, memory ``b t m`` → mean ``b m``, weights ``b t``.
    """

    def __init__(self, query_size: int, value_size: int, size: int, *, fused: bool = True) -> None:
        super().__init__()
        self.fused = fused
        self.W = nn.Linear(query_size, size, bias=False)
        self.U = nn.Linear(value_size, size, bias=False)
        self.v = nn.Linear(size, 1, bias=False)

    def keys(self, values: Float[Tensor, "b t m"]) -> Float[Tensor, "b t a"]:
        """:math:`U h`."""
        keys: Tensor = self.U(values)
        return keys

    def scores(
        self, query: Float[Tensor, "b q"], keys: Float[Tensor, "b t a"]
    ) -> Float[Tensor, "b t"]:
        """Score every position."""
        f = torch.tanh if self.fused else tanh
        scores: Tensor = self.v(f(self.W(query).unsqueeze(1) + keys))  # b t 1
        return scores.squeeze(2)


class MultiplicativeAttention(_Attention):
    r"""Attention whose scores are products (Luong et al. 2015, "general").

    .. math::
        e_i = s^\top W h_i, \qquad \alpha = \mathrm{softmax}(e), \qquad c = \sum_i \alpha_i h_i

    over the real positions i (https://arxiv.org/abs/1508.04025, equation 8). With :math:`W` the
    identity it is the paper's "dot". :math:`W h_i` is computed once, in :meth:`memory`.

    Args:
        query_size: numbers of :math:`s`.
        value_size: numbers of :math:`h_i`.

    Shapes:
        query ``b q``, memory ``b t m`` → mean ``b m``, weights ``b t``.
    """

    def __init__(self, query_size: int, value_size: int) -> None:
        super().__init__()
        self.W = nn.Linear(value_size, query_size, bias=False)

    def keys(self, values: Float[Tensor, "b t m"]) -> Float[Tensor, "b t q"]:
        """:math:`W h`."""
        keys: Tensor = self.W(values)
        return keys

    def scores(
        self, query: Float[Tensor, "b q"], keys: Float[Tensor, "b t q"]
    ) -> Float[Tensor, "b t"]:
        """Score every position."""
        return torch.bmm(keys, query.unsqueeze(2)).squeeze(2)


ALIGNMENTS = ("additive", "multiplicative")
"""Names of the two kinds, as models take them."""

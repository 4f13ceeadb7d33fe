"""Attention: which positions of a memory matter for a query, judged by their content.

For one query at a time, as in the decoder of a recurrent network (Bahdanau, Luong):
:class:`AdditiveAttention`, :class:`MultiplicativeAttention`. For all positions at once, in several
heads, as in a Transformer (Vaswani): :func:`attention`, :class:`MultiHeadAttention`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations import tanh
from dlnotes.nn.hyperparameters import check_dropout, check_integer

# One query


class AttentionMemory(NamedTuple):
    """What is attended to, prepared once for any number of queries.

    Attributes:
        keys: ``b t a``, what a query is compared with.
        values: ``b t m``, what is averaged; zero at positions that are not real.
        real: ``b t``, True at the positions that count.
    """

    keys: Float[Tensor, "b t a"]
    values: Float[Tensor, "b t m"]
    real: Bool[Tensor, "b t"]


class _SingleQueryAttention(nn.Module):
    """What both kinds share; each defines its keys and how a query is compared with these."""

    def keys(self, values: Float[Tensor, "b t m"]) -> Float[Tensor, "b t a"]:
        """The part of the scores that does not depend on the query."""
        raise NotImplementedError

    def scores(
        self, query: Float[Tensor, "b q"], keys: Float[Tensor, "b t a"]
    ) -> Float[Tensor, "b t"]:
        """Score every position of the memory, real or not."""
        raise NotImplementedError

    def memory(self, values: Float[Tensor, "b t m"], real: Bool[Tensor, "b t"]) -> AttentionMemory:
        """Prepare a memory; whatever is at positions that are not real is ignored."""
        # A weight of 0 does not suppress NaN; a value of 0 does.
        values = values.masked_fill(~real.unsqueeze(2), 0.0)
        return AttentionMemory(self.keys(values), values, real)

    def forward(
        self, query: Float[Tensor, "b q"], memory: AttentionMemory
    ) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b t"]]:
        r"""Attend to a memory.

        Returns:
            The mean :math:`\sum_i \alpha_i h_i` and its weights :math:`\alpha`; both are zero
            where the memory has no real position.
        """
        scores = self.scores(query, memory.keys)  # b t
        # The lowest number rather than -inf, with which softmax would give NaN in an empty row.
        scores = scores.masked_fill(~memory.real, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1).masked_fill(~memory.real, 0.0)  # b t
        mean = torch.bmm(weights.unsqueeze(1), memory.values)  # b 1 m
        return mean.squeeze(1), weights


class AdditiveAttention(_SingleQueryAttention):
    r"""Attention whose scores come from a small network (Bahdanau et al. 2015).

    .. math::
        e_i = v^\top \tanh(W s + U h_i), \qquad \alpha = \mathrm{softmax}(e), \qquad
        c = \sum_i \alpha_i h_i

    over the real positions i (https://arxiv.org/abs/1409.0473, appendix A.1.2).
    :math:`U h_i` is the same for every query and is computed once, in :meth:`memory`.

    Args:
        query_size: Length of :math:`s`.
        value_size: Length of :math:`h_i`.
        size: Number of hidden units, the length of :math:`v`.
        fused: Use torch's tanh instead of ours; the numbers are the same.

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


class MultiplicativeAttention(_SingleQueryAttention):
    r"""Attention whose scores are products (Luong et al. 2015, "general").

    .. math::
        e_i = s^\top W h_i, \qquad \alpha = \mathrm{softmax}(e), \qquad c = \sum_i \alpha_i h_i

    over the real positions i (https://arxiv.org/abs/1508.04025, equation 8). With :math:`W` the
    identity it is the paper's "dot". :math:`W h_i` is computed once, in :meth:`memory`.

    Args:
        query_size: Length of :math:`s`.
        value_size: Length of :math:`h_i`.

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
"""Names of the two scores, as models take them."""


# All positions at once


def attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    mask: Bool[Tensor, "#b #h #t #s"] | None = None,
    *,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b h t s"]]:
    r"""Scaled dot-product attention, written out.

    .. math:: A = \mathrm{softmax}\bigl(Q K^\top / \sqrt d\bigr), \qquad Y = A V

    with :math:`-\infty` in place of the scores of the keys that a query may not see. A query that
    may see none has weights of zero, and so :math:`y = 0`.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1.

    Args:
        q: Queries.
        k: Keys; must be finite even where masked, because the gradient multiplies them by 0.
        v: Values; must be finite even where masked, because the sum multiplies them by 0.
        mask: True where the query may see the key; broadcasts to ``b h t s``.
        dropout: Share of the weights dropped.

    Returns:
        :math:`Y` and :math:`A` (before dropout).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # b h t s
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        sighted = mask.any(dim=-1, keepdim=True)
        weights = scores.masked_fill(~mask & sighted, -torch.inf).softmax(dim=-1)
        weights = weights.masked_fill(~sighted, 0.0)
    return F.dropout(weights, dropout) @ v, weights


def fused_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    mask: Bool[Tensor, "#b #h #t #s"] | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "b h t d"]:
    """:func:`attention` on torch's kernel, which need not hold the weights in memory.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: See :func:`attention`; None if ``causal``.
        causal: Query i sees the keys 0 to i. The kernel then leaves the others out.
        dropout: Share of the weights dropped.

    Returns:
        :math:`Y`.
    """
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    sighted = mask.any(dim=-1, keepdim=True)
    # Without a key in sight the kernels of torch before 2.5 divide by zero.
    y = F.scaled_dot_product_attention(q, k, v, mask | ~sighted, dropout_p=dropout)
    return y.masked_fill(~sighted, 0.0)


class MultiHeadAttention(nn.Module):
    r"""Several attentions side by side, each on its own projections.

    .. math::
        H_j = \mathrm{attention}(X W^Q_j,\; M W^K_j,\; M W^V_j), \qquad
        Y = [H_1; \dots; H_h]\,W^O

    with a bias in each projection, and :math:`M = X` in self-attention.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2. Equal to
    ``torch.nn.MultiheadAttention``, whose ``state_dict`` it loads. Differs from the paper, as that
    does: the projections have biases, and dropout also applies to the weights. The projections are
    initialised Glorot-uniform, the biases with zeros.

    Args:
        embedding_dim: Length of the vector at each position.
        num_heads: Number of heads, among which the vector is divided.
        dropout: Share of the weights dropped in training.
        fused: Compute with :func:`fused_attention` where the weights are not asked for; otherwise
            with :func:`attention`.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self, embedding_dim: int, num_heads: int, *, dropout: float = 0.0, fused: bool = True
    ) -> None:
        super().__init__()
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("num_heads", num_heads, 1)
        if embedding_dim % num_heads:
            raise ValueError(
                f"num_heads is {num_heads!r}; allowed: a divisor of embedding_dim {embedding_dim!r}"
            )
        check_dropout("dropout", dropout)
        self.num_heads = num_heads
        self.dropout = dropout
        self.fused = fused
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embedding_dim, embedding_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embedding_dim))
        self.out_proj = nn.Linear(embedding_dim, embedding_dim)
        for w in (*self.in_proj_weight.chunk(3), self.out_proj.weight):
            nn.init.xavier_uniform_(w)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        memory: Float[Tensor, "b s e"] | None = None,
        *,
        real: Bool[Tensor, "b s"] | None = None,
        causal: bool = False,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b h t s"] | None]:
        """Attend from the positions of ``x`` to those of ``memory``.

        Args:
            x: Where the queries come from.
            memory: Where the keys and values come from; None for ``x`` itself.
            real: Positions of ``memory`` that may be seen. Whatever is at the others, even NaN, has
                no effect.
            causal: The last position of ``x`` sees all of ``memory``, the one before it all but
                the last, and so on.
            return_weights: Whether to also return the weights of every head (before dropout).

        Returns:
            Y and the weights or None.
        """
        if memory is None:
            q, k, v = self.project(x, real)
        else:
            q = self.queries(x)
            k, v = self.keys_values(memory, real)
        return self.attend(q, k, v, real=real, causal=causal, return_weights=return_weights)

    def project(
        self, x: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of ``x``, ``b h t d`` each, in one multiplication."""
        q, k, v = self._heads(F.linear(_hide(x, real), self.in_proj_weight, self.in_proj_bias))
        return q, k, v

    def queries(self, x: Float[Tensor, "b t e"]) -> Float[Tensor, "b h t d"]:
        """Queries of ``x``."""
        e = x.shape[2]
        return self._heads(F.linear(x, self.in_proj_weight[:e], self.in_proj_bias[:e]))[0]

    def keys_values(
        self, memory: Float[Tensor, "b s e"], real: Bool[Tensor, "b s"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of ``memory``, ``b h s d`` each."""
        e = memory.shape[2]
        weight, bias = self.in_proj_weight[e:], self.in_proj_bias[e:]
        k, v = self._heads(F.linear(_hide(memory, real), weight, bias))
        return k, v

    def attend(
        self,
        q: Float[Tensor, "b h t d"],
        k: Float[Tensor, "b h s d"],
        v: Float[Tensor, "b h s d"],
        *,
        real: Bool[Tensor, "b s"] | None = None,
        causal: bool = False,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b h t s"] | None]:
        """Attention over projected positions, and the output projection; see :meth:`forward`."""
        dropout = self.dropout if self.training else 0.0
        t, s = q.shape[2], k.shape[2]
        weights: Tensor | None = None
        if self.fused and not return_weights:
            by_kernel = causal and real is None and t == s
            mask = None if by_kernel else _mask(real, causal, t, s, q.device)
            y = fused_attention(q, k, v, mask, causal=by_kernel, dropout=dropout)
        else:
            mask = _mask(real, causal, t, s, q.device)
            y, weights = attention(q, k, v, mask, dropout=dropout)
        y = self.out_proj(y.transpose(1, 2).flatten(2))  # b t e
        return y, weights if return_weights else None

    def _heads(self, x: Float[Tensor, "b t n*e"]) -> tuple[Tensor, ...]:
        """Cut into n projections of ``b h t d``."""
        e = self.out_proj.in_features
        # One split, whose gradient is a concatenation; with slices it would be a sum with zeros.
        return tuple(
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in x.split(e, dim=2)
        )


def _hide(x: Float[Tensor, "b s e"], real: Bool[Tensor, "b s"] | None) -> Float[Tensor, "b s e"]:
    """Zeros in place of what may not be seen: a weight of 0 does not stop NaN."""
    return x if real is None else x.masked_fill(~real.unsqueeze(2), 0.0)


def _mask(
    real: Bool[Tensor, "b s"] | None, causal: bool, t: int, s: int, device: torch.device
) -> Bool[Tensor, "#b #h #t #s"] | None:
    """Which query may see which key, ``b|1 1 t|1 s``; None for all."""
    mask = None if real is None else real[:, None, None, :]
    if not causal or t == 1:
        return mask
    past = torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)[None, None]
    return past if mask is None else mask & past

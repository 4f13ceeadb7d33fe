"""RCNN: each word with the contexts to its left and right, and max over time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dlnotes.activations import tanh
from dlnotes.nn import CELLS, PAD, WordVectors, masked_max, widen
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)
from dlnotes.nn.recurrence import reversal, written_out


class RCNN(nn.Module):
    r"""Recurrent convolutional network (Lai et al. 2015, https://doi.org/10.1609/aaai.v29i1.9513).

    .. math::
        c_l(w_i) &= f(W^{(l)} c_l(w_{i-1}) + W^{(sl)} e(w_{i-1})) \\
        c_r(w_i) &= f(W^{(r)} c_r(w_{i+1}) + W^{(sr)} e(w_{i+1})) \\
        x_i &= [c_l(w_i); e(w_i); c_r(w_i)] \\
        y^{(2)}_i &= \tanh(W^{(2)} x_i + b^{(2)}), \qquad
        y^{(3)} = \max_i y^{(2)}_i, \qquad s = W^{(4)} y^{(3)} + b^{(4)}

    over the real tokens only, :math:`f = \tanh`. A word's contexts are those before it has been
    read: what its neighbours see of the text beyond it. :math:`c_l` of a document's first word and
    :math:`c_r` of its last are two trained vectors, the same for all documents.

    Differs from the paper: it leaves :math:`f` open; the contexts may come from an LSTM or a GRU
    (with biases; an LSTM's memory starts at zero); word vectors start at random; dropout.

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length of a word vector.
        context_size: Length of a context, each side.
        hidden_size: Length of the latent vector :math:`y^{(2)}`.
        cell: ``simple`` (the paper's), ``lstm`` or ``gru``.
        dropout: Share of the word vectors and of :math:`y^{(3)}` dropped in training.
        sparse: Give the gradient of the word vectors as a sparse tensor.
        fused: Use torch's recurrent kernel; False runs the written-out steps.

    Shapes:
        tokens ``b t`` → scores ``b c``. An empty document has a :math:`y^{(3)}` of
        :math:`\tanh b^{(2)}`.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 50,
        context_size: int = 50,
        hidden_size: int = 100,
        cell: str = "simple",
        dropout: float = 0.5,
        sparse: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("context_size", context_size, 1)
        check_integer("hidden_size", hidden_size, 1)
        check_choice("cell", cell, CELLS)
        check_dropout("dropout", dropout)
        self.fused = fused
        self.vectors = WordVectors(vocabulary_size, embedding_dim, scale=0.25, sparse=sparse)
        bias = cell != "simple"
        self.rightward, self.leftward = (
            CELLS[cell](embedding_dim, context_size, bias=bias, batch_first=True) for _ in range(2)
        )
        self.first = nn.Parameter(torch.zeros(context_size))
        self.last = nn.Parameter(torch.zeros(context_size))
        self.hidden = nn.Linear(2 * context_size + embedding_dim, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        tokens = widen(tokens, 1)
        real = tokens != PAD  # b t
        e = self.dropout(self.vectors(tokens))  # b t e
        left, right = self.contexts(e, real)  # b t l each
        x = torch.cat([left, e, right], dim=2)
        # tanh and adding b keep the order of numbers, so the maximum may come first.
        y = tanh(masked_max(x @ self.hidden.weight.T, real) + self.hidden.bias)  # b h
        scores: Tensor = self.output(self.dropout(y))  # b c
        return scores

    def contexts(
        self, e: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t l"], Float[Tensor, "b t l"]]:
        """Left and right context of each word; at padding they mean nothing."""
        # Reading from right to left is reading the reversed document from left to right.
        order = reversal(real).unsqueeze(2)  # b t 1
        left = self._states_before(self.rightward, e, self.first)  # b t l
        right = self._states_before(self.leftward, e.gather(1, order.expand_as(e)), self.last)
        return left, right.gather(1, order.expand_as(right))

    def _states_before(self, cell: Any, e: Tensor, start: Tensor) -> Float[Tensor, "b t l"]:
        """State of the recurrence before it reads each position."""
        h = start.expand(e.shape[0], -1)  # b l
        # On a CPU a loop over the positions with W x hoisted would take 0.7 to 0.9 times as long as
        # torch's simple kernel; on a GPU it would launch kernels for every position.
        if not self.fused:
            states = written_out(cell, e, h)  # b t l
        elif isinstance(cell, nn.LSTM):
            h0 = h.unsqueeze(0).contiguous()  # 1 b l
            states = cell(e, (h0, torch.zeros_like(h0)))[0]
        else:
            states = cell(e, h.unsqueeze(0).contiguous())[0]
        return torch.cat([h.unsqueeze(1), states[:, :-1]], dim=1)

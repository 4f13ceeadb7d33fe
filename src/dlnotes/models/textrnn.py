"""TextRNN: a bidirectional recurrence and pooling over its states."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from dlnotes.nn import (
    CELLS,
    PAD,
    Bidirectional,
    WordVectors,
    last_states,
    masked_max,
    masked_mean,
    widen,
)
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)

POOLING = {"max": masked_max, "mean": masked_mean, "last": last_states}


class TextRNN(nn.Module):
    r"""Recurrent network for documents (Liu et al. 2016, https://arxiv.org/abs/1605.05101).

    .. math::
        h_1 \dots h_n = \mathrm{BiRNN}(x_1 \dots x_n), \qquad s = W\,\mathrm{pool}(h) + b

    over the real tokens only, with a simple recurrence, LSTM or GRU (see
    :class:`~dlnotes.nn.Bidirectional`). The pooling is one of

    - ``max``: :math:`\max_i h_i`, number by number (Conneau et al. 2017,
      https://arxiv.org/abs/1705.02364), the default;
    - ``mean``: :math:`\frac1n \sum_i h_i`;
    - ``last``: :math:`[\overrightarrow h_n; \overleftarrow h_1]`, where each direction ends.

    Differs from the paper: it reads one way, and only its last state is used.

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length of a word vector.
        hidden_size: Length of a state, each direction.
        cell: ``simple``, ``lstm`` or ``gru``.
        num_layers: Recurrent layers.
        pooling: ``max``, ``mean`` or ``last``.
        dropout: Share dropped in training of word vectors, between layers, of the pooled state.
        sparse: Give the gradient of the word vectors as a sparse tensor.
        fused: Use torch's recurrent kernel; False runs the written-out steps.

    Shapes:
        tokens ``b t`` → scores ``b c``. An empty document has a pooled state of zeros.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 300,
        hidden_size: int = 128,
        cell: str = "lstm",
        num_layers: int = 1,
        pooling: str = "max",
        dropout: float = 0.5,
        sparse: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("hidden_size", hidden_size, 1)
        check_integer("num_layers", num_layers, 1)
        check_choice("cell", cell, CELLS)
        check_choice("pooling", pooling, POOLING)
        check_dropout("dropout", dropout)
        self.pooling = pooling
        self.vectors = WordVectors(vocabulary_size, embedding_dim, scale=0.25, sparse=sparse)
        self.recurrence = Bidirectional(
            embedding_dim,
            hidden_size,
            cell=cell,
            num_layers=num_layers,
            dropout=dropout,
            fused=fused,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        tokens = widen(tokens, 1)
        real = tokens != PAD  # b t
        x = self.dropout(self.vectors(tokens))  # b t e
        h = self.recurrence(x, real)  # b t 2h
        scores: Tensor = self.output(self.dropout(POOLING[self.pooling](h, real)))  # b c
        return scores

"""TextCNN: convolutions of several widths and max over time."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.nn import PAD, WordVectors, masked_max, widen
from dlnotes.nn.hyperparameters import check_classifier, check_dropout, check_integer


class TextCNN(nn.Module):
    r"""Convolutional network for sentences (Kim 2014, https://arxiv.org/abs/1408.5882).

    .. math::
        c_i = \mathrm{ReLU}(w \cdot x_{i:i+h-1} + b), \qquad \hat c = \max_i c_i, \qquad
        s = W\,(\hat c_1 \dots \hat c_m \circ r) + b

    with :math:`x` the word vectors, ``maps`` filters :math:`w` of each width :math:`h`, :math:`r`
    the dropout mask, and every row of :math:`W` kept at :math:`\lVert W_k \rVert_2 \le s` by
    :meth:`constrain_`. The maximum is over the windows that lie inside the document; one shorter
    than the filter has a single window, filled up with zero vectors.

    This is CNN-rand: word vectors start at U(−0.25, 0.25) as in the author's code and are trained.
    Differs from the paper: windows that reach over the ends of the document do not count (the
    author pads all documents to the longest, and h − 1 zeros before); torch's initialisation of
    the filters and the output layer; inverted dropout, so that nothing is rescaled at test time.

    Args:
        vocabulary_size: number of token ids, padding and the unknown word included.
        num_classes: number of scores.
        embedding_dim: length of a word vector.
        widths: filter widths, in words.
        maps: filters of each width.
        dropout: share of the pooled features dropped in training.
        max_norm: largest norm of a row of the output weights; 0 for no limit.
        sparse: give the gradient of the word vectors as a sparse tensor.

    Shapes:
        tokens ``b t`` → scores ``b c``.

    Raises:
        ValueError: a hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 300,
        widths: tuple[int, ...] = (3, 4, 5),
        maps: int = 100,
        dropout: float = 0.5,
        max_norm: float = 3.0,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("maps", maps, 1)
        if not isinstance(widths, (tuple, list)) or not widths:
            raise ValueError(f"widths is {widths!r}; allowed: one or more integers of at least 1")
        for width in widths:
            check_integer("widths", width, 1)
        check_dropout("dropout", dropout)
        if not max_norm >= 0:
            raise ValueError(f"max_norm is {max_norm!r}; allowed: above 0, or 0 for no limit")
        self.widths = tuple(widths)
        self.max_norm = max_norm
        self.vectors = WordVectors(vocabulary_size, embedding_dim, scale=0.25, sparse=sparse)
        self.filters = nn.ModuleList(nn.Conv1d(embedding_dim, maps, h) for h in self.widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(maps * len(self.widths), num_classes)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        tokens = widen(tokens, max(self.widths))
        x = self.vectors(tokens).transpose(1, 2)  # b e t
        pooled = []
        for h, convolution in zip(self.widths, self.filters, strict=True):
            inside = tokens[:, h - 1 :] != PAD  # b t-h+1
            inside[:, 0] = True
            c = convolution(x).transpose(1, 2)  # b t-h+1 m
            pooled.append(masked_max(c, inside))
        # ReLU rises, so the maximum may come first, and ReLU then sees one number a filter.
        features = F.relu(torch.cat(pooled, dim=1))  # b m
        scores: Tensor = self.output(self.dropout(features))  # b c
        return scores

    @torch.no_grad()
    def constrain_(self) -> None:
        """Rescale the output rows whose norm is above ``max_norm``; call it after every step."""
        if self.max_norm > 0:
            weight = self.output.weight  # c m
            norm = weight.norm(dim=1, keepdim=True)  # c 1
            weight.mul_((self.max_norm / norm).clamp(max=1.0))

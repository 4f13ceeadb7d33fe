"""HAN: attention over the words of each sentence, then over the sentences."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations import tanh
from dlnotes.nn import PAD, Bidirectional, WordVectors, sentences
from dlnotes.nn.hyperparameters import check_classifier, check_dropout, check_integer
from dlnotes.nn.prepared import prepared
from dlnotes.nn.sentences import Grid, is_data_dependent


class ContextAttention(nn.Module):
    r"""Sum of states, weighted by their likeness to a trained context vector.

    .. math::
        u_i = \tanh(W h_i + b), \qquad
        \alpha_i = \frac{\exp(u_i^\top u)}{\sum_{j\,\text{real}} \exp(u_j^\top u)}, \qquad
        s = \sum_{i\,\text{real}} \alpha_i h_i

    Shapes:
        h ``b t e``, real ``b t`` → s ``b e``, :math:`\alpha` ``b t``; both are zero where nothing
        is real.
    """

    def __init__(self, input_size: int, context_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_size, context_size)
        bound = context_size**-0.5
        self.context = nn.Parameter(torch.empty(context_size).uniform_(-bound, bound))

    def forward(
        self, h: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b t"]]:
        """Weigh the states."""
        score = tanh(self.hidden(h)) @ self.context  # b t
        # A finite number: a row of -inf alone would make softmax divide zero by zero.
        score = score.masked_fill(~real, torch.finfo(score.dtype).min)
        alpha = score.softmax(dim=1).masked_fill(~real, 0.0)  # b t
        return torch.bmm(alpha.unsqueeze(1), h).squeeze(1), alpha


class HANOutput(NamedTuple):
    """A document's vector and the weights that made it."""

    vector: Float[Tensor, "b e"]
    grid: Grid
    word: Float[Tensor, "b s w"]
    sentence: Float[Tensor, "b s"]


class HAN(nn.Module):
    r"""Hierarchical attention network (Yang et al. 2016, https://aclanthology.org/N16-1174).

    .. math::
        h_{it} &= \mathrm{BiGRU}(x_{i1} \dots x_{iT})_t, &
        \alpha_{it} &\propto \exp(\tanh(W_w h_{it} + b_w)^\top u_w), &
        s_i &= \textstyle\sum_t \alpha_{it} h_{it} \\
        h_i &= \mathrm{BiGRU}(s_1 \dots s_L)_i, &
        \alpha_i &\propto \exp(\tanh(W_s h_i + b_s)^\top u_s), &
        v &= \textstyle\sum_i \alpha_i h_i

    and scores :math:`W_c v + b_c`: see :class:`ContextAttention` and
    :class:`~dlnotes.nn.Bidirectional`. Sentences are cut by :func:`~dlnotes.nn.sentences`; without
    marks a document is one sentence.

    On a CPU only the sentences there are cost anything, in groups of similar length: on one thread
    a forward and backward pass over 64 IMDB reviews takes 0.21 times that of torch's modules on a
    grid of 30 sentences of 60 words (0.45 times in one group), and 0.16 times (0.40) with reviews
    of similar length. Another device would have to wait for the lengths, and computes the whole
    grid (see :attr:`data_dependent`).

    Differs from the paper: dropout, and word vectors start at random; there word2vec learns them
    from the training documents first (``scripts/train.py --vectors word2vec``).

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length of a word vector.
        hidden_size: Length of a state, each direction, of words and of sentences.
        context_size: Length of the context vectors :math:`u_w` and :math:`u_s`.
        max_sentences: Sentences of a document that are read.
        max_words: Words of a sentence that are read.
        dropout: Share of the word vectors and of :math:`v` dropped in training.
        sparse: Give the gradient of the word vectors as a sparse tensor.
        fused: Use torch's recurrent kernel; False runs the written-out steps.

    Shapes:
        tokens ``b t`` → scores ``b c``. An empty document has a :math:`v` of zeros.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    reads_sentences: ClassVar[bool] = True
    data_dependent: bool | None = None
    """Whether shapes may depend on the tokens: see :func:`~dlnotes.nn.sentences.is_data_dependent`.

    Not a hyper-parameter, for it changes no number by more than rounding: set it to False on a
    model that is to be traced or exported.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 200,
        hidden_size: int = 50,
        context_size: int = 100,
        max_sentences: int = 30,
        max_words: int = 60,
        dropout: float = 0.5,
        sparse: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("hidden_size", hidden_size, 1)
        check_integer("context_size", context_size, 1)
        check_integer("max_sentences", max_sentences, 1)
        check_integer("max_words", max_words, 1)
        check_dropout("dropout", dropout)
        self.max_sentences, self.max_words = max_sentences, max_words
        self.vectors = WordVectors(vocabulary_size, embedding_dim, scale=0.25, sparse=sparse)
        self.words = Bidirectional(embedding_dim, hidden_size, cell="gru", fused=fused)
        self.word_attention = ContextAttention(2 * hidden_size, context_size)
        self.sentences = Bidirectional(2 * hidden_size, hidden_size, cell="gru", fused=fused)
        self.sentence_attention = ContextAttention(2 * hidden_size, context_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        scores: Tensor = self.output(self.dropout(self._read(tokens).vector))  # b c
        return scores

    @torch.no_grad()
    def explain(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b t"]]:
        r"""Weight of each token in its sentence, and of its sentence in the document.

        To be called in evaluation mode, like any reading of a trained model.

        Returns:
            ``word`` (:math:`\alpha_{it}`: its sum over a sentence is 1) and ``sentence``
            (:math:`\alpha_i`, the same at each token of a sentence); 0 at marks and padding and
            at what is beyond ``max_words`` and ``max_sentences``.
        """
        _, grid, word, sentence = self._read(tokens)
        weights = {"word": word, "sentence": sentence.unsqueeze(2).expand_as(word)}
        # Of a document without a column there was one of padding.
        return {k: grid.at_tokens(w)[:, : tokens.shape[1]] for k, w in weights.items()}

    def prepare(self, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, ...]:
        """The grid of the documents' sentences."""
        return sentences(
            tokens,
            max_sentences=self.max_sentences,
            max_words=self.max_words,
            data_dependent=self.data_dependent,
        )

    def _read(self, tokens: Int[Tensor, "b t"]) -> HANOutput:
        grid = Grid(*prepared(self, tokens))
        b, s, w = grid.words.shape
        s_i, word = self._read_sentences(grid.words.flatten(0, 1))  # bs e, bs w
        real = grid.words[:, :, 0] != PAD  # b s
        v, sentence = self.sentence_attention(self.sentences(s_i.view(b, s, -1), real), real)
        return HANOutput(v, grid, word.view(b, s, w), sentence)

    def _read_sentences(
        self, words: Int[Tensor, "n w"]
    ) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n w"]]:
        """Vector of each sentence and weights of its words."""
        groups = group_by_length(words, data_dependent=self.data_dependent)
        rows = [words[i, :w] for i, w in groups]
        # One look-up for all groups, for its gradient is as large as the vocabulary.
        x = self.dropout(self.vectors(torch.cat([row.flatten() for row in rows])))
        vectors, weights = [], []
        for row, x_row in zip(rows, x.split([row.numel() for row in rows]), strict=True):
            real = row != PAD
            h = self.words(x_row.view(*row.shape, -1), real)
            vector, alpha = self.word_attention(h, real)
            vectors.append(vector)
            weights.append(F.pad(alpha, (0, words.shape[1] - row.shape[1])))
        index = torch.cat([i for i, _ in groups])
        s, alpha = torch.cat(vectors), torch.cat(weights)
        return (
            s.new_zeros(words.shape[0], s.shape[1]).index_copy(0, index, s),
            alpha.new_zeros(words.shape).index_copy(0, index, alpha),
        )


GROUPS = 6
"""Fewer read more padding, more read groups too small to be fast."""


def group_by_length(
    words: Int[Tensor, "n w"], *, data_dependent: bool | None = None
) -> list[tuple[Int[Tensor, " g"], int]]:
    """Groups of sentences of similar length: their rows, and the width that holds them.

    Rows without words are in no group.

    Args:
        words: The sentences.
        data_dependent: With False the lengths are not read, and all rows are one group. None: see
            :func:`~dlnotes.nn.sentences.is_data_dependent`.
    """
    if not is_data_dependent(words, data_dependent):
        return [(torch.arange(words.shape[0], device=words.device), words.shape[1])]
    n = (words != PAD).sum(dim=1)
    n, order = n.sort()
    # One row at least: torch's kernels refuse to read nothing.
    empty = min(int((n == 0).sum()), len(n) - 1)
    groups = order[empty:].chunk(GROUPS)
    return [(i, max(1, int(m[-1]))) for i, m in zip(groups, n[empty:].chunk(GROUPS), strict=True)]

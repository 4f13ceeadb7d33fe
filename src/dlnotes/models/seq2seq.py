"""Seq2seq with attention: read a document, then write another sequence word by word."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations import Maxout, tanh
from dlnotes.deprecation import keep_old_names
from dlnotes.nn import (
    ALIGNMENTS,
    PAD,
    UNK,
    AdditiveAttention,
    AttentionMemory,
    Bidirectional,
    MultiplicativeAttention,
    WordVectors,
    gru_update,
    widen,
)
from dlnotes.nn.decoding import BEGIN, END, DecoderState, beam_search
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)
from dlnotes.nn.vectors import as_ids

NUM_RESERVED = 4
"""How many ids of a target come before its words: PAD, UNK, BEGIN and END."""


class Seq2seqTranslator(nn.Module):
    r"""Recurrent encoder and decoder with attention (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473).

    .. math::
        h_1 \dots h_n &= \mathrm{BiGRU}(x_1 \dots x_n), \qquad
        s_0 = \tanh(W_s \overleftarrow h_1 + b_s) \\
        c_i &= \mathrm{attention}(s_{i-1}, h), \qquad
        s_i = \mathrm{GRU}([y_{i-1}; c_i], s_{i-1}) \\
        p(y_i) &= \mathrm{softmax}(W_o\, \mathrm{maxout}(U_o [s_i; c_i; y_{i-1}] + d) + b_o)

    where y are the vectors of the target's words (see :class:`~dlnotes.nn.AdditiveAttention`,
    :class:`~dlnotes.nn.MultiplicativeAttention` and :func:`~dlnotes.nn.gru_step`). What does
    not depend on the previous state is computed for all positions at once: the attention's keys,
    the gates' share of y, the output. On one CPU thread a training step (64 pairs of 14 words, 256
    numbers per state, 5,000 words in all) takes 0.66 times as long as a loop that computes all of
    it at each position.

    Differs from the paper: the GRU is torch's, whose reset gate acts after the matrix product; the
    output reads :math:`s_i` and not :math:`s_{i-1}`; weights start as torch's do; dropout.

    Args:
        source_vocabulary_size: Number of token ids of the source.
        target_vocabulary_size: Number of token ids of the target: padding 0, the unknown word 1,
            :data:`~dlnotes.nn.decoding.BEGIN` 2, :data:`~dlnotes.nn.decoding.END` 3, words.
        embedding_dim: Length of a word vector.
        hidden_size: Length of a state: of the decoder and of each direction of the encoder.
        maxout_size: Numbers between the states and the output, each the larger of two.
        attention: ``additive`` (Bahdanau), with ``hidden_size`` hidden units, or
            ``multiplicative`` (Luong et al. 2015, https://arxiv.org/abs/1508.04025).
        dropout: Share dropped in training of word vectors and of what the output reads.
        sparse: Give the gradients of the word vectors as sparse tensors.
        fused: Use torch's kernels; False runs the written-out steps and our activations.

    Shapes:
        source ``b t``, target ``b u`` → logits ``b u v``. The target begins with BEGIN; the
        logits at i predict its token i + 1. Over an empty source the context is zero.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        embedding_dim: int = 620,
        hidden_size: int = 1000,
        maxout_size: int = 500,
        attention: str = "additive",
        dropout: float = 0.5,
        sparse: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        check_integer("source_vocabulary_size", source_vocabulary_size, 2)
        check_integer("target_vocabulary_size", target_vocabulary_size, NUM_RESERVED + 1)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("hidden_size", hidden_size, 1)
        check_integer("maxout_size", maxout_size, 1)
        check_choice("attention", attention, ALIGNMENTS)
        check_dropout("dropout", dropout)
        e, n = embedding_dim, hidden_size
        self.fused = fused
        self.vectors = WordVectors(source_vocabulary_size, e, scale=0.1, sparse=sparse)
        self.target_vectors = WordVectors(target_vocabulary_size, e, scale=0.1, sparse=sparse)
        self.encoder = Bidirectional(e, n, cell="gru", fused=fused)
        self.initial = nn.Linear(n, n)
        self.alignment: AdditiveAttention | MultiplicativeAttention = (
            AdditiveAttention(n, 2 * n, n, fused=fused)
            if attention == "additive"
            else MultiplicativeAttention(n, 2 * n)
        )
        # Holds the weights; its call would multiply the part of y again at every position.
        self.decoder = nn.GRUCell(e + 2 * n, n)
        self.maxout = Maxout(n + 2 * n + e, maxout_size)
        self.output = nn.Linear(maxout_size, target_vocabulary_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, source: Int[Tensor, "b t"], target: Int[Tensor, "b u"]
    ) -> Float[Tensor, "b u v"]:
        """Score the next word at every position of the target."""
        return self._decode(target, *self._read(source))[0]

    def attention(
        self, source: Int[Tensor, "b t"], target: Int[Tensor, "b u"]
    ) -> Float[Tensor, "b u t"]:
        """Weights on the source's tokens when the word after each of the target's is written."""
        return self._decode(target, *self._read(source))[1][:, :, : source.shape[1]]

    def start(self, source: Int[Tensor, "b t"]) -> DecoderState:
        """Read the sources: the state before the first word."""
        s, memory = self._read(source)
        return s, *memory

    def advance(
        self, last: Int[Tensor, " b"], state: DecoderState
    ) -> tuple[Float[Tensor, "b v"], DecoderState]:
        """From the last word, BEGIN at first, score the next one."""
        s, *memory = state
        logits, _, s = self._decode(last.unsqueeze(1), s, AttentionMemory(*memory))
        return logits.squeeze(1), (s, *memory)

    def _read(self, source: Int[Tensor, "b t"]) -> tuple[Float[Tensor, "b h"], AttentionMemory]:
        source = widen(source, 1)
        real = source != PAD  # b t
        h = self.encoder(self.dropout(self.vectors(source)), real)  # b t 2h
        leftward = h[:, 0, h.shape[2] // 2 :]  # b h, where that direction ends
        s = (torch.tanh if self.fused else tanh)(self.initial(leftward))
        return s, self.alignment.memory(h, real)

    def _decode(
        self, target: Int[Tensor, "b u"], s: Float[Tensor, "b h"], memory: AttentionMemory
    ) -> tuple[Float[Tensor, "b u v"], Float[Tensor, "b u t"], Float[Tensor, "b h"]]:
        """Logits and weights at every position, and the last state."""
        y = self.dropout(self.target_vectors(target))  # b u e
        cell = self.decoder
        W_y, W_c = cell.weight_ih.split([y.shape[2], memory.values.shape[2]], dim=1)
        states, contexts, weights = [], [], []
        for gates in F.linear(y, W_y, cell.bias_ih).unbind(1):  # b 3h
            context, weight = self.alignment(s, memory)  # b 2h, b t
            gates = gates + F.linear(context, W_c)
            s = gru_update(gates, F.linear(s, cell.weight_hh, cell.bias_hh), s, fused=self.fused)
            states.append(s)
            contexts.append(context)
            weights.append(weight)
        read = torch.cat([torch.stack(states, 1), torch.stack(contexts, 1), y], dim=2)
        logits: Tensor = self.output(self.maxout(self.dropout(read)))  # b u v
        return logits, torch.stack(weights, 1), s


class Seq2seq(Seq2seqTranslator):
    r"""Classifier: the label, or the labels one after the other, are what the decoder writes.

    The target's words are the classes: class c is the token ``4 + c``. A document's score for a
    class is the logit of that token at the first position (see :class:`Seq2seqTranslator`).

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: See :class:`Seq2seqTranslator`, as all that follows.
        hidden_size: Length of a state.
        maxout_size: Numbers between the states and the output.
        attention: ``additive`` or ``multiplicative``.
        dropout: Share dropped in training.
        sparse: Give the gradients of the word vectors as sparse tensors.
        fused: Use torch's kernels.

    Shapes:
        tokens ``b t`` → scores ``b c``; with label tokens ``b u`` that begin with BEGIN → logits
        ``b u c+4``, to be trained on several labels per document.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 620,
        hidden_size: int = 1000,
        maxout_size: int = 500,
        attention: str = "additive",
        dropout: float = 0.5,
        sparse: bool = False,
        fused: bool = True,
    ) -> None:
        check_classifier(vocabulary_size, num_classes)
        super().__init__(
            source_vocabulary_size=vocabulary_size,
            target_vocabulary_size=NUM_RESERVED + num_classes,
            embedding_dim=embedding_dim,
            hidden_size=hidden_size,
            maxout_size=maxout_size,
            attention=attention,
            dropout=dropout,
            sparse=sparse,
            fused=fused,
        )

    def forward(
        self, source: Int[Tensor, "b t"], target: Int[Tensor, "b u"] | None = None
    ) -> Float[Tensor, "b *u c"]:
        """Score the classes or, given a target, the next label at each of its positions."""
        if target is not None:
            return super().forward(source, target)
        return super().forward(source, _begin(source))[:, 0, NUM_RESERVED:]

    def advance(
        self, last: Int[Tensor, " b"], state: DecoderState
    ) -> tuple[Float[Tensor, "b v"], DecoderState]:
        """From the last label, BEGIN at first, score the next one; a label is never unknown."""
        logits, state = super().advance(last, state)
        unknown = torch.arange(logits.shape[1], device=logits.device) == UNK
        return logits.masked_fill(unknown, -torch.inf), state

    @torch.no_grad()
    def labels(
        self, tokens: Int[Tensor, "b t"], max_labels: int, *, beam: int = 1
    ) -> Int[Tensor, "b u"]:
        """The labels of documents, in the order in which the training data had them.

        Put the model in evaluation mode first.

        Args:
            tokens: The documents.
            max_labels: Labels at most.
            beam: Hypotheses kept in the search; 1 is greedy.

        Returns:
            Class numbers, -1 after the last; u ≤ ``max_labels``.

        Raises:
            ValueError: ``max_labels`` or ``beam`` is below 1.
        """
        check_integer("max_labels", max_labels, 1)
        # One position more for END. A sequence that then has not ended is cut.
        words, _ = beam_search(self, tokens, beam=beam, max_length=max_labels + 1)
        return torch.where(words > END, words - NUM_RESERVED, -1)[:, :max_labels]

    @torch.no_grad()
    def explain(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b t"]]:
        """Weights on the tokens when the first label is written.

        Put the model in evaluation mode first.

        Returns:
            "label"; non-negative, 0 at padding, with a sum of 1 a document (0 if it is empty).
        """
        return {"label": self.attention(tokens, _begin(tokens))[:, 0]}


def _begin(tokens: Int[Tensor, "b t"]) -> Int[Tensor, "b 1"]:
    return as_ids(tokens).new_full((tokens.shape[0], 1), BEGIN)


keep_old_names(__name__)

"""EntityNetwork: a memory of slots, each of which follows one entity through a story."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dlnotes.activations import PReLU, sigmoid
from dlnotes.nn import PAD, WordVectors, sentences, split_question
from dlnotes.nn.hyperparameters import check_classifier, check_dropout, check_integer
from dlnotes.nn.sentences import Grid

SHORTEST = 1e-12
"""Length at which a slot is no longer divided by its own: a slot of zeros stays zeros."""


class EntityNetwork(nn.Module):
    r"""Recurrent entity network (Henaff et al. 2017, https://arxiv.org/abs/1612.03969).

    A sentence, and the question, is the sum of its word vectors :math:`e_i`, each multiplied by a
    learned mask of its position: :math:`s_t = \sum_i f_i \circ e_i`, :math:`q = \sum_i f'_i \circ
    e_i`. Every sentence changes all slots :math:`h_j`, as far as its gate for the slot is open:

    .. math::
        g_j &= \sigma(s_t \cdot h_j + s_t \cdot w_j) \\
        \tilde h_j &= \phi(U h_j + V w_j + W s_t) \\
        h_j &\leftarrow \frac{h_j + g_j \tilde h_j}{\lVert h_j + g_j \tilde h_j \rVert}

    from :math:`h_j = w_j`, the slot's key. The answer is read from the last memory:

    .. math::
        p = \mathrm{softmax}_j(q \cdot h_j), \qquad u = \sum_j p_j h_j, \qquad
        y = R\, \phi(q + H u)

    :math:`\phi` is a parametric ReLU whose slopes, one for each of the ``d`` numbers, start at 1
    and are the same in both places. All weights start from :math:`N(0, 0.1^2)`, masks at 1.

    Differs from the paper: :math:`R` scores the classes, not the vocabulary. A document without a
    question is its own question (see :func:`~dlnotes.nn.split_question`).

    Args:
        vocabulary_size: number of token ids, padding and the unknown word included.
        num_classes: number of scores.
        embedding_dim: length of a word vector, a slot and a key.
        slots: number of slots; without meaning where there are ``keys``.
        keys: token ids whose word vectors are the slots' keys; none for keys of their own.
        max_sentences: sentences read; later ones are left out.
        max_words: words read of a sentence and of the question, and number of masks.
        dropout: share dropped in training of the word vectors.
        sparse: give the gradient of the word vectors as a sparse tensor.

    Shapes:
        tokens ``b t``, with :data:`~dlnotes.nn.SENTENCE_END` and :data:`~dlnotes.nn.QUESTION`
        → scores ``b c``.

    Raises:
        ValueError: a hyper-parameter is outside its range.
    """

    reads_sentences: ClassVar[bool] = True

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 100,
        slots: int = 20,
        keys: tuple[int, ...] = (),
        max_sentences: int = 256,
        max_words: int = 64,
        dropout: float = 0.0,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("slots", slots, 1)
        check_integer("max_sentences", max_sentences, 1)
        check_integer("max_words", max_words, 1)
        check_dropout("dropout", dropout)
        if any(isinstance(k, bool) or not PAD < k < vocabulary_size for k in keys):
            raise ValueError(
                f"keys is {keys!r}; allowed: token ids above {PAD} and below {vocabulary_size}"
            )
        d = embedding_dim
        self.max_sentences, self.max_words = max_sentences, max_words
        self.vectors = WordVectors(vocabulary_size, d, scale=1.0, sparse=sparse)
        self.dropout = nn.Dropout(dropout)
        self.masks = nn.Parameter(torch.ones(max_words, d))
        self.question_masks = nn.Parameter(torch.ones(max_words, d))
        if keys:
            self.register_buffer("key_tokens", torch.tensor(keys), persistent=False)
        else:
            self.keys = nn.Parameter(torch.empty(slots, d))
        self.U = nn.Parameter(torch.empty(d, d))
        self.V = nn.Parameter(torch.empty(d, d))
        self.W = nn.Parameter(torch.empty(d, d))
        self.H = nn.Parameter(torch.empty(d, d))
        self.phi = PReLU(d, init=1.0)
        self.output = nn.Linear(d, num_classes, bias=False)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if not name.endswith("masks") and not name.startswith("phi"):
                    parameter.normal_(0, 0.1)
            self.vectors.weight[PAD].zero_()

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents: answer the questions."""
        story, question = split_question(tokens, max_words=self.max_words)
        words = self._sentences(story).words  # b s w
        h, _ = self._remember(words)  # b m d
        q = self._encode(question, self.question_masks)  # b d
        p = (h @ q.unsqueeze(2)).softmax(dim=1)  # b m 1
        u = (p * h).sum(dim=1)  # b d
        scores: Tensor = self.output(self.phi(q + u @ self.H.T))  # b c
        return scores

    @torch.no_grad()
    def explain(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b t"]]:
        """How far each sentence opened the gate of each slot, at the sentence's tokens."""
        story, _ = split_question(tokens, max_words=self.max_words)
        grid = self._sentences(story)
        _, gates = self._remember(grid.words)  # b s m
        t = tokens.shape[1]
        return {
            f"slot {j}": grid.at_tokens(gate.unsqueeze(2).expand(grid.words.shape))[:, :t]
            for j, gate in enumerate(gates.unbind(2), 1)
        }

    def _sentences(self, story: Int[Tensor, "b t"]) -> Grid:
        return sentences(story, max_sentences=self.max_sentences, max_words=self.max_words)

    def _encode(
        self, words: Int[Tensor, "*b w"], masks: Float[Tensor, "w2 d"]
    ) -> Float[Tensor, "*b d"]:
        x = self.dropout(self.vectors(words))  # *b w d
        encoded: Tensor = (x * masks[: words.shape[-1]]).sum(dim=-2)
        return encoded

    def _remember(
        self, words: Int[Tensor, "b s w"]
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b s m"]]:
        """Last memory, and every gate; the gates of a row without words are closed."""
        w = self.vectors(self.key_tokens) if hasattr(self, "key_tokens") else self.keys  # m d
        s = self._encode(words, self.masks)  # b s d
        real = (words != PAD).any(dim=2)  # b s
        # All that does not depend on the memory, for all sentences at once.
        key, candidate, known = s @ w.T, s @ self.W.T, w @ self.V.T  # b s m, b s d, m d
        b, (m, d) = len(s), w.shape
        h = w.expand(b, m, d)
        gates = []
        for t in range(s.shape[1]):
            open_ = real[:, t, None]  # b 1
            gate = sigmoid((h @ s[:, t].unsqueeze(2)).squeeze(2) + key[:, t])  # b m
            gate = gate.masked_fill(~open_, 0.0)
            pre = (candidate[:, t].unsqueeze(1) + known).view(-1, d)  # bm d
            new = self.phi(torch.addmm(pre, h.reshape(-1, d), self.U.T)).view(b, m, d)
            h = h + gate.unsqueeze(2) * new
            # A closed row keeps its memory as it is, at any length.
            length = h.norm(dim=2).masked_fill(~open_, 1.0).clamp(min=SHORTEST)  # b m
            h = h / length.unsqueeze(2)
            gates.append(gate)
        return h, torch.stack(gates, dim=1)

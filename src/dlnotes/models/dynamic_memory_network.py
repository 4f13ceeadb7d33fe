"""Dynamic memory network: facts read several times over, each time with a new question."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations import relu, sigmoid, tanh
from dlnotes.nn import PAD, Bidirectional, WordVectors
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)
from dlnotes.nn.kernels import few_kernels
from dlnotes.nn.prepared import prepared
from dlnotes.nn.sentences import Gates, Grid, cut_story

VARIANTS = ("dmn", "dmn+")


class AttentionGRU(nn.Module):
    r"""GRU over the facts of which each is taken in as far as its weight :math:`g_i` says.

    .. math::
        r &= \sigma(W_r f_i + b_r + U_r h + c_r) \\
        n &= \tanh(W_n f_i + b_n + r \circ (U_n h + c_n)) \\
        h &\leftarrow g_i\, n + (1 - g_i)\, h

    (Xiong et al. 2016, equation 11). With an update gate, :math:`n` is what the whole GRU makes of
    :math:`f_i` and :math:`h` (Kumar et al. 2016, equation 8; see :func:`~dlnotes.nn.gru_step`).

    Args:
        hidden_size: Length of a fact and of a state.
        update_gate: Have one.

    Shapes:
        f ``b s h`` → :meth:`products` ``b s 3h`` (``2h`` without an update gate); these and
        g ``b s`` → last state ``b h``.
    """

    def __init__(self, hidden_size: int, *, update_gate: bool) -> None:
        super().__init__()
        # Whether to use torch's kernels of the activations, with the same numbers; None: see
        # `few_kernels`.
        self.fused: bool | None = None
        self.parts = 3 if update_gate else 2
        n, h = self.parts * hidden_size, hidden_size
        bound = h**-0.5
        self.W = nn.Parameter(torch.empty(n, h).uniform_(-bound, bound))
        self.U = nn.Parameter(torch.empty(n, h).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(n))
        self.c = nn.Parameter(torch.zeros(n))

    def products(self, f: Float[Tensor, "b s h"]) -> Float[Tensor, "b s n"]:
        """What the states do not change: the same in every pass."""
        return F.linear(f, self.W, self.b)

    def forward(
        self, products: Float[Tensor, "b s n"], g: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b h"]:
        """Read the facts."""
        h = products.new_zeros(products.shape[0], products.shape[2] // self.parts)
        for x, weight in zip(products.unbind(1), g.unsqueeze(2).unbind(1), strict=True):
            h = self.step(h, x, weight)
        return h

    def step(
        self, h: Float[Tensor, "b h"], x: Float[Tensor, "b n"], weight: Float[Tensor, "b 1"]
    ) -> Float[Tensor, "b h"]:
        """Read one fact, of which ``x`` are the :meth:`products`."""
        few = few_kernels(h, self.fused)
        f, activate = (torch.sigmoid, torch.tanh) if few else (sigmoid, tanh)
        u = torch.addmm(self.c, h, self.U.T)  # b n
        (xr, *xz, xn), (ur, *uz, un) = x.chunk(self.parts, 1), u.chunk(self.parts, 1)
        n = activate(torch.addcmul(xn, f(xr + ur), un))  # b h
        if xz:
            n = torch.lerp(n, h, f(xz[0] + uz[0]))
        return torch.addcmul(h, weight, n - h)  # with a weight of 0 exactly what it was


class DynamicMemoryNetwork(nn.Module):
    r"""Dynamic memory network (Kumar et al. 2016, https://arxiv.org/abs/1506.07285) and DMN+.

    Sentences become facts :math:`f_i`, the question :math:`q` is the last state of a GRU over its
    words. Every pass weighs the facts by what the memory :math:`m`, at first :math:`q`, and the
    question make of them, and gathers an episode with an :class:`AttentionGRU`:

    .. math::
        a_i = W_2 \tanh(W_1 z_i + b_1) + b_2, \qquad
        e = \mathrm{AttentionGRU}(f_1 \dots f_s;\, g_1 \dots g_s)

    ``dmn+`` (Xiong et al. 2016, https://arxiv.org/abs/1603.01417):

    - A sentence of :math:`M` words is the sum of its word vectors of length :math:`D`, number
      :math:`d` of word :math:`j` times :math:`(1 - j/M) - (d/D)(1 - 2j/M)`; :math:`f_i` is the sum
      of the two states at it of a bidirectional GRU over the sentences.
    - :math:`z = [f \circ q; f \circ m; |f - q|; |f - m|]` and :math:`g = \mathrm{softmax}(a)`.
    - :math:`m \leftarrow \mathrm{relu}(W [m; e; q] + b)`, with other weights in every pass.
    - Scores :math:`W [m; q] + b`.

    ``dmn`` (Kumar et al.):

    - One GRU reads all words of the story; :math:`f_i` is its state at the last of sentence
      :math:`i`.
    - :math:`z = [f; m; q; f \circ q; f \circ m; |f - q|; |f - m|; f^\top W q; f^\top W m]` and
      :math:`g = \sigma(a)`; the attention GRU has an update gate.
    - :math:`m \leftarrow \mathrm{GRU}(e, m)`.
    - Scores :math:`W\,\mathrm{GRU}(q, m) + b`: one step of the answer module, before which there
      is no word.

    Differs from the papers: the classes are scored, not the words of the vocabulary, and the
    weights of the facts are learned from the answers alone (Kumar et al. also show the network
    which facts an answer needs). GRUs have the biases that torch's have. A document without a
    question is its own question (see :func:`~dlnotes.nn.split_question`).

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length of a word vector.
        hidden_size: Length of a fact, of the question and of the memory.
        passes: Passes over the facts, at most 1,000.
        variant: ``dmn`` or ``dmn+``.
        max_sentences: Sentences read; later ones are left out.
        max_words: Words read of a sentence (``dmn+``) and of the question.
        dropout: Share dropped in training of the sentences (``dmn``: of the word vectors) and of
            what the scores are made of.
        vector_scale: Word vectors start at U(−s, s) with this s. The paper's √3 suits stories of a
            few dozen words; where most words are rare, vectors as large as that stay noise, and
            0.1 is better.
        sparse: Give the gradient of the word vectors as a sparse tensor.

    Shapes:
        tokens ``b t``, with :data:`~dlnotes.nn.SENTENCE_END` and :data:`~dlnotes.nn.QUESTION`
        → scores ``b c``.

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
        embedding_dim: int = 80,
        hidden_size: int = 80,
        passes: int = 3,
        variant: str = "dmn+",
        max_sentences: int = 256,
        max_words: int = 64,
        dropout: float = 0.1,
        vector_scale: float = 3**0.5,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("hidden_size", hidden_size, 1)
        check_integer("passes", passes, 1)
        if passes > 1_000:
            raise ValueError(f"passes is {passes!r}; allowed: at most 1,000")
        check_choice("variant", variant, VARIANTS)
        check_integer("max_sentences", max_sentences, 1)
        check_integer("max_words", max_words, 1)
        check_dropout("dropout", dropout)
        if not 0 < vector_scale < float("inf"):
            raise ValueError(f"vector_scale is {vector_scale!r}; allowed: above 0, and finite")
        e, h = embedding_dim, hidden_size
        self.plus = variant == "dmn+"
        self.passes = passes
        self.max_sentences, self.max_words = max_sentences, max_words
        self.vectors = WordVectors(vocabulary_size, e, scale=vector_scale, sparse=sparse)
        self.dropout = nn.Dropout(dropout)
        self.question = nn.GRU(e, h, batch_first=True)
        self.attend = AttentionGRU(h, update_gate=not self.plus)
        if self.plus:
            self.fusion = Bidirectional(e, h, cell="gru")
            self.hidden = nn.Linear(4 * h, h)
            self.update = nn.ModuleList(nn.Linear(3 * h, h) for _ in range(passes))
            self.output = nn.Linear(2 * h, num_classes)
        else:
            self.story = nn.GRU(e, h, batch_first=True)
            self.bilinear = nn.Parameter(torch.empty(h, h).uniform_(-(h**-0.5), h**-0.5))
            self.hidden = nn.Linear(7 * h + 2, h)
            self.remember = nn.GRUCell(h, h)
            self.answer = nn.GRUCell(h, h)
            self.output = nn.Linear(h, num_classes)
        self.weight = nn.Linear(h, 1)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents: answer the questions."""
        story, question, *grid = prepared(self, tokens)
        q = self._question(question)  # b h
        m, _ = self._episodes(story, Grid(*grid), q)  # b h
        answer = torch.cat([m, q], dim=1) if self.plus else self.answer(q, m)
        scores: Tensor = self.output(self.dropout(answer))  # b c
        return scores

    def prepare(self, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, ...]:
        """Story, question, and the grid of the story's sentences."""
        story, question, grid = cut_story(
            tokens,
            max_sentences=self.max_sentences,
            max_words=self.max_words,
            data_dependent=self.data_dependent,
        )
        return story, question, *grid

    def explain(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b t"]]:
        """Weight of each sentence in each pass, at the sentence's tokens."""
        return self.gates(tokens).at_tokens(tokens.shape[1])

    @torch.no_grad()
    def gates(self, tokens: Int[Tensor, "b t"]) -> Gates:
        """Weight of each sentence in each pass.

        To be called in evaluation mode, like any reading of a trained model.
        """
        story, question, *cells = prepared(self, tokens)
        grid = Grid(*cells)
        _, weights = self._episodes(story, grid, self._question(question))  # b s each
        return Gates("episode", grid, torch.stack(weights, dim=2))

    def _question(self, question: Int[Tensor, "b q"]) -> Float[Tensor, "b h"]:
        states: Tensor = self.question(self.vectors(question))[0]  # b q h
        n = (question != PAD).sum(dim=1, keepdim=True)  # b 1
        return states_at(states, n - 1).squeeze(1).masked_fill(n == 0, 0.0)

    def _facts(
        self, story: Int[Tensor, "b t"], grid: Grid, real: Bool[Tensor, "b s"]
    ) -> Float[Tensor, "b s h"]:
        if self.plus:
            x = self.dropout(encode_positions(self.vectors(grid.words), grid.words != PAD))  # b s e
            rightward, leftward = self.fusion(x, real).chunk(2, dim=2)  # b s h each
            both: Tensor = rightward + leftward
            return both
        states: Tensor = self.story(self.dropout(self.vectors(story)))[0]  # b t h
        # Where each sentence ends: the last token that is in its row.
        i = torch.arange(story.shape[1], device=story.device).expand_as(story)
        end = torch.zeros_like(grid.words[:, :, 0]).scatter_reduce(
            1, grid.sentence, torch.where(grid.mask, i, 0), "amax"
        )
        return states_at(states, end).masked_fill(~real.unsqueeze(2), 0.0)

    def _episodes(
        self, story: Int[Tensor, "b t"], grid: Grid, q: Float[Tensor, "b h"]
    ) -> tuple[Float[Tensor, "b h"], list[Float[Tensor, "b s"]]]:
        """The memory after all passes, and the weights of the facts in each."""
        real = (grid.words != PAD).any(dim=2)  # b s
        f = self._facts(story, grid, real)  # b s h
        products = self.attend.products(f)
        of_question = self._likeness(f, q)
        z = torch.cat(of_question if self.plus else [f, *of_question], dim=2)
        # What the question makes of the facts is the same in every pass.
        W_q, W_m = self.hidden.weight.tensor_split([z.shape[2]], dim=1)
        asked = F.linear(z, W_q, self.hidden.bias)  # b s h
        m, weights = q, []
        for k in range(self.passes):
            z = torch.cat(self._likeness(f, m), dim=2)
            a = self.weight(tanh(asked + F.linear(z, W_m))).squeeze(2)  # b s
            if self.plus:
                # A finite number: a row of -inf alone would make softmax divide zero by zero.
                g = a.masked_fill(~real, torch.finfo(a.dtype).min).softmax(dim=1)
            else:
                g = sigmoid(a)
            g = g.masked_fill(~real, 0.0)
            e = self.attend(products, g)  # b h
            if self.plus:
                m = relu(self.update[k](torch.cat([m, e, q], dim=1)))
            else:
                m = self.remember(e, m)
            weights.append(g)
        return m, weights

    def _likeness(
        self, f: Float[Tensor, "b s h"], v: Float[Tensor, "b h"]
    ) -> list[Float[Tensor, "b s n"]]:
        """What the weights see of the facts beside the question or the memory."""
        v = v.unsqueeze(1)  # b 1 h
        alike = [f * v, (f - v).abs()]
        if self.plus:
            return alike
        return [*alike, v.expand_as(f), (f @ self.bilinear * v).sum(dim=2, keepdim=True)]


def states_at(
    states: Float[Tensor, "b t h"], positions: Int[Tensor, "b n"]
) -> Float[Tensor, "b n h"]:
    """States at some positions; one before the first reads the first."""
    index = positions.clamp(min=0).unsqueeze(2).expand(-1, -1, states.shape[2])
    return states.gather(1, index)


def encode_positions(
    x: Float[Tensor, "b s w e"], real: Bool[Tensor, "b s w"]
) -> Float[Tensor, "b s e"]:
    r"""Sum of a sentence's word vectors, weighted by position.

    :math:`\sum_j l_j \circ x_j` with :math:`l_{jd} = (1 - j/M) - (d/D)(1 - 2j/M)` for word
    :math:`j` of :math:`M` and number :math:`d` of :math:`D`, both from 1.
    """
    w, e = x.shape[2:]
    j = torch.arange(1, w + 1, dtype=x.dtype, device=x.device)  # w
    share = j / real.sum(dim=2, keepdim=True).clamp(min=1)  # b s w
    # The weight is linear in d: two sums over the words instead of one weight for every number.
    weights = torch.stack([1 - share, 1 - 2 * share], dim=2)  # b s 2 w
    one, two = (weights.masked_fill(~real.unsqueeze(2), 0.0) @ x).unbind(2)  # b s e each
    return one - torch.arange(1, e + 1, dtype=x.dtype, device=x.device) / e * two

"""EntityNetwork: a memory of slots, each of which follows one entity through a story."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dlnotes.activations import PReLU, sigmoid
from dlnotes.deprecation import keep_old_names
from dlnotes.nn import PAD, WordVectors
from dlnotes.nn.hyperparameters import check_classifier, check_dropout, check_integer
from dlnotes.nn.kernels import few_kernels
from dlnotes.nn.prepared import prepared
from dlnotes.nn.sentences import Gates, Grid, cut_story

MIN_NORM = 1e-12
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
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length of a word vector, a slot and a key.
        slots: Number of slots; without meaning where there are ``keys``.
        keys: Token ids whose word vectors are the slots' keys; none for keys of their own.
        max_sentences: Sentences read; later ones are left out.
        max_words: Words read of a sentence and of the question, and number of masks.
        dropout: Share dropped in training of the word vectors.
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
        if any(type(k) is not int or not PAD < k < vocabulary_size for k in keys):
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
        question, words, *_ = prepared(self, tokens)  # b q, b s w
        h, _ = self._remember(words)  # b m d
        q, p = self._ask(question, h)  # b d, b m 1
        u = (p * h).sum(dim=1)  # b d
        scores: Tensor = self.output(self.phi(q + u @ self.H.T))  # b c
        return scores

    def prepare(self, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, ...]:
        """The question, and the grid of the story's sentences."""
        _, question, grid = cut_story(
            tokens,
            max_sentences=self.max_sentences,
            max_words=self.max_words,
            data_dependent=self.data_dependent,
        )
        return question, *grid

    def explain(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b t"]]:
        """How far each sentence opened the gate of each slot, at the sentence's tokens."""
        return self.gates(tokens).at_tokens(tokens.shape[1])

    @torch.no_grad()
    def gates(self, tokens: Int[Tensor, "b t"]) -> Gates:
        """The gate of each slot at each sentence, and the answer's attention over the slots.

        To be called in evaluation mode, like any reading of a trained model.
        """
        question, *cells = prepared(self, tokens)
        grid = Grid(*cells)
        h, gates = self._remember(grid.words)  # b m d, b s m
        _, p = self._ask(question, h)
        return Gates("slot", grid, gates, p.squeeze(2))

    def _encode(
        self, words: Int[Tensor, "*b w"], masks: Float[Tensor, "w2 d"]
    ) -> Float[Tensor, "*b d"]:
        x = self.dropout(self.vectors(words))  # *b w d
        encoded: Tensor = (x * masks[: words.shape[-1]]).sum(dim=-2)
        return encoded

    def _ask(
        self, question: Int[Tensor, "b w"], h: Float[Tensor, "b m d"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b m 1"]]:
        """The question, and its attention over the slots."""
        q = self._encode(question, self.question_masks)  # b d
        return q, (h @ q.unsqueeze(2)).softmax(dim=1)

    def _remember(
        self, words: Int[Tensor, "b s w"]
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b s m"]]:
        """Last memory, and every gate; the gates of a row without words are closed."""
        w = self.vectors(self.key_tokens) if hasattr(self, "key_tokens") else self.keys  # m d
        s = self._encode(words, self.masks)  # b s d
        real = (words != PAD).any(dim=2)  # b s
        h = w.expand(s.shape[0], *w.shape)
        # In full precision where the rest is in half: the errors of many steps would add up.
        with self._full_precision(s):
            # All that does not depend on the memory, for all sentences at once.
            key, candidate, key_term = s @ w.T, s @ self.W.T, w @ self.V.T  # b s m, b s d, m d
            return self._recur(h, s, key, candidate, key_term, real)

    def _full_precision(self, s: Tensor) -> AbstractContextManager[Any]:
        return nullcontext() if s.is_meta else torch.autocast(s.device.type, enabled=False)

    def _recur(
        self, h: Tensor, s: Tensor, key: Tensor, candidate: Tensor, key_term: Tensor, real: Tensor
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b s m"]]:
        keep = torch.is_grad_enabled()
        h, *kept = SlotRecurrence.apply(
            h, s, key, candidate, key_term, self.U, self.phi.weight, real, keep
        )
        return h, torch.stack(kept[: s.shape[1]], dim=1)


def slot_step(
    h: Float[Tensor, "b m d"],
    s: Float[Tensor, "b d"],
    key: Float[Tensor, "b m"],
    candidate: Float[Tensor, "b d"],
    real: Bool[Tensor, " b"],
    key_term: Float[Tensor, "m d"],
    U: Float[Tensor, "d d"],
    slopes: Float[Tensor, " d"],
    one: Float[Tensor, ""],
    sigmoid: Callable[[Tensor], Tensor] = sigmoid,
) -> tuple[Tensor, ...]:
    r"""Read one sentence.

    Args:
        h: The memory.
        s: :math:`s_t`.
        key: :math:`s_t \cdot w_j`.
        candidate: :math:`W s_t`.
        real: Whether there is a sentence at all.
        key_term: :math:`V w_j`.
        U: :math:`U`.
        slopes: Of :math:`\phi`.
        one: The number 1.
        sigmoid: Ours, or torch's with the same numbers.

    Returns:
        The next memory, the gates, and what the derivatives need.
    """
    b, m, d = h.shape
    closed = ~real[:, None]  # b 1
    gate = sigmoid((h * s[:, None]).sum(dim=2) + key)  # b m
    gate = gate.masked_fill(closed, 0.0)
    x = (candidate[:, None] + key_term).reshape(b * m, d)
    x = torch.addmm(x, h.reshape(b * m, d), U.T).view(b, m, d)
    # φ(x) = φ'(x) x, and the derivative is needed again.
    slope = torch.lerp(slopes, one, (x > 0).to(x.dtype))  # b m d
    new = slope * x
    before, h = h, torch.addcmul(h, gate.unsqueeze(2), new)
    # A closed row keeps its memory as it is, at any length.
    length = h.norm(dim=2).masked_fill(closed, 1.0)  # b m
    scale = length.clamp(min=MIN_NORM).reciprocal()
    h = h * scale.unsqueeze(2)
    turns = ((length > MIN_NORM) & ~closed).to(scale.dtype)
    return h, gate, before, x, slope, new, scale, turns


class SlotRecurrence(Function):
    r"""The memory after a story, sentence by sentence, with its derivatives written out.

    Equations of :class:`EntityNetwork`. With autograd's own derivatives a whole training step takes
    1.2 to 1.4 times as long (batch 32, 6 sentences, one thread).

    Inputs: first memory ``b m d``, sentences ``b s d``, :math:`s_t \cdot w_j` ``b s m``,
    :math:`W s_t` ``b s d``, :math:`V w_j` ``m d``, :math:`U` ``d d``, slopes of :math:`\phi` ``d``,
    which rows of the sentences are any ``b s``, and whether to keep what the derivatives need.

    Outputs: last memory ``b m d`` and for each sentence its gates ``b m``; then what is kept.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        h: Tensor,
        s: Tensor,
        key: Tensor,
        candidate: Tensor,
        key_term: Tensor,
        U: Tensor,
        slopes: Tensor,
        real: Tensor,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        """Read the sentences."""
        h = h.view_as(h)  # an input that is kept must be a view of itself
        one = slopes.new_ones(())
        f = torch.sigmoid if few_kernels(h, None) else sigmoid
        gates: list[Tensor] = []
        kept: list[Tensor] = []
        for t in range(s.shape[1]):
            h, gate, *of_derivatives = slot_step(
                h, s[:, t], key[:, t], candidate[:, t], real[:, t], key_term, U, slopes, one, f
            )
            gates.append(gate)
            if keep:
                kept += of_derivatives
        return h, *gates, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the derivatives need."""
        ctx.save_for_backward(inputs[1], inputs[5], *output)  # s, U
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the sentences."""
        if dh is None:  # only the gates were used
            return (None,) * 9
        s, U, after, *rest = ctx.saved_tensors
        b, n, d = s.shape
        gates, kept = rest[:n], rest[n:]
        m = dh.shape[1]
        dU, dslopes = torch.zeros_like(U), U.new_zeros(d)
        dkey_term = U.new_zeros(m, d)
        ds, dkey, dcandidate = [], [], []
        for t in reversed(range(n)):
            before, x, slope, new, scale, turns = kept[6 * t : 6 * t + 6]
            gate = gates[t]
            # The part of dh along h is lost to the normalisation.
            along = (after * dh).sum(dim=2) * turns * scale  # b m
            dz = torch.addcmul(dh * scale.unsqueeze(2), after, along.unsqueeze(2), value=-1)
            dgate = (dz * new).sum(dim=2) * gate * (1 - gate)  # b m
            dnew = dz * gate.unsqueeze(2)
            dslopes += (dnew * x.clamp(max=0)).sum(dim=(0, 1))
            dx = dnew.mul_(slope)  # b m d
            dkey_term += dx.sum(dim=0)
            flat = dx.view(b * m, d)
            dU = torch.addmm(dU, flat.T, before.reshape(b * m, d))
            dcandidate.append(dx.sum(dim=1))
            ds.append((dgate.unsqueeze(2) * before).sum(dim=1))
            dkey.append(dgate)
            dh = torch.addmm(dz.view(b * m, d), flat, U).view(b, m, d)
            dh = torch.addcmul(dh, dgate.unsqueeze(2), s[:, t, None])
            after = before
        back = [torch.stack(d[::-1], dim=1) for d in (ds, dkey, dcandidate)]
        return dh, *back, dkey_term, dU, dslopes, None, None


keep_old_names(__name__)

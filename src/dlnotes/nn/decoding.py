"""Generate a sequence word by word: greedy and beam search for any model that can continue one."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dlnotes.deprecation import keep_old_names
from dlnotes.nn.hyperparameters import check_integer
from dlnotes.nn.vectors import PAD

BEGIN = 2
"""Token id that precedes the first word of a target."""
END = 3
"""Token id that follows the last word of a target."""

DecoderState = tuple[Tensor, ...]
"""What a decoder carries from word to word; the first dimension of every tensor is the batch."""


class Decodable(Protocol):
    """A model that generates one word after another."""

    def start(self, source: Int[Tensor, "b t"]) -> DecoderState:
        """Read the sources."""
        ...

    def advance(
        self, last: Int[Tensor, " b"], state: DecoderState
    ) -> tuple[Float[Tensor, "b v"], DecoderState]:
        """Given the last word, at first :data:`BEGIN`, score the next one."""
        ...


@torch.no_grad()
def greedy(model: Decodable, source: Int[Tensor, "b t"], *, max_length: int) -> Int[Tensor, "b u"]:
    """Take the most probable word at each position.

    :data:`PAD` and :data:`BEGIN` are never generated. Put the model in evaluation mode first. Stops
    as soon as all sequences have ended; to know this, it waits for the device once per word.

    Args:
        model: The model that generates the words.
        source: The sources.
        max_length: Most words per sequence, including :data:`END`.

    Returns:
        The words without :data:`BEGIN`, and with padding after :data:`END`; u ≤ ``max_length``.

    Raises:
        ValueError: ``max_length`` is below 1.
    """
    check_integer("max_length", max_length, 1)
    state = model.start(source)
    last = source.new_full((len(source),), BEGIN)  # b
    ended = torch.zeros_like(last, dtype=torch.bool)  # b
    words = []
    for _ in range(max_length):
        logits, state = model.advance(last, state)
        last = _words_only(logits).argmax(dim=1).masked_fill(ended, PAD)
        words.append(last)
        ended = ended | (last == END)
        if bool(ended.all()):
            break
    return torch.stack(words, dim=1)


@torch.no_grad()
def beam_search(
    model: Decodable,
    source: Int[Tensor, "b t"],
    *,
    beam: int,
    max_length: int,
    length_penalty: float = 0.6,
) -> tuple[Int[Tensor, "b u"], Float[Tensor, " b"]]:
    r"""Keep the ``beam`` most probable hypotheses and return the best finished one.

    .. math::
        \mathrm{score}(y) = \log p(y \mid x) \Big/ \Bigl(\frac{5 + n}{6}\Bigr)^\alpha

    where n counts the words, :data:`END` included (Wu et al. 2016, https://arxiv.org/abs/1609.08144,
    section 7, without the coverage penalty). A hypothesis is the beginning of a target, or a whole
    one. At each step all hypotheses are extended by every word. Of the ``beam`` most probable
    extensions, those that end with :data:`END` are finished and scored; the ``beam`` most probable
    others continue. A source is done when ``beam`` hypotheses are finished. If none is finished
    within ``max_length`` words, the most probable unfinished hypothesis is returned. A beam of 1 is
    :func:`greedy`; one as wide as the number of extensions is an exhaustive search.

    All sources and hypotheses advance together. Put the model in evaluation mode first. Stops as
    soon as all sources are done; to know this, it waits for the device once per word.

    Differs from the paper: no pruning of hypotheses that are much worse than the best.

    Args:
        model: The model that generates the words.
        source: The sources.
        beam: Hypotheses kept per source.
        max_length: Most words per hypothesis, including :data:`END`.
        length_penalty: :math:`\alpha`; 0 compares log-probabilities, larger values favour longer
            hypotheses.

    Returns:
        The words, in the form that :func:`greedy` returns, and their scores.

    Raises:
        ValueError: ``beam`` or ``max_length`` is below 1.
    """
    check_integer("beam", beam, 1)
    check_integer("max_length", max_length, 1)
    b, k = len(source), beam
    state = tuple(x.repeat_interleave(k, dim=0) for x in model.start(source))
    last = source.new_full((b * k,), BEGIN)
    words = source.new_empty(b, k, 0)  # b k n
    first_row = k * torch.arange(b, device=source.device).unsqueeze(1)  # b 1
    # All hypotheses are equal at first: one of them is enough.
    total = torch.full((b, k), -torch.inf, device=source.device)
    total[:, 0] = 0.0
    best_words = source.new_empty(b, 0)  # b n
    best = torch.full((b,), -torch.inf, device=source.device)
    ended = torch.zeros_like(best, dtype=torch.int64)  # b
    for n in range(1, max_length + 1):
        logits, state = model.advance(last, state)
        log_p = _words_only(logits).log_softmax(dim=1).view(b, k, -1)  # b k v
        v = log_p.shape[2]
        # A hypothesis has one way to end, so among 2k extensions at least k continue.
        candidate, index = (total.unsqueeze(2) + log_p).flatten(1).topk(min(2 * k, k * v), dim=1)
        origin = index // v  # b 2k
        word = index % v
        extended = torch.cat([_rows(words, origin), word.unsqueeze(2)], dim=2)  # b 2k n
        ends = word == END
        # Those that end among the k best.
        leaves = ends[:, :k] & (candidate[:, :k] > -torch.inf) & (ended < k).unsqueeze(1)
        score = candidate[:, :k].masked_fill(~leaves, -torch.inf) / ((5 + n) / 6) ** length_penalty
        score, i = score.max(dim=1, keepdim=True)  # b 1
        better = score > best.unsqueeze(1)
        best = torch.where(better, score, best.unsqueeze(1)).squeeze(1)
        longer = torch.cat([best_words, best_words.new_full((b, 1), PAD)], dim=1)
        best_words = torch.where(better, _rows(extended, i).squeeze(1), longer)  # b n
        ended = ended + leaves.sum(dim=1)
        # The k best that continue.
        total, i = candidate.masked_fill(ends, -torch.inf).topk(k, dim=1)  # b k
        words = _rows(extended, i)
        last = word.gather(1, i).flatten()
        row = (first_row + origin.gather(1, i)).flatten()  # bk
        state = tuple(x.index_select(0, row) for x in state)
        if bool((ended >= k).all()):
            break
    cut = (ended == 0).unsqueeze(1)
    unfinished = total[:, 0] / ((5 + n) / 6) ** length_penalty
    return torch.where(cut, words[:, 0], best_words), torch.where(cut[:, 0], unfinished, best)


def _words_only(logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
    """Scores that give no probability to ids that are not words of a target."""
    logits = logits.clone()
    logits[:, PAD] = logits[:, BEGIN] = -torch.inf
    return logits


def _rows(x: Int[Tensor, "b k n"], i: Int[Tensor, "b j"]) -> Int[Tensor, "b j n"]:
    """Row ``i`` of each source."""
    return x.gather(1, i.unsqueeze(2).expand(-1, -1, x.shape[2]))


keep_old_names(__name__)

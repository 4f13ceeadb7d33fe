"""Sentences of a document: from one row of tokens to a grid of sentences and words, and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlnotes.nn.vectors import PAD, widen

SENTENCE_END, QUESTION = 2, 3
"""Token ids of the mark that ends a sentence and of the mark that precedes a question."""


def is_data_dependent(tokens: Tensor, data_dependent: bool | None) -> bool:
    """Whether shapes may depend on the values of ``tokens``.

    Such shapes are as small as the values allow. But to read values of another device than the CPU
    the host has to wait for it, and ``torch.export`` and ``make_fx`` cannot trace code that reads
    values.

    Args:
        tokens: The tensor that would be read.
        data_dependent: The answer; None for yes on a CPU and no on any other device.
    """
    return tokens.device.type == "cpu" if data_dependent is None else data_dependent


class Grid(NamedTuple):
    """Sentences as rows of words, and the position of each token of the documents in them.

    Attributes:
        words: ``b s w``, token ids, :data:`~dlnotes.nn.PAD` to the right and below.
        sentence: ``b t``, the row of each token.
        position: ``b t``, its column.
        mask: ``b t``, whether the token is in the grid at all: padding, marks and what lies
            beyond the grid's edges are not.
    """

    words: Int[Tensor, "b s w"]
    sentence: Int[Tensor, "b t"]
    position: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]

    def at_tokens(self, weights: Float[Tensor, "b s w"]) -> Float[Tensor, "b t"]:
        """Read a number of the grid at each token; 0 for tokens outside."""
        cell = self.sentence * weights.shape[2] + self.position  # b t
        return weights.flatten(1).gather(1, cell).masked_fill(~self.mask, 0.0)


class Gates(NamedTuple):
    """How far a model with a memory for stories lets each sentence into this memory.

    Attributes:
        name: What the columns are: ``slot`` or ``episode``.
        grid: The sentences.
        weights: ``b s k``, from 0 to 1, of each sentence for each slot or in each pass.
        answer: ``b k``, the share of each column in the answer; None where the model does not
            weigh its columns.
    """

    name: str
    grid: Grid
    weights: Float[Tensor, "b s k"]
    answer: Float[Tensor, "b k"] | None = None

    @property
    def columns(self) -> list[str]:
        """Name and number, from 1, of each column."""
        return [f"{self.name} {k}" for k in range(1, self.weights.shape[2] + 1)]

    def at_tokens(self, t: int) -> dict[str, Float[Tensor, "b t"]]:
        """Weights of each column at the first t tokens of the documents."""
        return {
            column: self.grid.at_tokens(w.unsqueeze(2).expand(self.grid.words.shape))[:, :t]
            for column, w in zip(self.columns, self.weights.unbind(2), strict=True)
        }


def sentences(
    tokens: Int[Tensor, "b t"],
    *,
    max_sentences: int,
    max_words: int,
    data_dependent: bool | None = None,
) -> Grid:
    """Cut documents into their sentences: the words before, between and after the marks.

    A sentence without words takes no row. Words beyond ``max_words`` in a sentence and sentences
    beyond ``max_sentences`` are left out.

    Args:
        tokens: The documents.
        max_sentences: Most rows.
        max_words: Most columns.
        data_dependent: True makes the grid as small as the documents allow. With False it is
            ``max_sentences`` by ``max_words`` or, where that is less, by ``t``; the additional
            cells hold padding. None: see :func:`is_data_dependent`.

    Returns:
        The grid, with at least one row and one column.

    Raises:
        ValueError: See :func:`~dlnotes.nn.vectors.as_ids`.
    """
    tokens = widen(tokens, 1)
    b, t = tokens.shape
    word = (tokens != PAD) & (tokens != SENTENCE_END) & (tokens != QUESTION)  # b t
    first = word & ~F.pad(word, (1, -1))  # b t
    i = torch.arange(t, device=tokens.device)  # t
    sentence = first.cumsum(1) - 1  # b t
    # Where each sentence begins, and one position more for all tokens that do not begin one.
    begin = i.new_zeros(b, t + 1).scatter(1, torch.where(first, sentence, t), i.expand(b, t))
    position = i - begin.gather(1, sentence.clamp(min=0))  # b t
    # Not min, which would restrict an exported model to examples that are as long as this one.
    s, w = torch.sym_min(max_sentences, t), torch.sym_min(max_words, t)
    if is_data_dependent(tokens, data_dependent):
        # An exact grid is several times smaller.
        s = min(s, int(torch.where(word, sentence, 0).max()) + 1) if b else 1
        w = min(w, int(torch.where(word & (sentence < s), position, 0).max()) + 1) if b else 1
    mask = word & (sentence < s) & (position < w)
    sentence, position = torch.where(mask, sentence, 0), torch.where(mask, position, 0)
    # One cell more than the grid has, for all that is outside.
    cell = torch.where(mask, sentence * w + position, s * w)
    words = tokens.new_full((b, s * w + 1), PAD).scatter(1, cell, tokens)[:, :-1]
    return Grid(words.view(b, s, w), sentence, position, mask)


def split_question(
    tokens: Int[Tensor, "b t"], *, max_words: int, data_dependent: bool | None = None
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b q"]]:
    """Story and question of each document.

    The question is what follows the first :data:`QUESTION` mark. A document without a mark is its
    own question: its story and its question have the same words.

    Args:
        tokens: The documents.
        max_words: Most columns of the questions.
        data_dependent: True makes the questions as narrow as the longest allows. With False they
            have ``max_words`` columns or, where that is less, ``t``. None: see
            :func:`is_data_dependent`.

    Returns:
        The story, with padding in place of the question and its mark; and the first ``max_words``
        words of the question without marks, moved to the left, in at least one column.

    Raises:
        ValueError: See :func:`~dlnotes.nn.vectors.as_ids`.
    """
    tokens = widen(tokens, 1)
    after = (tokens == QUESTION).cumsum(1) > 0  # b t
    story = tokens.masked_fill(after, PAD)
    asked = after.any(1, keepdim=True)  # b 1
    marks = (tokens == SENTENCE_END) | (tokens == QUESTION)
    question = tokens.masked_fill(marks | (asked & ~after), PAD)
    padding = question == PAD
    if is_data_dependent(tokens, data_dependent) and len(tokens):
        # A recurrence over a question would run on to the length of the story.
        max_words = min(max_words, max(1, int((~padding).sum(dim=1).max())))
    # Words keep their order while they move to the left; all padding goes to one position more.
    b, t = tokens.shape
    position = torch.where(padding, t, (~padding).cumsum(1) - 1)
    moved = tokens.new_full((b, t + 1), PAD).scatter(1, position, question)
    return story, moved[:, : torch.sym_min(max_words, t)]


def cut_story(
    tokens: Int[Tensor, "b t"],
    *,
    max_sentences: int,
    max_words: int,
    data_dependent: bool | None = None,
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b q"], Grid]:
    """Story, question and the sentences of the story: :func:`split_question` and :func:`sentences`.

    Args:
        tokens: The documents.
        max_sentences: Most sentences of a story.
        max_words: Most words of a sentence, and of a question.
        data_dependent: See the two functions.
    """
    story, question = split_question(tokens, max_words=max_words, data_dependent=data_dependent)
    grid = sentences(
        story, max_sentences=max_sentences, max_words=max_words, data_dependent=data_dependent
    )
    return story, question, grid

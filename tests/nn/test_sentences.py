"""Sentences of a document: the grid against plain Python lists."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dlnotes.nn import PAD, QUESTION, SENTENCE_END, sentences, split_question

# Marks often, so that they stand at the ends and next to one another.
row = st.lists(st.sampled_from([1, SENTENCE_END, SENTENCE_END, QUESTION, 4, 5, 6, 7]), max_size=14)
rows = st.lists(row, min_size=1, max_size=5)
many = settings(max_examples=100, deadline=None)


def padded(rows: list[list[int]], extra: int = 0) -> torch.Tensor:
    t = max(map(len, rows)) + extra
    padded = [r + [PAD] * (t - len(r)) for r in rows]
    return torch.tensor(padded, dtype=torch.int64).view(len(rows), t)


def split(tokens: list[int]) -> list[list[tuple[int, int]]]:
    """Sentences as lists of (position, word); none of them empty."""
    found: list[list[tuple[int, int]]] = [[]]
    for i, token in enumerate(tokens):
        if token in (SENTENCE_END, QUESTION):
            found.append([])
        else:
            found[-1].append((i, token))
    return [sentence for sentence in found if sentence]


@many
@given(rows, st.integers(0, 3), st.integers(1, 6), st.integers(1, 6))
def test_grid_equals_plain_splitting(
    rows: list[list[int]], extra: int, max_sentences: int, max_words: int
) -> None:
    tokens = padded(rows, extra)
    grid = sentences(tokens, max_sentences=max_sentences, max_words=max_words)
    kept = [[s[:max_words] for s in split(r)[:max_sentences]] for r in rows]
    read = [[[x for x in s if x != PAD] for s in d if any(s)] for d in grid.words.tolist()]
    assert read == [[[word for _, word in s] for s in d] for d in kept]
    # Real rows first and in them real words first; on a CPU no more than there must be.
    real = grid.words != PAD
    assert (real.int().diff(dim=2) <= 0).all()
    assert (real.any(dim=2).int().diff(dim=1) <= 0).all()
    assert grid.words.shape[1] == max([1, *map(len, kept)])
    assert grid.words.shape[2] == max([1, *(len(s) for d in kept for s in d)])
    places = {
        (b, i): (s, w)
        for b, d in enumerate(kept)
        for s, sentence in enumerate(d)
        for w, (i, _) in enumerate(sentence)
    }
    assert {tuple(index) for index in grid.mask.nonzero().tolist()} == places.keys()
    for (b, i), place in places.items():
        assert (int(grid.sentence[b, i]), int(grid.position[b, i])) == place


@many
@given(rows, st.integers(1, 6), st.integers(1, 6))
def test_at_tokens_is_the_inverse(
    rows: list[list[int]], max_sentences: int, max_words: int
) -> None:
    tokens = padded(rows, 1)
    grid = sentences(tokens, max_sentences=max_sentences, max_words=max_words)
    back = grid.at_tokens(grid.words.double())
    assert torch.equal(back, tokens.where(grid.mask, PAD).double())
    ones = grid.at_tokens(torch.ones(grid.words.shape))
    assert torch.equal(ones, grid.mask.float())
    assert ones.sum() == (grid.words != PAD).sum()


@settings(max_examples=20, deadline=None)
@given(rows, st.integers(1, 6), st.integers(1, 6))
def test_the_grid_that_does_not_depend_on_data_is_the_same_and_padding(
    rows: list[list[int]], max_sentences: int, max_words: int
) -> None:
    tokens = padded(rows, 1)
    arguments = {"max_sentences": max_sentences, "max_words": max_words}
    whole = sentences(tokens, **arguments, data_dependent=False)
    t = tokens.shape[1]
    assert whole.words.shape == (len(rows), min(max_sentences, t), min(max_words, t))
    assert sentences(tokens.to("meta"), **arguments).words.shape == whole.words.shape
    exact = sentences(tokens, **arguments)
    _, s, w = exact.words.shape
    assert torch.equal(whole.words[:, :s, :w], exact.words)
    assert whole.words.count_nonzero() == exact.words.count_nonzero()
    for ours, theirs in zip(whole[1:], exact[1:], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("columns", [0, 1, 5])
@pytest.mark.parametrize("token", [PAD, SENTENCE_END, QUESTION])
def test_documents_without_words_have_one_empty_cell(columns: int, token: int) -> None:
    grid = sentences(torch.full((2, columns), token), max_sentences=3, max_words=4)
    assert torch.equal(grid.words, torch.zeros(2, 1, 1, dtype=torch.int64))
    assert not grid.mask.any()
    assert not grid.at_tokens(torch.full((2, 1, 1), torch.nan)).any()


def test_no_documents() -> None:
    assert sentences(
        torch.zeros(0, 5, dtype=torch.int64), max_sentences=3, max_words=4
    ).words.shape == (0, 1, 1)


@many
@given(rows, st.integers(0, 3), st.integers(1, 20))
def test_split_question_equals_plain_splitting(
    rows: list[list[int]], extra: int, max_words: int
) -> None:
    tokens = padded(rows, extra)
    story, question = split_question(tokens, max_words=max_words)
    longest = 1
    for tokens_, story_, question_ in zip(rows, story.tolist(), question.tolist(), strict=True):
        cut = tokens_.index(QUESTION) if QUESTION in tokens_ else None
        before = tokens_ if cut is None else tokens_[:cut]
        after = tokens_ if cut is None else tokens_[cut + 1 :]
        asked = [x for x in after if x not in (SENTENCE_END, QUESTION)][:max_words]
        assert story_ == before + [PAD] * (len(story_) - len(before))
        assert question_ == asked + [PAD] * (len(question_) - len(asked))
        longest = max(longest, len(asked))
    assert question.shape[1] == longest  # on a CPU no more than there must be
    same, wide = split_question(tokens, max_words=max_words, data_dependent=False)
    assert wide.shape == (len(rows), min(max_words, max(1, tokens.shape[1])))
    assert torch.equal(same, story)
    assert torch.equal(wide[:, :longest], question)
    assert not wide[:, longest:].any()
    other = split_question(tokens.to("meta"), max_words=max_words)[1]
    assert other.shape == wide.shape


def test_a_question_and_its_story_from_a_longer_document() -> None:
    tokens = torch.tensor([[5, 6, SENTENCE_END, 7, SENTENCE_END, QUESTION, 8, 9]])
    story, question = split_question(F.pad(tokens, (0, 2)), max_words=4)
    assert story.tolist() == [[5, 6, SENTENCE_END, 7, SENTENCE_END, 0, 0, 0, 0, 0]]
    assert question.tolist() == [[8, 9]]

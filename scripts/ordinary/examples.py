"""What the ordinary way trains on: lists of ids, made before the clock runs."""

from __future__ import annotations

from typing import Any

import torch

from dlnotes.models.fasttext import ngram_ids
from dlnotes.nn import QUESTION, SENTENCE_END

Inputs = tuple[list[Any], ...]
"""What a model is called with for one document: a list of ids, or a list of lists of ids, each."""


def words(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Inputs:
    """The ids as they are."""
    return (ids,)


def words_and_bigrams(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Inputs:
    """The ids of words and of hashed bigrams."""
    grams = ngram_ids(
        torch.tensor([ids]), ngrams=2, first=vocabulary_size, buckets=settings["buckets"]
    )
    return ([*ids, *grams[0].tolist()],)


def sentences(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Inputs:
    """Sentences, cut as our model cuts them."""
    rows: list[list[int]] = [[]]
    for i in ids:
        if i == SENTENCE_END:
            rows.append([])
        else:
            rows[-1].append(i)
    limit, width = settings.get("max_sentences", 256), settings["max_words"]
    return ([row[:width] for row in rows if row][:limit],)


def story_and_question(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Inputs:
    """Sentences of the story, and the question."""
    at = ids.index(QUESTION)
    question = [i for i in ids[at + 1 :] if i != SENTENCE_END]
    return (*sentences(ids[:at], settings, vocabulary_size), question)

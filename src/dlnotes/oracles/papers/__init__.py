"""Oracles of models that torch has no module for: their papers' equations, written in NumPy.

Each file implements one paper without batches, word by word and document by document; parameters
have the names that they have in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlnotes.models import (
    HAN,
    RCNN,
    DynamicMemoryNetwork,
    EntityNetwork,
    Seq2seqTranslator,
)
from dlnotes.nn import PAD, QUESTION, SENTENCE_END
from dlnotes.nn.decoding import BEGIN
from dlnotes.oracles.comparison import Case, Comparison
from dlnotes.oracles.models import ready
from dlnotes.oracles.papers import dynamic_memory_network, entity_network, han, rcnn, seq2seq

V, CLASSES = 20, 3
SIZES: dict[str, Any] = {"vocabulary_size": V, "num_classes": CLASSES, "embedding_dim": 5}

Weights = dict[str, Any]
Story = tuple[list[list[int]], list[int]]
"""The sentences, and the question."""


def comparisons() -> Iterator[Comparison]:
    """Yield comparisons of each model's scores with those of its paper's equations."""
    random = np.random.default_rng(0)

    def words(n: int) -> list[int]:
        drawn: list[int] = random.integers(4, V, n).tolist()
        return drawn

    documents = [words(n) for n in (9, 1, 4)]
    texts = [[words(n) for n in lengths] for lengths in ([3, 1, 6], [5], [2, 2, 7, 1])]
    pairs = list(zip(documents, [[BEGIN, *words(5)] for _ in documents], strict=True))
    stories = [(sentences, words(3)) for sentences in texts]
    yield _comparison(
        "RCNN",
        "Lai et al. 2015 in NumPy",
        ready(RCNN(**SIZES, context_size=4, hidden_size=6)),
        [_rows(documents)],
        lambda p: [rcnn.of_parameters(p, each).scores for each in documents],
    )
    yield _comparison(
        "HAN",
        "Yang et al. 2016 in NumPy",
        ready(HAN(**SIZES, hidden_size=4, context_size=6)),
        [_rows([_marked(sentences) for sentences in texts])],
        lambda p: [_han(p, sentences) for sentences in texts],
    )
    for attention, paper in (
        ("additive", "Bahdanau et al. 2015 in NumPy"),
        (
            "multiplicative",
            "Bahdanau et al. 2015 in NumPy, with the general score of Luong et al. 2015",
        ),
    ):
        yield _comparison(
            f"Seq2seq, {attention}",
            paper,
            _translator(attention),
            [_rows(list(side)) for side in zip(*pairs, strict=True)],
            lambda p: [seq2seq.decode(p, *pair)[0] for pair in pairs],
        )
    asked = [_rows([[*_marked(sentences), QUESTION, *q] for sentences, q in stories])]
    yield _comparison(
        "DMN",
        "Kumar et al. 2016 in NumPy",
        ready(DynamicMemoryNetwork(**SIZES, hidden_size=6, variant="dmn")),
        asked,
        lambda p: [_dmn(p, story) for story in stories],
    )
    yield _comparison(
        "DMN+",
        "Xiong et al. 2016 in NumPy",
        ready(DynamicMemoryNetwork(**SIZES, hidden_size=6, variant="dmn+")),
        asked,
        lambda p: [dynamic_memory_network.dmn_plus(p, *story, 3)[0] for story in stories],
    )
    yield _comparison(
        "EntityNetwork",
        "Henaff et al. 2017 in NumPy",
        ready(EntityNetwork(**SIZES, slots=4)),
        asked,
        lambda p: [entity_network.answer(p, *story)[0] for story in stories],
    )


def _comparison(
    note: str,
    oracle: str,
    model: Any,
    inputs: list[Tensor],
    scores: Callable[[Weights], list[Any]],
) -> Comparison:
    def theirs() -> list[Tensor]:
        p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
        return [torch.from_numpy(np.stack(scores(p)))]

    return Comparison(note, oracle, "same weights", [Case(lambda: [model(*inputs)], theirs)], 1e-12)


def _translator(attention: str) -> Any:
    return ready(
        Seq2seqTranslator(
            source_vocabulary_size=V,
            target_vocabulary_size=V,
            embedding_dim=5,
            hidden_size=4,
            maxout_size=3,
            attention=attention,
        )
    )


def _han(p: Weights, sentences: list[list[int]]) -> Any:
    document = han.of_parameters(p, sentences).document
    return p["output.weight"] @ document + p["output.bias"]


def _dmn(p: Weights, story: Story) -> Any:
    sentences, question = story
    marked = [part for sentence in sentences for part in (sentence, [SENTENCE_END])]
    return dynamic_memory_network.dmn(p, marked, question, 3)[0]


def _marked(sentences: list[list[int]]) -> list[int]:
    return [word for sentence in sentences for word in (*sentence, SENTENCE_END)]


def _rows(documents: list[list[int]]) -> Tensor:
    t = max(map(len, documents))
    return torch.tensor([row + [PAD] * (t - len(row)) for row in documents])

"""Models that torch has no module for, against their papers' equations: for scripts/verify.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dlnotes.models import (
    HAN,
    RCNN,
    DynamicMemoryNetwork,
    EntityNetwork,
    Seq2seqTranslator,
)
from dlnotes.models._oracles import ready
from dlnotes.nn import PAD, QUESTION, SENTENCE_END
from dlnotes.nn.decoding import BEGIN
from reference import dynamic_memory_network, entity_network, han, rcnn, seq2seq

V, CLASSES = 20, 3
SIZES: dict[str, Any] = {"vocabulary_size": V, "num_classes": CLASSES, "embedding_dim": 5}


def rows() -> Iterator[tuple[str, str, float]]:
    """Note, oracle and largest relative difference of a score, in float64."""
    random = np.random.default_rng(0)

    def words(n: int) -> list[int]:
        drawn: list[int] = random.integers(4, V, n).tolist()
        return drawn

    documents = [words(n) for n in (9, 1, 4)]
    model = ready(RCNN(**SIZES, context_size=4, hidden_size=6))
    p = _numbers(model)
    expected = [rcnn.of_parameters(p, each).scores for each in documents]
    yield "RCNN", "Lai et al. 2015 in NumPy", _difference(model(_rows(documents)), expected)

    stories = [[words(n) for n in lengths] for lengths in ([3, 1, 6], [5], [2, 2, 7, 1])]
    marked = [[w for s in story for w in (*s, SENTENCE_END)] for story in stories]
    model = ready(HAN(**SIZES, hidden_size=4, context_size=6))
    p = _numbers(model)
    expected = [
        p["output.weight"] @ han.of_parameters(p, story).document + p["output.bias"]
        for story in stories
    ]
    yield "HAN", "Yang et al. 2016 in NumPy", _difference(model(_rows(marked)), expected)

    for attention, source in (("additive", "Bahdanau"), ("multiplicative", "Luong")):
        model = ready(
            Seq2seqTranslator(
                source_vocabulary_size=V,
                target_vocabulary_size=V,
                embedding_dim=5,
                hidden_size=4,
                maxout_size=3,
                attention=attention,
            )
        )
        targets = [[BEGIN, *words(5)] for _ in documents]
        p = _numbers(model)
        expected = [seq2seq.decode(p, *pair)[0] for pair in zip(documents, targets, strict=True)]
        ours = model(_rows(documents), _rows(targets))
        yield f"Seq2seq, {attention}", f"{source} et al. 2015 in NumPy", _difference(ours, expected)

    questions = [words(3) for _ in stories]
    asked = _rows([[*m, QUESTION, *q] for m, q in zip(marked, questions, strict=True)])
    pairs = list(zip(stories, questions, strict=True))
    model = ready(DynamicMemoryNetwork(**SIZES, hidden_size=6, variant="dmn"))
    p = _numbers(model)
    expected = [
        dynamic_memory_network.dmn(
            p, [s for sentence in story for s in (sentence, [SENTENCE_END])], question, 3
        )[0]
        for story, question in pairs
    ]
    yield "DMN", "Kumar et al. 2016 in NumPy", _difference(model(asked), expected)
    model = ready(DynamicMemoryNetwork(**SIZES, hidden_size=6, variant="dmn+"))
    p = _numbers(model)
    expected = [dynamic_memory_network.dmn_plus(p, *pair, 3)[0] for pair in pairs]
    yield "DMN+", "Xiong et al. 2016 in NumPy", _difference(model(asked), expected)

    model = ready(EntityNetwork(**SIZES, slots=4))
    p = _numbers(model)
    expected = [entity_network.answer(p, *pair)[0] for pair in pairs]
    yield "EntityNetwork", "Henaff et al. 2017 in NumPy", _difference(model(asked), expected)


def _numbers(model: torch.nn.Module) -> dict[str, Any]:
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def _rows(documents: list[list[int]]) -> torch.Tensor:
    t = max(map(len, documents))
    return torch.tensor([row + [PAD] * (t - len(row)) for row in documents])


def _difference(ours: torch.Tensor, expected: list[Any]) -> float:
    theirs = torch.from_numpy(np.stack(expected))
    return ((ours.detach() - theirs).abs().max() / theirs.abs().max()).item()

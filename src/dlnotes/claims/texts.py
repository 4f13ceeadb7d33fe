"""Real texts for experiments: corpora as dlnotes reads them, and its own models.

Runs are trained one by one: under vmap the gradient of a table of word vectors is as large as the
table, and takes longer than in a loop (0.77 ms per run instead of 0.22 ms for FastText).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlnotes.claims.cache import digest_of_data
from dlnotes.claims.claim import Budget
from dlnotes.claims.problems import convergence
from dlnotes.claims.races import Batch, Problem, classification
from dlnotes.data import corpora
from dlnotes.data.dataset import load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.download import cache_folder
from dlnotes.errors import UserError
from dlnotes.models import FastText, TextCNN
from dlnotes.nn import PAD

TOKENS = {"trec": 24, "bbc": 100, "r52": 64}
"""Documents are cut to this number of tokens, so that a training takes about a second."""

WORDS = 4000
"""Number of most frequent words in the vocabulary; the others are unknown."""

MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "FastText": lambda words, classes: FastText(
        vocabulary_size=words, num_classes=classes, ngrams=1, sparse=False
    ),
    "TextCNN": lambda words, classes: TextCNN(
        vocabulary_size=words,
        num_classes=classes,
        embedding_dim=16,
        widths=(3,),
        maps=16,
        dropout=0.0,
    ),
}
"""Functions that make a model for a number of words and a number of classes, by its name."""


class Corpus(NamedTuple):
    """A corpus in memory: tokens ``(n, t)``, padded with 0, and classes ``(n,)`` of each split."""

    train: Batch
    dev: Batch
    test: Batch
    words: int
    classes: int


@cache
def read(name: str, data_dir: str = "", tokens: int | None = None) -> Corpus:
    """Read a corpus; where it has no dev split, a tenth of its training documents becomes one.

    Args:
        name: See `dlnotes.data.corpora.load`.
        data_dir: Folder of corpora; "" for none.
        tokens: Documents are cut to this number of tokens; default: the entry of `TOKENS`.

    Raises:
        UserError: The corpus is not available.
    """
    if name not in corpora.CORPORA and not (data_dir or os.environ.get("DLNOTES_DATA")):
        raise UserError(
            f"corpus {name} is not downloaded: put train.tsv and test.tsv (label<TAB>text) into "
            f"FOLDER/{name} and name that folder by --data-dir FOLDER or DLNOTES_DATA"
        )
    folder = cache_folder()
    sources = corpora.load(name, data_dir=Path(data_dir) if data_dir else None, cache_dir=folder)
    data = load_dataset(
        {split: source for split, source in sources.items() if split != corpora.UNSUP},
        cache_dir=folder / "tokens",
        max_size=WORDS,
        max_tokens=tokens or TOKENS[name],
    )
    train, dev, test = (_batch(part) for part in (data.train, data.dev, data.read_test()))
    return Corpus(train, dev, test, len(data.vocabulary), len(data.label_names))


def _batch(documents: Documents) -> Batch:
    return documents.batch(np.arange(len(documents)))


def digests(
    names: Iterable[str], data_dir: str = "", tell: Callable[[str], None] = lambda _: None
) -> dict[str, str]:
    """SHA-256 of each corpus that is available.

    Args:
        names: Names of corpora.
        data_dir: See `read`.
        tell: Called with a line about each corpus that is not available.
    """
    found = {}
    for name in names:
        try:
            corpus = read(name, data_dir)
        except UserError as error:
            tell(f"the claims about texts go without {name}: {error}")
        else:
            found[name] = digest_of_data([*corpus.train, *corpus.dev, *corpus.test])
    return found


def left_out(budget: Budget, names: Iterable[str]) -> str:
    """What was left out, followed by a sentence about the corpora that are not available."""
    lacking = [name for name in dict.fromkeys(names) if name not in budget.corpora]
    return f" Not found: {', '.join(lacking)}." if lacking else ""


def problem(name: str, model: str, data_dir: str = "") -> Problem:
    """A classifier of documents, measured by accuracy.

    Args:
        name: Of the corpus.
        model: A key of `MODELS`.
        data_dir: See `read`.
    """
    corpus = read(name, data_dir)
    train, dev, test, words, classes = corpus
    made = f"{model} on {name}"
    return classification(made, lambda: MODELS[model](words, classes), train, dev, test, at_once=1)


def training(name: str, model: str, data_dir: str = "") -> Problem:
    """A classifier of documents, measured by its training loss; see `convergence`.

    Args:
        name: Of the corpus.
        model: A key of `MODELS`.
        data_dir: See `read`.
    """
    corpus = read(name, data_dir)
    made = f"{model} on {name}"
    return convergence(
        made, lambda: MODELS[model](corpus.words, corpus.classes), corpus.train, at_once=1
    )


def counts(tokens: Tensor, words: int) -> Tensor:
    """How often each word occurs in each document, ``(n, words)``; padding does not count.

    Args:
        tokens: ``(n, t)``.
        words: How many ids are counted, from 0 on.
    """
    known = (tokens != PAD) & (tokens < words)
    found = torch.zeros(len(tokens), words)
    return found.scatter_add_(1, tokens.clamp(max=words - 1), known.float())

"""Documents per second in training: our models and loop against the ordinary way, in turns."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.download import cache_folder
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.models.fasttext import ngram_ids
from dlnotes.nn import QUESTION, SENTENCE_END
from dlnotes.optim import Adam
from dlnotes.training.classifier import default_tokenizer, write_json
from dlnotes.training.evaluate import evaluate
from dlnotes.training.fit import Fitting, Interrupted, fit
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.record import provenance

SIDES = ("ours", "ordinary")
PIECE = 1024
"""Documents of a turn: enough for our loop to find documents of like length."""
DEV = 1000
"""Dev documents, at most."""


# The ordinary models: torch's own layers, sizes and initial word vectors as ours.


def vectors(vocabulary_size: int, embedding_dim: int, scale: float) -> nn.Embedding:
    """Word vectors that start at U(-scale, scale), zero at padding."""
    layer = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=0)
    nn.init.uniform_(layer.weight, -scale, scale)
    with torch.no_grad():
        layer.weight[0].zero_()
    return layer


def states(cell: nn.RNNBase, x: Tensor, real: Tensor) -> Tensor:
    """States of a bidirectional recurrence over the real positions: packed, run, unpacked."""
    packed = pack_padded_sequence(x, real.sum(1).clamp(min=1), True, enforce_sorted=False)
    h: Tensor = pad_packed_sequence(cell(packed)[0], True, total_length=x.shape[1])[0]
    return h


class FastText(nn.Module):
    """``nn.EmbeddingBag`` over the ids of words and bigrams."""

    def __init__(
        self, *, vocabulary_size: int, num_classes: int, embedding_dim: int, buckets: int
    ) -> None:
        super().__init__()
        rows = vocabulary_size + buckets
        self.vectors = nn.EmbeddingBag(rows, embedding_dim, mode="mean", padding_idx=0)
        nn.init.uniform_(self.vectors.weight, -1 / embedding_dim, 1 / embedding_dim)
        self.output = nn.Linear(embedding_dim, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        scores: Tensor = self.output(self.vectors(tokens))
        return scores


class TextCNN(nn.Module):
    """``nn.Conv1d``, ReLU and the maximum over time."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        widths: tuple[int, ...],
        maps: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = vectors(vocabulary_size, embedding_dim, 0.25)
        self.filters = nn.ModuleList(
            nn.Conv1d(embedding_dim, maps, h, padding=h - 1) for h in widths
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(maps * len(widths), num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        x = self.vectors(tokens).transpose(1, 2)
        pooled = [F.relu(convolution(x)).max(dim=2).values for convolution in self.filters]
        scores: Tensor = self.output(self.dropout(torch.cat(pooled, dim=1)))
        return scores


class TextRNN(nn.Module):
    """A bidirectional ``nn.LSTM`` over packed documents, and the maximum of its states."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = vectors(vocabulary_size, embedding_dim, 0.25)
        self.cell = nn.LSTM(embedding_dim, hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        h = states(self.cell, self.dropout(self.vectors(tokens)), real)
        h = h.masked_fill(~real.unsqueeze(2), -torch.inf).max(dim=1).values
        scores: Tensor = self.output(self.dropout(h))
        return scores


class RCNN(nn.Module):
    """A bidirectional ``nn.RNN``; each word with the states beside it; the maximum over time."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        context_size: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = vectors(vocabulary_size, embedding_dim, 0.25)
        self.cell = nn.RNN(
            embedding_dim, context_size, bias=False, batch_first=True, bidirectional=True
        )
        self.hidden = nn.Linear(2 * context_size + embedding_dim, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        e = self.dropout(self.vectors(tokens))
        left, right = states(self.cell, e, real).chunk(2, dim=2)
        left, right = F.pad(left[:, :-1], (0, 0, 1, 0)), F.pad(right[:, 1:], (0, 0, 0, 1))
        y = torch.tanh(self.hidden(torch.cat([left, e, right], dim=2)))
        y = y.masked_fill(~real.unsqueeze(2), -torch.inf).max(dim=1).values
        scores: Tensor = self.output(self.dropout(y))
        return scores


class Attention(nn.Module):
    """Sum of states, weighted by their likeness to a trained vector."""

    def __init__(self, input_size: int, context_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_size, context_size)
        self.context = nn.Linear(context_size, 1, bias=False)

    def forward(self, h: Tensor, real: Tensor) -> Tensor:
        """Weigh the real states."""
        score = self.context(torch.tanh(self.hidden(h))).squeeze(2)
        alpha = score.masked_fill(~real, -1e9).softmax(dim=1)
        return torch.bmm(alpha.unsqueeze(1), h).squeeze(1)


class HAN(nn.Module):
    """``nn.GRU`` and attention over the words of each sentence, then over the sentences."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        context_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = vectors(vocabulary_size, embedding_dim, 0.25)
        self.words = nn.GRU(embedding_dim, hidden_size, batch_first=True, bidirectional=True)
        self.word_attention = Attention(2 * hidden_size, context_size)
        self.sentences = nn.GRU(2 * hidden_size, hidden_size, batch_first=True, bidirectional=True)
        self.sentence_attention = Attention(2 * hidden_size, context_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents, ``b s w``."""
        b, s, w = tokens.shape
        rows = tokens.view(b * s, w)
        real = rows != 0
        h = states(self.words, self.dropout(self.vectors(rows)), real)
        sentence = self.word_attention(h, real).view(b, s, -1)
        real = tokens[:, :, 0] != 0
        h = states(self.sentences, sentence, real)
        scores: Tensor = self.output(self.dropout(self.sentence_attention(h, real)))
        return scores


class Seq2seq(nn.Module):
    """Bidirectional ``nn.GRU``, additive attention, one step of an ``nn.GRUCell``, maxout."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        maxout_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        e, n = embedding_dim, hidden_size
        self.vectors = vectors(vocabulary_size, e, 0.1)
        self.label_vectors = vectors(4 + num_classes, e, 0.1)
        self.encoder = nn.GRU(e, n, batch_first=True, bidirectional=True)
        self.initial = nn.Linear(n, n)
        self.W = nn.Linear(n, n, bias=False)
        self.U = nn.Linear(2 * n, n, bias=False)
        self.v = nn.Linear(n, 1, bias=False)
        self.decoder = nn.GRUCell(e + 2 * n, n)
        self.maxout = nn.Linear(3 * n + e, 2 * maxout_size)
        self.output = nn.Linear(maxout_size, 4 + num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        h = states(self.encoder, self.dropout(self.vectors(tokens)), real)
        s = torch.tanh(self.initial(h[:, 0, h.shape[2] // 2 :]))
        score = self.v(torch.tanh(self.W(s).unsqueeze(1) + self.U(h))).squeeze(2)
        alpha = score.masked_fill(~real, -1e9).softmax(dim=1)
        context = torch.bmm(alpha.unsqueeze(1), h).squeeze(1)
        y = self.dropout(self.label_vectors(tokens.new_full((len(tokens),), 2)))
        s = self.decoder(torch.cat([y, context], dim=1), s)
        t = self.maxout(self.dropout(torch.cat([s, context, y], dim=1)))
        scores: Tensor = self.output(t.view(len(t), 2, -1).max(dim=1).values)
        return scores[:, 4:]


class Transformer(nn.Module):
    """``nn.TransformerEncoder`` and the mean of its states."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        d = embedding_dim
        self.vectors = vectors(vocabulary_size, d, (3 / d) ** 0.5)
        layer = nn.TransformerEncoderLayer(d, num_heads, feedforward_dim, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(d, num_classes)
        angles = torch.arange(1024.0).unsqueeze(1) * 10_000 ** (-torch.arange(0, d, 2) / d)
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        self.register_buffer("positions", waves, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        x = self.vectors(tokens) * self.vectors.embedding_dim**0.5
        x = self.dropout(x + self.get_buffer("positions")[: tokens.shape[1]])
        h = self.encoder(x, src_key_padding_mask=~real)
        h = h.masked_fill(~real.unsqueeze(2), 0).sum(dim=1) / real.sum(dim=1, keepdim=True)
        scores: Tensor = self.output(self.dropout(h))
        return scores


class DynamicMemoryNetwork(nn.Module):
    """DMN+: GRUs of torch's, and the attention GRU of linear layers, fact by fact."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        passes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        e, h = embedding_dim, hidden_size
        self.vectors = vectors(vocabulary_size, e, 3**0.5)
        self.question = nn.GRU(e, h, batch_first=True)
        self.fusion = nn.GRU(e, h, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(4 * h, h)
        self.weight = nn.Linear(h, 1)
        self.W_r, self.U_r, self.W, self.U = (nn.Linear(h, h) for _ in range(4))
        self.update = nn.ModuleList(nn.Linear(3 * h, h) for _ in range(passes))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * h, num_classes)

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        """Answer the questions: story ``b s w``, question ``b q``."""
        lengths = (question != 0).sum(dim=1)
        asked = pack_padded_sequence(self.vectors(question), lengths, True, enforce_sorted=False)
        q = self.question(asked)[1][0]
        f = states(self.fusion, self.dropout(self.sentences(story)), story[:, :, 0] != 0)
        rightward, leftward = f.chunk(2, dim=2)
        f = rightward + leftward
        m = q
        for update in self.update:
            h = torch.zeros_like(q)
            for f_i, g_i in zip(f.unbind(1), self.weights(f, q, m, story).unbind(1), strict=True):
                r = torch.sigmoid(self.W_r(f_i) + self.U_r(h))
                n = torch.tanh(self.W(f_i) + r * self.U(h))
                h = g_i.unsqueeze(1) * n + (1 - g_i).unsqueeze(1) * h
            m = F.relu(update(torch.cat([m, h, q], dim=1)))
        scores: Tensor = self.output(self.dropout(torch.cat([m, q], dim=1)))
        return scores

    def sentences(self, story: Tensor) -> Tensor:
        """Each sentence as a sum of its words, weighted by their position."""
        real = (story != 0).unsqueeze(3)
        x = self.vectors(story)
        w, e = x.shape[2:]
        j = torch.arange(1, w + 1).view(w, 1) / real.sum(dim=2, keepdim=True).clamp(min=1)
        d = torch.arange(1, e + 1) / e
        encoded: Tensor = (x * ((1 - j) - d * (1 - 2 * j)) * real).sum(dim=2)
        return encoded

    def weights(self, f: Tensor, q: Tensor, m: Tensor, story: Tensor) -> Tensor:
        """How much each fact counts."""
        q, m = q.unsqueeze(1), m.unsqueeze(1)
        z = torch.cat([f * q, (f - q).abs(), f * m, (f - m).abs()], dim=2)
        a: Tensor = self.weight(torch.tanh(self.hidden(z))).squeeze(2)
        return a.masked_fill(story[:, :, 0] == 0, -1e9).softmax(dim=1)


class EntityNetwork(nn.Module):
    """Slots updated sentence by sentence, as the paper's equations read."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        slots: int,
        max_words: int,
    ) -> None:
        super().__init__()
        d = embedding_dim
        self.vectors = nn.Embedding(vocabulary_size, d, padding_idx=0)
        self.masks = nn.Parameter(torch.ones(max_words, d))
        self.question_masks = nn.Parameter(torch.ones(max_words, d))
        self.keys = nn.Parameter(torch.empty(slots, d))
        self.U, self.V, self.W, self.H = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.phi = nn.PReLU(d, init=1.0)
        self.output = nn.Linear(d, num_classes, bias=False)
        for weight in (self.keys, *(m.weight for m in self.modules() if isinstance(m, nn.Linear))):
            nn.init.normal_(weight, 0, 0.1)
        nn.init.normal_(self.vectors.weight, 0, 0.1)
        with torch.no_grad():
            self.vectors.weight[0].zero_()

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        """Answer the questions: story ``b s w``, question ``b q``."""
        sentences = (self.vectors(story) * self.masks[: story.shape[2]]).sum(dim=2)
        q = (self.vectors(question) * self.question_masks[: question.shape[1]]).sum(dim=1)
        h = self.keys.expand(len(story), -1, -1)
        for s, told in zip(sentences.unbind(1), (story[:, :, 0] != 0).unbind(1), strict=True):
            s = s.unsqueeze(1)
            gate = torch.sigmoid((s * h).sum(dim=2) + (s * self.keys).sum(dim=2))
            x = self.U(h) + self.V(self.keys) + self.W(s)
            candidate = self.phi(x.transpose(1, 2)).transpose(1, 2)
            new = F.normalize(h + gate.unsqueeze(2) * candidate, dim=2)
            h = torch.where(told[:, None, None], new, h)
        p = (h * q.unsqueeze(1)).sum(dim=2).softmax(dim=1)
        u = (p.unsqueeze(2) * h).sum(dim=1)
        scores: Tensor = self.output(self.phi(q + self.H(u)))
        return scores


# What the ordinary trainer trains on: lists of ids, made before the clock runs.

Example = list[Any]
"""Ids; lists of ids; or a story and a question."""


def words(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Example:
    """The ids as they are."""
    return ids


def words_and_bigrams(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Example:
    """The ids of words and of hashed bigrams."""
    grams = ngram_ids(
        torch.tensor([ids]), ngrams=2, first=vocabulary_size, buckets=settings["buckets"]
    )
    return [*ids, *grams[0].tolist()]


def sentences(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Example:
    """Sentences, cut as our model cuts them."""
    rows: list[list[int]] = [[]]
    for i in ids:
        if i == SENTENCE_END:
            rows.append([])
        else:
            rows[-1].append(i)
    limit, width = settings.get("max_sentences", 256), settings["max_words"]
    return [row[:width] for row in rows if row][:limit]


def story_and_question(ids: list[int], settings: dict[str, Any], vocabulary_size: int) -> Example:
    """Sentences of the story, and the question."""
    at = ids.index(QUESTION)
    question = [i for i in ids[at + 1 :] if i != SENTENCE_END]
    return [sentences(ids[:at], settings, vocabulary_size), question]


def longest(examples: Sequence[Any]) -> tuple[int, ...]:
    """Shape that holds every example: its length, and that of what is in it."""
    lists = [x for x in examples if isinstance(x, list)]
    if not lists:
        return ()
    return (max(1, *map(len, lists)), *longest([y for x in lists for y in x]))


def padded(example: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The example filled up with zeros."""
    if len(shape) == 1:
        return example + [0] * (shape[0] - len(example))
    rows = [padded(row, shape[1:]) for row in example]
    return rows + [padded([], shape[1:])] * (shape[0] - len(example))


class OrdinaryTrainer:
    """Lists of ids, padded to the longest of the corpus; torch's Adam as it comes."""

    def __init__(self, case: Case, dataset: Dataset) -> None:
        sizes = {k: v for k, v in case.settings.items() if k not in case.ours_alone}
        self.model = case.ordinary(
            vocabulary_size=len(dataset.vocabulary), num_classes=len(dataset.label_names), **sizes
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=case.lr)
        self.batch_size = case.batch_size
        self.examples, self.dev = (
            [case.lists(ids, case.settings, len(dataset.vocabulary)) for ids in lists(documents)]
            for documents in (dataset.train, dataset.dev)
        )
        self.labels = dataset.train.labels.tolist()
        self.dev_labels = dataset.dev.labels
        everything = [*self.examples, *self.dev]
        self.paired = case.lists is story_and_question
        parts = zip(*everything, strict=True) if self.paired else [everything]
        self.shapes = [longest(list(part)) for part in parts]

    def tensors(self, examples: list[Example]) -> list[Tensor]:
        """A batch: one tensor, or story and question."""
        parts = zip(*examples, strict=True) if self.paired else [examples]
        return [
            torch.tensor([padded(x, shape) for x in part])
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def train(self, indices: NDArray[np.int64]) -> float:
        """Seconds of training on these documents, once."""
        self.model.train()
        start = time.perf_counter()
        order = indices.tolist()
        for i in range(0, len(order), self.batch_size):
            batch = order[i : i + self.batch_size]
            inputs = self.tensors([self.examples[j] for j in batch])
            target = torch.tensor([self.labels[j] for j in batch])
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(*inputs), target)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return time.perf_counter() - start

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of the dev documents classified rightly."""
        self.model.eval()
        right = 0
        for i in range(0, len(self.dev), 64):
            scores = self.model(*self.tensors(self.dev[i : i + 64]))
            right += int((scores.argmax(1) == torch.from_numpy(self.dev_labels[i : i + 64])).sum())
        return right / len(self.dev)


class OurTrainer:
    """Our model and Adam in `fit`, on batches of like length."""

    def __init__(self, name: str, case: Case, dataset: Dataset) -> None:
        self.model = MODELS[name](
            vocabulary_size=len(dataset.vocabulary),
            num_classes=len(dataset.label_names),
            **case.settings,
        )
        self.optimizer = Adam(self.model.parameters(), lr=case.lr)
        self.batch_size = case.batch_size
        self.dataset = dataset
        self.turns = 0

    def train(self, indices: NDArray[np.int64]) -> float:
        """Seconds of training on these documents, once."""
        try:
            state = fit(
                self.model,
                self.optimizer,
                SingleLabel(),
                self.dataset.train.take(indices),
                self.dataset.dev.take(np.arange(1)),
                Fitting(epochs=1, batch_size=self.batch_size, seed=self.turns),
                progress=False,
            )
        except Interrupted:
            raise KeyboardInterrupt from None
        self.turns += 1
        return state.train_seconds

    def accuracy(self) -> float:
        """Share of the dev documents classified rightly."""
        return evaluate(self.model, self.dataset.dev).accuracy


def lists(documents: Documents) -> Iterator[list[int]]:
    """The ids of each document."""
    for i in range(len(documents)):
        yield documents.batch(np.array([i])).tokens[0].tolist()


# The race.


@dataclass(frozen=True)
class Case:
    """How a model is timed.

    Attributes:
        ordinary: The same model of torch's layers.
        corpus: Where it reads.
        settings: Sizes and dropout of both.
        lr: Learning rate of both.
        epochs: Passes over the documents, after which both have to be equally good.
        goal: How many times as fast ours has to be, or None.
        seconds: In how many seconds ours has to train on 10,000 documents, or None.
        documents: Documents of the corpus that are trained on, at most.
        batch_size: Documents an update of both.
        reading: How texts become documents.
        lists: Makes an example of the ordinary trainer from a document's ids.
        ours_alone: Those of the `settings` that the ordinary model does not have.
    """

    ordinary: type[nn.Module]
    corpus: str
    settings: dict[str, Any]
    lr: float
    epochs: int
    goal: float | None = None
    seconds: float | None = None
    documents: int = 10_000
    batch_size: int = 64
    reading: dict[str, Any] = field(default_factory=dict)
    lists: Any = words
    ours_alone: tuple[str, ...] = ()


IMDB = {"max_tokens": 400}

CASES = {
    "fasttext": Case(
        FastText,
        "imdb",
        {"embedding_dim": 10, "buckets": 1_000_000},
        lr=1e-2,
        epochs=3,
        goal=2.0,
        documents=4096,
        reading=IMDB,
        lists=words_and_bigrams,
    ),
    "textcnn": Case(
        TextCNN,
        "trec",
        {"embedding_dim": 300, "widths": (3, 4, 5), "maps": 100, "dropout": 0.5},
        lr=1e-3,
        epochs=4,
        goal=2.0,
    ),
    "textrnn": Case(
        TextRNN,
        "trec",
        {"embedding_dim": 300, "hidden_size": 128, "dropout": 0.5},
        lr=1e-3,
        epochs=8,
        goal=1.3,
    ),
    "rcnn": Case(
        RCNN,
        "trec",
        {"embedding_dim": 50, "context_size": 50, "hidden_size": 100, "dropout": 0.5},
        lr=2e-3,
        epochs=6,
        goal=1.3,
    ),
    "han": Case(
        HAN,
        "imdb",
        {
            "embedding_dim": 200,
            "hidden_size": 50,
            "context_size": 100,
            "dropout": 0.5,
            "max_sentences": 20,
            "max_words": 40,
        },
        lr=3e-3,
        epochs=3,
        goal=2.0,
        documents=1536,
        reading=IMDB | {"min_freq": 5},
        lists=sentences,
        ours_alone=("max_sentences", "max_words"),
    ),
    "seq2seq": Case(
        Seq2seq,
        "trec",
        {"embedding_dim": 200, "hidden_size": 200, "maxout_size": 100, "dropout": 0.5},
        lr=1e-3,
        epochs=4,
        goal=1.3,
    ),
    "transformer": Case(
        Transformer,
        "trec",
        {
            "embedding_dim": 128,
            "num_layers": 2,
            "num_heads": 4,
            "feedforward_dim": 256,
            "dropout": 0.1,
        },
        lr=1e-3,
        epochs=4,
        goal=1.3,
    ),
    "dmn": Case(
        DynamicMemoryNetwork,
        "babi-1",
        {"embedding_dim": 80, "hidden_size": 80, "passes": 3, "dropout": 0.1, "max_words": 64},
        lr=1e-3,
        epochs=3,
        seconds=12.0,
        lists=story_and_question,
        ours_alone=("max_words",),
    ),
    "entnet": Case(
        EntityNetwork,
        "babi-1",
        {"embedding_dim": 100, "slots": 20, "max_words": 64},
        lr=5e-3,
        epochs=4,
        seconds=12.0,
        batch_size=32,
        lists=story_and_question,
    ),
}


def some(documents: Documents, most: int) -> Documents:
    """At most so many of the documents, drawn at random."""
    order = np.random.default_rng(0).permutation(len(documents))
    return documents if len(order) <= most else documents.take(order[:most])


def race(name: str, case: Case, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Train both in turns; speeds of each piece and accuracies at the end."""
    torch.manual_seed(0)
    trainers: dict[str, OurTrainer | OrdinaryTrainer] = {
        "ours": OurTrainer(name, case, dataset),
        "ordinary": OrdinaryTrainer(case, dataset),
    }
    n = len(dataset.train)
    turns = max(1, round(n / PIECE))
    task = progress.add_task(name, total=case.epochs * turns)
    random = np.random.default_rng(0)
    speeds: dict[str, list[float]] = {side: [] for side in trainers}
    for _ in range(case.epochs):
        for piece in np.array_split(random.permutation(n), turns):
            for side, trainer in trainers.items():
                speeds[side].append(len(piece) / trainer.train(piece))
            progress.advance(task)
    progress.remove_task(task)
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["ordinary"], strict=True)]
    return {
        "accuracy": {side: trainer.accuracy() for side, trainer in trainers.items()},
        "documents_per_second": {side: statistics.median(s) for side, s in speeds.items()},
        "ratio": statistics.median(ratios),
        "pieces": speeds,
    }


def unequal(accuracy: dict[str, float], labels: NDArray[np.int64], margin: float) -> str | None:
    """Why the two speeds may not be compared; None if they may."""
    most = float(np.bincount(labels).max() / len(labels))
    ours, ordinary = accuracy["ours"], accuracy["ordinary"]
    if not ours >= ordinary - margin / 100:
        return f"accuracy {ours:.3f} on dev, the ordinary model's {ordinary:.3f}"
    if not ordinary >= most + margin / 100:
        return f"the ordinary model has only {ordinary:.3f} on dev, the largest class {most:.3f}"
    return None


def main(
    json: Path | None = None,
    models: tuple[str, ...] = tuple(CASES),
    corpus: str | None = None,
    data_dir: Path | None = None,
    documents: int | None = None,
    epochs: int | None = None,
    margin: float = 3.0,
) -> None:
    """Print documents per second in training, ours and the ordinary way, and which goals are met.

    Ordinary: documents are lists of ids, batches are padded to the longest document of the corpus
    (after the cut at the same number of tokens), the model is made of torch's own layers, the
    optimizer is torch's Adam with its defaults. Ours: `fit`, which batches documents of like
    length, our model, our Adam. Sizes, dropout, batch size, learning rate, documents and epochs are
    the same. Both train in turns, about a thousand documents each; figures are medians of the
    turns. Making the tensors of a batch counts, reading and tokenizing the corpus does not.

    First of all both have to be equally accurate on dev documents: if ours is worse than the
    ordinary one by more than the margin, or that one has learned nothing, no times are shown and
    the exit code is 1.

    Args:
        json: Also write all figures to this file (the kept ones: results/benchmarks/models.json).
        models: The models to time.
        corpus: Time on this one (the memory networks always read babi-1). Default: imdb for
            fasttext and han, trec for the others.
        data_dir: Folder of corpora, NAME/train.tsv[.gz] and so on; looked at before downloading.
        documents: Train on so many documents at most.
        epochs: Passes over them.
        margin: Points of accuracy that ours may have less.
    """
    if unknown := set(models) - set(CASES):
        raise UserError(f"--models must be among {', '.join(CASES)}, not {unknown.pop()!r}")
    threads = torch.get_num_threads()
    table = Table(title=f"Documents a second in training, on {threads} threads")
    for heading in ("model", "corpus", "dev accuracy", "ordinary", "docs/s", "ordinary", "×"):
        table.add_column(heading, justify="left" if heading in ("model", "corpus") else "right")
    rows: list[dict[str, Any]] = []
    goals: list[tuple[str, float, float]] = []  # what, reached, goal: reached ≥ goal
    failed: list[str] = []
    console = Console(width=None if sys.stdout.isatty() else 100)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in models:
            case = CASES[name]
            if corpus and case.lists is not story_and_question:
                case = replace(case, corpus=corpus)
            case = replace(
                case, documents=documents or case.documents, epochs=epochs or case.epochs
            )
            dataset = load_dataset(
                load(case.corpus, data_dir=data_dir, cache_dir=cache_folder()),
                Reading(tokenizer=default_tokenizer(name), **case.reading),
                cache_dir=cache_folder() / "tokens",
            )
            dataset.train = some(dataset.train, case.documents)
            dataset.dev = some(dataset.dev, DEV)
            row: dict[str, Any] = {
                "model": name,
                "corpus": case.corpus,
                "data": dataset.fingerprints,
                "documents": {"train": len(dataset.train), "dev": len(dataset.dev)},
                "settings": case.settings,
                "reading": case.reading,
                **{key: getattr(case, key) for key in ("batch_size", "lr", "epochs")},
                **race(name, case, dataset, progress),
            }
            cells = [f"{row['accuracy'][side]:.3f}" for side in SIDES]
            if reason := unequal(row["accuracy"], dataset.dev.labels, margin):
                failed.append(f"{name}: {reason}")
                for key in ("documents_per_second", "ratio", "pieces"):
                    del row[key]
            else:
                speed = row["documents_per_second"]
                cells += [*(f"{speed[side]:,.0f}" for side in SIDES), f"{row['ratio']:.2f}"]
                if case.goal:
                    goals.append((f"{name} × ordinary", row["ratio"], case.goal))
                if case.seconds:
                    per_epoch = 10_000 / speed["ours"]
                    row["seconds_of_10000"] = per_epoch
                    what = f"{name} 10,000 documents in {per_epoch:.1f} s, {case.seconds:.0f} s"
                    goals.append((what, case.seconds / per_epoch, 1.0))
            rows.append(row)
            table.add_row(name, case.corpus, *cells)
            progress.console.print(f"{name}: {', '.join(cells)}", highlight=False)
    console.print(table)
    missed = [goal for goal in goals if not goal[1] >= goal[2]]
    load_average = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{len(goals) - len(missed)} of {len(goals)} goals met (load: {load_average})")
    for what, reached, goal in missed:
        print(f"  missed: {what}: {reached:.2f}, goal {goal:.2f}")
    if json:
        listed = [{"goal": w, "reached": r, "at_least": g, "met": r >= g} for w, r, g in goals]
        write_json(
            json,
            {
                **provenance(0),
                "margin": margin,
                "load": os.getloadavg(),
                "rows": rows,
                "goals": listed,
                "failed": failed,
            },
        )
    for why in failed:
        print(f"not equally accurate: {why}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run(main)

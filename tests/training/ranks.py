"""Trainings that any number of processes must end with the same weights.

``torchrun --nproc-per-node N ranks.py FOLDER CASE…`` writes what each case ends with.
"""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlnotes.training.evaluate as evaluate_module
import dlnotes.training.fit as fit_module
import dlnotes.training.objectives as objectives_module
from dlnotes.data.batches import by_length
from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.models import MODELS, TRANSLATORS
from dlnotes.optim import OPTIMIZERS
from dlnotes.training import distributed, replica, shared_memory
from dlnotes.training.classifier import default_tokenizer
from dlnotes.training.objectives import MultiLabel, Sequence, SingleLabel
from small import SMALL, fitted, make, pairs


class Forgetful(nn.Module):
    """Uses its second layer for documents with some word alone, and the third one never."""

    def __init__(self, words):
        super().__init__()
        self.vectors = nn.Embedding(words, 4)
        self.first, self.second, self.third = (nn.Linear(4, 3) for _ in range(3))

    def forward(self, tokens):
        x = self.vectors(tokens).masked_fill((tokens == 0).unsqueeze(-1), 0.0).sum(1)
        rare = (tokens == 9).any(1, keepdim=True)
        return self.first(x) + self.second(x) * rare if rare.any() else self.first(x)


class Tables(nn.Embedding):
    """Has a matrix for each of eight kinds of words, and a number per word, beside the vectors."""

    def __init__(self, words):
        super().__init__(words, 4)
        self.kinds, self.scales = (
            nn.Parameter(torch.randn(8, 4, 4)),
            nn.Parameter(torch.ones(words)),
        )

    def forward(self, tokens):
        x = super().forward(tokens).unsqueeze(-2) @ self.kinds[tokens % 8]
        return x.squeeze(-2) * self.scales[tokens].unsqueeze(-1)


class Odd(nn.Module):
    """Sparse gradients that nothing announces, and a buffer that rare documents change.

    `seldom`: only rare documents lead to sparse gradients, in one process or in several.
    """

    def __init__(self, words, *, seldom=False):
        super().__init__()
        self.seldom = seldom
        self.vectors, self.more = Tables(words), nn.Parameter(torch.randn(words, 4))
        self.output = nn.Linear(4, 3)
        self.register_buffer("rare", torch.zeros(()), persistent=False)

    def forward(self, tokens):
        is_rare = bool((tokens == 9).any())
        self.rare += is_rare
        sparse = is_rare or not self.seldom
        x = self.vectors(tokens) + F.embedding(tokens, self.more, sparse=sparse)
        return self.output(x.masked_fill((tokens == 0).unsqueeze(-1), 0.0).sum(1))


class Some(SingleLabel):
    """Documents of the first class count nothing."""

    def size(self, labels):
        return (labels != 0).sum()

    def loss(self, outputs, labels):
        counted = labels != 0
        sums = F.cross_entropy(outputs[counted], labels[counted], reduction="sum")
        return sums / counted.sum().clamp(min=1)


class Blocks(nn.Module):
    """Two layers whose weights can be spread over processes."""

    def __init__(self, words):
        super().__init__()
        self.vectors, self.output = nn.Embedding(words, 5), nn.Linear(5, 3)
        self.blocks = [nn.Linear(5, 5), nn.Linear(5, 5)]
        self.layers = nn.ModuleList(self.blocks)

    def forward(self, tokens):
        x = self.vectors(tokens).masked_fill((tokens == 0).unsqueeze(-1), 0.0).sum(1)
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.output(x)


class First:
    """The first few documents."""

    def __init__(self, documents, count=None):
        self.documents, self.lengths = documents, documents.lengths[:count]

    def __len__(self):
        return len(self.lengths)

    def batch(self, indices):
        return self.documents.batch(indices)


class Several(First):
    """Documents with several labels, or none."""

    def batch(self, indices):
        batch = self.documents.batch(indices)
        labels = torch.stack([batch.labels % 2, batch.labels // 2, batch.tokens[:, 0] % 2], 1)
        return batch._replace(labels=labels.float())


class Pairs(First):
    """Documents that are to be written again."""

    def batch(self, indices):
        batch = self.documents.batch(indices)
        begin = torch.full_like(batch.tokens[:, :1], 3)
        labels = torch.cat([begin, batch.tokens, torch.zeros_like(begin)], 1)
        end = (labels > 0).sum(1, keepdim=True)
        return batch._replace(labels=labels.scatter(1, end, 2))


class Uneven(First):
    """Every tenth document six times as long, so that processes have other numbers of parts."""

    def __init__(self, documents):
        super().__init__(documents)
        self.lengths = np.where(np.arange(len(self)) % 10, self.lengths, 6 * self.lengths)

    def batch(self, indices):
        batch = self.documents.batch(indices)
        tokens = batch.tokens.new_zeros(len(indices), self.lengths[indices].max())
        for i, index in enumerate(indices):
            row = batch.tokens[i][batch.tokens[i] > 0].repeat(1 if index % 10 else 6)
            tokens[i, : len(row)] = row
        return batch._replace(tokens=tokens)


# Of each case what differs: model, its settings, objective, optimizer, most tokens at once, fit's.
CASES = {
    **{name: {"model": name} for name in MODELS},
    # The gradient of its keys' bias is 0 but for rounding, which Adam would make a step of.
    "transformer": {"model": "transformer", "optimizer": "momentum"},
    **{f"by {name}": {"optimizer": name} for name in OPTIMIZERS},
    **{f"rows by {name}": {"optimizer": name, "model": "fasttext"} for name in OPTIMIZERS},
    "paths": {"model": "fasttext", "settings": {"output": "hierarchical"}},
    "dense paths": {
        "model": "fasttext",
        "settings": {"output": "hierarchical"},
        "objective": SingleLabel(),
    },
    "weights": {"objective": SingleLabel([0.5, 2.0, 0.0], 0.1), "batch_size": 6},
    "focal": {"objective": SingleLabel(focal_gamma=2.0)},
    "several labels": {
        "objective": MultiLabel([1.0, 2.0, 3.0], 0.1),
        "documents": Several,
    },
    "sequences": {"model": "translator", "objective": Sequence(0.1), "documents": Pairs},
    "norm": {"settings": {"max_norm": 0.1}, "clip_norm": 0.05},
    "wrapped": {"settings": {"max_norm": 0.1}, "wrapped": True},
    "few": {"batch_size": 3, "train": 11},
    "one": {"batch_size": 8, "train": 1, "model": "fasttext"},
    "micro": {"model": "transformer", "optimizer": "momentum", "micro_batch_size": 3},
    "micro sparse": {"model": "fasttext", "micro_batch_size": 2, "batch_size": 15},
    "micro weights": {"objective": SingleLabel([0.37, 2.9, 0.0], 0.1), "micro_batch_size": 2},
    **{
        f"shards by {name}": {"optimizer": name, "model": "blocks", "shard": True}
        for name in OPTIMIZERS
    },
    "shards": {
        "model": "transformer",
        "optimizer": "momentum",
        "shard": True,
        "micro_batch_size": 3,
        "clip_norm": 0.05,
        "train": 83,
    },
    "tied": {
        "model": "transformer translator",
        "optimizer": "momentum",
        "objective": Sequence(0.1),
        "documents": Pairs,
    },
    "shards of a translator": {
        "model": "transformer translator",
        "optimizer": "momentum",
        "objective": Sequence(0.1),
        "documents": Pairs,
        "shard": True,
    },
    "huge": {"most_tokens": 100, "documents": Uneven},
    "huge sparse": {"most_tokens": 100, "model": "fasttext", "documents": Uneven},
    "odd": {"model": "odd", "batch_size": 4},
    # Moments of Adam's would change in other rows where one process has a dense gradient.
    "seldom sparse": {"model": "seldom", "batch_size": 4, "optimizer": "gradient-descent"},
    "messages": {"memory": 0},
    "little memory": {"memory": 4032, "batch_size": 5},  # for 8 of 14 words
    "some": {"objective": Some(), "batch_size": 4},
    "unused": {"model": "forgetful", "optimizer": "adamw", "batch_size": 4},
}


def train(case, dtype=torch.float64, **options):
    """The weights that a case ends with, and the losses of its epochs."""
    case = CASES[case] | options
    name = case.pop("model", "textcnn")
    tokenizer = default_tokenizer(name) if name in MODELS else "basic_english"
    sources = {"train": pairs(120, 0), "test": pairs(60, 1)}
    dataset = load_dataset(sources, split_seed=0, tokenizer=tokenizer)
    train, dev = dataset.train, dataset.dev
    if limit := case.pop("train", None):
        train = First(train, limit)
    if wrap := case.pop("documents", None):
        train, dev = wrap(train), None
    words = len(dataset.vocabulary)
    settings = {"dropout": 0.0} if name in MODELS else {}
    settings |= case.pop("settings", {})
    torch.manual_seed(0)
    if name == "forgetful":
        model = Forgetful(words)
    elif name in ("odd", "seldom"):
        model = Odd(words, seldom=name == "seldom")
    elif name == "blocks":
        model = Blocks(words)
    elif name.endswith("translator"):
        name = "transformer" if name.startswith("transformer") else "seq2seq"
        small = SMALL[name] | {"dropout": 0.0}
        model = TRANSLATORS[name](
            source_vocabulary_size=words, target_vocabulary_size=words, **small
        )
    else:
        model = make(dataset, name, **settings)
    model = model.to(dtype)
    if case.pop("wrapped", False) and distributed.current().size > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    rule = OPTIMIZERS[case.pop("optimizer", "adam")](model.parameters(), lr=0.01)
    fit_module._MAX_TOKENS = case.pop("most_tokens", 1 << 18)
    fit_module._PART_TOKENS = min(fit_module._MAX_TOKENS, 1 << 15)
    slots = 2 * distributed.current().size
    shared_memory._MAX_BYTES = slots * case.pop("memory", 1 << 20)
    options = {"epochs": 2, "batch_size": 16, "progress": False, "dev": dev} | case
    state = fitted(model, rule, train, **options)
    return distributed.unwrapped(model).state_dict(), [
        record["train_loss"] for record in state.history
    ]


class NoNumber(SingleLabel):
    """Loses its numbers in one process."""

    def __init__(self, rank):
        super().__init__()
        self.rank = rank

    def loss(self, outputs, labels):
        loss = super().loss(outputs, labels)
        return loss * float("nan") if distributed.current().rank == self.rank else loss


class NoFigures(SingleLabel):
    """Fails on dev."""

    def evaluate(self, model, documents, **options):
        raise UserError("no figures")


WAYS = {
    "textcnn": {"add"},
    "unused": {"add"},
    "messages": {"send"},
    "odd": {"send"},
    "seldom sparse": {"add", "send"},
    "little memory": {"add", "send"},
}
"""How gradients are averaged: in memory (`Slots.add`) or by messages (`CPUReplica.send`)."""


def watch(patch, seen):
    """Note in `seen` how gradients are averaged."""
    add, send = shared_memory.Slots.add, replica.CPUReplica.send
    patch.setattr(shared_memory.Slots, "add", lambda *given: (seen.add("add"), add(*given)))
    patch.setattr(replica.CPUReplica, "send", lambda *given: (seen.add("send"), send(*given)))


MISHAPS = {
    "no number": lambda rank: {"objective": NoNumber(1)},
    "no figures": lambda rank: {"objective": NoFigures()},
    "other settings": lambda rank: {"epochs": 2 + rank},
    "other documents": lambda rank: {"train": 20 + rank},
    "other weights": lambda rank: {"settings": {"maps": 2 + rank}},
}
"""What makes a training fail, by the process's rank."""


def mishap(name, rank):
    """The error with which a training ends."""
    try:
        train("textcnn", **MISHAPS[name](rank))
    except UserError as error:
        return str(error)
    return None


def check_shared_evaluation(group):
    """Whoever measures a batch, all processes have all figures, to the last bit."""
    dataset = load_dataset({"train": pairs(120, 0), "dev": pairs(60, 1)}, tokenizer="basic_english")
    torch.manual_seed(0)
    model, words = make(dataset, "textcnn"), len(dataset.vocabulary)
    translator = TRANSLATORS["seq2seq"](
        source_vocabulary_size=words, target_vocabulary_size=words, **SMALL["seq2seq"]
    )
    several = Several(dataset.dev)
    several.labels = several.batch(np.arange(60)).labels.numpy()
    cases = [
        (SingleLabel(), model, dataset.dev),
        (MultiLabel(threshold=None), model, several),
        (Sequence(), translator, Pairs(dataset.dev)),
        (SingleLabel(), model, dataset.dev.take(np.arange(1))),  # one batch
    ]
    for objective, network, documents in cases:
        assert len(list(by_length(documents.lengths, 60))) > group.size or len(documents) == 1
        alone = objective.evaluate(network, documents)
        shared = objective.evaluate(network, documents, group=group)
        assert pickle.dumps(shared) == pickle.dumps(alone), objective
        assert network.training


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, *cases = sys.argv[1:]
    with distributed.process_group() as group:
        replica._LARGE = 50  # so that vectors are large
        with pytest.MonkeyPatch.context() as patch:
            for module in (evaluate_module, objectives_module):
                patch.setattr(module, "_BATCH_TOKENS", 60)
            check_shared_evaluation(group)
        for case in (case for case in cases if case in MISHAPS):
            told = group.all_gather_object(mishap(case, group.rank))
            if group.is_first:
                torch.save(told, Path(folder) / f"{case}.pt")
        for case in (case for case in cases if case in CASES):
            seen = set()
            with pytest.MonkeyPatch.context() as patch:
                watch(patch, seen)
                weights, losses = train(case)
            if hasattr(os, "memfd_create"):
                assert seen == WAYS.get(case, seen), (case, seen)
            everyone = group.all_gather_object({n: w.clone() for n, w in weights.items()})
            for other in everyone:
                assert all(torch.equal(other[n], w) for n, w in weights.items()), case
            if group.is_first:
                torch.save((weights, losses), Path(folder) / f"{case}.pt")

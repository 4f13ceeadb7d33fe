"""Lists of ids, padded to the longest of the corpus; torch's Adam as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ordinary.examples import Inputs

Example = tuple[Inputs, int]
"""What a document gives to the model, and its label."""


def longest(items: Iterable[Any]) -> tuple[int, ...]:
    """Shape that holds every item: its length, and that of what is in it."""
    lists = [item for item in items if isinstance(item, list)]
    if not lists:
        return ()
    return (max(1, *map(len, lists)), *longest([y for x in lists for y in x]))


def padded(item: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The item filled up with zeros."""
    if len(shape) == 1:
        return item + [0] * (shape[0] - len(item))
    rows = [padded(row, shape[1:]) for row in item]
    return rows + [padded([], shape[1:])] * (shape[0] - len(item))


class OrdinaryTrainer:
    """Trains a model on documents of a corpus, in batches in the order asked for."""

    def __init__(
        self, model: nn.Module, train: list[Example], dev: list[Example], lr: float, batch_size: int
    ) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.examples, self.dev, self.batch_size = train, dev, batch_size
        parts = zip(*(inputs for inputs, _ in [*train, *dev]), strict=True)
        self.shapes = [longest(part) for part in parts]

    def batch(self, examples: Sequence[Example]) -> tuple[list[Tensor], Tensor]:
        """Padded inputs, and labels."""
        parts = zip(*(inputs for inputs, _ in examples), strict=True)
        inputs = [
            torch.tensor([padded(item, shape) for item in part])
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return inputs, torch.tensor([label for _, label in examples])

    def train(self, indices: NDArray[np.int64]) -> float:
        """Seconds of training on these documents, once."""
        self.model.train()
        start = time.perf_counter()
        order = indices.tolist()
        for i in range(0, len(order), self.batch_size):
            inputs, labels = self.batch([self.examples[j] for j in order[i : i + self.batch_size]])
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(*inputs), labels)
            loss.backward()
            self.optimizer.step()
        return time.perf_counter() - start

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of the dev documents classified correctly."""
        self.model.eval()
        correct = 0
        for i in range(0, len(self.dev), 64):
            inputs, labels = self.batch(self.dev[i : i + 64])
            correct += int((self.model(*inputs).argmax(1) == labels).sum())
        return correct / len(self.dev)

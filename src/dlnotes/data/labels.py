"""Labels of documents that may have any number each, without a documents × classes matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The labels of n documents: a set of class numbers for each, which may be empty.

    Memory grows with the number of labels that documents have, not with documents times classes.

    Attributes:
        ids: Class numbers of all documents, one document after another; ascending within each.
        offsets: Where the labels of each document begin in `ids`, and the end, shape (n + 1,).
        classes: How many classes there are.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    classes: int

    @classmethod
    def build(cls, ids: NDArray[np.int64], sizes: NDArray[np.int64], classes: int) -> Self:
        """Make sets from class numbers in any order; one that is given twice counts once.

        Args:
            ids: Class numbers of all documents, one document after another.
            sizes: How many each document has, shape (n,).
            classes: How many classes there are.
        """
        documents = np.repeat(np.arange(len(sizes)), sizes)
        different = np.unique(documents * max(1, classes) + ids)
        counts = np.bincount(different // max(1, classes), minlength=len(sizes))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(different % max(1, classes), offsets, classes)

    @classmethod
    def single(cls, labels: NDArray[np.int64], classes: int) -> Self:
        """One label for each document, shape (n,), as sets of one."""
        return cls(labels.astype(np.int64), np.arange(len(labels) + 1), classes)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many labels each document has, shape (n,)."""
        sizes: NDArray[np.int64] = np.diff(self.offsets)
        return sizes

    def of(self, index: int) -> NDArray[np.int64]:
        """The class numbers of a document, ascending."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def have(self, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each document has the class given for it, shape (n,)."""
        documents = np.arange(len(self))
        there = np.repeat(documents, self.sizes) * self.classes + self.ids
        return np.isin(documents * self.classes + classes, there)

    def take(self, indices: NDArray[np.int64]) -> LabelSets:
        """Select the sets of documents, in this order; one may be taken several times."""
        starts = self.offsets[indices]
        sizes = self.offsets[np.asarray(indices) + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        return LabelSets(self.ids[places], offsets, self.classes)

    def concatenate(self, other: LabelSets) -> LabelSets:
        """These sets and then those of `other`."""
        return LabelSets(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            max(self.classes, other.classes),
        )

    def dense(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Which document has which class, shape (n, classes).

        Args:
            indices: These documents only, in this order. Of many documents with many classes the
                matrix is large: ask for a batch at a time.
        """
        chosen = self if indices is None else self.take(indices)
        matrix = np.zeros((len(chosen), self.classes), bool)
        matrix[np.repeat(np.arange(len(chosen)), chosen.sizes), chosen.ids] = True
        return matrix

    def counts(self) -> NDArray[np.int64]:
        """How many documents have each class, shape (classes,)."""
        return np.bincount(self.ids, minlength=self.classes).astype(np.int64)

    def renumbered(self, table: NDArray[np.int64], classes: int) -> LabelSets:
        """The sets with other class numbers: `table` has the new number of each class."""
        return LabelSets.build(table[self.ids], self.sizes, classes)

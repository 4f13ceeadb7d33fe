"""Documents that a model can read: views of tokenized texts, and the batches drawn from them."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.arguments import Count, check
from dlnotes.data.labels import LabelSets
from dlnotes.data.tokenization import MARKS, QUESTION_TOKEN
from dlnotes.data.tokenized import TokenizedTexts
from dlnotes.data.vocabulary import PAD, Vocabulary
from dlnotes.errors import UserError


class Batch(NamedTuple):
    """Token ids, padded with PAD on the right, and labels.

    Labels are the class of each document, or a sequence of token ids, or, where a document may have
    several labels, 1 for those that it has and 0 for the others.
    """

    tokens: Int[Tensor, "b t"]
    labels: Int[Tensor, " b *u"] | Float[Tensor, "b c"]


class Examples(Protocol):
    """What can be trained on: documents with labels, drawn in batches."""

    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of documents."""
        ...

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Gather documents."""
        ...


class Documents:
    """A selection of tokenized texts, numbered by a vocabulary and a list of labels.

    Holds no tokens of its own: they stay in the flat array of `texts`.

    Args:
        texts: The tokenized texts.
        vocabulary: Gives every token its id.
        label_names: Label of each class number; None for texts without labels.
        indices: The documents that belong to the selection; default all.
        max_tokens: Longer documents are read up to here. A story keeps its question, as far as that
            is no longer: what is left out lies between the story's beginning and the question.
        multi_label: Whether a document may have several labels, or none; None: as `texts` have
            them.

    Attributes:
        lengths: Tokens of each document, shape (documents,).
        labels: Class of each document, shape (documents,); `LabelSets` where a document may have
            several.

    Raises:
        UserError: A label that is not in `label_names`, or several or none where `multi_label` is
            False (names the file and the line); `max_tokens` below 1.
    """

    def __init__(
        self,
        texts: TokenizedTexts,
        vocabulary: Vocabulary,
        label_names: Sequence[str] | None,
        *,
        indices: NDArray[np.int64] | None = None,
        max_tokens: int | None = None,
        multi_label: bool | None = None,
    ) -> None:
        check({"max_tokens": Count | None}, {"max_tokens": max_tokens})
        if indices is None:
            indices = np.arange(len(texts))
        self._tokens = texts.tokens
        self._types = texts.types
        self._ids = vocabulary.ids(texts.types)
        self._starts = texts.offsets[indices]
        self._ends = texts.offsets[indices + 1]
        self._limit(vocabulary, max_tokens)
        self.labels: NDArray[np.int64] | LabelSets = np.zeros(len(indices), np.int64)
        if label_names is not None:
            self.labels = _class_numbers(texts, label_names, indices, multi_label)

    @property
    def cut(self) -> int:
        """How many documents are longer than `max_tokens`."""
        return int(self._is_cut.sum())

    def _limit(self, vocabulary: Vocabulary, max_tokens: int | None) -> None:
        self.lengths: NDArray[np.int64] = self._ends - self._starts
        # Tokens that are read before some are left out, and how many are left out there.
        self._heads = self.lengths
        self._gaps = np.zeros(len(self), np.int64)
        self._is_cut = np.zeros(len(self), bool)
        if max_tokens is not None:
            self._cut(vocabulary, min(max_tokens, np.iinfo(np.int64).max))

    def _cut(self, vocabulary: Vocabulary, max_tokens: int) -> None:
        long = np.flatnonzero(self.lengths > max_tokens)
        self._is_cut[long] = True
        ends = self._ends
        self.lengths = self._heads = np.minimum(self.lengths, max_tokens)
        if not len(long) or not vocabulary.has_marks(MARKS["sentences"]):
            return
        mark = self._types.index_of(QUESTION_TOKEN)
        if mark is None:
            return
        self._heads = self._heads.copy()
        for i in long:
            marks = np.flatnonzero(self._tokens[self._starts[i] : ends[i]] == mark)
            if len(marks):
                asked = ends[i] - self._starts[i] - marks[0]  # tokens of the question
                self._heads[i] = max(0, max_tokens - asked)
                self._gaps[i] = marks[0] - self._heads[i]

    def __len__(self) -> int:
        return len(self._starts)

    def _places(self, indices: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in the flat array the tokens of documents lie, shape (b, steps)."""
        places: NDArray[np.int64] = self._starts[indices, None] + steps
        if self._gaps[indices].any():
            places += self._gaps[indices, None] * (steps >= self._heads[indices, None])
        return places

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Gather documents: tokens of shape (b, longest of them), labels of shape (b,).

        Where a document may have several labels, theirs are float32 of shape (b, classes).
        """
        lengths = self.lengths[indices, None]
        steps = np.arange(lengths.max(initial=0))
        real = steps < lengths
        ids = np.full(real.shape, PAD, np.int64)
        ids[real] = self._ids[self._tokens[self._places(indices, steps)[real]]]
        if isinstance(self.labels, LabelSets):
            labels = torch.from_numpy(self.labels.dense(indices)).float()
        else:
            labels = torch.from_numpy(self.labels[indices])
        return Batch(torch.from_numpy(ids), labels)

    def take(self, indices: NDArray[np.int64]) -> Documents:
        """These of the documents, in this order; one may be taken several times."""
        taken = copy.copy(self)
        taken._starts, taken._ends = self._starts[indices], self._ends[indices]
        taken._heads, taken._gaps = self._heads[indices], self._gaps[indices]
        taken._is_cut = self._is_cut[indices]
        taken.lengths = self.lengths[indices]
        if isinstance(self.labels, LabelSets):
            taken.labels = self.labels.take(indices)
        else:
            taken.labels = self.labels[indices]
        return taken

    def limited(self, vocabulary: Vocabulary, max_tokens: int | None) -> Documents:
        """The same documents numbered by `vocabulary`, and read up to `max_tokens`.

        Raises:
            UserError: `max_tokens` is below 1.
        """
        check({"max_tokens": Count | None}, {"max_tokens": max_tokens})
        limited = copy.copy(self)
        limited._ids = vocabulary.ids(self._types)
        limited._limit(vocabulary, max_tokens)
        return limited

    def joined(self, other: Documents, vocabulary: Vocabulary) -> Documents:
        """These documents and then those of `other`, numbered by `vocabulary`."""
        both = copy.copy(self)
        starts, ends = other._starts, other._ends
        if other._tokens is not self._tokens:
            both._tokens = np.concatenate([self._tokens, other._tokens + len(self._types)])
            both._types = pl.concat([self._types, other._types])
            starts, ends = starts + len(self._tokens), ends + len(self._tokens)
        both._ids = vocabulary.ids(both._types)
        both._starts = np.concatenate([self._starts, starts])
        both._ends = np.concatenate([self._ends, ends])
        both._heads = np.concatenate([self._heads, other._heads])
        both._gaps = np.concatenate([self._gaps, other._gaps])
        both._is_cut = np.concatenate([self._is_cut, other._is_cut])
        both.lengths = np.concatenate([self.lengths, other.lengths])
        both.labels = _joined_labels(self.labels, other.labels)
        return both

    def words(self, index: int) -> list[str]:
        """Tokens of a document as they were read."""
        steps = np.arange(self.lengths[index])
        types = self._tokens[self._places(np.array([index]), steps)[0]]
        return self._types.gather(pl.Series(types)).to_list()

    def text(self, index: int) -> str:
        """The same with a space between two."""
        return " ".join(self.words(index))


def _joined_labels(
    first: NDArray[np.int64] | LabelSets, second: NDArray[np.int64] | LabelSets
) -> NDArray[np.int64] | LabelSets:
    if isinstance(first, LabelSets) and isinstance(second, LabelSets):
        return first.joined(second)
    assert not isinstance(first, LabelSets)
    assert not isinstance(second, LabelSets)
    return np.concatenate([first, second])


def _class_numbers(
    texts: TokenizedTexts,
    label_names: Sequence[str],
    indices: NDArray[np.int64],
    multi_label: bool | None,
) -> NDArray[np.int64] | LabelSets:
    number = {name: i for i, name in enumerate(label_names)}
    # Files of another format may write 1.0 for 1, and True for true.
    alike = {spelling(name): i for name, i in reversed([*number.items()])}
    table = np.array(
        [number.get(name, alike.get(spelling(name), -1)) for name in texts.label_names], np.int64
    )
    sets = texts.labels
    if not isinstance(sets, LabelSets):
        sets = LabelSets.single(sets, len(texts.label_names))
    if multi_label is None:
        multi_label = isinstance(texts.labels, LabelSets)
    sets = sets.take(indices)
    unseen = np.flatnonzero(table[sets.ids] < 0)
    if len(unseen):
        document = np.searchsorted(sets.offsets, unseen[0], "right") - 1
        listed = ", ".join(label_names[:20]) + (", …" if len(label_names) > 20 else "")
        raise UserError(
            f"{texts.where(indices[document])}: label "
            f"{texts.label_names[sets.ids[unseen[0]]]!r} does not occur in the training data, "
            f"which has: {listed}"
        )
    if multi_label:
        return sets.renumbered(table, len(label_names))
    return table[single_labels(texts, indices)]


def single_labels(
    texts: TokenizedTexts,
    indices: NDArray[np.int64] | None = None,
    *,
    why: str = "as in the training data",
) -> NDArray[np.int64]:
    """The label of each text, index into `label_names`, where none may have several.

    Args:
        texts: The texts.
        indices: Those of the texts; default all.
        why: For the message.

    Raises:
        UserError: One has several or none; names the file and the line.
    """
    indices = np.arange(len(texts)) if indices is None else indices
    if not isinstance(texts.labels, LabelSets):
        return texts.labels[indices]
    sets = texts.labels.take(indices)
    wrong = np.flatnonzero(sets.sizes != 1)
    if len(wrong):
        place = texts.where(indices[wrong[0]])
        count = sets.sizes[wrong[0]]
        labels = f"{count} labels ({texts.label_of(indices[wrong[0]])})" if count else "no label"
        raise UserError(f"{place}: the text has {labels}; each must have one, {why}")
    return sets.ids


def spelling(label: str) -> str:
    """One spelling for what pandas and others write in several ways: 1.0 for 1, True for true."""
    whole = re.fullmatch(r"(-?\d+)\.0*", label)
    if whole:
        return whole[1]
    return label.lower() if label.lower() in ("true", "false") else label

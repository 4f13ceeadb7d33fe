"""Documents that a model can read: views of tokenized texts, and the batches drawn from them."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.arguments import Count, check
from dlnotes.data.labels import LabelSets
from dlnotes.data.layout import LABEL
from dlnotes.data.mapped import arange, concatenate, empty, slices, take
from dlnotes.data.tokenization import MARKS, QUESTION_TOKEN
from dlnotes.data.tokenized import TokenizedTexts
from dlnotes.data.vocabulary import PAD, Vocabulary
from dlnotes.errors import UserError


class Batch(NamedTuple):
    """Token ids, padded with PAD on the right, and labels.

    The label of a document is its class, or a sequence of token ids, or, where a document may have
    several labels, a row with 1 for those that it has and 0 for the others.
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
        max_tokens: Documents are cut to this many tokens. A story keeps its question: what is left
            out is the end of the story before it, and the end of the question only if that alone
            is too long.
        multi_label: Whether a document may have several labels, or none; None: as in `texts`.

    Attributes:
        lengths: Tokens of each document, shape (documents,).
        labels: Class of each document, shape (documents,); `LabelSets` where a document may have
            several.
        folder: Folder for the files of large arrays made from these; None for memory.

    Raises:
        UserError: A label is not in `label_names`, or a document has several or none and
            `multi_label` is False (the message gives file and line); `max_tokens` is below 1.
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
        self.folder = texts.folder
        if indices is None:
            indices = arange(len(texts), self.folder)
        self._tokens = texts.tokens
        self._offsets = texts.offsets
        self._types = texts.types
        self._ids = vocabulary.ids(texts.types)
        self._rows = indices
        self._limit(vocabulary, max_tokens)
        self.labels: NDArray[np.int64] | LabelSets
        if label_names is not None:
            self.labels = _class_numbers(texts, label_names, indices, multi_label)
        else:
            self.labels = np.broadcast_to(np.int64(0), len(indices))

    @property
    def num_truncated(self) -> int:
        """How many documents are longer than `max_tokens`."""
        whole = (self._whole(rows) for rows in slices(len(self)))
        read = (self.lengths[rows] for rows in slices(len(self)))
        return sum(int((of_text > r).sum()) for of_text, r in zip(whole, read, strict=True))

    def _whole(self, rows: slice) -> NDArray[np.int64]:
        """How many tokens each text has before it is cut."""
        texts = self._rows[rows]
        lengths: NDArray[np.int64] = self._offsets[texts + 1] - self._offsets[texts]
        return lengths

    def _limit(self, vocabulary: Vocabulary, max_tokens: int | None) -> None:
        most = np.iinfo(np.int64).max if max_tokens is None else max_tokens
        most = min(most, np.iinfo(np.int64).max)
        self.lengths: NDArray[np.int64] = empty(len(self), np.int64, self.folder)
        # For documents whose left-out tokens are not their last ones, by the text's number: how
        # many tokens come before the gap, and how many are left out.
        self._gaps: dict[int, tuple[int, int]] = {}
        mark = None
        if max_tokens is not None and vocabulary.has_marks(MARKS["sentences"]):
            mark = self._types.index_of(QUESTION_TOKEN)
        for rows in slices(len(self)):
            whole = self._whole(rows)
            self.lengths[rows] = np.minimum(whole, most)
            if mark is not None:
                for text in self._rows[rows][whole > most].tolist():
                    self._keep_question(text, mark, most)

    def _keep_question(self, text: int, mark: int, most: int) -> None:
        start, end = self._offsets[text : text + 2].tolist()
        marks = np.flatnonzero(self._tokens[start:end] == mark)
        if len(marks):
            asked = end - start - int(marks[0])  # tokens of the question
            head = max(0, most - asked)
            self._gaps[text] = head, int(marks[0]) - head

    def __len__(self) -> int:
        return len(self._rows)

    def _places(self, indices: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the documents' tokens in the flat array, shape (b, steps)."""
        texts = self._rows[indices]
        places: NDArray[np.int64] = self._offsets[texts, None] + steps
        if self._gaps:
            none = 0, 0
            gaps = np.array([self._gaps.get(text, none) for text in texts.tolist()], np.int64)
            heads, sizes = gaps.reshape(-1, 2, 1).swapaxes(0, 1)
            places += sizes * (steps >= heads)
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
        """Select documents, in this order; one may be taken several times."""
        taken = copy.copy(self)
        taken._rows = take(self._rows, indices, self.folder)
        taken.lengths = take(self.lengths, indices, self.folder)
        if isinstance(self.labels, LabelSets):
            taken.labels = self.labels.take(indices)
        else:
            taken.labels = take(self.labels, indices, self.folder)
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

    def concatenate(self, other: Documents, vocabulary: Vocabulary) -> Documents:
        """These documents and then those of `other`, numbered by `vocabulary`."""
        both = copy.copy(self)
        folder, more = self.folder, 0
        if other._tokens is not self._tokens:
            types, tokens, more = len(self._types), len(self._tokens), len(self._offsets)
            both._tokens = concatenate(self._tokens, other._tokens, folder, shift=types)
            both._types = pl.concat([self._types, other._types])
            both._offsets = concatenate(self._offsets, other._offsets, folder, shift=tokens)
        both._ids = vocabulary.ids(both._types)
        both._rows = concatenate(self._rows, other._rows, folder, shift=more)
        both._gaps = self._gaps | {text + more: gap for text, gap in other._gaps.items()}
        both.lengths = concatenate(self.lengths, other.lengths, folder)
        both.labels = _concatenate_labels(self.labels, other.labels, folder)
        return both

    def words(self, index: int) -> list[str]:
        """Tokens of a document as they were read."""
        steps = np.arange(self.lengths[index])
        types = self._tokens[self._places(np.array([index]), steps)[0]]
        return self._types.gather(pl.Series(types)).to_list()

    def text(self, index: int) -> str:
        """The tokens of a document, joined by spaces."""
        return " ".join(self.words(index))


def _concatenate_labels(
    first: NDArray[np.int64] | LabelSets,
    second: NDArray[np.int64] | LabelSets,
    folder: Path | None,
) -> NDArray[np.int64] | LabelSets:
    if isinstance(first, LabelSets) and isinstance(second, LabelSets):
        return first.concatenate(second)
    assert not isinstance(first, LabelSets)
    assert not isinstance(second, LabelSets)
    return concatenate(first, second, folder)


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
    given = texts.labels
    if multi_label is None:
        multi_label = isinstance(given, LabelSets)
    if isinstance(given, LabelSets) or multi_label:
        sets = given
        if not isinstance(sets, LabelSets):
            sets = LabelSets.single(sets, len(texts.label_names))
        sets = sets.take(indices)
        if len(unseen := np.flatnonzero(table[sets.ids] < 0)):
            document = np.searchsorted(sets.offsets, unseen[0], "right") - 1
            name = texts.label_names[sets.ids[unseen[0]]]
            raise _unseen(texts.location(indices[document]), name, label_names)
        if multi_label:
            return sets.renumbered(table, len(label_names))
        return table[single_labels(texts, indices)]
    classes: NDArray[np.int64] = empty(len(indices), np.int64, texts.folder)
    for rows in slices(len(indices)):
        labels = given[indices[rows]]
        classes[rows] = table[labels]
        if len(unseen := np.flatnonzero(classes[rows] < 0)):
            where = texts.location(indices[rows][unseen[0]])
            raise _unseen(where, texts.label_names[labels[unseen[0]]], label_names)
    return classes


def check_labels(frame: pl.DataFrame, name: str, label_names: Sequence[str]) -> None:
    """Require labels that occur in the training documents, before a file is read as a whole.

    Args:
        frame: Some of the documents, as `dlnotes.data.readers.read` gives them.
        name: Name of their file.
        label_names: Labels of the training documents.

    Raises:
        UserError: There is another label; the message gives its line.
    """
    if frame.schema[LABEL] == pl.List:
        frame = frame.explode(LABEL).drop_nulls(LABEL)
    known = {*map(spelling, label_names)}
    for label, line in frame.unique(LABEL, maintain_order=True).select(LABEL, "line").rows():
        if spelling(label) not in known:
            raise _unseen(f"{name}:{line}", label, label_names)


def _unseen(where: str, label: str, label_names: Sequence[str]) -> UserError:
    listed = ", ".join(label_names[:20]) + (", …" if len(label_names) > 20 else "")
    return UserError(
        f"{where}: label {label!r} does not occur in the training data, which has: {listed}"
    )


def single_labels(
    texts: TokenizedTexts,
    indices: NDArray[np.int64] | None = None,
    *,
    why: str = "as in the training data",
) -> NDArray[np.int64]:
    """The one label of each text, as an index into `label_names`.

    Args:
        texts: The texts.
        indices: Which of the texts; default all.
        why: Why each must have one label, for the message.

    Raises:
        UserError: A text has several labels or none; the message gives file and line.
    """
    indices = np.arange(len(texts)) if indices is None else indices
    if not isinstance(texts.labels, LabelSets):
        return texts.labels[indices]
    sets = texts.labels.take(indices)
    wrong = np.flatnonzero(sets.sizes != 1)
    if len(wrong):
        place = texts.location(indices[wrong[0]])
        count = sets.sizes[wrong[0]]
        labels = f"{count} labels ({texts.label_of(indices[wrong[0]])})" if count else "no label"
        raise UserError(f"{place}: the text has {labels}; each must have one, {why}")
    return sets.ids


def spelling(label: str) -> str:
    """One spelling for what pandas and others write in several ways: 1 and 1.0, true and True."""
    whole = re.fullmatch(r"(-?\d+)\.0*", label)
    if whole:
        return whole[1]
    return label.lower() if label.lower() in ("true", "false") else label

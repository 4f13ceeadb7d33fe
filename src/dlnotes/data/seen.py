"""Documents that an earlier training has seen, and how a later one splits these and new ones."""

from __future__ import annotations

import functools
import re
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import BadZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.data.documents import spelling
from dlnotes.data.keys import KeyArray, word_keys
from dlnotes.data.labels import LabelSets
from dlnotes.data.mapped import concatenate, empty, slices, unique_sorted
from dlnotes.data.subwords import Subwords
from dlnotes.data.tokenized import TokenizedTexts
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.files import check_stored, write_atomically

Label = str | int | float | bool
_FORMAT = 2
"""Version of the file of keys; it changes with the way in which they are made."""
_INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")  # as str writes one, so that documents match it


class Keys(NamedTuple):
    """Two hashes of each document, shape (documents,) each."""

    texts: KeyArray
    """Equal for equal tokens."""
    labelled: KeyArray
    """Equal for equal tokens with the same labels."""


def keys_of(texts: TokenizedTexts) -> Keys:
    """The keys of all documents, the same in every version and on every machine."""
    of_text = texts.keys
    of_label = _label_keys(texts)
    labelled: KeyArray = empty(len(texts), np.uint64, texts.folder)
    for rows in slices(len(texts)):
        mixed = of_text[rows] * np.uint64(0x9E3779B97F4A7C15) + of_label(rows)
        labelled[rows] = mixed ^ (mixed >> np.uint64(29))
    return Keys(of_text, labelled)


def _label_keys(texts: TokenizedTexts) -> Callable[[slice], KeyArray]:
    """A function that hashes the labels of documents, in whatever order these are."""
    names = pl.Series(list(map(spelling, texts.label_names)), dtype=pl.String)
    of_name, labels = word_keys(names), texts.labels
    if not isinstance(labels, LabelSets):
        return lambda rows: of_name[labels[rows]]
    sets = labels

    def of(rows: slice) -> KeyArray:
        offsets = sets.offsets[rows.start : rows.stop + 1]
        ids = sets.ids[offsets[0] : offsets[-1]]
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(of_name[ids])])
        keys: KeyArray = np.diff(sums[offsets - offsets[0]])
        return keys

    return of


@dataclass(frozen=True, eq=False)
class Seen:
    """Documents of earlier trainings by their keys.

    Attributes:
        train: Texts that were learned from, each once.
        train_labelled: These texts with their labels, as often as they occurred.
        dev: Texts of the dev documents, each once.
        dev_labelled: These texts with their labels, as often as they occurred.
    """

    train: KeyArray
    train_labelled: KeyArray
    dev: KeyArray
    dev_labelled: KeyArray

    @classmethod
    def of(cls, train: list[Keys], dev: list[Keys], *, folder: Path | None = None) -> Seen:
        """The documents of a training.

        Args:
            train: The training documents, in any number of parts.
            dev: The dev documents.
            folder: Folder for the files of large arrays; None for memory.
        """
        arrays = []
        for parts in (train, dev):
            nothing = np.empty(0, np.uint64)
            for each in zip(Keys(nothing, nothing), *parts, strict=True):
                keys: KeyArray = functools.reduce(partial(concatenate, folder=folder), each)
                keys.sort()  # in place: they are copies
                arrays.append(keys)
        return cls(unique_sorted(arrays[0]), arrays[1], unique_sorted(arrays[2]), arrays[3])

    def union(self, earlier: Seen) -> Seen:
        """These documents and those of earlier trainings."""
        return Seen(
            np.union1d(self.train, earlier.train),
            _most(self.train_labelled, earlier.train_labelled),
            np.union1d(self.dev, earlier.dev),
            _most(self.dev_labelled, earlier.dev_labelled),
        )

    def with_dev_learned(self) -> Seen:
        """The documents after a refit, which has also learned from the dev documents."""
        return Seen(
            np.union1d(self.train, self.dev),
            np.sort(np.concatenate([self.train_labelled, self.dev_labelled])),
            self.dev[:0],
            self.dev_labelled[:0],
        )

    def warn_of_learned(self, texts: KeyArray, name: str, split: str) -> None:
        """Warn if documents of an evaluation have been learned from.

        Args:
            texts: The keys of these documents.
            name: What has learned, for the message.
            split: ``dev`` or ``test``.
        """
        if count := int(np.isin(texts, self.train).sum()):
            warnings.warn(
                f"{name} has learned from {count:,} of the {split} documents, so the figures on "
                "them are too good",
                stacklevel=5,
            )

    def save(self, path: Path) -> None:
        """Write the keys; the texts themselves are not in the file."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, format=_FORMAT, **vars(self))

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> Seen | None:
        """Read what `save` wrote; None if there is no such file, or keys of another version.

        Raises:
            UserError: The file is damaged.
        """
        try:
            check_stored(path)
            with path.open("rb") as file:
                return _read(file)
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            raise UserError(f"{path} cannot be read or is damaged") from error


# RuntimeError: zipfile's error for a member that is encrypted, or compressed in an unknown way.
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    BadZipFile,
    zlib.error,
    RuntimeError,
    MemoryError,
)


def _read(file: IO[bytes]) -> Seen | None:
    with np.load(file, allow_pickle=False) as held:
        arrays = [held[field.name] for field in fields(Seen)]
        same = "format" in held and held["format"] == _FORMAT
    for array in arrays:  # NumPy returns the bytes of a member that is not an array
        if not isinstance(array, np.ndarray) or array.dtype != np.uint64 or array.ndim != 1:
            raise ValueError
    return Seen(*arrays) if same else None


def _without(keys: KeyArray, taken: KeyArray) -> KeyArray:
    """The keys that are left when each is removed as often as it occurs in `taken`."""
    return keys[~_as_often(keys, np.sort(taken))]


def _most(one: KeyArray, other: KeyArray) -> KeyArray:
    """Each key as often as it occurs in that array which has it more often; sorted."""
    return np.sort(np.concatenate([one, _without(other, one)]))


class Parts(NamedTuple):
    """Documents by what an earlier training did with them, as ascending indices."""

    train: NDArray[np.int64]
    """It learned from these."""
    dev: NDArray[np.int64]
    """Its dev documents, whose labels may have changed since."""
    new: NDArray[np.int64]
    """It has not seen these."""
    relabelled: NDArray[np.int64]
    """It learned from these, but with another label."""
    left_out: int
    """How many are not used: more copies of its dev documents, with the same or another label."""
    missing: int
    """How many texts that it learned from are not among these."""
    missing_dev: int
    """How many texts of its dev documents are neither among these nor dev documents now."""


@dataclass(frozen=True, eq=False)
class Inheritance:
    """What a data set takes over from an earlier training.

    Attributes:
        vocabulary: Its tokens, which keep their ids.
        labels: Its classes, which keep their numbers.
        seen: Its documents; None if they are not known.
        replay: Whether documents that it has learned from are learned from again.
        subwords: Its tokenization, if that was learned.
    """

    vocabulary: Vocabulary
    labels: list[Label]
    seen: Seen | None = None
    replay: bool = True
    subwords: Subwords | None = None

    def parts(self, texts: TokenizedTexts, dev: TokenizedTexts | None = None) -> Parts:
        """Tell old documents from new ones, by their content.

        Args:
            texts: The documents.
            dev: Other documents, which were given as dev documents.
        """
        everything = np.arange(len(texts))
        nothing = everything[:0]
        if self.seen is None:
            return Parts(nothing, nothing, everything, nothing, 0, 0, 0)
        keys, seen = keys_of(texts), self.seen
        allowed, given = seen.dev_labelled, keys.texts[:0]
        if dev is not None:
            own = keys_of(dev)
            allowed, given = _without(allowed, own.labelled), own.texts
        is_dev = _as_often(keys.labelled, allowed)
        of_dev = np.isin(keys.texts, seen.dev)
        # The label of a dev text that no longer occurs with its old label has been corrected.
        corrected = np.setdiff1d(seen.dev, np.concatenate([keys.texts[is_dev], given]))
        is_dev |= _as_often(keys.texts, corrected)
        learned = np.isin(keys.texts, seen.train) & ~of_dev
        again = np.isin(keys.labelled, seen.train_labelled)
        old = learned & _as_often(keys.labelled, seen.train_labelled)
        return Parts(
            np.flatnonzero(old & self.replay),
            np.flatnonzero(is_dev),
            np.flatnonzero(~learned & ~of_dev),
            np.flatnonzero(learned & ~again),
            int((of_dev & ~is_dev).sum()),
            len(np.setdiff1d(seen.train, keys.texts)),
            len(np.setdiff1d(seen.dev, np.concatenate([keys.texts, given]))),
        )

    def with_new(self, found: Iterable[Label]) -> list[Label]:
        """The labels of the earlier training, followed by those that are new.

        Args:
            found: Labels of documents; those of files are strings.

        Raises:
            UserError: A new label is of another type.
        """
        kind = type(self.labels[0])
        known = {spelling(str(label)) for label in self.labels}
        new = [label for label in found if spelling(str(label)) not in known]
        return [*self.labels, *map(partial(_of_kind, kind), new)]


def _as_often(keys: KeyArray, allowed: KeyArray) -> NDArray[np.bool_]:
    """Whether each key is allowed: of equal keys only as many, the first, as `allowed` has."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    there = np.searchsorted(allowed, ordered, "right") - np.searchsorted(allowed, ordered)
    found = np.zeros(len(keys), bool)
    found[order] = again < there
    return found


def _of_kind(kind: type[Label], label: Label) -> Label:
    """A label of a file, converted to the type of the other labels."""
    if type(label) is kind:
        return label
    if isinstance(label, str) and kind is int and _INTEGER.fullmatch(label):
        return int(label)
    raise UserError(
        f"the new label {label!r} must be of the type of those that the classifier has, "
        f"{kind.__name__}, not {type(label).__name__}"
    )

"""Find duplicate texts that do harm: in training and in evaluation, or with different labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.data.labels import LabelSets
from dlnotes.data.mapped import concatenate, slices, take
from dlnotes.data.tokenized import TokenizedTexts

Part = tuple[TokenizedTexts, NDArray[np.int64]]
"""Texts, and which of them belong to a split."""


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Documents with the same tokens.

    Attributes:
        shared: For each split but the first, how many documents also occur in an earlier one.
        contradictory: How many texts have different labels.
    """

    shared: dict[str, int]
    contradictory: int
    _parts: Mapping[str, Part] = field(repr=False)
    _listed: pl.DataFrame = field(repr=False)

    def summary(self) -> str:
        """What was found, in one line; empty if nothing was found."""
        found = []
        for split, count in self.shared.items():
            documents = "document also occurs" if count == 1 else "documents also occur"
            found += [f"{count:,} {split} {documents} in earlier splits"] * bool(count)
        if n := self.contradictory:
            found.append(f"{n:,} {'text has' if n == 1 else 'texts have'} different labels")
        return "; ".join(found)

    def table(self) -> pl.DataFrame:
        """A row per document whose text occurs in several splits or with several labels.

        Its columns are group, problem, split, place (file and line), label and text (its tokens).
        """
        return _table(self._parts, self._listed)


def find_duplicates(parts: Mapping[str, Part]) -> Duplicates:
    """Look for documents with equal tokens; those without tokens are ignored.

    Args:
        parts: Each split, in the order train, dev, test.
    """
    folder = next((texts.folder for texts, _ in parts.values() if texts.folder), None)
    keys: NDArray[np.uint64] = np.empty(0, np.uint64)
    ends = [0]
    for texts, chosen in parts.values():
        keys = concatenate(keys, take(texts.keys, chosen, texts.folder), folder)
        ends.append(len(keys))
    twice = _repeated(keys, folder)
    labels = _labels_of(parts)
    padded = np.append(twice, np.uint64(0))
    # For each repeated text, the lowest and the highest number of its splits and of its labels.
    lowest = np.full((2, len(twice)), np.iinfo(np.int64).max)
    highest = np.full((2, len(twice)), -1)

    def again() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]]:
        """Row, text, label and split of the documents whose texts occur more than once."""
        for split, (start, end) in enumerate(itertools.pairwise(ends)):
            for rows in slices(end - start):
                some = keys[start + rows.start : start + rows.stop]
                group = np.searchsorted(twice, some)
                here = np.flatnonzero(padded[group] == some)
                here = here[some[here] != 0]
                if len(here):
                    yield start + rows.start + here, group[here], labels(split, rows)[here], split

    for _, groups, of_row, split in again():
        for i, numbers in enumerate((np.full(len(groups), split), of_row)):
            np.minimum.at(lowest[i], groups, numbers)
            np.maximum.at(highest[i], groups, numbers)
    several_splits, several_labels = lowest < highest
    counts = dict.fromkeys(range(len(parts)), 0)
    listed = []
    for rows, groups, _, split in again():
        counts[split] += int((lowest[0][groups] < split).sum())
        told = several_splits[groups] | several_labels[groups]
        listed.append((rows[told], np.full(told.sum(), split), groups[told]))
    nothing = np.empty(0, np.int64)
    row, split_of, group_of = map(np.concatenate, zip((nothing,) * 3, *listed, strict=True))
    frame = pl.DataFrame(
        {
            "row": row,
            "key": twice[group_of],
            "split": split_of,
            "several splits": several_splits[group_of],
            "several labels": several_labels[group_of],
        }
    )
    shared = {name: counts[i] for i, name in enumerate(parts) if i}
    return Duplicates(shared, int(several_labels.sum()), parts, frame)


def _repeated(keys: NDArray[np.uint64], folder: Path | None) -> NDArray[np.uint64]:
    """The keys that occur more than once, ascending."""
    ordered = concatenate(keys[:0], keys, folder)
    ordered.sort()
    found = [keys[:0]]
    for rows in slices(len(ordered) - 1):
        some = ordered[rows.start : rows.stop + 1]
        found.append(some[1:][some[1:] == some[:-1]])
    return np.unique(np.concatenate(found))


def _labels_of(parts: Mapping[str, Part]) -> Callable[[int, slice], NDArray[np.int64]]:
    """Number the labels of documents: equal labels, or equal sets of labels, have one number.

    Returns:
        A function that gives the numbers of some documents of a split.
    """
    names = dict.fromkeys(name for texts, _ in parts.values() for name in texts.label_names)
    numbers = {name: i for i, name in enumerate(names)}
    tables = [np.array([numbers[n] for n in t.label_names], np.int64) for t, _ in parts.values()]
    several = any(isinstance(texts.labels, LabelSets) for texts, _ in parts.values())
    number_of: dict[bytes, int] = {}  # of a set of labels

    def of(split: int, rows: slice) -> NDArray[np.int64]:
        texts, chosen = list(parts.values())[split]
        sets, table = texts.labels, tables[split]
        if not isinstance(sets, LabelSets):
            if not several:
                labels: NDArray[np.int64] = table[sets[chosen[rows]]]
                return labels
            sets = LabelSets.single(sets, len(table))
        sets = sets.take(chosen[rows]).renumbered(table, len(names))
        keys = (sets.of(i).tobytes() for i in range(len(sets)))
        return np.array([number_of.setdefault(k, len(number_of)) for k in keys], np.int64)

    return of


def _table(parts: Mapping[str, Part], listed: pl.DataFrame) -> pl.DataFrame:
    starts = np.concatenate([[0], np.cumsum([len(chosen) for _, chosen in parts.values()])])
    names = list(parts)
    group_of: dict[int, int] = {}
    rows = []
    order = listed.sort(pl.col("row").min().over("key"), "row")
    for row in order.iter_rows(named=True):
        texts, chosen = parts[names[row["split"]]]
        document = int(chosen[row["row"] - starts[row["split"]]])
        tokens = texts.tokens[texts.offsets[document] : texts.offsets[document + 1]]
        problems = [name for name in ("several splits", "several labels") if row[name]]
        rows.append(
            {
                "group": group_of.setdefault(row["key"], len(group_of) + 1),
                "problem": " and ".join(problems),
                "split": names[row["split"]],
                "place": texts.location(document),
                "label": texts.label_of(document),
                "text": " ".join(texts.types.gather(pl.Series(tokens))),
            }
        )
    kinds = dict.fromkeys(("problem", "split", "place", "label", "text"), pl.String)
    return pl.DataFrame(rows, {"group": pl.Int64, **kinds})

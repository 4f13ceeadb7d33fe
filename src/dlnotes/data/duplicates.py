"""Equal texts where they do harm: in training and in evaluation, or with different labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.data.labels import LabelSets
from dlnotes.data.tokenized import TokenizedTexts

Part = tuple[TokenizedTexts, NDArray[np.int64]]
"""Texts, and which of them belong to a split."""


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Documents with the same tokens.

    Attributes:
        shared: Of each split but the first how many documents stand in an earlier one, too.
        contradictory: How many texts have different labels.
    """

    shared: dict[str, int]
    contradictory: int
    _parts: Mapping[str, Part] = field(repr=False)
    _listed: pl.DataFrame = field(repr=False)

    def summary(self) -> str:
        """What was found, in one line; empty where there is nothing to tell."""
        found = []
        for split, count in self.shared.items():
            documents = "document occurs" if count == 1 else "documents occur"
            found += [f"{count:,} {split} {documents} in earlier splits, too"] * bool(count)
        if n := self.contradictory:
            found.append(f"{n:,} {'text has' if n == 1 else 'texts have'} different labels")
        return "; ".join(found)

    def table(self) -> pl.DataFrame:
        """A row per document that stands in several splits or has several labels.

        Its columns are group, problem, split, place (file and line), label and text (its tokens).
        """
        return _table(self._parts, self._listed)


def find_duplicates(parts: Mapping[str, Part]) -> Duplicates:
    """Look for documents with equal tokens; those without tokens are passed over.

    Args:
        parts: Each split, in the order train, dev, test.
    """
    keys = np.concatenate([texts.keys[chosen] for texts, chosen in parts.values()])
    sizes = [len(chosen) for _, chosen in parts.values()]
    split = np.repeat(np.arange(len(sizes)), sizes)
    labels = _label_numbers(parts)
    all_of_them = pl.DataFrame(
        {
            "row": np.arange(len(keys)),
            "key": keys,
            "split": split,
            "label": labels,
        }
    ).filter(pl.col("key") != 0)
    groups = pl.col("key")
    found = all_of_them.with_columns(
        (pl.col("split").n_unique().over(groups) > 1).alias("several splits"),
        (pl.col("label").n_unique().over(groups) > 1).alias("several labels"),
        (pl.col("split") > pl.col("split").min().over(groups)).alias("again"),
    )
    again = found.filter("again").group_by("split").len()
    counts = dict(again.iter_rows())
    shared = {name: counts.get(i, 0) for i, name in enumerate(parts) if i}
    contradictory = found.filter("several labels")["key"].n_unique()
    listed = found.filter(pl.col("several splits") | pl.col("several labels"))
    return Duplicates(shared, contradictory, parts, listed)


def _label_numbers(parts: Mapping[str, Part]) -> NDArray[np.int64]:
    """A number per document that those with equal labels share, or with equal sets of them."""
    names = dict.fromkeys(name for texts, _ in parts.values() for name in texts.label_names)
    numbers = {name: i for i, name in enumerate(names)}
    several = any(isinstance(texts.labels, LabelSets) for texts, _ in parts.values())
    found: list[NDArray[np.int64]] = []
    number_of: dict[bytes, int] = {}  # of a set of labels
    for texts, chosen in parts.values():
        table = np.array([numbers[name] for name in texts.label_names], np.int64)
        if not several and not isinstance(texts.labels, LabelSets):
            found.append(table[texts.labels[chosen]])
            continue
        sets = texts.labels
        if not isinstance(sets, LabelSets):
            sets = LabelSets.single(sets, len(table))
        sets = sets.take(chosen).renumbered(table, len(names))
        keys = (sets.of(i).tobytes() for i in range(len(sets)))
        found.append(np.array([number_of.setdefault(k, len(number_of)) for k in keys], np.int64))
    return np.concatenate(found)


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
                "place": texts.where(document),
                "label": texts.label_of(document),
                "text": " ".join(texts.types.gather(pl.Series(tokens))),
            }
        )
    kinds = dict.fromkeys(("problem", "split", "place", "label", "text"), pl.String)
    return pl.DataFrame(rows, {"group": pl.Int64, **kinds})

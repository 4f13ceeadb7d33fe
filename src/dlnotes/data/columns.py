"""Texts and labels given as Python objects: lists, arrays, generators, data frames' columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import fields_of
from dlnotes.data.dataset import Dataset, Label, load_dataset
from dlnotes.data.layout import LABEL, TEXT, Layout
from dlnotes.data.readers import LONGEST_LABEL
from dlnotes.data.reading import Reading
from dlnotes.data.seen import Inheritance
from dlnotes.data.streams import half_pair
from dlnotes.errors import UserError

FOR_FILES = tuple(fields_of(Layout))
"""Fields of `Reading` that apply only to files."""


def as_texts(values: Any, name: str = "texts") -> list[str]:
    """Return texts as a list of strings.

    Args:
        values: n texts: a list, a tuple, a generator, an array of shape (n,) or (n, 1), a column or
            a data frame of one column (pandas, polars), or rows of one item.
        name: The caller's name for them, for error messages.

    Raises:
        UserError: One text where several are expected, several columns, or an item that is not a
            text (the message gives its position, from 0, and its value).
    """
    texts = _items(values, name, "texts")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{name}[{i}] is {_shown(text)}: every text must be a string")
        _check_encodes(text, f"{name}[{i}]")
    return [str.__str__(text) for text in texts]  # NumPy's strings become Python's


def as_labels(values: Any, name: str = "labels") -> list[Label]:
    """Return labels as a list of Python strings, integers, whole floats or bools, all of one type.

    Args:
        values: n labels, in the forms of `as_texts`.
        name: The caller's name for them, for error messages.

    Raises:
        UserError: One label where several are expected, several columns, an item that is not a
            label, or labels of several types (the message gives position, from 0, and value).
    """
    items = _items(values, name, "labels")
    return _checked_labels([(f"{name}[{i}]", item) for i, item in enumerate(items)])


class Targets(NamedTuple):
    """The labels of texts that may have several labels each.

    Attributes:
        sets: The labels of each text.
        classes: The distinct labels; for a matrix, the names or numbers of all its columns.
    """

    sets: list[list[Label]]
    classes: list[Label]


def as_targets(values: Any, name: str = "labels") -> list[Label] | Targets:
    """Return labels: either one for each text, or any number for each.

    Args:
        values: What `as_labels` takes; or n lists, tuples or sets of labels; or a matrix or a data
            frame (NumPy, SciPy, pandas, polars, torch) of shape (n, c) that holds 1 where a text
            has a label and 0 where it has not. Lists of equal length that hold only 0 and 1 are
            also read as such a matrix. Lists of one label each are one label for each text.
        name: The caller's name for them, for error messages.

    Raises:
        UserError: What `as_labels` raises; for labels in lists the message gives both positions.
    """
    if (matrix := _matrix(values, name)) is not None:
        return matrix
    items = _items(values, name, "labels")
    # The items of a column of lists are arrays.
    items = [item.tolist() if isinstance(item, np.ndarray) else item for item in items]
    if not any(isinstance(item, _SEVERAL) for item in items):
        return as_labels(items, name)
    if (rows := _rows_of_bits(items)) is not None:
        return _of_matrix(rows, list(range(rows.shape[1])))
    # Sets have no order; their labels are sorted below, once they are known to be of one type.
    lists = [list(item) if isinstance(item, _SEVERAL) else [item] for item in items]
    places = [
        (f"{name}[{i}][{k}]" if isinstance(items[i], list | tuple) else f"{name}[{i}]", each)
        for i, labels in enumerate(lists)
        for k, each in enumerate(labels)
    ]
    labels = iter(_checked_labels(places))
    sets = [sorted({next(labels) for _ in each}) for each in lists]
    return Targets(sets, sorted({label for each in sets for label in each}))


_SEVERAL = (list, tuple, Set)


def _matrix(values: Any, name: str) -> Targets | None:
    """Labels from a matrix of several columns; None for anything else."""
    if hasattr(values, "tocsr"):  # SciPy's sparse matrices
        sparse = values.tocsr()  # may be the user's own object, which must not be changed
        if not np.isin(sparse.data, (0, 1)).all():
            raise UserError(f"{name} is a matrix that holds other numbers than 0 and 1")
        ones = sparse.data != 0
        bounds = np.concatenate([[0], np.cumsum(ones)])[sparse.indptr]
        rows = np.split(sparse.indices[ones], bounds[1:-1])
        return Targets([sorted(row.tolist()) for row in rows], list(range(sparse.shape[1])))
    if not hasattr(values, "__array__"):
        return None
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] < 2:
        return None
    names = [str(column) for column in getattr(values, "columns", ())]
    bits = (array == 0) | (array == 1)
    if not np.all(bits):
        raise UserError(
            f"{name} must be one column of labels, or several that hold 0 and 1, not of shape "
            f"{array.shape} with {_shown(array[~bits].tolist()[0])} in it"
            f"{'; choose from ' * bool(names)}{', '.join(names)}"
        )
    return _of_matrix(array == 1, names or list(range(array.shape[1])))


def _rows_of_bits(items: list[Any]) -> NDArray[np.bool_] | None:
    """A matrix from lists of equal length that hold only 0 and 1; None for anything else."""
    first = items[0]
    if not isinstance(first, list | tuple) or len(first) < 2:
        return None
    for row in items:
        if not isinstance(row, list | tuple) or len(row) != len(first):
            return None
        if not all(isinstance(each, int | float | np.generic) and each in (0, 1) for each in row):
            return None
    has: NDArray[np.bool_] = np.array(items) == 1
    return has


def _of_matrix(has: NDArray[np.bool_], classes: Sequence[Label]) -> Targets:
    return Targets(
        [[classes[k] for k in np.flatnonzero(row).tolist()] for row in has], list(classes)
    )


def _checked_labels(given: Sequence[tuple[str, Any]]) -> list[Label]:
    """Check labels, each of which is given with its place for messages."""
    labels: list[Label] = []
    for place, value in given:
        label = _label(value)
        if isinstance(value, str):
            _check_encodes(value, place)
            if len(value) > LONGEST_LABEL:
                raise UserError(
                    f"{place} has {len(value):,} characters; a label may have {LONGEST_LABEL:,}"
                )
        if label is None:
            raise UserError(
                f"{place} is {_shown(value)}: every label must be a string that is not blank, "
                "a whole number, True or False"
                f"{' (not a continuous one)' if isinstance(value, float) else ''}"
            )
        if labels and type(label) is not type(labels[0]):
            raise UserError(
                f"{place} is {label!r}, but {given[0][0]} is {labels[0]!r}: all labels must be of "
                "one type"
            )
        labels.append(label)
    return labels


def check_pairs(texts: list[str], labels: Sequence[object], names: tuple[str, str]) -> None:
    """Require at least one text, and a label for each.

    Args:
        texts: What `as_texts` gave.
        labels: What `as_labels` gave, or the sets of `as_targets`.
        names: The caller's names for the two, for error messages.

    Raises:
        UserError: There are no texts, or not as many labels as texts.
    """
    if len(texts) != len(labels):
        raise UserError(
            f"{names[0]} and {names[1]} must be equally long, not {len(texts):,} and "
            f"{len(labels):,}"
        )
    if not texts:
        raise UserError(f"{names[0]} is empty: there is nothing to learn from")


def load_columns(
    texts: Any,
    labels: Any,
    reading: Reading,
    *,
    dev: tuple[Any, Any] | None = None,
    inherit: Inheritance | None = None,
    sentences: bool = False,
) -> Dataset:
    """Make a data set of texts and labels that are Python objects.

    Args:
        texts: What to learn from, see `as_texts`.
        labels: Their labels, see `as_targets`.
        reading: How to read the texts.
        dev: Texts and labels of the dev documents; None to split them off the others.
        inherit: See `load_dataset`.
        sentences: See `load_dataset`.

    Returns:
        The data set. Its classes are sorted, numbers by size and strings alphabetically, or are in
        the order of a matrix's columns.

    Raises:
        UserError: What `as_texts`, `as_targets` and `load_dataset` raise; there are not as many
            labels as texts; a dev label does not occur in `labels`; a dev text has several labels
            where `labels` has one for each text.
    """
    given = as_targets(labels)
    classes = given.classes if isinstance(given, Targets) else sorted(set(given))
    # 1 and 1.0 are one label; its name is the spelling that the (earlier) training knows.
    before = [] if inherit is None else inherit.labels
    name_of = {label: str(label) for label in [*before, *classes]}
    sources: dict[str, Any] = {"train": _frame(as_texts(texts), given, name_of)}
    if dev is not None:
        if not isinstance(dev, tuple | list) or len(dev) != 2:
            raise UserError(f"dev must be a pair (texts, labels), not {_shown(dev)}")
        dev_texts, dev_labels = as_texts(dev[0], "dev texts"), as_targets(dev[1], "dev labels")
        several = isinstance(given, Targets) or reading.multi_label
        if isinstance(dev_labels, Targets) and not several:
            raise UserError("dev labels has several labels for a text, but labels has one for each")
        sources["dev"] = _frame(dev_texts, dev_labels, name_of, "dev ")
    return load_dataset(sources, reading, labels=classes, inherit=inherit, sentences=sentences)


def _frame(
    texts: list[str],
    labels: list[Label] | Targets,
    name_of: Mapping[Label, str],
    split: str = "",
) -> pl.DataFrame:
    several = isinstance(labels, Targets)
    sets = labels.sets if isinstance(labels, Targets) else [[label] for label in labels]
    check_pairs(texts, sets, (f"{split}texts", f"{split}labels"))
    for i, each in enumerate(sets):
        for label in each:
            if label not in name_of:
                raise UserError(f"{split}labels[{i}] is {label!r}, which does not occur in labels")
    names = [[name_of[label] for label in each] for each in sets]
    kind = pl.List(pl.String) if several else pl.String
    column = names if several else [name for (name,) in names]
    return pl.DataFrame({LABEL: column, TEXT: texts}, {LABEL: kind, TEXT: pl.String})


def _items(values: Any, name: str, what: str) -> list[Any]:
    """The items of anything that holds them in an order."""
    if isinstance(values, str | bytes | bytearray):
        raise UserError(
            f"{name} must be a list of {what}, not a single one, {_shown(values)}; "
            f"for one give [{name}]"
        )
    if hasattr(values, "__array__"):  # of NumPy, pandas, polars, torch
        array = np.asarray(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            columns = ", ".join(map(str, getattr(values, "columns", ())))
            raise UserError(
                f"{name} must be one column of {what}, not of shape {array.shape}"
                f"{columns and f'; choose one of {columns}'}"
            )
        values = array.tolist()
    if not isinstance(values, Iterable) or isinstance(values, Mapping | Set):
        raise UserError(f"{name} must be a list or a column of {what}, not {_shown(values)}")
    items = list(values)
    if items and all(isinstance(item, list | tuple) and len(item) == 1 for item in items):
        return [item for (item,) in items]  # rows of one column
    return items


def _label(value: Any) -> Label | None:
    """A label as one of Python's own types; None if the value cannot be a label."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str.__str__(value) if value.strip() else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    # A continuous target is a matter of regression.
    return value if isinstance(value, float) and value.is_integer() else None


def _check_encodes(text: str, name: str) -> None:
    if (half := half_pair(text)) is not None:
        raise UserError(
            f"{name} is {_shown(text)}: character {half} is half of a surrogate pair, which UTF-8 "
            "cannot hold"
        )


def _shown(value: Any) -> str:
    shown = " ".join(ascii(value).split() if isinstance(value, str) else repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}…"

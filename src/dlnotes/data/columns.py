"""Texts and labels that Python holds: lists, arrays, generators, columns of data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import polars as pl

from dlnotes.arguments import fields_of
from dlnotes.data.dataset import Dataset, Label, load_dataset
from dlnotes.data.layout import LABEL, TEXT, Layout
from dlnotes.data.readers import LONGEST_LABEL
from dlnotes.data.reading import Reading
from dlnotes.data.streams import half_pair
from dlnotes.errors import UserError

FOR_FILES = tuple(fields_of(Layout))
"""Fields of `Reading` that say something of files alone."""


def as_texts(values: Any, name: str = "texts") -> list[str]:
    """Texts as a list.

    Args:
        values: n texts: a list, a tuple, a generator, an array of shape (n,) or (n, 1), a column or
            a data frame of one column (pandas, polars), rows of one item.
        name: What the caller calls them, for messages.

    Raises:
        UserError: One text where several are expected, several columns, or an item that is not a
            text (names its position, from 0, and its value).
    """
    texts = _items(values, name, "texts")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{name}[{i}] is {_shown(text)}: every text must be a string")
        _check_encodes(text, f"{name}[{i}]")
    return [str.__str__(text) for text in texts]  # NumPy's strings become Python's


def as_labels(values: Any, name: str = "labels") -> list[Label]:
    """Labels as a list of Python's strings, integers, whole floats or bools, all of one type.

    Args:
        values: n labels, in the forms of `as_texts`.
        name: What the caller calls them, for messages.

    Raises:
        UserError: One label where several are expected, several columns, an item that is no label,
            or labels of several types (names the position, from 0, and the value).
    """
    labels: list[Label] = []
    for i, given in enumerate(_items(values, name, "labels")):
        label = _label(given)
        if isinstance(given, str):
            _check_encodes(given, f"{name}[{i}]")
            if len(given) > LONGEST_LABEL:
                raise UserError(
                    f"{name}[{i}] has {len(given):,} characters; a label may have {LONGEST_LABEL:,}"
                )
        if label is None:
            raise UserError(
                f"{name}[{i}] is {_shown(given)}: every label must be a string that is not blank, "
                "a whole number, True or False"
                f"{' (not a continuous one)' if isinstance(given, float) else ''}"
            )
        if labels and type(label) is not type(labels[0]):
            raise UserError(
                f"{name}[{i}] is {label!r}, but {name}[0] is {labels[0]!r}: all labels must be of "
                "one type"
            )
        labels.append(label)
    return labels


def check_pairs(texts: list[str], labels: list[Label], names: tuple[str, str]) -> None:
    """Require texts, and a label for each.

    Args:
        texts: What `as_texts` gave.
        labels: What `as_labels` gave.
        names: What the caller calls the two, for messages.

    Raises:
        UserError: There are none, or more or fewer labels.
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
    sentences: bool = False,
) -> Dataset:
    """A data set of texts and labels that Python holds.

    Args:
        texts: What to learn from, see `as_texts`.
        labels: Their labels, see `as_labels`.
        reading: How to read the texts.
        dev: Texts and labels of the dev documents; None to cut a part off.
        sentences: See `load_dataset`.

    Returns:
        The data set; its classes are in the order of their labels, numbers by size and strings
        alphabetically.

    Raises:
        UserError: What `as_texts`, `as_labels` and `load_dataset` raise; labels that are not as
            many as the texts; a dev label that does not occur in `labels`.
    """
    given = as_labels(labels)
    classes = sorted(set(given))
    # 1 and 1.0 are one label; both have the name of the one that training knows.
    name_of = {label: str(label) for label in classes}
    sources: dict[str, Any] = {"train": _frame(as_texts(texts), given, name_of)}
    if dev is not None:
        if not isinstance(dev, tuple | list) or len(dev) != 2:
            raise UserError(f"dev must be a pair (texts, labels), not {_shown(dev)}")
        dev_texts, dev_labels = as_texts(dev[0], "dev texts"), as_labels(dev[1], "dev labels")
        sources["dev"] = _frame(dev_texts, dev_labels, name_of, "dev ")
    return load_dataset(sources, reading, labels=classes, sentences=sentences)


def _frame(
    texts: list[str], labels: list[Label], name_of: Mapping[Label, str], split: str = ""
) -> pl.DataFrame:
    check_pairs(texts, labels, (f"{split}texts", f"{split}labels"))
    for i, label in enumerate(labels):
        if label not in name_of:
            raise UserError(f"{split}labels[{i}] is {label!r}, which does not occur in labels")
    names = [name_of[label] for label in labels]
    return pl.DataFrame({LABEL: names, TEXT: texts}, {LABEL: pl.String, TEXT: pl.String})


def _items(values: Any, name: str, what: str) -> list[Any]:
    """The items of anything that has them in an order."""
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
    """A label as Python's own type; None where it is not one."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str.__str__(value) if value.strip() else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    # A continuous target is a task for a regression.
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

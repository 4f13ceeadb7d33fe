"""Arrays with one element per document, which may be larger than memory.

Large arrays are memory-mapped from an unnamed file that is deleted together with the array. The
operating system keeps the parts in use in memory and writes the others to disk.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_SMALL = 1 << 20  # arrays of fewer bytes stay in memory
_ROWS, _ITEMS = 1 << 16, 1 << 22  # most documents and most items in one piece


def empty(shape: int | tuple[int, ...], dtype: DTypeLike, folder: Path | None) -> NDArray[Any]:
    """An uninitialized array.

    Args:
        shape: Its shape.
        dtype: Type of an element.
        folder: Folder for the file of a large array. Without it, or if it has no room, the array
            is in memory.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if folder is None or size < _SMALL:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # otherwise a full disk would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            # As a plain array: every slice of a memmap would be a memmap, which takes time.
            return np.asarray(np.memmap(file, dtype, "r+", 0, shape))
    except OSError:
        return np.empty(shape, dtype)


def take(source: NDArray[Any], indices: NDArray[np.int64], folder: Path | None) -> NDArray[Any]:
    """``source[indices]``; `folder` is as for `empty`."""
    found = empty(len(indices), source.dtype, folder)
    for rows in slices(len(indices)):
        found[rows] = source[indices[rows]]
    return found


def arange(count: int, folder: Path | None) -> NDArray[np.int64]:
    """The numbers from 0 to `count` - 1; `folder` is as for `empty`."""
    numbers = empty(count, np.int64, folder)
    for rows in slices(count):
        numbers[rows] = np.arange(rows.start, rows.stop)
    return numbers


def concatenate(
    first: NDArray[Any], second: NDArray[Any], folder: Path | None, *, shift: int = 0
) -> NDArray[Any]:
    """The elements of `first`, then those of `second` with `shift` added to each."""
    both = empty(len(first) + len(second), first.dtype, folder)
    for rows in slices(len(first), _ITEMS):
        both[rows] = first[rows]
    for rows in slices(len(second), _ITEMS):
        both[len(first) + rows.start : len(first) + rows.stop] = second[rows] + shift
    return both


def unique_sorted(ordered: NDArray[Any]) -> NDArray[Any]:
    """Remove duplicates from sorted elements, in place; return the part that holds the result."""
    filled = 0
    for rows in slices(len(ordered)):
        some = np.unique(ordered[rows])
        again = int(filled > 0 and ordered[filled - 1] == some[0])
        ordered[filled : filled + len(some) - again] = some[again:]
        filled += len(some) - again
    return ordered[:filled]


def positions(numbers: NDArray[np.int64], number: int, folder: Path | None) -> NDArray[np.int64]:
    """The positions of `number` in `numbers`, ascending; `folder` is as for `empty`."""
    count = sum(int((numbers[rows] == number).sum()) for rows in slices(len(numbers)))
    found, filled = empty(count, np.int64, folder), 0
    for rows in slices(len(numbers)):
        these = np.flatnonzero(numbers[rows] == number) + rows.start
        found[filled : filled + len(these)] = these
        filled += len(these)
    return found


def slices(count: int, most: int = _ROWS) -> Iterator[slice]:
    """Slices of at most `most` elements that together cover `count` elements."""
    for start in range(0, count, most):
        yield slice(start, min(count, start + most))


def document_slices(offsets: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of documents, each of few documents with few items or of a single long document.

    Args:
        offsets: Where the items of each document begin, and the end, shape (documents + 1,).
    """
    start, count = 0, len(offsets) - 1
    while start < count:
        last = min(count, start + _ROWS)
        fitting = int(np.searchsorted(offsets[start : last + 1], offsets[start] + _ITEMS, "right"))
        stop = min(last, max(start + 1, start + fitting - 1))
        yield slice(start, stop)
        start = stop


class GrowingArray:
    """An array that grows at its end.

    Args:
        dtype: Type of an element.
        folder: Folder for its file; None for memory.

    Raises:
        OSError: `folder` cannot be written to, or is full; `append` and `array` also raise it.
    """

    def __init__(self, dtype: DTypeLike, folder: Path | None) -> None:
        self._dtype = np.dtype(dtype)
        self._memory = None if folder else io.BytesIO()
        self._file = self._memory or tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def append(self, values: NDArray[Any]) -> None:
        """Add elements at the end."""
        self._file.write(np.ascontiguousarray(values, self._dtype).data)

    def array(self) -> NDArray[Any]:
        """All elements; nothing can be added afterwards."""
        if self._memory:
            return np.frombuffer(self._memory.getbuffer(), self._dtype)
        with self._file:
            self._file.flush()
            if not self._file.tell():
                return np.empty(0, self._dtype)
            return np.asarray(np.memmap(self._file, self._dtype, "r+"))

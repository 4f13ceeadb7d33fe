"""Gradients that the processes of one machine exchange through memory that all of them see."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.training.distributed import Group

_MAX_BYTES = 1 << 27
"""Most bytes of all slots together. What does not fit into them goes through sockets."""
_ALIGNED = 64
"""Every array in a slot begins at a multiple of it."""
_NAME = "dlnotes-gradients"
"""Of the file in memory, as the system lists it."""

Rows = Sequence[NDArray[np.int64]]
"""Of each table, the rows of its gradient that are not zero."""


class Slots:
    """Gradients of all processes side by side, of which each process computes the sum.

    An update has three steps. A process writes its own gradients (`write`); all processes exchange
    a message; each of them adds up what all have written, in the order of the ranks (`add`), so
    that all have the same sum (zeros may differ in their signs).

    That message is the only synchronization. It goes through a socket, and so whoever has received
    it sees all that its sender has written before. Each process has two slots, which alternate: it
    overwrites a slot two updates later, after the message of the update between, and that one
    another process sends only when it has read the slot.

    Args:
        memory: Has two slots for each process.
        group: The processes.
        others: Parameters whose gradients are exchanged as a whole.
        tables: Word vectors, of whose gradients only rows are exchanged.
    """

    def __init__(
        self,
        memory: mmap.mmap,
        group: Group,
        others: Sequence[nn.Parameter],
        tables: Sequence[nn.Parameter],
    ) -> None:
        self.rank, self.tables, self.turn = group.rank, tables, 0
        self.slots = torch.frombuffer(memory, dtype=torch.uint8).view(2, group.size, -1)
        # What has the same dtype is one array, whose numbers are added up in one go.
        dtypes = dict.fromkeys(parameter.dtype for parameter in others)
        self.others = [[p for p in others if p.dtype == dtype] for dtype in dtypes]

    def has_room(self, rows: Rows) -> bool:
        """Whether these rows of the tables fit into a slot, beside the other gradients."""
        return _size(self.arrays(rows)) <= self.slots.shape[2]

    def write(self, rows: Rows) -> None:
        """Write the gradients of this process, if all are dense or None and there is room for them.

        To be called in every update, because the slots alternate.

        Args:
            rows: Those of this process.
        """
        self.turn = 1 - self.turn
        grads = [p.grad for p in chain(*self.others, self.tables) if p.grad is not None]
        if any(grad.is_sparse for grad in grads) or not self.has_room(rows):
            return
        arrays = self.views(self.rank, rows)
        for parameters in self.others:
            for parameter, part in zip(parameters, _split(next(arrays), parameters), strict=True):
                if parameter.grad is None:
                    part.zero_()
                else:
                    part.copy_(parameter.grad)
        for table, these, part in zip(self.tables, rows, arrays, strict=True):
            if table.grad is not None:
                torch.index_select(table.grad, 0, torch.from_numpy(these), out=part)

    def add(self, shares: Sequence[float], rows: Sequence[Rows], dense: Set[nn.Parameter]) -> None:
        """Make each gradient the sum of those of all processes, each times its share.

        To be called only where every process has written.

        Args:
            shares: By rank.
            rows: By rank.
            dense: The parameters that have a gradient in at least one process.
        """
        every = [self.views(rank, these) for rank, these in enumerate(rows)]
        for parameters in self.others:
            whole = next(every[0]) * shares[0]
            for arrays, share in zip(every[1:], shares[1:], strict=True):
                whole += next(arrays) * share
            for parameter, part in zip(parameters, _split(whole, parameters), strict=True):
                if parameter in dense:
                    parameter.grad = part
        for i, table in enumerate(self.tables):
            parts = [next(arrays) * share for arrays, share in zip(every, shares, strict=True)]
            if table not in dense:
                continue
            grad = torch.zeros_like(table) if table.grad is None else table.grad
            grad.index_fill_(0, torch.from_numpy(rows[self.rank][i]), 0)
            for these, part in zip(rows, parts, strict=True):
                grad.index_add_(0, torch.from_numpy(these[i]), part)
            table.grad = grad

    def arrays(self, rows: Rows) -> list[tuple[torch.dtype, tuple[int, ...]]]:
        """Type and shape of what a slot has: for each dtype one array, for each table its rows."""
        return [(p[0].dtype, (sum(x.numel() for x in p),)) for p in self.others] + [
            (table.dtype, (len(these), *table.shape[1:]))
            for table, these in zip(self.tables, rows, strict=True)
        ]

    def views(self, rank: int, rows: Rows) -> Iterator[Tensor]:
        """The arrays in the slot of a process."""
        at = 0
        for dtype, shape in self.arrays(rows):
            end = at + math.prod(shape) * dtype.itemsize
            yield self.slots[self.turn, rank, at:end].view(dtype).view(shape)
            at += _size([(dtype, shape)])


def slots(
    group: Group, others: Sequence[nn.Parameter], tables: Sequence[nn.Parameter]
) -> Slots | None:
    """Slots, if all processes are on one machine that has memory for them; see `Slots`.

    The memory has no name, and so nothing stays behind, however the processes end. Without slots
    gradients are added up in another order, which changes the rounding for more than two processes.
    """
    least = _size([(p.dtype, p.shape) for p in others])
    whole = least + _size([(p.dtype, p.shape) for p in tables])
    size = min(whole, _MAX_BYTES // (2 * group.size) // _ALIGNED * _ALIGNED)
    total = 2 * group.size * size
    sign = os.urandom(32)
    file = _reserved(total, sign) if group.is_first and 0 < least <= size else None
    first, its_file, its_sign = group.all_gather_object((os.getpid(), file, sign))[0]
    memory = None if its_file is None else _opened(first, its_file, total, its_sign)
    (missing,) = group.all_reduce_max(memory is None)
    everyone_has = not missing  # and has seen the sign, so it may go
    if file is not None:
        os.close(file)
    return Slots(memory, group, others, tables) if memory is not None and everyone_has else None


def _opened(process: int, file: int, size: int, sign: bytes) -> mmap.mmap | None:
    """The memory that a process has as an open file; None where it cannot be reached.

    On another machine, or where ``/proc`` counts processes in another way than this process does,
    there may be another file in its place: only the right one has the sign.
    """
    place = Path(f"/proc/{process}/fd/{file}")
    with suppress(OSError, ValueError):
        if str(place.readlink()).startswith(f"/memfd:{_NAME}"):  # others are not even opened
            with place.open("r+b", buffering=0) as opened:
                if opened.read(len(sign)) == sign:
                    return mmap.mmap(opened.fileno(), size)
    return None


def _reserved(size: int, sign: bytes) -> int | None:
    """A file in memory that begins with a sign, with memory for all of it.

    Without that memory, to write to it could be fatal.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        file = os.memfd_create(_NAME)
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, size)
        os.pwrite(file, sign, 0)
    except OSError:
        os.close(file)
        return None
    return file


def _size(arrays: Iterable[tuple[torch.dtype, Sequence[int]]]) -> int:
    """Bytes that arrays take in a slot."""
    return sum(
        -(-math.prod(shape) * dtype.itemsize // _ALIGNED) * _ALIGNED for dtype, shape in arrays
    )


def _split(numbers: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Parts of a flat tensor, in the shapes of parameters."""
    parts = numbers.split([parameter.numel() for parameter in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]

"""Gradients that the processes of one machine add up in memory that they share."""

import errno
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from dlnotes.training import shared_memory
from dlnotes.training.distributed import Group
from dlnotes.training.shared_memory import Slots, slots

SHARES = [0.5, 0.3, 0.2]
"""What the gradients of three processes are multiplied by."""
USED = [np.array([0, 2]), np.array([], np.int64), np.array([1, 2])]
"""The rows of the table that they use: two use row 2, none row 3, and one none at all."""
linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there is no such memory")


def parameters():
    """Of two dtypes, the last of which never gets a gradient; and word vectors."""
    shapes = [((3, 2), torch.float32), ((5,), torch.float64), ((7,), torch.float32)]
    others = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape, dtype in shapes]
    return others, [torch.nn.Parameter(torch.ones(4, 3))]


def place(update, rank):
    """What a process is in an update: the three change places, and number 1 has no gradients."""
    return (update + rank) % 3


def used(update, rank):
    """The rows of each table, of which there is one."""
    return [USED[place(update, rank)]]


def computed(update, rank):
    """The gradients of a process: zeros where it has none."""
    torch.manual_seed(10 * update + rank)
    others, (table,) = parameters()
    first, second, vectors = (torch.randn_like(p).detach() for p in (*others[:2], table))
    vectors[np.setdiff1d(np.arange(4), *used(update, rank))] = 0
    return [first * (place(update, rank) != 1), second, vectors]


def processes():
    """What each process has: its parameters, and its view of the same memory."""
    memory, found = mmap.mmap(-1, 6 << 10), []
    for rank in range(3):
        others, tables = parameters()
        found.append((others, tables[0], Slots(memory, Group(rank, 3), others, tables)))
    return found


def write(process, update, rank):
    others, table, own = process
    others[0].grad, others[1].grad, table.grad = computed(update, rank)
    if place(update, rank) == 1:
        others[0].grad = table.grad = None
    own.write(used(update, rank))


def add(process, update):
    """The sums, as NumPy arrays."""
    others, table, own = process
    own.add(SHARES, [used(update, rank) for rank in range(3)], {others[0], others[1], table})
    assert others[2].grad is None
    return [parameter.grad.numpy() for parameter in (*others[:2], table)]


def summed(update):
    """The same, one process after the other."""
    totals = [np.zeros(p.shape, p.numpy().dtype) for p in computed(0, 0)]
    for rank, share in enumerate(SHARES):
        for total, part in zip(totals, computed(update, rank), strict=True):
            total += part.numpy() * total.dtype.type(share)
    return totals


def test_all_processes_have_the_same_sum_while_some_already_write_the_next():
    group = processes()
    for rank, process in enumerate(group):
        write(process, 0, rank)
    for update in range(4):
        for rank, process in enumerate(group):
            for found, expected in zip(add(process, update), summed(update), strict=True):
                np.testing.assert_array_equal(found, expected)
            write(process, update + 1, rank)


def test_what_is_no_number_reaches_all_processes():
    group = processes()
    for rank, process in enumerate(group):
        write(process, 0, rank)
    others, table, own = group[2]
    others[1].grad = torch.full_like(others[1], torch.nan)
    table.grad[1] = -torch.inf
    own.turn = 1 - own.turn  # once more in the same update
    own.write(used(0, 2))
    for process in group:
        _, second, vectors = add(process, 0)
        assert np.isnan(second).all()
        assert (vectors[1] == -np.inf).all()
        assert np.isfinite(vectors[[0, 2, 3]]).all()


def test_slots_alternate_also_where_a_process_writes_nothing():
    """What is sparse, or needs more than a slot has, is sent; others may have written theirs."""
    group = processes()
    others, table, own = group[0]
    for parameter in (*others[:2], table):
        parameter.grad = torch.ones_like(parameter).detach()
    table.grad = table.grad.to_sparse(1)
    own.write([np.arange(4)])
    assert not own.slots.any()
    for rank in (1, 2):
        write(group[rank], 0, rank)
    for rank, process in enumerate(group):
        write(process, 1, rank)
    for process in group:
        for found, expected in zip(add(process, 1), summed(1), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_slot_has_room_for_some_rows():
    others, tables = parameters()
    own = Slots(mmap.mmap(-1, 2 * 192), Group(), others, tables)  # 52, 40 and rows of 12 bytes
    assert own.has_room([np.arange(4)])
    own = Slots(mmap.mmap(-1, 2 * 128), Group(), others, tables)
    assert own.has_room([np.arange(0)])
    assert not own.has_room([np.arange(1)])
    tables[0].grad = torch.ones(4, 3)
    own.write([np.arange(1)])
    assert not own.slots.any()


@dataclass(frozen=True)
class Two(Group):
    """A process that says what another one would say to it."""

    size: int = 2
    failed: int = 0
    first: object = None

    def all_gather_object(self, value):
        return [self.first or value, value]

    def all_reduce_max(self, *numbers):
        return [max(self.failed, number) for number in numbers]


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@linux
def test_memory_is_reserved_and_freed():
    files = open_files()
    found = slots(Two(), *parameters())
    assert found.slots.shape == (2, 2, 4 * 64)
    assert open_files() == files + 1
    del found
    assert open_files() == files


@linux
@pytest.mark.parametrize("why", ["another process failed", "memory is full", "a large model"])
def test_without_common_memory_there_are_no_slots(why, monkeypatch):
    files = open_files()
    group = Two()
    if why == "another process failed":
        group = Two(failed=1)
    elif why == "memory is full":

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
    else:
        monkeypatch.setattr(shared_memory, "_MAX_BYTES", 4 * 128)
    assert slots(group, *parameters()) is None
    assert open_files() == files


@linux
@pytest.mark.parametrize(
    ("in_memory", "theirs"),
    [
        *((True, b""), (True, b"x"), (True, b"s" * 32)),  # too short
        (True, b"s" * 31 + b"t" + bytes(1 << 10)),
        (False, b"s" * 32 + bytes(1 << 10)),
    ],
)
def test_a_file_of_somebody_else_is_not_written_to(tmp_path, in_memory, theirs):
    """As where /proc counts the processes of another container, or of this machine before a move."""
    if in_memory:
        file = os.memfd_create("dlnotes-gradients")
    else:
        file = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    os.write(file, theirs)
    files = open_files()
    second = Two(rank=1, first=(os.getpid(), file, b"s" * 32))
    assert slots(second, *parameters()) is None
    assert open_files() == files
    assert os.pread(file, 1 << 11, 0) == theirs
    os.close(file)


@linux
def test_another_process_that_is_not_here_has_no_memory():
    for process, file in ((1 << 30, 3), (os.getpid(), 1 << 20)):
        assert slots(Two(rank=1, first=(process, file, bytes(32))), *parameters()) is None
    assert slots(Two(rank=1, first=(os.getpid(), None, bytes(32))), *parameters()) is None


@linux
def test_the_second_process_finds_the_memory_of_the_first():
    file = shared_memory._reserved(4 * 4 * 64, b"s" * 32)
    found = slots(Two(rank=1, first=(os.getpid(), file, b"s" * 32)), *parameters())
    found.slots[1, 1, -1] = 7
    assert os.pread(file, 1, 4 * 4 * 64 - 1) == b"\7"
    os.close(file)


@linux
def test_of_large_tables_some_rows_have_room(monkeypatch):
    monkeypatch.setattr(shared_memory, "_MAX_BYTES", 4 * 200)
    others, _ = parameters()
    table = torch.nn.Parameter(torch.ones(1000, 3))
    found = slots(Two(), others, [table])
    assert found.slots.shape == (2, 2, 192)
    assert not found.has_room([np.arange(1000)])

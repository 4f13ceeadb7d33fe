"""Process groups: several processes that train one model, and how they exchange results.

torchrun starts the processes, torch.distributed connects them, and `dlnotes.training.replica`
averages their gradients. A single process is a group of size 1, in which every exchange returns its
input.

Each process has all documents and computes a slice of every batch, so that the number of processes
changes the parameters by rounding only.
"""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes import launch
from dlnotes.errors import Interrupted, UserError

_T = TypeVar("_T")

_PATIENCE = timedelta(days=1)
"""How long a process waits for a busy one, for example while that evaluates or reads a corpus."""
_MEETING = timedelta(minutes=30)
"""How long a process waits for the others to start."""
_HEARING = timedelta(seconds=0.3)
"""The longest single wait: Python handles no signal until torch's function returns."""
_TOGETHER = 2.0
"""How many seconds a process that ends early waits for the others to do so, too."""
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Every process must call each method that communicates, in the same order.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        stop: Returns the number of the signal that asked this process to stop, or 0.
    """

    rank: int = 0
    size: int = 1
    stop: Callable[[], int] = int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def own_indices(self, indices: NDArray[Any]) -> NDArray[Any]:
        """The documents of a batch that this process computes; empty if there are too few.

        It takes every `size`-th document: batches are sorted by length, so that all processes have
        about equal work.
        """
        return indices[self.rank :: self.size]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """Maximum of each number over the processes; for flags, whether any process has set it."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.int64)
        _wait_for(dist.all_reduce(found, dist.ReduceOp.MAX, async_op=True))
        return [int(number) for number in found.tolist()]

    def all_gather(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The arrays of all processes, which must have the same size, as the rows of one."""
        rows = torch.empty(self.size, len(array), dtype=torch.uint8)
        _wait_for(dist.all_gather(list(rows), torch.from_numpy(array), async_op=True))
        return rows.numpy()

    def barrier(self) -> None:
        """Wait until every process has called this; signals are handled meanwhile."""
        self.all_reduce_max(0)

    def all_gather_object(self, value: _T) -> list[_T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        self.barrier()
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def on_first(self, do: Callable[[], _T]) -> _T:
        """Call `do` in the first process alone, and return its result in every process.

        Raises:
            UserError: `do` raised it; it is then raised in every process.
        """
        if self.size == 1:
            return do()
        said: list[Any] = [None, None]
        if self.is_first:
            try:
                said[0] = do()
            except UserError as error:
                said[1] = str(error)
        self.barrier()
        dist.broadcast_object_list(said)
        if said[1] is not None:
            raise UserError(said[1])
        result: _T = said[0]
        return result

    @contextmanager
    def local_rank_zero_first(self) -> Iterator[None]:
        """Let one process of each machine go first, so that the others find its files."""
        if self.size == 1:
            yield
            return
        if launch.local_rank() > 0:
            self.barrier()
        yield
        if launch.local_rank() == 0:
            self.barrier()

    def own_batches(self, batches: Iterable[_T]) -> Iterator[_T]:
        """Iterate over the batches that this process measures; pass the results to `merge`.

        A process for which there is none gets a batch of another one, so that it knows the shapes
        and types of the results.

        Raises:
            Interrupted: A signal asked a process to stop; it is then raised in every process.
        """
        if self.size > 1:
            every = list(batches)
            batches = every[self.rank :: self.size] or every[:1]
        for batch in batches:
            if self.stop():
                break
            yield batch
        if (number := self.all_reduce_max(self.stop())[0]) > 0:
            raise Interrupted(number)

    def merge(self, tensors: list[Tensor], batches: Iterable[Any]) -> list[Tensor]:
        """Fill in the results of the other processes, bit for bit.

        Args:
            tensors: Tensors on the CPU, with zeros where this process has no result.
            batches: The same batches that `own_batches` got.
        """
        if self.size > 1:
            nothing = self.rank >= sum(1 for _ in batches)
            for tensor in tensors:
                if nothing:
                    tensor.zero_()
                dist.all_reduce(tensor.view(torch.uint8))
        return tensors

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Require that all processes have the same facts.

        Raises:
            UserError: They differ; it is raised in every process.
        """
        everyone = self.all_gather_object({name: repr(value) for name, value in facts.items()})
        for rank, theirs in enumerate(everyone):
            for name, value in everyone[0].items():
                if theirs[name] != value:
                    raise UserError(
                        f"the process of rank {rank} has other {name} than that of rank 0: start "
                        "all of them with the same version, the same options and the same files"
                    )

    def seed_by_rank(self) -> None:
        """Seed every process but the first differently, so that dropout differs between them."""
        if self.size > 1:
            seed = self.on_first(lambda: int(torch.randint(1 << 62, ())))
            if not self.is_first:
                torch.manual_seed(seed + self.rank)

    def device(self, device: torch.device) -> torch.device:
        """The device of this process.

        Args:
            device: The device that the user asked for.

        Raises:
            UserError: There are fewer devices than processes, or several processes cannot use
                devices of this type.
        """
        if self.size == 1 or device.type == "cpu":
            return device
        if str(device) != "cuda":  # mps, or one device for all of them
            raise UserError(f"device is {device}, but several processes need cpu, cuda or auto")
        there, local = torch.cuda.device_count(), launch.local_rank()
        if local >= there:
            raise UserError(
                f"there is no CUDA device for process {local + 1} of this machine, which has "
                f"{there}: start {there} with torchrun --nproc-per-node {there}"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)


ALONE = Group()
"""The group of a single process."""


def _wait_for(work: Any) -> None:
    """Wait for a collective in short waits, between which Python can handle signals.

    Raises:
        RuntimeError: Another process is lost.
    """
    while not work.is_completed():
        with suppress(RuntimeError):  # a time-out; the last call raises a true failure again
            work.wait(_HEARING)
    work.wait()


def current() -> Group:
    """The group that this process belongs to: torch's default process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()


@contextmanager
def process_group() -> Iterator[Group]:
    """Join the processes that torchrun has started, and leave them at the end.

    A nested call does nothing, and neither does a call in a single process.

    Raises:
        UserError: The processes cannot be reached, or one of them has ended.
    """
    if launch.world_size() == 1 or dist.is_initialized():
        yield current()
        return
    from torch.distributed.rendezvous import rendezvous  # not there in a torch without it

    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=_MEETING)))
        store = _fresh(store, rank, size)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of torchrun cannot reach one another: {error}") from error
    try:
        try:
            yield current()
        except RuntimeError as error:
            if not _is_loss(error):
                raise
            raise UserError(
                "another process of this training ended, or cannot be reached any more"
            ) from error
    except (UserError, OSError, MemoryError) as error:
        # An error in one process causes errors in the others: only the first one is printed (see
        # `dlnotes.cli.exit_handler`).
        try:
            reported_here = store.add("told", 1) == 1
        except RuntimeError:  # the process that holds the store has ended
            reported_here = rank == 0
        error.reported_here = reported_here  # type: ignore[union-attr]
        _wait_for_ends(store, size)
        raise
    except (Interrupted, SystemExit):
        _wait_for_ends(store, size)
        raise
    except KeyboardInterrupt as stop:
        if rank == 0:  # it reports the interruption, and the others' errors follow from it
            with suppress(RuntimeError):
                stop.reported_here = store.add("told", 1) == 1  # type: ignore[attr-defined]
        raise
    # torch 2.3 holds Python's lock while its threads end, and a thread that frees the last tensor
    # of a collective waits for that lock, forever. `last` keeps that tensor alive.
    last = torch.zeros(())
    dist.all_reduce(last)
    dist.destroy_process_group()
    del last


@contextmanager
def process_group_of_command() -> Iterator[Group]:
    """`process_group` for a command, whose options must be the same in every process.

    With different options, such as ``--dry-run`` in one of them, a process would end or do
    something else while the others wait for it.

    Raises:
        UserError: The options differ; see also `process_group`.
    """
    with process_group() as group:
        group.require_same({"options": sys.argv[1:]})
        yield group


def _fresh(store: Any, rank: int, size: int) -> Any:
    """The processes' shared store, without entries from before a restart.

    torchrun keeps the store when it restarts the processes, and the number of restarts that it
    reports may differ between machines. Therefore each process writes a random word, the first
    process answers it with the name of a new part of the store, and each process confirms the
    answer.
    """
    word, until = secrets.token_hex(8), time.monotonic() + _MEETING.total_seconds()
    waiting = set(range(1, size)) if rank == 0 else {rank}
    name = word
    if rank > 0:
        store.set(f"word/{rank}", word)
    while waiting:
        for other in sorted(waiting):
            if rank > 0 and store.check([f"answer/{word}"]):
                name = store.get(f"answer/{word}").decode()
                store.set(f"{name}/{rank}", "")
                waiting.remove(other)
            elif rank == 0 and store.check([f"{name}/{other}"]):
                waiting.remove(other)
            elif rank == 0 and store.check([f"word/{other}"]):
                store.set(f"answer/{store.get(f'word/{other}').decode()}", name)
        if time.monotonic() > until:
            raise RuntimeError(f"{len(waiting)} of {size} have not started")
        time.sleep(0.02)
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def _wait_for_ends(store: Any, size: int) -> None:
    """Wait, but not for long, until the other processes come to their ends as well.

    When one process has ended, torchrun stops the others. Those that were about to end by
    themselves would report that they have been stopped.
    """
    until = time.monotonic() + _TOGETHER
    # The process that holds the store may have ended, and torchrun may stop this one by now.
    with suppress(RuntimeError, KeyboardInterrupt):
        ended = store.add("ended", 1)
        while ended < size and time.monotonic() < until:
            time.sleep(0.005)
            ended = store.add("ended", 0)


def _is_loss(error: RuntimeError) -> bool:
    """Whether an error means that another process cannot be reached."""
    return isinstance(error, getattr(dist, "DistError", ())) or bool(_LOST.search(str(error)))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without a `DistributedDataParallel` around it."""
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        inner: nn.Module = model.module
        return inner
    return model

"""Several processes that train one model: which of them this is, and what they agree on.

torchrun starts the processes, torch.distributed connects them, `dlnotes.training.replica` averages
their gradients. One process is a group of size 1, in which every agreement is what was given.

Each process has all the documents and computes a slice of every batch, so that a number of
processes changes the parameters by rounding alone.
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
"""How long a process waits for another one that is alive: to evaluate, to read a large corpus."""
_MEETING = timedelta(minutes=30)
"""How long it waits for the others to start."""
_HEARING = timedelta(seconds=0.3)
"""How long it waits in one go: Python has heard no signal before torch's function returns."""
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Every process must call each method that communicates, in the same order.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        stop: Gives the number of the signal that has asked this process to stop, or 0.
    """

    rank: int = 0
    size: int = 1
    stop: Callable[[], int] = int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, indices: NDArray[Any]) -> NDArray[Any]:
        """The documents of a batch that this process computes; none where there are too few.

        Every `size`-th one: batches are sorted by length, and so all processes have equal work.
        """
        return indices[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def most(self, *numbers: int) -> list[int]:
        """The largest of each number that the processes give: with flags, whether any has it."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.int64)
        _wait_for(dist.all_reduce(found, dist.ReduceOp.MAX, async_op=True))
        return [int(number) for number in found.tolist()]

    def stacked(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The arrays of all processes, which have the same size, as the rows of one."""
        rows = torch.empty(self.size, len(array), dtype=torch.uint8)
        _wait_for(dist.all_gather(list(rows), torch.from_numpy(array), async_op=True))
        return rows.numpy()

    def meet(self) -> None:
        """Wait until every process is here; a signal is heard meanwhile."""
        self.most(0)

    def gather(self, value: _T) -> list[_T]:
        """What each process gives, in the order of their ranks."""
        if self.size == 1:
            return [value]
        self.meet()
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def on_first(self, do: Callable[[], _T]) -> _T:
        """The result of `do`, which the first process alone calls.

        Raises:
            UserError: `do` raised it, then in every process.
        """
        if self.size == 1:
            return do()
        said: list[Any] = [None, None]
        if self.is_first:
            try:
                said[0] = do()
            except UserError as error:
                said[1] = str(error)
        self.meet()
        dist.broadcast_object_list(said)
        if said[1] is not None:
            raise UserError(said[1])
        result: _T = said[0]
        return result

    @contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """Let one process of each machine go first, so that the others find its files."""
        if self.size == 1:
            yield
            return
        if launch.local_rank() > 0:
            self.meet()
        yield
        if launch.local_rank() == 0:
            self.meet()

    def deal(self, batches: Iterable[_T]) -> Iterator[_T]:
        """The batches that this process measures, one after the other; `merge` what is found.

        A process for which there is none gets one of the others', to know what a result looks like.

        Raises:
            Interrupted: A signal asked a process to stop; then in all of them.
        """
        if self.size > 1:
            every = list(batches)
            batches = every[self.rank :: self.size] or every[:1]
        for batch in batches:
            if self.stop():
                break
            yield batch
        if (number := self.most(self.stop())[0]) > 0:
            raise Interrupted(number)

    def merge(self, tensors: list[Tensor], batches: Iterable[Any]) -> list[Tensor]:
        """Fill in what the other processes have found, to the last bit.

        Args:
            tensors: On the CPU, with zeros where this process has found nothing.
            batches: What was given to `deal`, once more.
        """
        if self.size > 1:
            nothing = self.rank >= sum(1 for _ in batches)
            for tensor in tensors:
                if nothing:
                    tensor.zero_()
                dist.all_reduce(tensor.view(torch.uint8))
        return tensors

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Require that what must be equal in every process is equal.

        Raises:
            UserError: It is not, in every process.
        """
        everyone = self.gather({name: repr(value) for name, value in facts.items()})
        for rank, theirs in enumerate(everyone):
            for name, value in everyone[0].items():
                if theirs[name] != value:
                    raise UserError(
                        f"the process of rank {rank} has other {name} than that of rank 0: start "
                        "all of them with the same version, the same options and the same files"
                    )

    def part_random_streams(self) -> None:
        """Give the other processes random numbers of their own, for dropout."""
        if self.size > 1:
            seed = self.on_first(lambda: int(torch.randint(1 << 62, ())))
            if not self.is_first:
                torch.manual_seed(seed + self.rank)

    def device(self, device: torch.device) -> torch.device:
        """The device of this process, where `device` is the one that was asked for.

        Raises:
            UserError: There are too few, or several processes cannot use one of this kind.
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
"""One process."""


def _wait_for(work: Any) -> None:
    """Wait for a collective, with a break now and then in which Python acts on signals.

    Raises:
        RuntimeError: Another process is lost.
    """
    while not work.is_completed():
        with suppress(RuntimeError):  # not yet; if it has failed, the last call says so
            work.wait(_HEARING)
    work.wait()


def current() -> Group:
    """The group that this process belongs to: torch's default process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that torchrun has started, and leave them in the end.

    Within, the same call does nothing, nor does it where there is one process.

    Raises:
        UserError: They cannot be reached, or one of them has ended.
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
        # Of errors that follow from one another the first is told (see `dlnotes.cli.endings`).
        try:
            told_here = store.add("told", 1) == 1
        except RuntimeError:  # the store is gone, with the process that has it
            told_here = rank == 0
        error.told_here = told_here  # type: ignore[union-attr]
        raise
    except KeyboardInterrupt:
        if rank == 0:  # it says so, and what the others say follows from it
            with suppress(RuntimeError):
                store.add("told", 1)
        raise
    # torch 2.3 holds Python's lock while its threads end, and a thread that frees the last tensor
    # it has worked on waits for the lock: here that tensor is still in use.
    last = torch.zeros(())
    dist.all_reduce(last)
    dist.destroy_process_group()
    del last


@contextmanager
def joined_by_command() -> Iterator[Group]:
    """`joined` for a command: its options must be the same in every process.

    With others, such as ``--dry-run`` in one of them, a process would end or do something else
    while the others wait for it.

    Raises:
        UserError: They are not, or see `joined`.
    """
    with joined() as group:
        group.require_same({"options": sys.argv[1:]})
        yield group


def _fresh(store: Any, rank: int, size: int) -> Any:
    """The store that the processes share, without what those before a restart have left in it.

    torchrun keeps it, and what it tells of restarts is the number of each machine's own. So each
    process says a word that nobody knows, and the first one answers it with the name of a new part
    of the store, until each has confirmed that it has heard.
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


def _is_loss(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached."""
    return isinstance(error, getattr(dist, "DistError", ())) or bool(_LOST.search(str(error)))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where it is in a `DistributedDataParallel`."""
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        inner: nn.Module = model.module
        return inner
    return model

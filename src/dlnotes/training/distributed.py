"""Several processes that train one model: which of them this is, and what they agree on.

torchrun starts the processes, torch.distributed connects them, `DistributedDataParallel` averages
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
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

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
_LARGE = 1 << 16
"""Numbers of a table from which it pays to look for the rows that are not zero."""
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


class _Outputs(nn.Module):
    """Whatever the loss needs of a model as a module's forward, the only one that is wrapped."""

    def __init__(self, model: nn.Module, outputs: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, *inputs: Tensor) -> Any:
        return self.outputs(self.model, *inputs)


class Replica:
    """A model of which every process has a copy; its gradients are the mean of theirs.

    Differs from `DistributedDataParallel` alone, which it uses, in that the model need not be
    called as a module, and in sparse gradients: their rows are gathered, with every backend (NCCL
    cannot add sparse tensors up). On CPUs, of the gradients of word vectors only the rows that are
    not zero are sent, which are few. A parameter that no process has used keeps no gradient.

    Args:
        group: The processes.
        model: Its parameters become those of the first process.
        outputs: Gives what a loss is computed from, of the model and a batch.
    """

    def __init__(self, group: Group, model: nn.Module, outputs: Callable[..., Any]) -> None:
        self.group, module = group, _Outputs(model, outputs)
        sparse = dict(_sparse_parameters(module))
        self.sparse = list(sparse.values())
        self.rows = list(_word_vectors(module))
        apart = {id(parameter) for parameter in [*self.sparse, *self.rows]}
        for parameter in [*self.sparse, *self.rows]:
            dist.broadcast(parameter.detach(), 0)
        self.module: nn.Module = module
        self.wrapped = None
        parallel = torch.nn.parallel.DistributedDataParallel
        named = list(module.named_parameters(remove_duplicate=False))
        ignored = [name for name, parameter in named if id(parameter) in apart]
        parallel._set_params_and_buffers_to_ignore_for_model(module, ignored)
        if any(p.requires_grad and id(p) not in apart for _, p in named):
            # Finding what is unused also keeps torch from arranging the gradients anew after the
            # first update, which would change the rounding of a training that is resumed.
            self.module = self.wrapped = parallel(module, find_unused_parameters=True)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the loss is computed from."""
        return self.module(*inputs)

    def accumulating(self, more: bool) -> AbstractContextManager[None]:
        """For forward and backward of a part of a batch: whether `more` of them follow."""
        if more and self.wrapped is not None:
            context: AbstractContextManager[None] = self.wrapped.no_sync()
            return context
        return nullcontext()

    def average_the_rest(self) -> None:
        """Average the gradients that the wrapper leaves out; call it after the last backward."""
        for parameter in self.sparse:
            found = _sum(parameter, self.group)
            parameter.grad = None if found is None else found / self.group.size
        for table in self.rows:
            _average_rows(table, self.group)


def _word_vectors(module: nn.Module) -> Iterator[Tensor]:
    """Large tables on the CPU of which a batch looks up a few rows."""
    for part in module.modules():
        if isinstance(part, nn.Embedding) and not part.sparse:
            weight = part.weight
            if weight.requires_grad and weight.is_cpu and weight.numel() >= _LARGE:
                yield weight


def _average_rows(parameter: Tensor, group: Group) -> None:
    """Average a gradient of which most rows are zeros in all processes."""
    used = torch.zeros(len(parameter) + 1, dtype=torch.uint8)  # the last: whether there is one
    if parameter.grad is not None:
        largest = parameter.grad.abs().amax(dim=1)
        used = torch.cat([largest != 0, torch.ones(1, dtype=torch.bool)]).byte()  # NaN is not 0
    dist.all_reduce(used, dist.ReduceOp.MAX)
    if not used[-1]:
        return
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    at = used[:-1].nonzero().squeeze(1)
    parameter.grad[at] = group.sum(parameter.grad[at]) / group.size


def _sparse_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters whose gradient may be sparse, by name: those of modules that say ``sparse``."""
    for prefix, part in module.named_modules():
        if getattr(part, "sparse", False) is True:
            for name, parameter in part.named_parameters(prefix, recurse=False):
                if parameter.requires_grad:
                    yield name, parameter


def _sum(parameter: nn.Parameter, group: Group) -> Tensor | None:
    """The sum of a parameter's gradients in all processes; None where none has one."""
    grad = parameter.grad
    kind = -1 if grad is None else int(grad.is_sparse)
    is_sparse = group.most(kind)[0]
    if is_sparse < 0:
        return None
    if not is_sparse:
        return group.sum(torch.zeros_like(parameter) if grad is None else grad)
    if grad is None:
        empty = torch.empty((1, 0), dtype=torch.int64, device=parameter.device)
        nothing = parameter.new_empty(0, *parameter.shape[1:])
        grad = torch.sparse_coo_tensor(empty, nothing, parameter.shape, check_invariants=False)
    grad = grad.coalesce()
    rows, values = grad.indices()[0], grad.values()
    count = torch.tensor(len(rows), device=rows.device)
    counts = [torch.empty_like(count) for _ in range(group.size)]
    dist.all_gather(counts, count)
    sizes = [int(size) for size in torch.stack(counts).tolist()]
    everyone = [
        torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        for parts in (_gathered(tensor, max(sizes), group) for tensor in (rows, values))
    ]
    at = everyone[0].unsqueeze(0)
    return torch.sparse_coo_tensor(at, everyone[1], parameter.shape, check_invariants=False)


def _gathered(tensor: Tensor, rows: int, group: Group) -> list[Tensor]:
    """The tensors of all processes, each filled up to the same number of rows."""
    padded = tensor.new_zeros(rows, *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in range(group.size)]
    dist.all_gather(parts, padded)
    return parts

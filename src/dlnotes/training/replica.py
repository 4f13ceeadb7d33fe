"""Data parallelism: every process has a copy of the model, and their gradients are averaged."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.training.distributed import Group
from dlnotes.training.shared_memory import Rows, slots

_LARGE = 1 << 16
"""Size of a table from which it pays to look for the rows that are not zero."""
_NONE, _DENSE, _SPARSE = range(3)
"""Kinds of a parameter's gradient."""


class Agreed(NamedTuple):
    """What the processes have agreed on in an update.

    Attributes:
        loss: The mean loss over the documents of all processes.
        stopping: Number of a signal that asked one of the processes to stop, or 0.
        saving: Whether a checkpoint is due in one of the processes.
    """

    loss: Tensor
    stopping: int
    saving: int


class LossAveraging:
    """Makes the losses match gradients that DistributedDataParallel or FSDP averages.

    Args:
        group: The processes.
    """

    def __init__(self, group: Group) -> None:
        self.group = group

    def divisor(self, size: Tensor) -> Tensor:
        """Divisor of a sum of losses that turns a mean over processes into one over documents.

        Args:
            size: Total weight of this process's documents.
        """
        return self.group.all_reduce(size.clone()) / self.group.size

    def average(self, loss: Tensor, size: Tensor, requests: tuple[int, int]) -> Agreed:
        """Agree, after all backward passes of an update.

        Args:
            loss: The sum of the losses of this process, divided by `divisor`.
            size: Total weight of this process's documents.
            requests: This process's values for `Agreed.stopping` and `Agreed.saving`.
        """
        return Agreed(
            self.group.all_reduce(loss) / self.group.size, *self.group.all_reduce_max(*requests)
        )


class _Outputs(nn.Module):
    """Module whose forward computes the outputs for the loss, since only `forward` is wrapped."""

    def __init__(self, model: nn.Module, outputs: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, *inputs: Tensor) -> Any:
        return self.outputs(self.model, *inputs)


class DDPReplica(LossAveraging):
    """A copy whose gradients `DistributedDataParallel` sends while others are being computed.

    Unlike with that class alone, the model need not be called as a module, and sparse gradients
    work with every backend: their rows are gathered, since NCCL cannot add sparse tensors. A
    parameter that no process has used has no gradient.

    Args:
        group: The processes.
        model: The model; its parameters are replaced by those of the first process.
        outputs: Maps the model and a batch to the outputs that a loss is computed from.
    """

    def __init__(self, group: Group, model: nn.Module, outputs: Callable[..., Any]) -> None:
        super().__init__(group)
        module = _Outputs(model, outputs)
        self.sparse = _sparse_parameters(module)
        for parameter in self.sparse:
            dist.broadcast(parameter.detach(), 0)
        self.module: nn.Module = module
        self.parallel = None
        parallel = torch.nn.parallel.DistributedDataParallel
        apart = {id(parameter) for parameter in self.sparse}
        named = list(module.named_parameters(remove_duplicate=False))
        ignored = [name for name, parameter in named if id(parameter) in apart]
        parallel._set_params_and_buffers_to_ignore_for_model(module, ignored)
        if any(p.requires_grad and id(p) not in apart for _, p in named):
            # find_unused_parameters also prevents torch from rearranging the gradients after the
            # first update, which would change the rounding in a resumed training.
            self.module = self.parallel = parallel(module, find_unused_parameters=True)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the loss is computed from."""
        return self.module(*inputs)

    def accumulating(self, more: bool) -> AbstractContextManager[None]:
        """For forward and backward of a part of a batch: whether `more` of them follow."""
        if more and self.parallel is not None:
            context: AbstractContextManager[None] = self.parallel.no_sync()
            return context
        return nullcontext()

    def average(self, loss: Tensor, size: Tensor, requests: tuple[int, int]) -> Agreed:
        """Also average the sparse gradients; see `LossAveraging`."""
        for parameter in self.sparse:
            own = np.array([_kind(parameter), _count_rows(parameter)], np.int64)
            kinds, counts = self.group.all_gather(own.view(np.uint8)).view(np.int64).T
            _average_apart(parameter, _agreed_kind(kinds), counts, 1 / self.group.size, self.group)
        return super().average(loss, size, requests)


class CPUReplica:
    """A copy on a CPU, whose gradients are sent after the last backward pass.

    Sending them earlier would take cores away from the computation. First, all processes exchange
    messages of equal length, which say which gradients they have, which rows of the word vectors
    these use, and the loss and other single numbers. Then the gradients are summed: by processes of
    one machine in memory that they share, if all are dense and fit into it; otherwise by messages,
    one per dtype. Of the word vectors, only rows that are not zero in at least one process are
    exchanged, because a batch uses few of them. Each sparse gradient takes two further messages,
    and each buffer that the model has changed takes one.

    Args:
        group: The processes.
        model: The model; its parameters are replaced by those of the first process.
        outputs: Maps the model and a batch to the outputs that a loss is computed from.
    """

    def __init__(self, group: Group, model: nn.Module, outputs: Callable[..., Any]) -> None:
        self.group, self.model, self.outputs = group, model, outputs
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), 0)
        self.tables = _word_vectors(model)
        apart = {id(parameter) for parameter in self.tables}
        self.others = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
        self.buffers = {name: (b, b._version) for name, b in model.named_buffers()}
        is_sparse = bool(_sparse_parameters(model))
        self.slots = None if is_sparse else slots(group, self.others, self.tables)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the loss is computed from."""
        return self.outputs(self.model, *inputs)

    def accumulating(self, more: bool) -> AbstractContextManager[None]:
        """Do nothing: gradients are sent only after all parts of a batch are computed."""
        return nullcontext()

    def divisor(self, size: Tensor) -> Tensor:
        """The size itself: the loss is this process's mean, which `average` weights."""
        return size if size else torch.ones_like(size)

    def average(self, loss: Tensor, size: Tensor, requests: tuple[int, int]) -> Agreed:
        """Average the gradients over the documents of all processes; see `LossAveraging`."""
        parameters = [*self.others, *self.tables]
        counts = [_count_rows(parameter) for parameter in parameters]
        own_kinds = [_kind(parameter) for parameter in parameters]
        own_used = [_used_rows(table) for table in self.tables]
        if self.slots:
            self.slots.write([np.flatnonzero(flags) for flags in own_used])
        numbers, kinds, changed, *used = self.exchange(
            np.array([loss.item(), size.item(), *requests, *counts], np.float64).view(np.uint8),
            np.array(own_kinds, np.uint8),
            np.array([self.has_changed(name) for name in self.buffers], np.uint8),
            *(np.packbits(flags) for flags in own_used),
        )
        losses, sizes, stops, savings, *every_count = numbers.view(np.float64).T
        whole = sizes.sum()
        shares = [float(each / whole) if each else 0.0 for each in sizes]
        kind = dict(zip(parameters, map(_agreed_kind, kinds.T), strict=True))
        rows = [
            [
                np.flatnonzero(np.unpackbits(bits[rank], count=len(table)))
                for table, bits in zip(self.tables, used, strict=True)
            ]
            for rank in range(self.group.size)
        ]
        if self.slots and _SPARSE not in kinds and all(map(self.slots.has_room, rows)):
            dense = {parameter for parameter in parameters if kind[parameter] == _DENSE}
            self.slots.add(shares, rows, dense)
        else:
            self.send(shares[self.group.rank], rows, kind)
        for parameter, each in zip(parameters, every_count, strict=True):
            if kind[parameter] == _SPARSE:
                _average_apart(parameter, _SPARSE, each, shares[self.group.rank], self.group)
        self.broadcast_buffers([bool(column.any()) for column in changed.T])
        mean = losses @ sizes / whole if whole else losses.sum()
        return Agreed(loss.new_tensor(float(mean)), int(stops.max()), int(savings.max()))

    def send(self, share: float, rows: Sequence[Rows], kind: dict[nn.Parameter, int]) -> None:
        """Add dense gradients up by messages.

        Args:
            share: What this process's gradients are multiplied by; the average is the sum.
            rows: Of each process, the rows that are not zero of each table of word vectors.
            kind: What each parameter has for a gradient.
        """
        dense = [parameter for parameter in self.others if kind[parameter] == _DENSE]
        tables = [table for table in self.tables if kind[table] == _DENSE]
        some = [
            torch.from_numpy(functools.reduce(np.union1d, each))
            for table, *each in zip(self.tables, *rows, strict=True)
            if kind[table] == _DENSE
        ]
        grads = [_gradient(parameter) for parameter in dense]
        grads += [_gradient(table)[at] for table, at in zip(tables, some, strict=True)]
        sums = iter(self.summed(grads, share))
        for parameter in dense:
            parameter.grad = next(sums)
        for table, at in zip(tables, some, strict=True):
            _gradient(table).index_copy_(0, at, next(sums))

    def exchange(self, *parts: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Exchange arrays between all processes; each part gets a row per process."""
        ends = np.cumsum([len(part) for part in parts])[:-1]
        received = np.split(self.group.all_gather(np.concatenate(parts)), ends, axis=1)
        return [np.ascontiguousarray(part) for part in received]

    def summed(self, grads: list[Tensor], share: float) -> list[Tensor]:
        """The sums of gradients over the processes, each of which multiplies its own by `share`."""
        found: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(grad.dtype for grad in grads):
            which = [i for i, grad in enumerate(grads) if grad.dtype == dtype]
            whole = torch.cat([grads[i].reshape(-1) for i in which]).mul_(share)
            parts = self.group.all_reduce(whole).split([grads[i].numel() for i in which])
            found |= {i: part.view_as(grads[i]) for i, part in zip(which, parts, strict=True)}
        return [found[i] for i in range(len(grads))]

    def has_changed(self, name: str) -> bool:
        """Whether a buffer was replaced or modified since the last update."""
        buffer, version = self.buffers[name]
        now = self.model.get_buffer(name)
        return now is not buffer or now._version != version

    def broadcast_buffers(self, changed: list[bool]) -> None:
        """Replace buffers that some process has changed by those of the first process."""
        for name, has_changed in zip(self.buffers, changed, strict=True):
            if has_changed:
                buffer = self.model.get_buffer(name)
                dist.broadcast(buffer.detach(), 0)
                self.buffers[name] = buffer, buffer._version


def make_replica(
    group: Group, model: nn.Module, outputs: Callable[..., Any]
) -> DDPReplica | CPUReplica:
    """The kind of copy that suits the model's device; see `DDPReplica` for the arguments."""
    tensors = [*model.parameters(), *model.buffers()]
    kind = CPUReplica if all(tensor.is_cpu for tensor in tensors) else DDPReplica
    return kind(group, model, outputs)


def _word_vectors(module: nn.Module) -> list[nn.Parameter]:
    """Large embedding tables, of which a batch looks up only a few rows."""
    found: dict[nn.Parameter, None] = {}
    for part in module.modules():
        if isinstance(part, nn.Embedding) and not part.sparse:
            own = (p for p in part.parameters(recurse=False) if p.requires_grad and p.dim() == 2)
            found |= dict.fromkeys(p for p in own if p.numel() >= _LARGE)
    return list(found)


def _sparse_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters whose gradients may be sparse: those of modules with ``sparse=True``."""
    found: dict[nn.Parameter, None] = {}
    for part in module.modules():
        if getattr(part, "sparse", False) is True:
            found |= {p: None for p in part.parameters(recurse=False) if p.requires_grad}
    return list(found)


def _kind(parameter: nn.Parameter) -> int:
    if parameter.grad is None:
        return _NONE
    return _SPARSE if parameter.grad.is_sparse else _DENSE


def _agreed_kind(kinds: NDArray[Any]) -> int:
    """The kind that is averaged: if one process has a dense gradient, all make theirs dense."""
    return _DENSE if _DENSE in kinds else int(kinds.max())


def _gradient(parameter: nn.Parameter) -> Tensor:
    """A gradient as a dense tensor; zeros if only other processes have one."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    elif parameter.grad.is_sparse:
        parameter.grad = parameter.grad.to_dense()
    return parameter.grad


def _used_rows(table: nn.Parameter) -> NDArray[np.bool_]:
    """The rows of a gradient that are not zero."""
    grad, used = table.grad, np.zeros(len(table), np.bool_)
    if grad is None:
        return used
    if grad.is_sparse:
        used[grad.indices()[0].numpy()] = True
        return used
    # One pass over the bits, without the highest one, which is the sign that a zero may have: half
    # as long as two reductions of torch (maximum and sum), which are faster than `any`.
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[grad.itemsize]
    bits: NDArray[Any] = np.bitwise_or.reduce(grad.view(integer).numpy(), axis=1)
    found: NDArray[np.bool_] = bits << 1 != 0
    return found


def _count_rows(parameter: nn.Parameter) -> int:
    """How many rows a sparse gradient has; this coalesces it."""
    if _kind(parameter) != _SPARSE:
        return 0
    assert parameter.grad is not None
    parameter.grad = parameter.grad.coalesce()
    return len(parameter.grad.values())


def _average_apart(
    parameter: nn.Parameter, kind: int, counts: NDArray[Any], share: float, group: Group
) -> None:
    """Average a gradient that may be sparse.

    Args:
        parameter: The parameter; its gradient is replaced by the average.
        kind: The kind of its gradient on which the processes have agreed.
        counts: How many rows each process has.
        share: Factor of this process's gradient; the average is the sum over the processes.
        group: The processes.
    """
    if kind == _DENSE:
        parameter.grad = group.all_reduce(_gradient(parameter) * share)
    if kind != _SPARSE:
        return
    grad, width = parameter.grad, parameter.shape[1:]
    rows = torch.empty(0, dtype=torch.int64, device=parameter.device)
    values = parameter.new_empty(0, *width)
    if grad is not None:
        rows, values = grad.indices()[0], grad.values() * share
    everyone = [_gathered(tensor, counts.astype(int).tolist(), group) for tensor in (rows, values)]
    parameter.grad = torch.sparse_coo_tensor(
        everyone[0].unsqueeze(0), everyone[1], parameter.shape, check_invariants=False
    )


def _gathered(tensor: Tensor, counts: list[int], group: Group) -> Tensor:
    """The rows of all processes; each pads its own to the largest number of rows."""
    padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in range(group.size)]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

"""A model whose weights, gradients and optimizer states are sharded over the processes (FSDP).

With a replica, every process holds all of them. Here each holds a part, and the weights of a block
are gathered while the block is computed. This is the third stage of ZeRO (Rajbhandari et al. 2020,
https://arxiv.org/abs/1910.02054), by PyTorch's ``fully_shard``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dlnotes.errors import UserError
from dlnotes.training.distributed import Group
from dlnotes.training.replica import LossAveraging


@runtime_checkable
class InBlocks(Protocol):
    """A model that calls blocks one after another, so that it needs one's weights at a time."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The blocks; `forward` calls each as a module."""


class Shards(LossAveraging):
    """A model that is sharded over processes while it is trained.

    Elementwise rules, as all of `dlnotes.optim` are, compute the same on parts as on the whole.
    Therefore the parameters of `optimizer` are replaced by their parts, and its states, if it has
    any, are also sharded. Meanwhile the given model has no weights, except within
    `full_parameters`.

    Args:
        group: The processes.
        model: The model; it starts with the weights of the first process.
        optimizer: An optimizer over the model's parameters.
        outputs: Maps the model and a batch to the outputs that a loss is computed from.

    Raises:
        UserError: The model cannot be sharded, or not by this version of torch.
    """

    def __init__(
        self,
        group: Group,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        outputs: Callable[..., Any],
    ) -> None:
        super().__init__(group)
        fully_shard = _fully_shard(model)
        self.model, self.optimizer, self.outputs = model, optimizer, outputs
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), 0)
        self.sharded = copy.deepcopy(model)
        device = next(model.parameters()).device.type
        self.mesh = dist.device_mesh.init_device_mesh(device, (group.size,))
        assert isinstance(self.sharded, InBlocks)
        for module in [*self.sharded.blocks, self.sharded]:
            fully_shard(module, mesh=self.mesh)
        self.sharded.train()
        self._keep = group.is_first
        self._pairs = list(zip(model.parameters(), self.sharded.parameters(), strict=True))
        self._parts = dict(self._pairs)
        for one in optimizer.param_groups:
            one["params"] = [self._parts[p] for p in one["params"]]
        for p, part in self._pairs:
            if p in optimizer.state:
                states = optimizer.state.pop(p).items()
                optimizer.state[part] = {name: self._cut(x, p, part) for name, x in states}
        self._within = 0
        self._release()

    def __call__(self, *inputs: Tensor) -> Any:
        """What the loss is computed from."""
        return self.outputs(self.sharded, *inputs)

    @contextmanager
    def accumulating(self, more: bool) -> Iterator[None]:
        """For forward and backward of a part of a batch: whether `more` of them follow."""
        set_sync: Any = self.sharded.set_requires_gradient_sync
        set_sync(not more)
        yield

    @contextmanager
    def full_parameters(self) -> Iterator[None]:
        """Context in which the model has all its weights, in every process."""
        self._within += 1
        if self._within == 1:
            for p, part in self._pairs:
                p.data = full_tensor(part)
        try:
            yield
        finally:
            self._within -= 1
            if not self._within:
                self._release()

    def sharded_weights(self) -> dict[str, Tensor]:
        """A copy of this process's parts, by the names of the model's weights."""
        return {name: w.detach().clone() for name, w in self.sharded.state_dict().items()}

    def shard(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's parts of some weights of the model."""
        parts = dict(self.sharded.named_parameters(remove_duplicate=False))
        return {n: self._cut(w, w, parts[n]) if n in parts else w for n, w in weights.items()}

    def full_optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state as it would be without sharding, in the first process."""
        found: dict[str, Any] = self.gather_full(self.optimizer.state_dict())
        return found

    def gather_full(self, value: Any) -> Any:
        """Replace parts by whole tensors on the CPU, in the first process."""
        if isinstance(value, Mapping):
            return {name: self.gather_full(each) for name, each in value.items()}
        if is_sharded(value):
            found = full_tensor(value)
            return found.cpu() if self._keep else None
        return value

    def end(self) -> None:
        """End sharding: the model gets its weights back, and the optimizer its parameters."""
        for p, part in self._pairs:
            p.data = full_tensor(part)
            states = self.optimizer.state.pop(part, {}).items()
            if states:
                self.optimizer.state[p] = {name: full_tensor(x) for name, x in states}
        whole = {part: p for p, part in self._pairs}
        for one in self.optimizer.param_groups:
            one["params"] = [whole[part] for part in one["params"]]

    def _cut(self, value: Any, whole: Tensor, part: Any) -> Any:
        if not isinstance(value, Tensor) or value.shape != whole.shape:
            return value
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(whole.device), self.mesh, part.placements)

    def _release(self) -> None:
        for p, _ in self._pairs:
            p.data = p.data.new_empty(0)


def is_sharded(value: Any) -> bool:
    """Whether this is a process's part of a tensor."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


@torch.no_grad()
def full_tensor(value: Any) -> Any:
    """The whole tensor, if each process has a part of it; any other value unchanged."""
    return value.full_tensor() if is_sharded(value) else value


def _fully_shard(model: nn.Module) -> Callable[..., Any]:
    """PyTorch's ``fully_shard``, after checking that it suits the model."""
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise UserError(
            f"shard needs torch 2.6 or later, this is {torch.__version__}: leave it out"
        ) from error
    kind = type(model).__name__
    if not isinstance(model, InBlocks):
        raise UserError(f"shard is for models in blocks, such as the transformer, not for {kind}")
    if any(getattr(module, "sparse", False) is True for module in model.modules()):
        raise UserError("shard cannot be used with sparse gradients: leave out sparse=True")
    return fully_shard

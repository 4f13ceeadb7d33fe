"""How many kernels a GPU would be told to run, counted on a CPU.

At batches of 64 short documents a GPU waits for the host, which needs 10 to 30 µs per kernel: the
number of kernels is the time. Under the mode of :class:`Launches` nothing is compiled for the CPU,
so that the operations are those of CUDA, except for what cuDNN does in one: recurrences are counted
as that.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

FREE = (
    *("alias", "detach", "expand", "permute", "select", "slice", "split", "split_with_sizes"),
    *("squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view", "as_strided"),
    *("_reshape_alias", "unfold", "diagonal", "chunk", "_sparse_coo_tensor_with_dims_and_tensors"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh"),
    *("is_pinned", "_local_scalar_dense", "_indices", "_values", "sym_size"),
)
"""Operations that run no kernel: views, memory without numbers, what the host knows."""

KERNELS = {
    **dict.fromkeys(("gru", "lstm", "rnn_tanh"), (1, 1)),
    "gru_cell": (3, 7),  # two products and the gates; of these, the four products and two sums
}
"""How many kernels CUDA has for a recurrence, forward and backward (cuDNN's count as one)."""


class Launches(TorchDispatchMode):
    """Counts operations while it is active.

    Attributes:
        counts: How often each was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and run it."""
        space, _, name = func._schema.name.partition("::")
        if not self.paused and space != "profiler" and name not in FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def as_one(self, name: str, kernels: int) -> Iterator[None]:
        """Count what is done inside as so many kernels."""
        self.counts[name] += kernels
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before


class _Kernel(torch.autograd.Function):
    """A function of tensors that is counted as its kernels are, in both directions."""

    @staticmethod
    def forward(ctx: Any, launches: Launches, name: str, function: Any, *tensors: Tensor) -> Any:
        inputs = [x.detach().requires_grad_(x.requires_grad) for x in tensors]
        with launches.as_one(name, KERNELS[name][0]), torch.enable_grad():
            outputs = function(inputs)
        ctx.launches, ctx.name, ctx.inputs, ctx.outputs = launches, name, inputs, outputs
        return tuple(x.detach() for x in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        wanted = [x for x in ctx.inputs if x.requires_grad]
        with ctx.launches.as_one(f"{ctx.name} backward", KERNELS[ctx.name][1]):
            found = iter(torch.autograd.grad(ctx.outputs, wanted, gradients, allow_unused=True))
        return None, None, None, *(next(found) if x.requires_grad else None for x in ctx.inputs)


class _Recurrences:
    """``torch._VF`` with recurrences that are counted as CUDA has them."""

    def __init__(self, launches: Launches) -> None:
        self.launches = launches

    def __getattr__(self, name: str) -> Any:
        function = getattr(torch._VF, name)  # type: ignore[attr-defined]
        if name not in KERNELS:
            return function

        def call(*args: Any) -> Any:
            leaves, spec = pytree.tree_flatten(args)
            places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
            single = False

            def of_tensors(tensors: list[Tensor]) -> tuple[Tensor, ...]:
                nonlocal single
                for i, x in zip(places, tensors, strict=True):
                    leaves[i] = x
                result = function(*pytree.tree_unflatten(leaves, spec))
                single = isinstance(result, Tensor)
                return (result,) if single else result

            result = _Kernel.apply(self.launches, name, of_tensors, *[leaves[i] for i in places])
            return result[0] if single else result

        return call


def counted(update: Callable[[], Any], monkeypatch: Any) -> collections.Counter[str]:
    """What a GPU would be told to run in an update."""
    with monkeypatch.context() as patch, Launches() as launches:
        patch.setattr(torch.nn.modules.rnn, "_VF", _Recurrences(launches))
        update()
    return launches.counts

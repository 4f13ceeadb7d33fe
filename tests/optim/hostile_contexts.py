"""Steps in unusual contexts, each in a process of its own: ``python hostile_contexts.py [PART PARTS]``.

A cell is a default dtype, a default device, a mode, and whether the mode is there at the first step
or at a later one. Every cell runs in a fork of a process that has imported torch and our rules but
never made a step, so that nothing has been compiled, loaded or looked at before. The step has to be
torch's own in the same context, the memory around every tensor has to stay as it was, and the
process has to live. Prints one line of JSON for each cell that fails, and how many cells there were.
"""

import contextlib
import itertools
import json
import sys
import warnings
from functools import partial

import torch
import torch._dynamo  # imported here, and not in every fork
import torch._subclasses.fake_tensor
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS
from dlnotes.oracles.optimizers import ORACLES
from forking import error_in_a_fork

CANARY = 12345.0  # exact in every dtype's neighbourhood: compared bit for bit with itself
MARGIN = 64
SHAPES = [(3,), (5, 7), (), (40_000,)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Counting(torch.utils._python_dispatch.TorchDispatchMode):
    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        Counting.seen += "copy_" in function.__name__
        return function(*args, **(kwargs or {}))


class Watching(torch.overrides.TorchFunctionMode):
    seen = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        Watching.seen += "copy_" in function.__name__
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def noticed_by(mode):
    """A mode that has to see the operations that move the parameters."""
    before = mode.seen
    with mode():
        yield
    assert mode.seen > before, "the mode has not seen the step"


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield


@contextlib.contextmanager
def in_a_transform():
    """A step while the caller is inside of vmap: torch keeps a stack of transforms."""
    from torch._C._functorch import _vmap_decrement_nesting, _vmap_increment_nesting

    _vmap_increment_nesting(3, "same")
    try:
        yield
    finally:
        _vmap_decrement_nesting()


@contextlib.contextmanager
def with_dual_numbers():
    with torch.autograd.forward_ad.dual_level():
        yield


@contextlib.contextmanager
def with_saved_tensor_hooks():
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        yield


MODES = {
    "plain": contextlib.nullcontext,
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "dispatch mode": partial(noticed_by, Counting),
    "function mode": partial(noticed_by, Watching),
    "transform": in_a_transform,
    "dual level": with_dual_numbers,
    "deterministic": deterministic,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "saved tensor hooks": with_saved_tensor_hooks,
    "one thread": lambda: torch.set_num_threads(1) or contextlib.nullcontext(),
    "profiler": torch.profiler.profile,
    "fake": None,
    "real tensors in fake mode": None,
}
DEVICES = {
    "none": contextlib.nullcontext,
    "with cpu": lambda: torch.device("cpu"),
    "with meta": lambda: torch.device("meta"),
    "default cpu": lambda: torch.set_default_device("cpu") or contextlib.nullcontext(),
    "default meta": lambda: torch.set_default_device("meta") or contextlib.nullcontext(),
}
AMBIENT = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def guarded(shape, dtype):
    """A tensor in the middle of a larger one."""
    n = torch.Size(shape).numel()
    whole = torch.full((n + 2 * MARGIN,), CANARY, dtype=dtype, device="cpu")
    whole[MARGIN : MARGIN + n] = torch.linspace(0.5, 2.0, n, dtype=torch.float64, device="cpu").to(
        dtype
    )
    return whole, whole[MARGIN : MARGIN + n].view(shape)


def intact(whole):
    edge = torch.full((MARGIN,), CANARY, dtype=whole.dtype, device="cpu")
    return torch.equal(whole[:MARGIN], edge) and torch.equal(whole[-MARGIN:], edge)


def make(rule, hyper):
    """Parameters with gradients, an optimizer, and all memory to watch."""
    wholes, params = [], []
    for dtype in DTYPES:
        for shape in SHAPES:
            whole, view = guarded(shape, dtype)
            gradient, g = guarded(shape, dtype)
            p = Parameter(view)
            p.grad = g
            wholes += [whole, gradient]
            params.append(p)
    return params, rule(params, **hyper), wholes


def guard_states(optimizer, wholes):
    """Move every accumulator into guarded memory."""
    for state in optimizer.state.values():
        for name, x in state.items():
            if isinstance(x, torch.Tensor) and x.dim() > 0:
                whole, view = guarded(x.shape, x.dtype)
                view.copy_(x)
                state[name] = view
                wholes.append(whole)


def step_of_torch(reference):
    """Outside of the context: some of torch's own fail inside, RAdam's with meta as the default."""
    with torch.device("cpu"):
        reference.step()


def cell(name, ambient, device, mode, first):
    warnings.simplefilter("ignore")
    oracle = ORACLES[name]
    hyper = oracle.grid[0]
    ours, optimizer, wholes = make(oracle.rule, hyper)
    theirs, reference, _ = make(oracle.torch, oracle.mapped(**hyper))
    if not first:
        for each in (optimizer, reference):
            each.step()
            each.step()
        guard_states(optimizer, wholes)
    torch.set_default_dtype(ambient)
    if mode in ("fake", "real tensors in fake mode"):
        from torch._subclasses.fake_tensor import FakeTensorMode

        before = [p.detach().clone() for p in ours]
        with DEVICES[device](), FakeTensorMode(allow_non_fake_inputs=mode != "fake") as fake:
            if mode == "fake":
                with torch.device("cpu"):
                    p = Parameter(torch.ones(3, dtype=torch.float32))
                    p.grad = torch.ones(3, dtype=torch.float32)
                other = oracle.rule([p], **hyper)
                for _ in range(2):
                    other.step()
                assert type(p.data).__name__ == "FakeTensor" or p.fake_mode is fake
            else:  # it may raise or do nothing
                with contextlib.suppress(Exception):
                    optimizer.step()
        after = [p.detach() for p in ours]
        assert all(map(torch.equal, before, after)), "a fake step moved real numbers"
        if mode != "fake":  # a fake step of real tensors may count, here and in torch
            optimizer.state.clear()
            reference = oracle.torch(theirs, **oracle.mapped(**hyper))  # NAdam's needs its state
            first = True
        optimizer.step()
        step_of_torch(reference)
    else:
        with DEVICES[device](), MODES[mode]():
            optimizer.step()
        step_of_torch(reference)
    optimizer.step()
    step_of_torch(reference)
    for p, q in zip(ours, theirs, strict=True):
        tight = {"rtol": 4 * torch.finfo(p.dtype).eps * 16, "atol": 0.0}
        torch.testing.assert_close(p.detach(), q.detach(), **tight)
    assert all(map(intact, wholes)), "memory beside a tensor was written"
    for state in optimizer.state.values():
        assert all(x.device.type == "cpu" for x in state.values())
        if "step" in state:
            assert state["step"].dtype is torch.float32
            assert state["step"].item() == (2 if first else 4)


def main(part: int, parts: int) -> None:
    modes = [mode for mode in MODES if mode != "profiler"]  # which takes seconds to start
    cells = list(itertools.product(AMBIENT, DEVICES, modes, (True, False)))
    names = itertools.cycle(OPTIMIZERS)  # neighbours in the table have different rules
    listed = [(next(names), *rest) for rest in cells]
    listed += [
        (name, torch.float32, "none", m, f)
        for name in OPTIMIZERS
        for m in MODES
        for f in (True, False)
    ]
    for arguments in listed[part::parts]:
        error = error_in_a_fork(cell, *arguments)
        if error:
            print(json.dumps({"cell": list(map(str, arguments)), "error": error}), flush=True)
    print(json.dumps({"cells": len(listed[part::parts])}))


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:]) if len(sys.argv) > 1 else (0, 1)))

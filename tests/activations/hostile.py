"""Every activation in a context that its C loop must not trust, each in a process of its own.

Run as a program, it forks a process for each of its arguments, ``dtype/device/mode/call``, and prints
a line for each: the argument and what went wrong, or nothing. The parent has imported torch and has
computed nothing, so that a child's first call is a first call.
"""

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import torch
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dlnotes import activations
from dlnotes.activations import _elementwise
from dlnotes.oracles.activations import ORACLES
from forking import error_in_a_fork

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEVICES = ("cpu", "meta", "default-meta")  # nothing, a context, set_default_device
CALLS = ("first", "later")
# Made before any context: it is what a user's tensors would be.
GRID = torch.linspace(-8, 8, 40, dtype=torch.float64)
CASES = [case for case in ORACLES if case.name != "prelu" and not case.layer]


class Counting(TorchDispatchMode):
    """Sees every operation."""

    def __init__(self):
        super().__init__()
        self.operations = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Listening(TorchFunctionMode):
    """Sees every function."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def close(ours, theirs, what):
    """Ours is torch's to four roundings; theirs may be in float64."""
    assert ours.shape == theirs.shape, what
    assert ours.device == theirs.device, what
    eps = 4 * torch.finfo(ours.dtype).eps
    torch.testing.assert_close(
        ours, theirs, rtol=eps, atol=eps, check_dtype=False, msg=lambda text: f"{what}: {text}"
    )


def gradient(f, x):
    at = x.detach().clone().requires_grad_()
    y = f(at)
    return torch.autograd.grad(y, at, torch.ones_like(y))[0]


def compare(x, gradients=True):
    """Value and gradient of every activation against torch's on the same x in float64."""
    for case in CASES:
        what, wide = f"{case.name}({x.dtype})", x.detach().double()
        ours, theirs = case.ours(x), case.torch(x)
        assert (ours.dtype, ours.device) == (theirs.dtype, theirs.device), what
        close(ours, case.torch(wide), what)
        if gradients:
            ours, theirs = gradient(case.ours, x), gradient(case.torch, wide)
            assert ours.dtype == x.dtype
            close(ours, theirs, f"gradient of {what}")
            if case.name != "elu":  # the oracle's has another setting
                slope = getattr(activations, case.name).slope(x)
                assert slope.dtype == x.dtype
                close(slope, theirs, f"slope of {what}")


def plain(xs):
    for x in xs:
        compare(x)


def no_grad(xs):
    with torch.no_grad():
        for x in xs:
            compare(x, gradients=False)
            compare(x.requires_grad_(), gradients=False)
            x.requires_grad_(False)


def inference_mode(xs):
    with torch.inference_mode():
        for x in xs:
            compare(x, gradients=False)
            compare(x * 1, gradients=False)
            assert activations.sigmoid(x).is_inference()


def fake(xs):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for x in xs:
            for case in CASES:
                for y in (case.ours(mode.from_tensor(x)), case.ours(torch.zeros(3, dtype=x.dtype))):
                    assert type(y).__name__ == "FakeTensor", type(y)
                    assert y.dtype == x.dtype


def dispatch_mode(xs):
    with Counting() as mode:
        for x in xs:
            for case in CASES:
                mode.operations.clear()
                case.ours(x)
                # What a loop needs is no trace of the formula.
                seen = mode.operations - {"detach", "alias", "empty_like"}
                assert seen, f"{case.name} is invisible"
            compare(x)


def function_mode(xs):
    with Listening():
        plain(xs)


def autocast(xs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain(xs)


def transforms(xs):
    for x in xs:
        rows = x.reshape(4, -1)
        for case in CASES:
            f = case.ours
            close(torch.func.vmap(f)(rows), f(rows), case.name)
            slopes = torch.func.vmap(torch.func.grad(f))(x)
            theirs = gradient(case.torch, x.double())
            close(slopes, theirs, f"{case.name}'")
            _, tangent = torch.func.jvp(f, (x,), (torch.ones_like(x),))
            close(tangent, theirs, f"{case.name}' forward")


def deterministic(xs):
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    plain(xs)


def thread(xs):
    """Eight threads make the first call at once."""
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(compare, x) for x in xs for _ in range(8)]:
            done.result()


MODES = {
    "plain": plain,
    "no_grad": no_grad,
    "inference_mode": inference_mode,
    "fake": fake,
    "dispatch_mode": dispatch_mode,
    "function_mode": function_mode,
    "autocast": autocast,
    "transforms": transforms,
    "deterministic": deterministic,
    "thread": thread,
}


def cell(dtype, device, mode, call):
    torch.set_num_threads(1)
    xs = [GRID.float(), GRID.clone(), GRID.bfloat16()]
    loops, make = {}, _elementwise._loop

    def recording(formula, kinds, *others):
        loops[(formula, *kinds, *others[1])] = loop = make(formula, kinds, *others)
        return loop

    _elementwise._loop = recording
    if call == "later":
        plain(xs)
    torch.set_default_dtype(DTYPES[dtype])
    with contextlib.ExitStack() as stack:
        if device == "default-meta":
            torch.set_default_device("meta")
        elif device == "meta":
            stack.enter_context(torch.device("meta"))
        MODES[mode](xs)
    # What the first call met does not last.
    if mode != "deterministic":
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        plain(xs)
        if COMPILER:
            missing = [
                (key[0].__qualname__, key[1:])
                for key, loop in loops.items()
                if loop is None and key[1][0] is torch.float32
            ]
            assert not missing, f"no loop for {missing}"
            assert len(loops) >= 4 * len(CASES) - 6  # two dtypes; leaky_relu is also rrelu's


COMPILER = os.environ.get("HOSTILE_COMPILER") == "1"


def main(cells):
    # What torch imports late, it imports once and not in every child.
    torch.testing.assert_close(torch.zeros(2), torch.func.vmap(torch.sin)(torch.zeros(2)))
    for name in cells:
        text = error_in_a_fork(cell, *name.split("/")).replace("\n", "\\n")
        sys.stdout.write(f"{name}\t{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Time every activation, forward and backward, in alternation with torch's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from dlnotes.activations import glu, maxout, rrelu, swiglu
from dlnotes.arguments import Count, Range, checked
from dlnotes.cli import run
from dlnotes.errors import UserError
from dlnotes.files import check_output, write_json
from dlnotes.oracles.activations import ORACLES
from dlnotes.training.record import provenance

Function = Callable[[Tensor], Tensor]

MOVE = 8  # rounds after which tensors get new addresses, which may change times by a fifth


def cases() -> dict[str, tuple[Function, Function]]:
    """Name → ours and torch's."""
    functions = {oracle.name: (oracle.ours, oracle.torch) for oracle in ORACLES}
    # Oracles that are torch's function but for the slope where x is NaN or infinite.
    for name in ("hardtanh", "relu6", "hardsigmoid", "softsign", "softshrink", "hardshrink"):
        functions[name] = functions[name][0], getattr(F, name)
    # With the pieces along the second-last dimension, as the layer has it.
    functions["maxout"] = (lambda z: maxout(z, -2), lambda z: z.max(-2).values)
    functions["glu"] = (lambda x: glu(x, -2), lambda x: F.glu(x, -2))
    functions["swiglu"] = (lambda x: swiglu(x, -2), _swiglu)
    functions["rrelu, training"] = (
        lambda x: rrelu(x, training=True),
        lambda x: F.rrelu(x, training=True),
    )
    return functions


def _swiglu(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -2)
    return a * F.silu(b)


def forward_backward(f: Function, x: Tensor, g: Tensor) -> tuple[float, Tensor, Tensor]:
    """Seconds for both passes, and what they computed."""
    # With a single thread, the time of other processes is not counted.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    y = f(x)
    (dx,) = torch.autograd.grad(y, x, g)
    return clock() - start, y.detach(), dx


def ratio(name: str, ours: Function, theirs: Function, size: int, rounds: int) -> float:
    """Our time as a multiple of torch's, after a check that both computed the same."""
    torch.manual_seed(0)
    x, g = tensors(theirs, size)
    _, *mine = forward_backward(ours, x, g)
    # In float64: torch's own GELU in float32 with AVX-512 exceeds the tolerance.
    _, *reference = forward_backward(theirs, x.detach().double().requires_grad_(), g.double())
    reference = [y.float() for y in reference]
    if (
        name != "rrelu, training"
    ):  # draws random numbers, which differ: compare where it is deterministic
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)
    else:
        kept, below, (y, dx) = x > 0, x < 0, mine
        for a, b in zip(mine, reference, strict=True):
            torch.testing.assert_close(a[kept], b[kept])
        slope = (y / x)[below]
        if not ((slope > 0.1249) & (slope < 0.3334)).all():
            raise AssertionError(f"{name}: a slope is outside of [1/8, 1/3]")
        torch.testing.assert_close(dx[below], slope * g[below], rtol=1e-5, atol=1e-6)
    ratios = []
    for i in range(rounds):
        if i % MOVE == 0:
            x, g = tensors(theirs, size)
            for f in (ours, theirs):
                forward_backward(f, x, g)
        # The second of a pair finds the caches as the first left them, so the order alternates.
        first, second = (ours, theirs) if i % 2 else (theirs, ours)
        seconds = {f: forward_backward(f, x, g)[0] for f in (first, second)}
        ratios.append(seconds[ours] / seconds[theirs])
    return statistics.median(ratios)


def tensors(f: Function, size: int) -> tuple[Tensor, Tensor]:
    """An input and a gradient of the output, somewhere in memory."""
    x = torch.randn(size // 4096, 4, 1024).requires_grad_()
    return x, torch.randn_like(f(x))


@checked
def main(
    size: Annotated[int, Range(4096)] = 1 << 22,
    rounds: Count = 64,
    compiled: bool = True,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print our forward + backward time as a multiple of torch's, in float32.

    On a machine with other work, set OMP_NUM_THREADS=1: then the CPU time of the thread is
    measured. With more threads, wall time is measured, and each operation waits for the slowest
    thread.

    Args:
        size: Number of elements, a multiple of 4096.
        rounds: How often each side runs, in alternation; the median of the ratios is printed.
        compiled: Also time both sides under torch.compile (needs a C++ compiler).
        json_file: Also write the figures to this file.
    """
    if json_file is not None:
        check_output(json_file)
    if size % 4096:
        raise UserError(f"--size must be a multiple of 4096, not {size:,}")
    print(f"{'':16s}   eager  compiled   (ours / torch, {size:,} elements, float32)")
    rows: dict[str, dict[str, float]] = {}
    for name, (ours, theirs) in cases().items():
        row = {"eager": ratio(name, ours, theirs, size, rounds)}
        if compiled and name != "rrelu, training":
            torch._dynamo.reset()
            pair = torch.compile(ours, fullgraph=True), torch.compile(theirs, fullgraph=True)
            row["compiled"] = ratio(name, *pair, size, rounds)
        rows[name] = row
        print(f"{name:16s}" + "".join(f"{value:8.2f}" for value in row.values()), flush=True)
    if json_file is not None:
        record = {"size": size, "rounds": rounds, "ratios": rows, **provenance(seed=0)}
        write_json(json_file, record)


if __name__ == "__main__":
    run(main)

"""A formula of tensors as one pass through memory, on a CPU with a C compiler.

Eager torch makes a pass through memory for every operation of a formula; ``torch.compile`` and the
loop that is made here make one for the whole of it. The loop agrees with the tensor operations to a
few ulp, not bit for bit: its elementary functions are its own, and x·y + z may be rounded once.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlnotes.kernel import (
    CONTRACTED,
    LOW_PRECISION,
    Program,
    Symbol,
    alias,
    alias_of_any_extent,
    compiled,
    observed,
    run_in_thread,
    warn_once_not_compiled,
)

TEMPLATE = """\
{prelude}
static void part(int64_t n, {arguments}) {{
    double scalar[{slots}];
    (void)scalar;
{scalars}{constants}    for (int64_t i = 0; i < n; i++) {{
{body}    }}
}}

void run(int64_t rows, int64_t n, int64_t threads, const int64_t *steps, {arguments}) {{
    const int64_t pieces = threads > rows ? threads / rows : 1;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t piece = 0; piece < pieces; piece++) {{
            const int64_t start = n / pieces * piece;
            const int64_t end = piece + 1 < pieces ? n / pieces * (piece + 1) : n;
            part(end - start, {pointers});
        }}
}}
"""

GRAIN = 1 << 15  # elements that are worth a thread, as in torch
ROW = 8  # elements; shorter rows are copied

Kinds = Sequence[tuple[torch.dtype, bool]]


def elementwise(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Compute a formula in one pass where possible, otherwise operation by operation.

    One pass needs plain tensors of one layout, or with rows of one size, on a CPU whose operations
    nothing records: not autograd (it does in a backward pass that is to be differentiated), no
    transform, no tracer, no mode. Half precision is computed in float32, as torch's kernels do: one
    rounding, at the end.

    Args:
        formula: A function of tensors with arithmetic, exp, expm1, log1p, erf, abs, copysign,
            clamp, where and comparisons, and of numbers and flags as keyword arguments. It returns
            a tensor or a tuple of them. A tensor without a dimension stands beside the others for a
            number; a tensor of bools arrives as 0 and 1.

    Returns:
        The function. With ``joined``, a dimension, it puts the results together along it.
    """

    @wraps(formula)
    def call(*tensors: Tensor, joined: int | None = None, **settings: float) -> Any:
        if not torch.compiler.is_compiling():
            done = in_one_pass(formula, tensors, settings, joined)
            if done is not None:
                return done
        if joined is not None:
            return torch.cat(call(*tensors, joined=None, **settings), joined)
        return in_operations(formula, tensors, settings)

    return call


def expm1(x: Tensor) -> Tensor:
    r"""eˣ − 1 for x <= 0, with the digits near 0 that ``torch.compile`` drops.

    On a CPU it turns ``torch.expm1`` into exp(x) − 1, which is off by a fifth at −1e-7. Compiled,
    this is 2ᵏ (eʳ − 1) + (2ᵏ − 1) with x = k log 2 + r and \|r\| <= ½ log 2, as in kernel.h.
    """
    if not _compiles_in_float32_on_a_cpu(x):
        return torch.expm1(x)
    # k comes out in the last digits of a sum with 1.5 · 2²³, from where it goes into an exponent.
    integers = 1.5 * 2**23
    shifted = (x * 1.4426950408889634 + integers).detach()  # a step function: its slope is 0
    k = shifted - integers
    r = (x - k * 0.693359375) - k * -2.12194440054690583e-4
    # The series r + r²/2! + r³/3! + … in pairs, which a processor works on at the same time.
    square = r * r
    rest = (r * (1 / 5040) + 1 / 720) * square + (r * (1 / 120) + 1 / 24)
    rest = (rest * square + (r * (1 / 6) + 1 / 2)) * square + r
    power = ((shifted.view(torch.int32) + 127) << 23).view(torch.float32)  # 2ᵏ
    return torch.where(x < -30, -1.0, power * rest + (power - 1))


def minus_abs(x: Tensor) -> Tensor:
    r"""−\|x\|, whose derivative at 0 is 1 where it is differentiated.

    An even smooth function of it has all its derivatives then, also at 0; with abs, those of second
    order are 0 there.
    """
    return torch.where(x > 0, -x, x) if torch.is_grad_enabled() else -x.abs()


def log1p(x: Tensor) -> Tensor:
    """log(1 + x) for 0 <= x <= 1, in half the time that ``torch.compile`` needs on a CPU.

    It is 2 artanh s = 2s + 2s³/3 + 2s⁵/5 + … with s = x / (2 + x) <= 1/3.
    """
    if not _compiles_in_float32_on_a_cpu(x):
        return torch.log1p(x)
    s = x / (2 + x)
    square = s * s
    fourth = square * square
    rest = (square * (2 / 13) + 2 / 11) * fourth + (square * (2 / 9) + 2 / 7)
    rest = rest * fourth + (square * (2 / 5) + 2 / 3)
    return 2 * s + s * square * rest


def _compiles_in_float32_on_a_cpu(x: Tensor) -> bool:
    return torch.compiler.is_compiling() and x.is_cpu and x.dtype is torch.float32


def in_operations(
    formula: Callable[..., Any], tensors: Sequence[Tensor], settings: dict[str, float]
) -> Any:
    """The formula in tensor operations."""
    dtype = tensors[0].dtype
    wide = torch.float32 if dtype in LOW_PRECISION else dtype
    result = formula(*(t.to(wide) for t in tensors), **settings)
    if wide is dtype:
        return result
    if isinstance(result, Tensor):
        return result.to(dtype)
    return tuple(r if r.dtype is torch.bool else r.to(dtype) for r in result)


def in_one_pass(
    formula: Callable[..., Any],
    tensors: Sequence[Tensor],
    settings: dict[str, float],
    joined: int | None = None,
) -> Any:
    """The result of the compiled loop, or None where it cannot be used.

    Args:
        formula: A function, see :func:`elementwise`.
        tensors: Its arguments.
        settings: Its numbers and flags.
        joined: Dimension along which the results are the pieces of one tensor, which is returned.
    """
    if torch.is_grad_enabled() or observed():
        return None
    held: list[Tensor] = []
    repeated: list[int] = []
    kinds: list[tuple[torch.dtype, bool]] = []
    for given in tensors:
        t = alias(given)
        if t is None:
            t = alias_of_any_extent(given)
            if t is None or 0 not in t.stride():
                return None
            repeated.append(len(held))  # for example the gradient of a sum
        if not held:
            dtype, shape, dims = t.dtype, t.shape, t.dim()
        single = t.dim() == 0 < dims
        if t.dtype not in (dtype, torch.bool) or not (single or t.shape == shape):
            return None
        held.append(t)
        kinds.append((t.dtype, single))
    flags = {name: x for name, x in settings.items() if isinstance(x, bool)}
    numbers = [name for name in settings if name not in flags]
    # Among the formula's attributes and not in a closure, where torch.compile would look.
    loops: dict[Any, _Loop | None] = vars(formula).setdefault("loops", {})
    key = (*kinds, *flags.items(), *numbers)
    if key not in loops:  # two threads may both make one: they are the same
        loops[key] = _loop(formula, kinds, flags, numbers)
    loop = loops[key]
    if loop is None:
        return None
    if joined is not None and {*loop.results} != {dtype}:
        return None
    for i in repeated:
        held[i] = held[i].clone(memory_format=torch.contiguous_format)
    if joined is None:
        results = [torch.empty_like(held[0], dtype=kind) for kind in loop.results]
        returned: Any = tuple(results) if loop.several else results[0]
    else:
        size = [*shape]
        size[joined] *= len(loop.results)
        returned = torch.empty(size, dtype=dtype, device="cpu")
        results = [*returned.chunk(len(loop.results), joined)]
    if not all(type(r) is Tensor and r.is_cpu for r in results):
        return None
    whole = [i for i, (_, single) in enumerate(kinds) if not single]
    rows = _rows([*(held[i] for i in whole), *results], dense=joined is None)
    if rows is None and joined is None:
        for i in whole:  # its copy has no gaps
            if held[i].stride() != results[0].stride():
                held[i] = held[i].clone()
        rows = _rows([*(held[i] for i in whole), *results], dense=True)
    if rows is None:
        return None
    count, n, steps = rows
    threads = 1 if count * n < 2 * GRAIN else min(torch.get_num_threads(), count * n // GRAIN)
    addresses = [t.data_ptr() for t in (*held, *results)]
    if 0 in addresses:
        return None
    numerical = [float(settings[name]) for name in numbers]
    of_each = loop.no_steps
    if count > 1:
        of_each = type(of_each)()  # 0 for a number
        for i, step in zip([*whole, *range(len(held), len(addresses))], steps, strict=True):
            of_each[i] = step
    loop.run(count, n, threads, of_each, *addresses, *numerical)
    return returned


def _rows(tensors: Sequence[Tensor], *, dense: bool) -> tuple[int, int, list[int]] | None:
    """Divide tensors of one shape into rows, each without gaps in all of them.

    Args:
        tensors: The last of them is a result.
        dense: Whether the result has no gaps, whatever the order of its dimensions: then tensors
            with its strides are one row.

    Returns:
        The number of rows, the elements of a row, and, of several rows, the distance from each to
        the next in each tensor; or None if a tensor has no such rows, or small ones.
    """
    strides = tensors[-1].stride()
    if dense and all(t.stride() == strides for t in tensors):
        return 1, tensors[-1].numel(), []
    shape, n = [*tensors[-1].shape], 1
    while shape and all(shape[-1] == 1 or t.stride(len(shape) - 1) == n for t in tensors):
        n *= shape.pop()
    count = math.prod(shape)
    if n < ROW or not count:
        return None
    try:
        steps = [t.view(count, n).stride(0) for t in tensors]
    except RuntimeError:  # rows of rows at different distances
        return None
    for t, step in zip(tensors, steps, strict=True):
        end = t.storage_offset() + (count - 1) * step + n
        if t.untyped_storage().nbytes() < end * t.element_size():
            return None
    return count, n, steps


class _Loop(NamedTuple):
    """A compiled formula."""

    run: Callable[..., None]
    results: list[torch.dtype]
    several: bool
    """Whether the formula returns a tuple."""
    no_steps: ctypes.Array[ctypes.c_int64]
    """A distance of 0 between rows, for each tensor: enough where there is one row."""


def _loop(
    formula: Callable[..., Any], kinds: Kinds, flags: dict[str, bool], numbers: list[str]
) -> _Loop | None:
    """Translate, compile and try a formula; None if any of these fails."""
    try:
        source, results, several = translate(formula, kinds, flags, numbers)
    except Exception:  # a formula may do whatever it likes with tensors and numbers
        return None
    try:
        library = ctypes.CDLL(str(compiled(source, *CONTRACTED)))
        arguments: list[Any] = [ctypes.c_void_p] * (len(kinds) + len(results))
        arguments += [ctypes.c_double] * len(numbers)
        run = library.run
        run.restype = None
        run.argtypes = [ctypes.c_int64] * 3 + [ctypes.POINTER(ctypes.c_int64)] + arguments
        no_steps = (ctypes.c_int64 * (len(kinds) + len(results)))()
        loop = _Loop(run, results, several, no_steps)
        return loop if run_in_thread(_agrees, loop, formula, kinds, flags, numbers) else None
    except (OSError, RuntimeError, AttributeError) as reason:
        warn_once_not_compiled(reason)
        return None


def translate(
    formula: Callable[..., Any],
    kinds: Kinds,
    flags: dict[str, bool],
    numbers: Sequence[str],
) -> tuple[str, list[torch.dtype], bool]:
    """The C text of a formula.

    Args:
        formula: A function of tensors and, as keyword arguments, of numbers and flags.
        kinds: Of each tensor the dtype, and whether it stands for a number.
        flags: What is compiled in.
        numbers: The names of the numbers.

    Returns:
        The source of a library with one function, ``run``; the dtypes of the results; and whether
        the formula returns a tuple.

    Raises:
        NotImplementedError: The formula does something that is not compiled.
    """
    program = Program(kinds[0][0])
    arguments, loads, inputs, pointers = [], [], [], []
    for i, (dtype, single) in enumerate(kinds):
        truth = dtype is torch.bool
        kind, load = ("uint8_t", "{0}") if truth else (program.storage, program.load)
        arguments.append(f"const {kind} *restrict p{i}")
        pointers.append(f"p{i}" if single else f"p{i} + row * steps[{i}] + start")
        if single:
            inputs.append(program.number(load.format(f"p{i}[0]")))
        else:
            loads.append(
                f"        const {'int' if truth else 'real'} x{i} = {load.format(f'p{i}[i]')};\n"
            )
            inputs.append(Symbol(program, f"x{i}", True, truth))
    result = formula(*inputs, **flags, **{name: program.number(f"n_{name}") for name in numbers})
    outputs = result if isinstance(result, tuple) else (result,)
    stores, results = [], []
    for j, symbol in enumerate(outputs):
        kind, store = ("uint8_t", "{0}") if symbol.truth else (program.storage, program.store)
        arguments.append(f"{kind} *restrict result{j}")
        pointers.append(f"result{j} + row * steps[{len(kinds) + j}] + start")
        stores.append(f"        result{j}[i] = {store.format(symbol.name)};\n")
        results.append(torch.bool if symbol.truth else kinds[0][0])
    arguments += [f"double n_{name}" for name in numbers]
    pointers += [f"n_{name}" for name in numbers]
    source = TEMPLATE.format(
        prelude=program.prelude(),
        arguments=", ".join(arguments),
        pointers=", ".join(pointers),
        slots=max(1, len(program.scalars)),
        scalars="".join(program.scalars),
        constants=program.constants_text(),
        body="".join(loads + program.body + stores),
    )
    return source, results, isinstance(result, tuple)


@torch.no_grad()
def _agrees(
    loop: _Loop,
    formula: Callable[..., Any],
    kinds: Kinds,
    flags: dict[str, bool],
    numbers: list[str],
) -> bool:
    """Whether the loop computes the formula, tried on a sample."""
    # Explicit dtypes and devices: the defaults may be others.
    grid = torch.linspace(-9, 9, 43, dtype=torch.float64, device="cpu")
    sample = []
    for i, (dtype, single) in enumerate(kinds):
        x = (grid * (1 + 5 * i)).sin() * 9 if i else grid
        sample.append(
            (x > 0 if dtype is torch.bool else x.to(dtype))[40 if single else slice(None)]
        )
    found = [torch.empty(43, dtype=dtype, device="cpu") for dtype in loop.results]
    settings = {name: 0.75 + i for i, name in enumerate(numbers)}
    expected = in_operations(formula, sample, {**settings, **flags})
    arguments = [*[t.data_ptr() for t in (*sample, *found)], *settings.values()]
    of_each = type(loop.no_steps)(*[0 if single else 1 for _, single in kinds], *[1] * len(found))
    eps = 16 * torch.finfo(kinds[0][0]).eps
    for rows, n in ((1, 43), (43, 1)):
        for t in found:
            t.fill_(1)
        loop.run(rows, n, 1, of_each, *arguments)
        if not all(
            torch.allclose(x.double(), y.double(), rtol=eps, atol=eps, equal_nan=True)
            for x, y in zip(found, expected if loop.several else [expected], strict=True)
        ):
            return False
    return True

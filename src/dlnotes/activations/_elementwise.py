"""A formula of tensors as one pass through memory, on a CPU with a C compiler.

Eager torch makes a pass through memory for every operation of a formula; ``torch.compile`` and the
loop that is made here make one for the whole of it. The loop agrees with the tensor operations to a
few ulp, not bit for bit: its elementary functions are its own, and x·y + z may be rounded once.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from dlnotes.kernel import CONTRACTED, Program, Symbol, compiled

Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])

TEMPLATE = """\
{prelude}
void run(int64_t n, int64_t threads, {arguments}) {{
    (void)threads;
    double scalar[{slots}];
    (void)scalar;
{scalars}{constants}#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < n; i++) {{
{body}    }}
}}
"""

GRAIN = 1 << 15  # elements that are worth a thread, as in torch

AVX2 = torch.backends.cpu.get_cpu_capability() == "AVX2"

_PLAIN = {Tensor, torch.nn.Parameter}


def elementwise(formula: Callable[..., Result]) -> Callable[..., Result]:
    """Compute a formula in one pass where that can be, and else operation by operation.

    One pass needs plain tensors of one layout on a CPU, in which nobody records the operations: not
    autograd (it does in a backward pass that is to be differentiated), no transform, no tracer.
    Half precision is computed in float32, as torch's kernels do: one rounding, at the end.

    Args:
        formula: A function of tensors with arithmetic, exp, expm1, log1p, erf, abs, copysign,
            clamp, where and comparisons, and of numbers as keyword arguments. A tensor without a
            dimension stands beside the others for a number; a bool is a tensor of 0 and 1.
    """
    loops: dict[Any, _Loop | None] = {}

    @wraps(formula)
    def call(*tensors: Tensor, **settings: float) -> Any:
        if not torch.compiler.is_compiling():
            done = _in_one_pass(formula, loops, tensors, settings)
            if done is not None:
                return done
        return _plain(formula, tensors, settings)

    return cast("Callable[..., Result]", call)


def scaled_below(x: Tensor, slope: Tensor | float, positive: Any) -> Tensor:
    """``x`` where ``positive`` is 1 and ``slope * x`` where it is 0: value and derivative alike."""
    if torch.compiler.is_compiling():
        return torch.where(positive, x, slope * x)
    return x * one_or(slope, positive, like=x)


def one_or(below: Tensor | float, positive: Any, like: Tensor) -> Tensor:
    """The slope of a piecewise function: 1 where ``positive`` is 1, ``below`` where it is 0.

    ``torch.where`` says the same; eager on a CPU it branches at every element, and on signs that
    follow no pattern takes several times longer. ``lerp`` is exact at the weights 0 and 1.
    """
    if isinstance(positive, Symbol):
        return cast(Tensor, positive.choose(1.0, below))
    one = like.new_ones(())
    low = torch.as_tensor(below, dtype=one.dtype, device=one.device)
    return torch.lerp(low, one, positive.to(one))


def exp(x: Tensor) -> Tensor:
    """eˣ for x <= 0, in less time than ``torch.compile`` needs where :func:`exp_is_ours`."""
    if not exp_is_ours(x):
        return torch.exp(x)
    k, rest = _halvings(x.clamp(min=-104))  # from there on it is 0
    # The smallest results have no power of 2 of their own: 2ᵏ⁺⁶⁴ is one, and 2⁻⁶⁴ rounds once.
    return (rest + 1) * _power(k + 64) * 2.0**-64


def exp_is_ours(x: Tensor) -> bool:
    """Whether :func:`exp` has a formula of its own: torch.compile's is as fast with AVX-512."""
    return AVX2 and _compiles_in_float32_on_a_cpu(x)


def expm1(x: Tensor) -> Tensor:
    """eˣ − 1 for x <= 0, with the digits near 0 that ``torch.compile`` drops.

    On a CPU it turns ``torch.expm1`` into exp(x) − 1, which is off by a fifth at −1e-7. Compiled,
    this is 2ᵏ (eʳ − 1) + (2ᵏ − 1), as in kernel.h.
    """
    if not _compiles_in_float32_on_a_cpu(x):
        return torch.expm1(x)
    k, rest = _halvings(x)
    power = _power(k)
    return torch.where(x < -30, -1.0, power * rest + (power - 1))


def _halvings(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split x = k log 2 + r with |r| <= ½ log 2: k and eʳ − 1.

    k comes out in the last digits of a sum with 1.5 · 2²³, from where it goes into an exponent.
    """
    integers = 1.5 * 2**23
    k = (x * 1.4426950408889634 + integers).detach()  # a step function: its slope is 0
    whole = k - integers
    r = (x - whole * 0.693359375) - whole * -2.12194440054690583e-4
    # The series r + r²/2! + r³/3! + … in pairs, which a processor works on at the same time.
    square = r * r
    rest = (r * (1 / 5040) + 1 / 720) * square + (r * (1 / 120) + 1 / 24)
    return k.view(torch.int32), (rest * square + (r * (1 / 6) + 1 / 2)) * square + r


def _power(k: Tensor) -> Tensor:
    """2ᵏ from the integer k in the last 8 bits."""
    return ((k + 127) << 23).view(torch.float32)


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


def _plain(formula: Callable[..., Any], tensors: Sequence[Tensor], settings: Any) -> Any:
    """The formula in tensor operations."""
    dtype = tensors[0].dtype
    if dtype not in (torch.float16, torch.bfloat16):
        return formula(*tensors, **settings)
    result = formula(*(t if t.dtype is torch.bool else t.float() for t in tensors), **settings)
    if isinstance(result, Tensor):
        return result.to(dtype)
    return tuple(r if r.dtype is torch.bool else r.to(dtype) for r in result)


def _in_one_pass(
    formula: Callable[..., Any],
    loops: dict[Any, _Loop | None],
    tensors: Sequence[Tensor],
    settings: dict[str, float],
) -> Any:
    """The formula's loop on these tensors, or None when it cannot be."""
    first = tensors[0]
    dtype, stride, dims = first.dtype, first.stride(), first.dim()
    if (
        torch.is_grad_enabled()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or dtype not in (torch.float32, torch.float64)
        or not all(isinstance(number, (int, float)) for number in settings.values())
    ):
        return None
    kinds = []
    for t in tensors:
        single = t.dim() == 0 < dims
        if not (
            type(t) in _PLAIN
            and t.is_cpu
            and t.layout is torch.strided
            and t.dtype in (dtype, torch.bool)
            and (single or (t.stride() == stride and t.shape == first.shape))
            and not t.is_neg()
        ):
            return None
        kinds.append((t.dtype, single))
    try:
        addresses = [t.data_ptr() for t in tensors]
    except RuntimeError:  # a transform's tensor has no address
        return None
    if 0 in addresses:  # nor have one of no elements or a lazy zero
        return None
    if any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        return None
    key = tuple(kinds)
    if key not in loops:
        loops[key] = _loop(formula, key, settings)
    loop = loops[key]
    if loop is None:
        return None
    results = [torch.empty_like(first, dtype=kind) for kind in loop.results]
    if any(r.stride() != stride for r in results):  # a layout with gaps or overlaps
        return None
    n = first.numel()
    loop.run(
        n,
        max(1, min(torch.get_num_threads(), n // GRAIN)),
        *addresses,
        *[r.data_ptr() for r in results],
        *[settings[name] for name in loop.settings],
    )
    return results[0] if len(results) == 1 else tuple(results)


class _Loop:
    """A compiled formula; ``results`` are the dtypes of what it returns."""

    def __init__(
        self, library: Path, tensors: int, results: list[torch.dtype], settings: list[str]
    ) -> None:
        self.results, self.settings = results, settings
        self.run = ctypes.CDLL(str(library)).run
        self.run.restype = None
        self.run.argtypes = (
            [ctypes.c_int64] * 2
            + [ctypes.c_void_p] * (tensors + len(results))
            + [ctypes.c_double] * len(settings)
        )


def _loop(formula: Callable[..., Any], kinds: Any, settings: dict[str, float]) -> _Loop | None:
    """Translate, compile and try a formula; None if one of that fails."""
    try:
        source, results = translate(formula, kinds, list(settings))
        loop = _Loop(compiled(source, *CONTRACTED), len(kinds), results, list(settings))
    except (NotImplementedError, OSError, RuntimeError, TypeError, AttributeError):
        return None
    return loop if _agrees(loop, formula, kinds, settings) else None


def translate(
    formula: Callable[..., Any], kinds: Sequence[tuple[torch.dtype, bool]], settings: Sequence[str]
) -> tuple[str, list[torch.dtype]]:
    """The C text of a formula.

    Args:
        formula: A function of tensors and, as keyword arguments, of numbers.
        kinds: Of each tensor the dtype, and whether it stands for a number.
        settings: The names of the numbers.

    Returns:
        The source of a library with one function, ``run``, and the dtypes of the results.

    Raises:
        NotImplementedError: The formula does something that is not compiled.
    """
    program = Program(kinds[0][0])
    names = list(inspect.signature(formula).parameters)[: len(kinds)]
    arguments, loads, inputs = [], [], []
    for name, (dtype, single) in zip(names, kinds, strict=True):
        truth = dtype is torch.bool
        kind, load = ("uint8_t", "{0}") if truth else (program.storage, program.load)
        arguments.append(f"const {kind} *restrict p_{name}")
        if single:
            inputs.append(program.number(load.format(f"p_{name}[0]")))
        else:
            loads.append(
                f"        const {'int' if truth else 'real'} {name} = "
                f"{load.format(f'p_{name}[i]')};\n"
            )
            inputs.append(Symbol(program, name, True, truth))
    numbers = {name: program.number(f"n_{name}") for name in settings}
    outputs = formula(*inputs, **numbers)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    stores, results = [], []
    for j, symbol in enumerate(outputs):
        kind, store = ("uint8_t", "{0}") if symbol.truth else (program.storage, program.store)
        arguments.append(f"{kind} *restrict result{j}")
        stores.append(f"        result{j}[i] = {store.format(symbol.name)};\n")
        results.append(torch.bool if symbol.truth else kinds[0][0])
    arguments += [f"double n_{name}" for name in settings]
    source = TEMPLATE.format(
        prelude=program.prelude(),
        arguments=", ".join(arguments),
        slots=max(1, len(program.scalars)),
        scalars="".join(program.scalars),
        constants=program.constants_text(),
        body="".join(loads + program.body + stores),
    )
    return source, results


def _agrees(loop: _Loop, formula: Callable[..., Any], kinds: Any, settings: Any) -> bool:
    """Whether the loop computes the formula, tried on a sample."""
    generator = torch.Generator().manual_seed(0)
    sample = [
        (torch.randn([] if single else [43], generator=generator) * 3).to(dtype)
        if dtype is not torch.bool
        else torch.rand(43, generator=generator) < 0.5
        for dtype, single in kinds
    ]
    expected = _plain(formula, sample, settings)
    found = [torch.empty(43, dtype=dtype) for dtype in loop.results]
    loop.run(43, 1, *[t.data_ptr() for t in (*sample, *found)], *settings.values())
    eps = 16 * torch.finfo(kinds[0][0]).eps
    return all(
        torch.allclose(x.double(), y.double(), rtol=eps, atol=eps, equal_nan=True)
        for x, y in zip(found, [expected] if len(found) == 1 else expected, strict=True)
    )

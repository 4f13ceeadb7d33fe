"""One step of many parameters in compiled code: which parameters it takes, and their addresses.

A loop in C updates 400 small tensors in 20 µs. Asking Python for their dtypes, sizes and addresses
would take a hundred times as long, so ``native.cpp`` asks torch's C++ objects. It inspects all
tensors at every step; nothing is remembered.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlnotes.kernel import CPP, PLAIN, compiled
from dlnotes.optim._kernel import Kernel

CODES = {torch.float32: 1, torch.float64: 2, torch.float16: 3, torch.bfloat16: 4}
"""The codes of the dtypes in ``native.cpp``."""

HOST = -1
"""The place that stands for the CPU's memory; a CUDA device is its index."""


def step(
    library: ctypes.PyDLL,
    columns: Sequence[Sequence[Tensor]],
    counts: bool,
    build: Callable[[torch.dtype], Callable[..., None] | None],
    hyper: dict[str, Any],
    all_or_none: bool,
    place: int = HOST,
) -> list[int]:
    """Update the parameters that a kernel can take, and return the indices of the others.

    A kernel takes a parameter if all of its tensors are plain, dense, contiguous, of one dtype and
    size, on one device, and share no memory with another tensor that is written.

    Args:
        library: What :func:`load` returns.
        columns: All θ, each accumulator and, with ``counts``, the steps. These lists keep the
            tensors alive while they are looked at.
        counts: Whether the last column holds the steps.
        build: Makes the kernel of a dtype.
        hyper: The hyper-parameters, in the order in which the kernels were translated.
        all_or_none: Update nothing unless a kernel takes every parameter that has a gradient.
        place: Whose memory: `HOST`, or the index of a CUDA device. The steps are in the host's.
    """
    types = set().union(*(map(type, column) for column in columns))
    if not all(issubclass(kind, Tensor) for kind in types):
        return list(range(len(columns[0])))
    count, width = len(columns[0]), len(columns) + 1
    tensors = array("Q", [x for column in columns for x in map(_cdata, column)])
    codes, elements = array("B", b"\1") * count, array("q", bytes(8 * count))
    if not types <= PLAIN:  # the others are inspected as well, since they may share memory
        rows = zip(*columns, strict=True)
        codes = array("B", [{*map(type, row)} <= PLAIN for row in rows])
    offsets = array("q", bytes(8 * (count + 1)))
    pointers, taken, held = (array("Q", bytes(8 * count * width)) for _ in range(3))
    present = library.dtypes(count, place, _address(tensors))
    wanted = {code: build(dtype) for dtype, code in CODES.items() if present >> code & 1}
    kernels = {code: kernel for code, kernel in wanted.items() if kernel is not None}
    try:
        left = library.acquire(
            *(count, width, counts, sum(1 << code for code in kernels), all_or_none, place),
            *map(_address, (tensors, codes, elements, pointers, held)),
        )
        if not (left and all_or_none):
            for code, kernel in kernels.items():
                n = library.take(
                    *(count, width, code),
                    *map(_address, (codes, elements, pointers, offsets, taken)),
                )
                if n:
                    kernel(n, offsets, taken, hyper)
    finally:
        library.release(len(held), _address(held))
    return [k for k, code in enumerate(codes) if not code]


def step_rows(
    library: ctypes.PyDLL,
    theta: Tensor,
    g: Tensor,
    others: Sequence[Tensor],
    counts: bool,
    build: Callable[[torch.dtype], Kernel | None],
    hyper: dict[str, Any],
) -> bool:
    """Update the rows of a parameter that are in a sparse gradient, coalesced or not.

    Args:
        library: What :func:`load` returns.
        theta: The parameter.
        g: Its gradient, a sparse COO tensor. One with several sparse dimensions is not taken.
        others: Its accumulators and, with ``counts``, its step.
        counts: See :func:`step`.
        build: See :func:`step`.
        hyper: See :func:`step`.

    Returns:
        Whether a kernel could take it; if not, nothing has changed.
    """
    tensors = [theta, g._values(), *others, g._indices()]
    if not {*map(type, tensors), type(g)} <= PLAIN or g.shape != theta.shape:
        return False
    kernel = build(theta.dtype) if theta.dtype in CODES else None
    if kernel is None:
        return False
    count = len(tensors)
    addresses = array("Q", map(_cdata, tensors))
    pointers, held = array("Q", bytes(8 * count)), array("Q", bytes(8 * count))
    shape = array("q", bytes(24))
    try:
        numbers = map(_address, (addresses, shape, pointers, held))
        if not library.acquire_rows(count, counts, *numbers):
            return False
        n, rows, columns = shape
        return kernel.rows((n, rows, columns), pointers[-1], pointers, hyper)
    finally:
        library.release(count, _address(held))


_cdata = attrgetter("_cdata")  # the address of torch's C++ object


def _address(numbers: array[Any]) -> int:
    return numbers.buffer_info()[0]


def next_steps(count: int, addresses: int) -> list[float]:
    """The numbers that steps will have when they have been counted; arguments as of `advance`."""
    found = array("d", bytes(8 * count))
    _library().next_steps(count, addresses, _address(found))
    return found.tolist()


def advance(count: int, addresses: int) -> None:
    """Count steps.

    Args:
        count: The number of parameters.
        addresses: The address of an array with the address of each parameter's step.
    """
    _library().advance(count, addresses)


def lay_out(
    columns: int,
    block: int,
    offsets: array[int],
    pointers: array[int],
    rows: array[int],
    constants: array[float],
    table: Tensor,
) -> int:
    """Write the table that a kernel of a GPU reads; see ``native.cpp``.

    Args:
        columns: The number of addresses of each tensor.
        block: The elements of a block.
        offsets: Elements before each tensor, and the number of all.
        pointers: The addresses, column by column.
        rows: Which constants each tensor has.
        constants: All of them, one row after the other.
        table: Where to write it, in int64.

    Returns:
        The number of blocks; negative if an address is no multiple of 16.
    """
    count, different = len(rows), max(rows) + 1
    return int(
        _library().lay_out(
            *(count, columns, block, len(constants) // different, different),
            *(_address(numbers) for numbers in (offsets, pointers, rows, constants)),
            table.data_ptr(),
        )
    )


def _library() -> ctypes.PyDLL:
    library = load()
    if isinstance(library, Exception):
        raise library
    return library


def load() -> ctypes.PyDLL | Exception:
    """The compiled ``native.cpp``, or the reason why there is none.

    Its functions hold the interpreter's lock.
    """
    if not _loaded:
        try:
            _loaded.append(_load())
        except (OSError, RuntimeError, AttributeError) as reason:
            _loaded.append(reason)
    return _loaded[0]


_loaded: list[ctypes.PyDLL | Exception] = []


def _load() -> ctypes.PyDLL:
    home = Path(torch.__file__).parent
    source = Path(__file__).with_name("native.cpp").read_text(encoding="utf-8")
    flags = [
        f"-I{home / 'include'}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        f"-L{home / 'lib'}",
        "-lc10",
    ]
    another = f"// for torch {torch.__version__}\n"  # after an upgrade all the rest is the same
    library = ctypes.PyDLL(str(compiled(another + source, *flags, language=CPP)))
    number, address = ctypes.c_int64, ctypes.c_void_p
    library.acquire.argtypes = [*[number] * 6, *[address] * 5]
    library.acquire.restype = number
    library.dtypes.argtypes = [number, number, address]
    library.dtypes.restype = number
    library.take.argtypes = [*[number] * 3, *[address] * 5]
    library.take.restype = number
    library.acquire_rows.argtypes = [number, number, *[address] * 4]
    library.acquire_rows.restype = number
    library.release.argtypes = [number, address]
    library.release.restype = None
    library.next_steps.argtypes = [number, address, address]
    library.next_steps.restype = None
    library.advance.argtypes = [number, address]
    library.advance.restype = None
    library.lay_out.argtypes = [*[number] * 5, *[address] * 5]
    library.lay_out.restype = number
    return library

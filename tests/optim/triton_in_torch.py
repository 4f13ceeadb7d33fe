"""The little of Triton's language that the kernels of the rules use, in torch operations on a CPU.

A kernel computes here what it computes on a GPU, from the same text, with the same addresses.
"""

import ctypes
import sys
import types

import torch


class Value(torch.Tensor):
    """A number or a block of numbers."""

    def to(self, kind, bitcast=False):
        if isinstance(kind, Pointee):
            return Pointer(int(self), kind.dtype)
        return self.view(kind) if bitcast else super().to(kind)


class Pointee:
    """What a pointer points to."""

    def __init__(self, dtype):
        self.dtype = dtype


class Pointer:
    """An address, or those of consecutive numbers."""

    def __init__(self, address, dtype, count=None):
        self.address, self.dtype, self.count = address, dtype, count

    def __add__(self, shift):
        first = int(shift.reshape(-1)[0]) if isinstance(shift, torch.Tensor) else shift
        count = None if not isinstance(shift, torch.Tensor) or shift.dim() == 0 else len(shift)
        if count:
            assert torch.equal(shift, torch.arange(first, first + count))
        return Pointer(self.address + first * self.dtype.itemsize, self.dtype, count)

    def memory(self, count):
        """The numbers there, as a tensor that shares their memory."""
        if not count:
            return torch.empty(0, dtype=self.dtype)
        memory = (ctypes.c_byte * (count * self.dtype.itemsize)).from_address(self.address)
        return torch.frombuffer(memory, dtype=self.dtype)


def load(pointer, mask=None, other=None):
    if pointer.count is None:
        return pointer.memory(1)[0].clone().as_subclass(Value)
    here = pointer.count if mask is None else int(mask.sum())
    found = torch.full((pointer.count,), torch.nan if other is None else other).to(pointer.dtype)
    found[:here] = pointer.memory(here)
    return found.as_subclass(Value)


def store(pointer, values, mask=None):
    assert values.dtype == pointer.dtype
    here = pointer.count if mask is None else int(mask.sum())
    pointer.memory(here).copy_(values.as_subclass(torch.Tensor)[:here])


def multiple_of(pointer, size):
    assert pointer.address % size == 0
    return pointer


class Kernel:
    """A function of a program, for which each program of a grid is called in turn."""

    launches = 0
    ptx = "sqrt.rn.f32"

    def __init__(self, function):
        self.function = function

    def __getitem__(self, grid):
        def launch(table, count, *, enable_fp_fusion, **constants):
            assert enable_fp_fusion is False
            assert table.dtype == torch.int64
            Kernel.launches += 1
            for program in range(*grid):
                language.program = program
                self.function(Pointer(table.data_ptr(), torch.int64), count, **constants)
            return types.SimpleNamespace(asm={"ptx": Kernel.ptx})

        return launch


language = types.ModuleType("triton.language")
vars(language).update(
    load=load,
    store=store,
    multiple_of=multiple_of,
    pointer_type=Pointee,
    constexpr=None,
    program_id=lambda axis: torch.tensor(language.program).as_subclass(Value),
    arange=lambda first, end: torch.arange(first, end).as_subclass(Value),
    where=torch.where,
    abs=torch.abs,
    sqrt=torch.sqrt,
    sqrt_rn=torch.sqrt,
    div_rn=torch.div,
    **{
        name: getattr(torch, name)
        for name in ("int64", "float64", "float32", "float16", "bfloat16")
    },
)


def install(monkeypatch):
    """Have this in the place of Triton until the end of a test."""
    triton = types.ModuleType("triton")
    triton.language = language
    triton.jit = lambda do_not_specialize: Kernel
    triton.JITFunction = Kernel
    monkeypatch.setitem(sys.modules, "triton", triton)
    monkeypatch.setitem(sys.modules, "triton.language", language)

"""What a failed allocation is told as, and what is none."""

import re

import pytest

from dlnotes.errors import UserError, memory_for

CPU = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate {} bytes. Error code 12 (Cannot allocate memory)"
TOLD = {
    "bytes": (RuntimeError(CPU.format(1)), "it asked for 1 bytes"),
    "less than a KiB": (RuntimeError(CPU.format(1023)), "it asked for 1,023 bytes"),
    "a KiB": (RuntimeError(CPU.format(1024)), "it asked for 1.0 KiB"),
    "some MiB": (RuntimeError(CPU.format(40_000_000)), "it asked for 38.1 MiB"),
    "a GiB": (RuntimeError(CPU.format(1 << 30)), "it asked for 1.0 GiB"),
    "a PiB": (RuntimeError(CPU.format(1 << 50)), "it asked for 1,048,576.0 GiB"),
    "CUDA": (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of"), "it asked for 20.00 MiB"),
    "MPS": (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB). Tried to allocate 1.50 GB on private pool."), "it asked for 1.50 GB"),
    "a driver": (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), "CUDA error: out of memory"),
    "cuBLAS": (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "overflow": (RuntimeError("Storage size calculation overflowed with sizes=[1000000000, 1000000000000]"), "it asked for more than a computer can address"),
    "numel overflow": (RuntimeError("numel: integer multiplication overflow"), "it asked for more than a computer can address"),
    "NumPy": (MemoryError("Unable to allocate 7.45 GiB for an array"), "Unable to allocate 7.45 GiB for an array"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_a_failed_allocation_is_told_with_its_cause(case):
    error, told = TOLD[case]
    with (
        pytest.raises(
            UserError, match=f"^not enough memory for a test: {re.escape(told)}$"
        ) as found,
        memory_for("a test"),
    ):
        raise error
    assert found.value.__cause__ is error


def test_what_says_nothing_is_told_without_a_cause():
    with pytest.raises(UserError, match=r"^not enough memory for a test$"), memory_for("a test"):
        raise MemoryError


@pytest.mark.parametrize("error", [RuntimeError("sizes do not match"), ValueError("memory"), OSError(12, "x")])  # fmt: skip
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as found, memory_for("a test"):
        raise error
    assert found.value is error

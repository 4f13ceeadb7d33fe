"""What torchrun tells the processes that it starts, by environment variables; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def world_size() -> int:
    """Number of processes that were started together; 1 without torchrun."""
    return _number("WORLD_SIZE", 1) if all(name in os.environ for name in _NEEDED) else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return _number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Number of this process among those of its machine, from 0."""
    return _number("LOCAL_RANK", rank()) if world_size() > 1 else 0


def restart_count() -> int:
    """How often torchrun has restarted the processes (``--max-restarts``)."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def may_restart() -> bool:
    """Whether torchrun restarts the processes when one of them fails."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0


def _number(name: str, otherwise: int) -> int:
    try:
        return int(os.environ.get(name, otherwise))
    except ValueError:
        return otherwise


@contextmanager
def silence_other_ranks() -> Iterator[None]:
    """Let only the process of rank 0 write to standard output and standard error.

    An uncaught exception is shown by the process that raises it. If torch is not loaded yet, its
    C++ log is limited to errors: otherwise each process would warn that `DistributedDataParallel`
    has looked for parameters without a gradient and found none.
    """
    if world_size() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if rank() == 0:
        yield
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nobody,
        redirect_stdout(nobody),
        redirect_stderr(nobody),
    ):
        yield

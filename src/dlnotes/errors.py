"""Exceptions that end a program without being its own fault."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

on_command_line: ContextVar[bool] = ContextVar("on_command_line", default=False)
"""Whether values come from a command line, where leaving an option out means None."""


class UserError(ValueError):
    """A mistake in an input, a file or a setting, explained in one line.

    The message says what is wrong, where (file and line) and what to do. Scripts print it
    without a traceback and exit with code 2.
    """

    argument: str | None = None
    """The argument whose value is refused, if the message begins with its name."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP has arrived: the program ends as after Ctrl-C, with another exit code.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupted(Exception):  # noqa: N818 -- not an error: the user asked for it
    """Training was stopped by a signal, after the checkpoint, if there is one, was written.

    Args:
        number: The signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


# What torch says on a CPU, on CUDA and on MPS, with the size where it has one.
_SIZE = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[kmgt]i?b)", re.IGNORECASE)
_OVERFLOW = re.compile(
    r"size calculation overflowed|integer multiplication overflow", re.IGNORECASE
)
_REFUSED = re.compile(
    r"allocate memory|not enough memory|out of memory|status_alloc_failed", re.IGNORECASE
)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Turn a failed allocation into a `UserError` that names what needed the memory.

    Args:
        what: What needs the memory, for the message.

    Raises:
        UserError: An allocation of torch, NumPy or Python failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = str(error)
        if size := _SIZE.search(told):
            number, unit = size.groups()
            asked = _with_unit(int(number)) if unit == "bytes" else f"{number} {unit}"
            told = f"it asked for {asked}"
        elif _OVERFLOW.search(told):
            told = "it asked for more than a computer can address"
        elif _REFUSED.search(told) or isinstance(error, MemoryError):
            told = told.partition("\n")[0]  # CUDA adds lines of advice for programmers
        else:
            raise
        raise UserError(f"not enough memory for {what}{': ' * bool(told)}{told}") from error


def _with_unit(size: int) -> str:
    """A number of bytes in the largest unit of which there is at least one."""
    units = ("bytes", "KiB", "MiB", "GiB")
    power = min((max(1, size).bit_length() - 1) // 10, len(units) - 1)
    return f"{size / 1024**power:,.{min(power, 1)}f} {units[power]}"

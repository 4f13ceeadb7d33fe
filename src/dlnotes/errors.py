"""What ends a program that is not a fault of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in an input, a file or a setting, told in one line.

    The message says what is wrong, where (file and line) and what to do. Scripts print it
    without a traceback and exit with code 2.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM (or SIGHUP) came: the program ends as after Ctrl-C, with another exit code."""


# What torch says on a CPU and on CUDA, with the size where it has one.
_SIZE = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[kmgt]ib)", re.IGNORECASE)
_REFUSED = re.compile(
    r"allocate memory|not enough memory|out of memory"
    r"|size calculation overflowed|integer multiplication overflow",
    re.IGNORECASE,
)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Tell what memory was asked for that is not there.

    Args:
        what: What needs the memory, for the message.

    Raises:
        UserError: An allocation of torch, NumPy or Python failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = str(error)
        size = _SIZE.search(told)
        if not (size or _REFUSED.search(told) or isinstance(error, MemoryError)):
            raise
        if size:
            number, unit = size.groups()
            if unit == "bytes":
                number, unit = f"{int(number) / 2**30:,.1f}", "GiB"
            told = f"it asked for {number} {unit}"
        elif isinstance(error, RuntimeError):
            told = "it asked for more than a computer can address"
        raise UserError(f"not enough memory for {what}{': ' * bool(told)}{told}") from error

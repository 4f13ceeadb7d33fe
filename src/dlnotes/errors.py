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


# Of torch, on a CPU and on CUDA, where a size may be missing.
_REFUSED = re.compile(
    r"tried to allocate ([\d.]+ ?\w+)|(?:can't|failed to) allocate memory|not enough memory"
    r"|Storage size calculation overflowed|numel: integer multiplication overflow",
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
        found = _REFUSED.search(str(error))
        if not found and not isinstance(error, MemoryError):
            raise
        asked = found[1] if found else None
        if not asked:
            asked = str(error).splitlines()[0][:120] if str(error) else "more than there is"
        elif digits := re.match(r"(\d+) ?bytes", asked, re.IGNORECASE):
            asked = f"{int(digits[1]) / 2**30:,.1f} GiB"
        raise UserError(f"not enough memory for {what}: {asked} was asked for") from error

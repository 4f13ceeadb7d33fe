"""How the scripts start and end: typed arguments in, one line and exit code 2 for a mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import tyro

from dlnotes.errors import UserError


def run(main: Callable[..., None]) -> None:
    """Parse the command line for `main` and run it.

    A `UserError` is printed as one line (exit code 2); Ctrl-C ends quietly (exit code 130); a
    reader that goes away (``… | head``) is no error.
    """
    try:
        tyro.cli(main)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

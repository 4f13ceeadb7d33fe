"""How the scripts start and end: typed arguments and lines in, exit code 2 for a mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import tyro

from dlnotes.errors import UserError


def run(main: Callable[..., None] | dict[str, Callable[..., None]]) -> None:
    """Parse the command line for `main`, or for one of several commands by name, and run it.

    A `UserError` is printed as one line (exit code 2); Ctrl-C ends quietly (exit code 130); a
    reader that goes away (``… | head``) is no error.
    """
    try:
        if isinstance(main, dict):
            tyro.extras.subcommand_cli_from_dict(main)
        else:
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


def lines(file: Path | None) -> Iterator[str]:
    """Lines of a file, or of standard input, as they come.

    Raises:
        UserError: The file cannot be read, or a line is not UTF-8.
    """
    name = str(file) if file else "standard input"
    try:
        stream = file.open("rb") if file else sys.stdin.buffer
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{name}:{number}: not UTF-8; convert it first") from error

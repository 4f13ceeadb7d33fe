"""How programs start and end: typed arguments and lines in, exit code 2 for a user's mistake."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tyro

from dlnotes.errors import UserError

Program = Callable[..., None] | dict[str, Callable[..., None]]


def run(
    main: Program,
    *,
    prog: str | None = None,
    arguments: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Parse the command line for `main`, or for one of several commands by name, and run it.

    A `UserError` is printed as one line (exit code 2); Ctrl-C ends quietly (exit code 130); a
    reader that goes away (``… | head``) is no error.

    Args:
        main: What to run.
        prog: What the help calls it; default: the script's name.
        arguments: Gives the command line; default: what follows the script's name.
    """
    try:
        given = None if arguments is None else arguments()
        if isinstance(main, dict):
            tyro.extras.subcommand_cli_from_dict(main, prog=prog, args=given)
        else:
            tyro.cli(main, prog=prog, args=given)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def program() -> str:
    """How the user called this program, up to the command's name."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return f"python -m {script.parent.name}"
    return f"python {shlex.quote(sys.argv[0])}" if script.suffix == ".py" else script.name


def same_command(*more: str) -> str:
    """The command line as the user gave it, with `more` at its end."""
    given = [argument for argument in sys.argv[1:] if argument not in more]
    return f"{program()} {shlex.join([*given, *more])}"


def other_command(name: str) -> str:
    """Another command of dlnotes, called in the way in which this one was called."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.name != "__main__.py":
        return f"python {shlex.quote(str(script.with_name(name.replace('-', '_') + '.py')))}"
    return f"{program()} {name}"


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

"""How programs start and end: typed arguments and lines in, exit code 2 for a user's mistake."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from dlnotes.display import TYPEWRITER, printable
from dlnotes.errors import UserError

Program = Callable[..., None] | dict[str, Callable[..., None]]


def run(
    main: Program,
    *,
    prog: str | None = None,
    arguments: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Parse the command line for `main`, or for one of several commands by name, and run it.

    A `UserError` is printed as one line (exit code 2), and so is a warning; Ctrl-C ends quietly
    (exit code 130); a reader that goes away (``… | head``) is no error.

    Args:
        main: What to run.
        prog: What the help calls it; default: the script's name.
        arguments: Gives the command line; default: what follows the script's name.
    """
    import tyro  # here, for `dlnotes --help` needs none of it

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may know no arrow
            stream.reconfigure(errors=TYPEWRITER)
    try:
        given = None if arguments is None else arguments()
        with _warnings_in_one_line():
            if isinstance(main, dict):
                tyro.extras.subcommand_cli_from_dict(main, prog=prog, args=given)
            else:
                tyro.cli(main, prog=prog, args=given)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        drop_output()
    except OSError as error:  # a full disk, say
        drop_output()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print warnings as errors are printed, without the line of our code that they come from."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def told_how_to_go_on() -> Iterator[None]:
    """Print the command that goes on with a training that a signal interrupts; exit code 130."""
    from dlnotes.training.fit import Interrupted  # here, for it imports torch

    try:
        yield
    except Interrupted:
        again = same_command("--resume")
        print(f"Stopped and saved. Go on with:\n  {again}", file=sys.stderr)
        sys.exit(130)


def drop_output() -> None:
    """The reader is gone: what is in the buffer is for nobody, and closing must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def program() -> str:
    """How the user called this program, up to the command's name."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return f"python -m {script.parent.name}"
    if script.suffix == ".py":
        return f"python {shlex.quote(sys.argv[0])}"
    found = shutil.which(script.name)
    same = found is not None and Path(found).resolve() == script.resolve()
    return script.name if same else shlex.quote(sys.argv[0])


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


def lines_at_once() -> Iterator[list[str]]:
    """Lines of standard input as they come: each list holds those that are there, one at least.

    A line is handed out when it is complete, without waiting for the next; the last needs no line
    break at its end.

    Raises:
        UserError: There is no standard input, it cannot be read, or a line is not UTF-8 (told when
            the lines before it have been handed out).
    """
    if sys.stdin is None:
        raise UserError("there is no standard input; give texts or --file FILE")
    if sys.stdin.buffer.isatty():
        print("A text per line, please; Ctrl-D ends.", file=sys.stderr)
    done, begun = 0, bytearray()  # lines before, and the bytes of one that is not complete
    while chunk := _read_some():
        begun += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(begun).split(b"\n")
            begun = bytearray(rest)
            yield from _decoded(whole, done)
            done += len(whole)
    if begun:
        yield from _decoded([bytes(begun)], done)


def _read_some() -> bytes:
    try:
        return cast(io.BufferedReader, sys.stdin.buffer).read1(1 << 20)
    except OSError as error:
        raise UserError(f"standard input cannot be read: {error.strerror}") from error


def _decoded(lines: list[bytes], before: int) -> Iterator[list[str]]:
    if before == 0:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    texts = []
    for line in lines:
        try:
            texts.append(line.decode().rstrip("\r"))
        except UnicodeDecodeError as error:
            if texts:
                yield texts
            number = before + len(texts) + 1
            raise UserError(
                f"standard input:{number}: not UTF-8; convert it first, for example with: "
                "iconv -f latin1 -t utf-8"
            ) from error
    yield texts

"""How programs start and end: typed arguments and lines in, exit code 2 for a user's mistake."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import itertools
import os
import re
import shlex
import shutil
import signal
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

from dlnotes import launch
from dlnotes.display import ASCII_FALLBACK, tell
from dlnotes.errors import Terminated, UserError, on_command_line

_OBJECTS = 100_000  # new ones, until Python collects garbage
_CLEAN_UP, _MOMENT = 5.0, 10.0  # seconds
_NARROWEST = 40  # columns; with fewer than 8, tyro never finishes its tables
_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # colours and bold letters of a terminal

NOT_WRITTEN = {errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", None)}
"""Numbers of the system's errors by which it refuses to write."""

Program = Callable[..., None] | dict[str, Callable[..., None]]


def run(
    main: Program,
    *,
    prog: str | None = None,
    arguments: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Parse the command line for `main`, or for one of several commands by name, and run it.

    See `exit_handler` for how it ends. In paths ``~`` is the user's home, even if the shell does
    not expand it.

    Args:
        main: What to run.
        prog: The program's name in its help; default: the script's name.
        arguments: Gives the command line; default: what follows the script's name.
    """
    with exit_handler(), _on_command_line(), _rare_collections():
        given = sys.argv[1:] if arguments is None else arguments()
        refuse_empty(given)
        parse = partial(_parse, main, prog, given)
        with _naming_options(main, given):
            try:
                with redirect_stderr(io.StringIO()):
                    call = parse()
            except SystemExit as end:
                if not end.code:  # --help
                    raise
                from dlnotes.parsing import mistake_in_a_value  # here, because it imports tyro

                said = _mistake(parse)
                said = mistake_in_a_value(_chosen(main, given), given, said) or said
                if "" in given and "empty" not in said:
                    said = f"an argument is empty; {said.replace('Unrecognized options:; ', '')}"
                raise UserError(said) from end
            call()


def _chosen(main: Program, given: Sequence[str]) -> Callable[..., None] | None:
    """The program that a command line names, if it names one."""
    if isinstance(main, dict):
        return main.get(given[0]) if given else None
    return main


@contextmanager
def _naming_options(main: Program, given: Sequence[str]) -> Iterator[None]:
    """Name the option, such as ``--top-k``, where a value of an argument is refused."""
    try:
        yield
    except UserError as error:
        program = _chosen(main, given)
        if error.argument and program:
            from dlnotes.parsing import option_types

            if error.argument in option_types(program):
                _, _, rest = str(error).partition(error.argument)
                error.args = (f"--{error.argument.replace('_', '-')}{rest}",)
        raise


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse options with an empty value, such as a variable of the shell that is not set.

    Raises:
        UserError: An option is empty.
    """
    for option, value in itertools.pairwise([*arguments, "-"]):
        if option == "--":
            return
        name, equals, given = option.partition("=")
        if option.startswith("--") and (value == "" or (equals and not given)):
            raise UserError(f"{name} is empty; leave it out or give a value")


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python collect garbage, unreachable cycles of objects, less often.

    Each collection looks at everything that torch has loaded, which takes a few tenths of a second;
    neither that nor the hundred thousand objects of a vocabulary are garbage.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _on_command_line() -> Iterator[None]:
    token = on_command_line.set(True)
    try:
        yield
    finally:
        on_command_line.reset(token)


def _parse(main: Program, prog: str | None, given: Sequence[str]) -> Callable[[], None]:
    """The call that a command line asks for.

    Raises:
        SystemExit: The help was printed, or what is wrong, in a frame on standard error.
    """
    # Here, because `dlnotes --help` does not need them.
    import tyro

    from dlnotes.parsing import later, registry

    found: Callable[[], None]
    with registry(), _filled_help(columns()):
        if isinstance(main, dict):
            programs = {name: later(function) for name, function in main.items()}
            found = tyro.extras.subcommand_cli_from_dict(programs, prog=prog, args=given)
        else:
            found = tyro.cli(later(main), prog=prog, args=given)
    return found


def columns() -> int:
    """The width of the terminal, or of a help in a pipe, in characters; at least 40."""
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def filled(paragraph: str, width: int, indent: str = "") -> str:
    """A paragraph in lines of at most `width` characters; a longer word has a line of its own.

    Args:
        paragraph: A line of text.
        width: The most characters.
        indent: What stands before all lines but the first.
    """
    from textwrap import fill  # here, because most programs print no help

    return fill(
        paragraph,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


@contextmanager
def _filled_help(width: int) -> Iterator[None]:
    """Break the lines of a help that is printed: tyro does so only within its tables.

    Args:
        width: The most characters of a line.
    """
    printed = _Capture(sys.stdout)
    try:
        with redirect_stdout(printed), _columns(width):
            yield
    finally:
        text = printed.getvalue()
        if _STYLE.sub("", text).startswith("usage:"):  # not a script for a shell
            text = "\n".join(
                line
                if len(_STYLE.sub("", line)) <= width
                else filled(line, width, " " * 4 * _STYLE.sub("", line).startswith("usage:"))
                for line in text.split("\n")
            )
        if text:
            sys.stdout.write(text)


class _Capture(io.StringIO):
    """What is printed, by programs that ask whether their output is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


@contextmanager
def _columns(number: int) -> Iterator[None]:
    """Have libraries take the terminal for `number` columns wide."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _mistake(parse: Callable[[], object]) -> str:
    """What tyro says is wrong with a command line, without the frame and the help around it."""
    told = io.StringIO()
    with _columns(10_000), redirect_stderr(told), suppress(SystemExit):  # no line is broken
        parse()
    lines = [line.strip("╭╮╰╯│|+ ") for line in told.getvalue().splitlines()[1:]]
    sections = "\n".join("" if set(line) <= {"─", "-"} else line for line in lines).split("\n\n")
    said = [" ".join(section.split()).rstrip(".") for section in sections]
    needless = ("Argument helptext", "Got errors")
    return "; ".join(part for part in said if part and not part.startswith(needless))


def expanded(path: str | Path) -> Path:
    """A path with the user's home in place of ``~``.

    Raises:
        UserError: It is empty, which pathlib takes for the current folder, or blank, or names the
            home of an unknown user, or holds a null character.
    """
    if path == "":
        raise UserError("a path must not be empty; . is the current folder")
    if str(path).isspace():
        raise UserError(f"a path must not be blank: {str(path)!r}")
    if "\0" in str(path):
        raise UserError(f"a path must not hold a null character: {str(path)!r}")
    found = os.path.expanduser(path)  # noqa: PTH111 -- pathlib's raises without a home
    if found.startswith("~"):
        raise UserError(f"there is no home folder {found.partition('/')[0]}; ./~… is a file here")
    return Path(found)


@contextmanager
def exit_handler() -> Iterator[None]:
    """Run a program so that it ends with an exit code and at most one line, without a traceback.

    A `UserError`, or an error of the system such as a full disk, ends it with code 2, Ctrl-C with
    130, SIGTERM with 143 and SIGHUP with 129; a reader that goes away (``… | head``) is not an
    error. A closed standard output or error stream is replaced by the null device. Warnings take a
    line each. Of several processes only the first one prints, except that an error is printed by
    the one that has it; unless the program comes to its end, they leave without Python's clean-up,
    see `_leave`.
    """
    _fill_streams()
    try:
        with launch.silence_other_ranks():
            yield from _exit_handler()
    except Exception:
        if launch.world_size() == 1:
            raise
        _flush()
        sys.excepthook(*sys.exc_info())
        _leave(1)


def _exit_handler() -> Iterator[None]:
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may have no arrows
            stream.reconfigure(errors=ASCII_FALLBACK)
    code: str | int | None = 0
    is_stopped = False
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = lambda message, *_: tell(f"warning: {message}")
        try:
            try:
                _check_current_folder()
                yield
            except SystemExit as end:  # for example --help, whose text must still be written
                code = end.code
            sys.stdout.flush()
        except UserError as error:
            code = 2
            _tell(error, str(error))
        except KeyboardInterrupt as stop:
            code = _code(stop)
            if getattr(stop, "reported_here", True):
                tell("Stopped.")
        except BrokenPipeError:
            is_stopped = True
        except OSError as error:  # for example a full disk
            code = 2
            where = error.filename or _what_failed(error)
            _tell(error, f"{where}{': ' * bool(where)}{error.strerror or error}")
        except MemoryError as error:
            code = 2
            _tell(error, f"not enough memory: {error or 'more was asked for than there is'}")
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    _flush()
    if launch.world_size() > 1 and (code or is_stopped):
        _leave(code or 0)
    if code:
        sys.exit(code)


def _leave(code: int) -> None:
    """End one of several processes early.

    If there is no process group yet, all of them have made the same mistake, or are interrupted.
    The first one reports a mistake, and torchrun would stop it as soon as another one has ended, so
    the others wait a moment.

    In a process group that has not been left, torch's threads are still running. Some may wait for
    other processes for ever. Others may wait for Python's lock; Python 3.11 ends these when it
    exits, and that aborts the process. Therefore the process ends without Python's clean-up, after
    at most `_CLEAN_UP` seconds of handlers that `atexit` would call.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if not (distributed and distributed.is_available() and distributed.is_initialized()):
        if launch.rank() > 0 and code < 128:
            time.sleep(_MOMENT)
        sys.exit(code)
    handlers = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    handlers.start()
    handlers.join(_CLEAN_UP)
    _flush()
    os._exit(code)


def _flush() -> None:
    """Write what is buffered, or discard it where that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop_output(stream)
        except ValueError:  # it is closed
            continue


def _what_failed(error: OSError) -> str:
    """What could not be done, for an error of the system that names no file."""
    if error.errno not in NOT_WRITTEN:
        return ""
    return "cannot write to standard output" if _output_refuses() else "cannot write"


def _output_refuses() -> bool:
    """Whether standard output cannot be written, after something could not."""
    try:
        sys.stdout.flush()  # what could not be written is still there, and fails again
    except OSError:
        return True
    try:  # what is longer than the buffer is lost, and with python -u everything
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # it is not a file
        return False
    try:
        os.write(number, b"")
    except OSError:
        return True
    return stat.S_ISREG(os.fstat(number).st_mode) and os.fstatvfs(number).f_bavail == 0


def _check_current_folder() -> None:
    """Require that the current folder exists; without it, libraries of torch cannot be loaded.

    Raises:
        UserError: It has been removed, or cannot be reached.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(
            f"the current folder cannot be used ({error.strerror}); it may have been removed: "
            "change to another one with cd"
        ) from error


def _tell(error: BaseException, line: str) -> None:
    """Print an error, unless another process does."""
    chosen: bool | None = getattr(error, "reported_here", None)
    if chosen and launch.rank() > 0:
        with redirect_stderr(sys.__stderr__):
            tell(f"error: {line}")
    elif chosen is not False:
        tell(f"error: {line}")


def _code(stop: KeyboardInterrupt) -> int:
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)


def _fill_streams() -> None:
    """Open closed standard streams, whose numbers the next opened files would get otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Terminated`, so that half-written files are removed.

    A signal that is ignored (nohup) or that already has a handler is left alone. Also, a thread
    that fails to write, such as TensorBoard's, prints no traceback: whoever waits for it gets its
    error.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    def quiet(failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            hook(failed)

    hook, threading.excepthook = threading.excepthook, quiet
    main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP")  # Windows has no hang-up
    signals = [getattr(signal, name, None) for name in names]
    own = [n for n in signals if n and main and signal.getsignal(n) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, stop)
    try:
        yield
    finally:
        threading.excepthook = hook
        for number in own:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def resume_hint(out: Path) -> Iterator[None]:
    """Print the command that continues the training, if a signal interrupts it.

    Args:
        out: The run folder.
    """
    from dlnotes.training.fit import Interrupted  # here, because it imports torch
    from dlnotes.training.folder import CHECKPOINT

    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        code = _code(stop) if isinstance(stop, KeyboardInterrupt) else 128 + stop.number
        if not (out / CHECKPOINT).exists():
            tell("Stopped before the first checkpoint: nothing is kept.")
            sys.exit(code)
        done = "Stopped and saved." if isinstance(stop, Interrupted) else "Stopped."
        again = same_command("--resume")
        if launch.world_size() > 1:
            again = f"torchrun … {again}"
        with suppress(OSError):
            print(f"{done} Go on with:\n  {again}", file=sys.stderr, flush=True)
        sys.exit(code)


def drop_output(stream: TextIO | None = None) -> None:
    """Discard what is buffered for a reader that is gone, so that closing does not fail again.

    Args:
        stream: Default: standard output.
    """
    try:
        number = (stream or sys.stdout).fileno()
    except io.UnsupportedOperation:  # it is not a file
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


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
    """Another command of dlnotes, called in the same way as this one."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.name != "__main__.py":
        return f"python {shlex.quote(str(script.with_name(name.replace('-', '_') + '.py')))}"
    return f"{program()} {name}"


def lines(file: Path | None) -> Iterator[str]:
    """Lines of a file, or of standard input, as they come.

    Raises:
        UserError: The file cannot be read, or a line is not UTF-8.
    """
    if file is None:
        for texts in line_batches():
            yield from texts
        return
    from dlnotes.data.streams import text_blocks  # here, because most commands do not need it

    for _, block in text_blocks(file, block_bytes=1 << 16):
        for line in block.removesuffix("\n").split("\n"):
            yield line.removesuffix("\r")


def line_batches() -> Iterator[list[str]]:
    """Lines of standard input as they come: each list holds those that have arrived, at least one.

    A line is handed out as soon as it is complete; the last one needs no line break at its end.

    Raises:
        UserError: There is no standard input, it cannot be read, it begins as a file that is not
            text or not UTF-8, or a line is not UTF-8 (raised after the lines before it have been
            handed out).
    """
    if sys.stdin is None:
        raise UserError("there is no standard input; give texts or --file FILE")
    stream = cast(io.BufferedReader, sys.stdin.buffer)
    if stream.isatty():
        print("A text per line, please; Ctrl-D ends.", file=sys.stderr)
    done, begun = 0, bytearray()  # lines before, and the bytes of one that is not complete
    while chunk := _read_some(stream):
        if not (done or begun):
            _refuse_other(chunk)
        begun += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(begun).split(b"\n")
            begun = bytearray(rest)
            yield from _decoded(whole, done)
            done += len(whole)
    if begun:
        yield from _decoded([bytes(begun)], done)


def _read_some(stream: io.BufferedReader) -> bytes:
    try:
        return stream.read1(1 << 20)
    except OSError as error:
        raise UserError(f"standard input cannot be read: {error.strerror}") from error


def _refuse_other(start: bytes) -> None:
    """Refuse what is not text, and UTF-16 and UTF-32, by how standard input starts.

    Raises:
        UserError: It is something else than text in UTF-8.
    """
    from dlnotes.data.kinds import compression_of, kind_of, marked_encoding, wide_encoding

    kind = "compressed: decompress it first" if compression_of(start) else kind_of(start)
    if kind:
        raise UserError(f"standard input is {kind}")
    marked = marked_encoding(start)
    encoding = marked or wide_encoding(start) or "utf-8"
    if encoding != "utf-8":
        known = encoding[:6] if marked else encoding[:6] + encoding[7:]  # to iconv
        raise UserError(
            f"standard input looks like {encoding.upper()[:6]}; convert it first, for example "
            f"with: iconv -f {known} -t utf-8"
        )


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

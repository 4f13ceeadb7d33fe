"""Reading and writing files; what is written is there as a whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any, TypeVar

from dlnotes.errors import UserError

_Value = TypeVar("_Value")
_ABANDONED = 3600.0  # seconds without a write
_MARK, _MARKED = "unfinished", b"dlnotes writes here; what is unfinished is removed\n"

if sys.platform != "win32":
    import fcntl


def check_output(path: Path) -> None:
    """Raise an error now if a file could not be written later.

    Raises:
        UserError: There is no such folder, `path` is a folder, a pipe, a device or where the
            program's standard output goes, or the permissions do not allow it.
    """
    if path.exists():
        if not path.is_file():
            raise UserError(f"cannot write {path}: it is there and is not a file")
        for number, stream in ((1, "output"), (2, "error")):
            # Replacing this file would lose what is printed.
            if _is_open(path, number):
                raise UserError(
                    f"cannot write {path}: standard {stream} goes there; give another file"
                )
        if not os.access(path, os.W_OK):
            raise UserError(f"cannot write {path}: it is read-only")
    folder = (resolved(path) if path.is_symlink() else path).parent
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: the folder {folder} is read-only")


def _is_open(path: Path, number: int) -> bool:
    """Whether a file is what a file descriptor of this process writes to."""
    try:
        return os.path.samestat(path.stat(), os.fstat(number))
    except OSError:
        return False


def make_folder(path: Path, advice: str = "; give another --out") -> None:
    """Make a folder to write to, and its parents.

    Args:
        path: The folder.
        advice: What to do instead, at the end of the messages.

    Raises:
        UserError: It cannot be made or written to.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"cannot write to {path}: it is not a folder{advice}")
        path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}{advice}") from error
    except ValueError as error:  # for example a null character
        raise UserError(f"cannot write to {str(path)!r}: {error}{advice}") from error


def option_of(name: str) -> str:
    """The option of the command line that sets a field or an argument."""
    return f"--{name.replace('_', '-')}"


def check_different(**paths: Path | None) -> None:
    """Require that several outputs and inputs are different files.

    Args:
        paths: Each by the name of its option.

    Raises:
        UserError: Two are the same file, or one lies in a folder that another one names.
    """
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        option, place = option_of(name), resolved(path)
        if (other := seen.setdefault(place, option)) != option:
            raise UserError(
                f"{other} and {option} are the same file, {path}: give another {option}"
            )
        for folder in place.parents:
            if folder in seen and folder.is_dir():
                raise UserError(
                    f"{option} {path} lies in {seen[folder]} {folder}: give another {option}"
                )


def resolved(path: Path) -> Path:
    """The file that a path to write leads to.

    Raises:
        UserError: The path is a link that leads back to itself.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {path}: it is a link that leads back to itself") from error


def lock(file: IO[Any] | int) -> bool:
    """Lock an open file until it is closed; the system unlocks it when the process ends.

    Args:
        file: The file, or the descriptor of a file or folder.

    Returns:
        Whether it is locked; False where the system or the file system has no locks.

    Raises:
        BlockingIOError: It is locked already.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def not_through_a_link(path: str, flags: int) -> int:
    """Open a file without following a link, which may be somebody else's, or waiting for a pipe."""
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags | careful, 0o666)


@contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """Hold a lock file; it says who holds it, and is removed at the end.

    Where there are no locks (see `lock`), nothing is held.

    Args:
        file: The lock file.
        what: What it protects, for the message.

    Raises:
        UserError: Another process holds it, or it cannot be written.
    """
    while True:
        try:
            handle = open(file, "a+", encoding="utf-8", opener=not_through_a_link)  # noqa: SIM115
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror or error}") from error
        with handle:
            try:
                lock(handle)
            except BlockingIOError as error:
                handle.seek(0)
                holder = handle.read() or "another process"
                raise UserError(f"{what} is in use by {holder}") from error
            if not _is_open(file, handle.fileno()):  # its holder has removed it in between
                continue
            with suppress(OSError):  # a full disk: then it says nothing
                handle.truncate(0)
                handle.write(f"process {os.getpid()} on {socket.gethostname()}")
                handle.flush()
            try:
                yield
            finally:
                with suppress(OSError):  # gone with its folder
                    file.unlink()
            return


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one step.

    Whenever the process dies, `path` holds all of the old content or all of the new. What a killed
    process leaves beside it is removed when the same file is written the next time.

    Raises:
        UserError: The file cannot be written, or the disk is full.
    """
    write_together({path: write})


def write_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Like `write_atomically`, for files that belong together.

    None is replaced before all are written: if the disk is full, or a `write` fails, all of the old
    ones stay.

    Args:
        writes: The function that fills each file.

    Raises:
        UserError: A file cannot be written, or the disk is full.
    """
    with ExitStack() as stack:
        written = [stack.enter_context(_beside(*each)) for each in writes.items()]
        for path, temporary in written:
            try:
                temporary.replace(path)
            except OSError as error:
                raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _beside(path: Path, write: Callable[[Path], object]) -> Iterator[tuple[Path, Path]]:
    """The place of a file, and a finished one beside it, which is removed if it is still there."""
    check_output(path)
    path = resolved(path)  # a link keeps pointing to the file
    _remove_leftovers(path)
    temporary = path.with_name(f"{_beginning(path)}{secrets.token_hex(4)}")
    try:
        held = temporary.open("xb")  # with the permissions that the user's umask leaves
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        with held:
            with suppress(BlockingIOError):
                if not lock(held):  # some systems cannot rename a file that is open
                    held.close()
            with _refusals(path, temporary):
                if path.exists():
                    shutil.copymode(path, temporary)
                mode = temporary.stat().st_mode
                write(temporary)
                temporary.chmod(mode)  # some libraries put a file of their own in its place
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            yield path, temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _refusals(path: Path, temporary: Path) -> Iterator[None]:
    """Turn the system's refusals to write a file into an error of one line."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    except Exception as error:
        if problem := _refusal(error, temporary):
            raise UserError(f"cannot write {path}: {problem}") from error
        raise


def _beginning(path: Path) -> str:
    """How the names of temporary files for `path` begin."""
    begins = os.fsdecode(os.fsencode(path.name)[:200]).encode(errors="ignore").decode()
    return f".{begins}-"


def parts_of(temporary: Path) -> Path:
    """A folder for the parts of which a temporary file of `write_atomically` is made."""
    return temporary.with_name(f"{temporary.name}.parts")


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of processes that were killed; running ones have locked theirs."""
    name = re.compile(re.escape(_beginning(path)) + "[0-9a-f]{8}")
    with suppress(OSError):
        for other in [Path(entry) for entry in os.scandir(path.parent)]:
            if name.fullmatch(other.name) and other.is_file() and not other.is_symlink():
                with suppress(OSError), other.open("rb+") as file:
                    if lock(file):
                        shutil.rmtree(parts_of(other), ignore_errors=True)
                        other.unlink()


def _refusal(error: Exception, file: Path) -> str | None:
    """The system's reason for refusing to write a file; None if it does not refuse.

    Libraries hide its error in one of their own. Those in Rust give its number; torch does not, and
    so writing is tried again here.
    """
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(number[1]))
    try:
        with file.open("ab") as end:
            end.write(bytes(1 << 20))
            end.flush()
            os.fsync(end.fileno())
    except OSError as refused:
        return refused.strerror
    return None


@contextmanager
def in_utf8(path: Path) -> Iterator[Path]:
    """A path that libraries in C++ and Rust can open: they take no bytes that are not UTF-8.

    Args:
        path: A file or a folder.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            place = Path(folder) / "here"
            place.symlink_to(path.absolute())
            yield place
    else:
        yield path


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as that is possible."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove what killed processes left half written.

    Args:
        folder: Where they wrote.
        prefix: How the names of the files or folders that they wrote begin. What has been written
            to within the last hour may still be in use, and stays, and so does what is `kept`.
    """
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):
            if _is_old(path):
                with kept(path):
                    remove(path)


def _is_old(path: Path) -> bool:
    """Whether nothing has been written to a file, or into a folder, for an hour."""
    last = max(p.lstat().st_mtime for p in (path, *path.rglob("*")))
    return time.time() - last > _ABANDONED


@contextmanager
def unfinished(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder for files that get their names when all are written; it is removed at the end.

    It lies in another one, beside a file that marks that one as the program's. The file is locked,
    so that `remove_unfinished` knows whether the process still runs.

    Args:
        folder: Where to make it.
        prefix: How the name of the outer one begins; eight hexadecimal digits follow.

    Raises:
        OSError: It cannot be made.
    """
    outer = folder / f"{prefix}{secrets.token_hex(4)}"
    outer.mkdir()
    try:
        with (outer / _MARK).open("xb") as mark:
            lock(mark)
            mark.write(_MARKED)
            mark.flush()
            inner = outer / "files"
            inner.mkdir()
            yield inner
    finally:
        _remove_marked(outer)


def _remove_marked(outer: Path) -> None:
    """Remove a folder that `unfinished` made; while something is left of it, so is its mark."""
    remove(outer / "files")
    with suppress(OSError):
        if [path.name for path in outer.iterdir()] == [_MARK]:
            remove(outer)


def is_unfinished(path: Path, prefix: str) -> bool:
    """Whether `unfinished` made a folder: its name has the form, and it holds the mark.

    It may also be empty: the process was killed before the first file, or after the last one.
    """
    if path.is_symlink() or not re.fullmatch(re.escape(prefix) + "[0-9a-f]{8}", path.name):
        return False
    try:
        if not any(path.iterdir()):
            return True
        with open(path / _MARK, "rb", opener=not_through_a_link) as mark:
            return mark.read(len(_MARKED) + 1) == _MARKED
    except OSError:
        return False


def is_in_use(path: Path) -> bool:
    """Whether the process that made a folder with `unfinished` runs; no where nobody can tell."""
    try:
        with open(path / _MARK, "rb+", opener=not_through_a_link) as mark:
            lock(mark)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def remove_unfinished(folder: Path, prefix: str) -> None:
    """Remove what killed processes left of folders that `unfinished` made.

    Empty ones, and all where there are no locks (see `lock`), stay until nothing has been written
    to them for an hour.

    Args:
        folder: Where they were made.
        prefix: How their names begin.
    """
    with suppress(OSError):
        for path in [Path(entry) for entry in os.scandir(folder)]:
            if is_unfinished(path, prefix):
                with suppress(OSError):
                    if not any(path.iterdir()):  # there is nothing yet that is locked
                        if _is_old(path):
                            path.rmdir()
                        continue
                    with open(path / _MARK, "rb+", opener=not_through_a_link) as mark:
                        abandoned = lock(mark) or _is_old(path)
                    if abandoned:
                        _remove_marked(path)


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Lock a file or folder that is being written, so that `remove_abandoned` leaves it alone.

    Raises:
        BlockingIOError: It is locked already.
        OSError: It cannot be opened.
    """
    if sys.platform == "win32":  # which opens no folder
        yield
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    r"""Write text in UTF-8, atomically.

    Bytes of a path that are not UTF-8 become ``\udcXX``.
    """
    write_atomically(path, _text_writer(text))


def _text_writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, "utf-8", "backslashreplace")


def to_json(value: Any) -> str:
    """JSON that a person can read; NaN and infinities, which JSON does not have, become null."""
    try:
        return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def write_json(path: Path, value: Any) -> None:
    r"""Write JSON, see `to_json`, atomically.

    Bytes of a path that are not UTF-8 become the text ``\udcXX``: `read_json` refuses the bytes.
    """
    write_atomically(path, json_writer(value))


def json_writer(value: Any) -> Callable[[Path], object]:
    """A function that writes JSON as `write_json` does, for `write_together`."""
    text = re.sub("[\ud800-\udfff]", lambda found: rf"\\u{ord(found[0]):04x}", to_json(value))
    return _text_writer(text + "\n")


def sha256_of(file: IO[bytes]) -> str:
    """SHA-256 of the rest of an open file, in hexadecimal digits."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def as_path(path: str | Path, name: str = "path") -> Path:
    """A path that a user gives, with ``~`` expanded.

    Args:
        path: Text or a path.
        name: The caller's name for it, for messages.

    Raises:
        UserError: `path` is something else or empty, or names the home of an unknown user.
    """
    if isinstance(path, Path) and not str(path).startswith("~"):
        return path
    if not isinstance(path, str | Path) or path == "":
        raise UserError(f"{name} must be a path, not {path!r}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name} is {path}, but there is no such home folder") from error


def read_file(path: Path, largest: int) -> bytes:
    """Read a regular file as a whole.

    Args:
        path: The file.
        largest: Most bytes that it may have.

    Raises:
        UserError: It is a folder, a pipe or a device, cannot be opened, or is larger.
        FileNotFoundError: There is no such file.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            # A file may be huge without taking room on the disk: its size is checked first.
            small = os.fstat(file.fileno()).st_size <= largest
            content = file.read(largest + 1) if small else b""
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not small or len(content) > largest:
        raise UserError(f"{path} cannot be read: it has more than {largest:,} bytes")
    return content


def check_regular(path: Path) -> None:
    """Require a regular file: reading a pipe or a device may never end.

    Raises:
        UserError: It is something else, or its kind cannot be found out.
        FileNotFoundError: There is no such file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is not a path: {error}") from error
    if not stat.S_ISREG(mode):
        kind = "Is a directory" if stat.S_ISDIR(mode) else "it is a pipe or a device"
        raise UserError(f"{path} cannot be read: {kind}")


def check_stored(path: Path) -> int:
    """Require a zip file whose parts are not compressed, as torch and NumPy write them.

    Reading it then takes no more memory than its size.

    Args:
        path: The file.

    Returns:
        Bytes of its parts named ``….pkl``, which hold the structure of what torch has saved, but
        not the numbers.

    Raises:
        UserError: It is not a regular file, or that cannot be found out.
        ValueError: It is not a zip file, or its parts are longer than it is.
        FileNotFoundError: There is no such file.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are longer than the file")
    return sum(part.file_size for part in parts if part.filename.endswith(".pkl"))


_LARGEST_JSON, _MOST_VALUES = 1 << 27, 1 << 23
_TOO_DEEP = "it is nested too deeply"


def read_json(path: Path, otherwise: str, *, finite: bool = True) -> Any:
    """Read JSON of at most 128 MiB and 8 million values.

    Args:
        path: The file.
        otherwise: What the message says about its folder if the file is missing, such as
            ``is not a finished run``.
        finite: Whether to refuse NaN and infinities, which Python writes into JSON; otherwise they
            become None.

    Raises:
        UserError: The file is missing, is not a regular file, is too large or is not JSON. A name
            that occurs twice, half of a surrogate pair and nesting of more than 100 levels do not
            count as JSON.
    """
    try:
        content = read_file(path, _LARGEST_JSON)
        if sum(map(content.count, (b"[", b"{", b","))) > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES:,} values")
        found = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=json_number if finite else _none,
            parse_float=json_number,
            parse_int=json_integer,
        )
        _check_values(found, escapes=b"\\u" in content)
        return found
    except FileNotFoundError as error:
        folder = path.parent
        why = f"it has no {path.name}" if folder.is_dir() else "there is no such folder"
        if folder.is_file():
            why = "it is a file"
        raise UserError(f"{folder} {otherwise}: {why}") from error
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{path} is damaged: {_TOO_DEEP}") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{path} is damaged: it has half of a surrogate pair") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _check_values(found: Any, *, escapes: bool) -> None:
    level = [found]
    for _ in range(101):
        texts = [value for value in level if isinstance(value, str)] if escapes else []
        for value in level:
            if isinstance(value, dict) and escapes:
                texts += value
        for text in texts:
            text.encode()
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(_TOO_DEEP)


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) < len(fields):
        twice = repeated(name for name, _ in fields)
        raise ValueError(f"it has {twice[0][:60]!r} twice")
    return found


def repeated(values: Iterable[_Value]) -> list[_Value]:
    """The values that occur more than once, in the order in which they first occur."""
    return [value for value, count in Counter(values).items() if count > 1]


def json_number(text: str) -> float:
    """A fraction in JSON; `ValueError` if no float holds it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:60]} is not a finite number")
    return number


def _none(_: str) -> None:
    """What NaN and infinities become."""


def json_integer(text: str) -> int:
    """An integer in JSON; `ValueError` if it has more than 100 digits."""
    if len(text) > 100:
        raise ValueError(f"it has an integer of {len(text):,} digits")
    return int(text)

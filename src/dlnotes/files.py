"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from dlnotes.errors import UserError

_ABANDONED = 3600.0  # seconds without a write


def check_output(path: Path) -> None:
    """Fail at once where a file cannot be written later.

    Raises:
        UserError: There is no such folder, or `path` is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is there and is no file")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")


def make_folder(path: Path) -> None:
    """Make a folder that a program writes to, with those above it.

    Raises:
        UserError: It cannot be made or written to.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"cannot write to {path}: it is no folder; give another --out")
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}; give another --out") from error


def check_different(**paths: Path | None) -> None:
    """Require that several outputs and inputs are different files.

    Args:
        paths: Each by the name of its option.

    Raises:
        UserError: Two are the same file.
    """
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        option = f"--{name.replace('_', '-')}"
        if path is not None and (other := seen.setdefault(_resolved(path), option)) != option:
            raise UserError(
                f"{other} and {option} are the same file, {path}: give another {option}"
            )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {path}: it is a link that leads back to itself") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one step.

    Whenever the process dies, `path` holds the old content or the new one, whole.

    Raises:
        UserError: The folder cannot be written to.
    """
    check_output(path)
    path = _resolved(path)  # a link goes on pointing at the file
    begins = os.fsdecode(os.fsencode(path.name)[:200]).encode(errors="ignore").decode()
    temporary = path.with_name(f".{begins}-{secrets.token_hex(4)}")
    try:
        temporary.touch(exist_ok=False)  # with the permissions that the user's umask leaves
        if path.exists():
            shutil.copymode(path, temporary)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove what killed processes left half written.

    Args:
        folder: Where they wrote.
        prefix: How the names begin of the files or folders that they wrote. What has been written
            to within the last hour is somebody's, and stays.
    """
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            last = max(p.lstat().st_mtime for p in (path, *path.rglob("*")))
            if time.time() - last > _ABANDONED:
                remove(path)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


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
    """Write JSON, see `to_json`, atomically."""
    write_text(path, to_json(value) + "\n")


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
        name: What the caller calls it, for messages.

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
            # A file may have any size and take no room on the disk: it is asked before it is read.
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
        UserError: It is something else, or cannot be looked at.
        FileNotFoundError: There is no such file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is no path: {error}") from error
    if not stat.S_ISREG(mode):
        kind = "Is a directory" if stat.S_ISDIR(mode) else "it is a pipe or a device"
        raise UserError(f"{path} cannot be read: {kind}")


_LARGEST_JSON, _MOST_VALUES = 1 << 27, 1 << 23
_TOO_DEEP = "it is nested too deeply"


def read_json(path: Path, otherwise: str) -> Any:
    """Read JSON of at most 128 MiB and 8 million values.

    Raises:
        UserError: The file is missing (says that its folder `otherwise`), is no regular file, is
            too large or is not JSON; NaN, an infinity and a name that occurs twice are not, nor is
            half of a surrogate pair, nor what is nested more than 100 times.
    """
    try:
        content = read_file(path, _LARGEST_JSON)
        if sum(map(content.count, (b"[", b"{", b","))) > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES:,} values")
        found = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_integer,
        )
        _check_values(found, escapes=b"\\u" in content)
        return found
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} {otherwise}: it has no {path.name}") from error
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
        names = [name for name, _ in fields]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"it has {twice[:60]!r} twice")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:60]} is not a finite number")
    return number


def _integer(text: str) -> int:
    if len(text) > 100:
        raise ValueError(f"it has an integer of {len(text):,} digits")
    return int(text)

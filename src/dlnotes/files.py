"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from dlnotes.errors import UserError


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


def read_json(path: Path, otherwise: str) -> Any:
    """Read JSON.

    Raises:
        UserError: The file is missing (says that its folder `otherwise`) or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path.parent} {otherwise}: it has no {path.name}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error

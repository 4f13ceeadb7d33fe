"""Results of experiments, kept by what they depend on: code, settings, data, torch's version."""

from __future__ import annotations

import ast
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

import dlnotes
from dlnotes.data.download import cache_folder
from dlnotes.display import tell
from dlnotes.errors import UserError
from dlnotes.files import make_folder, write_text

UNWRITABLE: set[Path] = set()
"""Folders in which results could not be kept."""


def results_folder() -> Path:
    """Where results are kept: a folder in the cache of dlnotes."""
    return cache_folder() / "claims"


class Cache:
    """Results in a folder, one file each.

    A result is found again only for the same code, settings and version of torch. Each has a
    checksum, and a damaged one is computed again. Nothing is ever removed; the folder can be
    deleted at any time. If nothing can be written to it, the user is told once, and all results are
    computed.

    Args:
        code: A digest of the code that the results come from: `digest_of_code`.
        folder: Where they are; default: `results_folder`.

    Attributes:
        found: How many results were there.
        computed: How many were not.
        saved: Seconds that were saved by results that were found, and by computing in several
            processes at a time.
    """

    def __init__(self, code: str, folder: Path | None = None) -> None:
        self.code = code
        self.folder = folder or results_folder()
        self.found = self.computed = 0
        self.saved = 0.0

    def get(self, settings: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The result for some settings, computed if it is not there.

        Args:
            settings: All that the result depends on, except for the code.
            compute: Returns what JSON can hold, including NaN and infinities.

        Returns:
            The result as JSON gives it back: tuples are lists, in the first run as well.
        """
        began, saved = time.perf_counter(), self.saved
        found, value, seconds = self.look_up(settings)
        if not found:
            value, seconds = self.timed(compute)
            value = self.keep(settings, value, seconds)
        self.saved = saved + seconds - (time.perf_counter() - began)
        return value

    def timed(self, compute: Callable[[], Any]) -> tuple[Any, float]:
        """What `compute` returns, and the seconds it took, or would have if nothing were kept."""
        began, saved = time.perf_counter(), self.saved
        value = compute()
        return value, time.perf_counter() - began + self.saved - saved

    def look_up(self, settings: Mapping[str, Any]) -> tuple[bool, Any, float]:
        """Whether there is a result for some settings, the result, and the seconds it took."""
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            entry = json.loads(self._file(settings).read_text("utf-8"))
            if entry["sha256"] == _sha256(entry["value"]):
                seconds = float(entry["seconds"])
                self.found += 1
                return True, entry["value"], seconds
        return False, None, 0.0

    def keep(self, settings: Mapping[str, Any], value: Any, seconds: float) -> Any:
        """Keep a result and the seconds it took, and return it as JSON gives it back."""
        self.computed += 1
        value = json.loads(json.dumps(value))
        entry = {"settings": settings, "sha256": _sha256(value), "seconds": seconds}
        try:
            make_folder(self.folder, "; set DLNOTES_CACHE to another folder")
            write_text(self._file(settings), json.dumps({**entry, "value": value}) + "\n")
        except UserError as error:
            if self.folder not in UNWRITABLE:
                tell(f"results are computed, but not kept: {error}")
            UNWRITABLE.add(self.folder)
        return value

    def _file(self, settings: Mapping[str, Any]) -> Path:
        return self.folder / f"{_sha256([self.code, torch.__version__, settings])}.json"


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of_data(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 of tensors, their types and shapes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of_code(file: Path) -> str:
    """SHA-256 of a source file and of all modules of dlnotes that it imports, directly or not.

    Comments, docstrings and formatting do not count. C++ and JSON files in the folders of the
    packages count. The modules are read, not imported.

    Args:
        file: A Python source.
    """
    seen: dict[str, str] = {}
    to_read = [file.resolve()]
    while to_read:
        path = to_read.pop()
        if (name := str(path)) not in seen:
            seen[name], imported = _read(path)
            to_read += imported
    return _sha256(sorted(seen.values()))


@cache
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    """Digest of a source, and the sources of dlnotes that it imports."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
        elif isinstance(body := getattr(node, "body", None), list):
            body[:] = [statement for statement in body if not _is_docstring(statement)]
    imported = tuple(_imported(tree))
    digest = hashlib.sha256(ast.dump(tree).encode())
    if file.name == "__init__.py":
        for other in sorted(file.parent.iterdir()):
            if other.suffix in (".cpp", ".h", ".json"):
                digest.update(other.read_bytes())
    return digest.hexdigest(), imported


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _imported(tree: ast.AST) -> Iterator[Path]:
    """Sources of dlnotes that are imported anywhere in a file, and the packages that contain them.

    The outermost package is left out, because it re-exports names from most of the others.
    """
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            package, *rest = name.split(".")
            if package == "dlnotes":
                folder = Path(dlnotes.__file__).parent.resolve()
                for part in rest:
                    if (folder / part / "__init__.py").is_file():
                        folder /= part
                        yield folder / "__init__.py"
                    elif (folder / f"{part}.py").is_file():
                        yield folder / f"{part}.py"
                        break
                    else:
                        break  # a name in a module

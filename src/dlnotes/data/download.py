"""Fetching files with a checksum, and reading archives without ever extracting them."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

import requests
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import as_path, remove

with warnings.catch_warnings():
    # It imports the bars of tqdm, which ask for ipywidgets in a notebook. The bars here are others.
    warnings.filterwarnings("ignore", "IProgress not found")
    import pooch

__all__ = ["BROKEN", "archive_members", "cache_folder", "fetch"]

ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt; twice as long before the third
TIMEOUT = (10, 30)  # seconds: to connect, and without a byte

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
"""What reading a damaged archive, or a member of it, may raise."""


def cache_folder() -> Path:
    """Where downloads and token arrays are kept: DLNOTES_CACHE, or the user's cache folder."""
    return as_path(os.environ.get("DLNOTES_CACHE") or pooch.os_cache("dlnotes"), "DLNOTES_CACHE")


def fetch(urls: Sequence[str], sha256: str, path: Path) -> Path:
    """Return `path`, downloaded from the first of `urls` that gives the file with this checksum.

    A file that is there already with the right checksum is used as it is. A transfer that breaks
    off, or a server that is busy, is tried again a moment later; anything else goes on to the next
    address at once. Until its checksum is right a file has a temporary name, and it is deleted
    when the download fails.

    With an empty checksum any file is taken: it is up to the caller to check what is in it.

    Raises:
        UserError: No address gives the file; the message says why for each.
        OSError: The file cannot be written.
    """
    if path.is_dir():
        remove(path)
    reasons = []
    for url in urls:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _download(url, sha256, path)
                return path
            except (requests.RequestException, ValueError) as error:
                reason, again = _explain(error)
            if not again or attempt == ATTEMPTS:
                reasons.append(f"{url}: {reason}")
                break
            time.sleep(PAUSE * attempt)
    raise UserError("; ".join(reasons))


def _download(url: str, sha256: str, path: Path) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    # Started by the first byte: a file that is there already draws no bar.
    progress = Progress(*columns, console=console(stderr=True))
    bar = _Bar(progress, path.name)
    get = pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=1 << 16,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"},  # as many bytes as the bar is told
    )

    def get_all(url: str, output_file: str, caller: object) -> None:
        get(url, output_file, caller)
        if Path(output_file).stat().st_size < bar.total:  # unnoticed by urllib3 before 2.0
            raise requests.exceptions.ChunkedEncodingError

    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}" if sha256 else None,
            fname=path.name,
            path=path.parent,
            downloader=get_all,
        )
    finally:
        progress.stop()


class _Bar:
    """The few methods of tqdm that pooch calls, on a bar of rich."""

    def __init__(self, progress: Progress, description: str) -> None:
        self.total = 0
        self.progress = progress
        self.task = progress.add_task(description, total=None)

    def update(self, count: int) -> None:
        self.progress.start()
        self.progress.update(self.task, total=self.total or None, advance=count)

    def reset(self) -> None:  # before the last update(total)
        if self.total:
            self.progress.update(self.task, completed=0)

    def close(self) -> None:
        pass


def _explain(error: Exception) -> tuple[str, bool]:
    """Say in a few words why a download failed, and whether another attempt makes sense."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return f"HTTP error {status} {error.response.reason}", status >= 500 or status == 429
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off before the end of the file", True
    if isinstance(error, requests.ReadTimeout):
        return f"no answer within {TIMEOUT[1]} s", True
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection (its certificate is not accepted)", False
    if isinstance(error, requests.ConnectionError):
        return "no connection", False
    if isinstance(error, requests.RequestException):
        return f"{type(error).__name__}: {error}".replace("\n", " "), False
    return "wrong checksum: not the published file, or damaged on the way (deleted)", False


def archive_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Read the files of a tar or zip archive one after the other, straight from the archive.

    Nothing is extracted, so no member can be written anywhere. Members that are dangerous to
    extract are refused all the same: absolute names, ``..``, links, devices.

    Yields:
        (name, open file) of each regular file, in the archive's order; read it before the next.

    Raises:
        UserError: There is such a member, or the file is not a readable archive. Reading a damaged
            member raises one of `BROKEN`.
    """
    try:
        members = _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)
        for name, kind, file in members:
            posix, windows = PurePosixPath(name), PureWindowsPath(name)
            if posix.is_absolute() or windows.root or windows.drive:
                raise UserError(f"{path}: refused: member {name!r} has an absolute name")
            if ".." in windows.parts:
                raise UserError(f"{path}: refused: member {name!r} leads out of the archive")
            if kind not in ("file", "folder"):
                raise UserError(f"{path}: refused: member {name!r} is a {kind}")
            if file is not None:
                with file:
                    yield name, file
    except BROKEN as error:
        raise UserError(f"{path} is not a readable archive: {error}") from error


_Member = tuple[str, str, "IO[bytes] | None"]  # name, kind, content


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg():
                yield member.name, "file", archive.extractfile(member)
            elif member.isdir():
                yield member.name, "folder", None
            else:
                yield member.name, "link" if member.issym() or member.islnk() else "device", None


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                yield member.filename, "link", None
            elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                yield member.filename, "device", None
            elif member.is_dir():
                yield member.filename, "folder", None
            else:
                yield member.filename, "file", archive.open(member)

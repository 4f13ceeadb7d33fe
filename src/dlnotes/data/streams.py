"""Files as lines of text: unpacked, decoded, without byte order marks.

The content of a file, not its name, decides how it is unpacked: gzip, bzip2, xz, Zstandard, or zip
with one file in it. Its encoding is UTF-8 unless it begins with the byte order mark of UTF-16 or
UTF-32, or another one is named. Byte order marks are removed at the start of every line, because
``cat`` leaves them inside of joined files. Carriage returns end lines in a file without line feeds.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, cast

import polars as pl

from dlnotes.data.kinds import (
    COMPRESSION,
    COMPRESSION_BYTES,
    KIND_BYTES,
    MARKED,
    compression_of,
    kind_of,
    kind_of_zip,
    marked_encoding,
    wide_encoding,
)
from dlnotes.display import printable
from dlnotes.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Seen = Callable[[float], object]
"""Called with the share of a file that has been read, from 0 to 1."""

COMPRESSED = tuple(COMPRESSION)
"""Suffixes of compressed files, after that of their format."""

LONGEST = 1 << 28
"""Most characters of a line, and of a field of CSV. In a compressed file of a few MiB, one may be
so long that it fills any memory."""
LARGEST_WHOLE = 1 << 30
"""Most characters of a file that is read as a whole."""

_CHUNK = 1 << 20
_START_BYTES = 1 << 16  # that show whether a file is text
_MARK = "\ufeff"


def check_file(path: Path) -> None:
    """Require a regular file that can be opened; reading from a pipe might wait forever.

    Raises:
        UserError: `path` does not exist, is not a regular file, or cannot be read.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give a file")
        if path.exists() and not path.is_file():
            raise UserError(
                f"{path} is neither a file nor a folder, but a pipe or a device; save what comes "
                "from it into a file"
            )
        path.open("rb").close()
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"{path} cannot be read: {_reason(error)}") from error


def inner_suffix(path: Path) -> str:
    """The suffix that names a file's format, in lower case: ``.csv`` for ``a.CSV.gz``.

    For a zip file it is the suffix of the file inside.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".zip"] and path.is_file():
        with _as_user_errors(path), path.open("rb") as file:
            if _compression(file) == ".zip":
                inside = PurePath(_only_member(path, zipfile.ZipFile(file)).filename).suffix.lower()
                if inside:
                    return inside
    if suffixes and suffixes[-1] in COMPRESSED:
        return "".join(suffixes[-2:-1])
    return "".join(suffixes[-1:])


def refuse_known(path: Path) -> None:
    """Tell what a file is, if it is of a known kind that is not text.

    Raises:
        UserError: It is of such a kind, or cannot be read.
    """
    with open_binary(path) as file:
        if kind := kind_of(file.read(KIND_BYTES)):
            raise UserError(f"{path} is {kind}")


def refuse_as_parquet(path: Path) -> None:
    """Tell what a file that is called Parquet is, if it is empty or of a known other kind.

    Raises:
        UserError: It is so, or cannot be read.
    """
    with _as_user_errors(path), path.open("rb") as stored:
        packed = _compression(stored)
        start = stored.read(KIND_BYTES)
    if not start:
        raise UserError(f"{path} is empty: it holds no records")
    if packed:
        with open_binary(path) as file:
            start = file.read(KIND_BYTES)
    elif start.startswith(_PARQUET):
        return
    if start.startswith(_PARQUET):
        raise UserError(f"{path}: {PACKED_PARQUET}")
    if kind := kind_of(start):
        raise UserError(f"{path} is {kind}")
    if packed:
        raise UserError(
            f"{path} is not a Parquet file but a compressed one ({packed}): name it after what is "
            f"in it, for example .csv{packed}"
        )


_PARQUET = b"PAR1"
PACKED_PARQUET = "Parquet is read uncompressed only: decompress the file"


@contextmanager
def open_binary(path: Path, seen: Seen | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked.

    Args:
        path: The file.
        seen: Called after each read with the share of the (compressed) file that has been read.

    Raises:
        UserError: It cannot be read or is broken, or a zip file has more than one file in it.
            Reads within the ``with`` statement raise it as well.
    """
    with _as_user_errors(path), path.open("rb") as stored:
        size = max(1, path.stat().st_size)
        unpacked = _unpacked(path, stored)
        if seen:
            report = seen

            def read(count: int = -1) -> bytes:
                content = unread(count)
                report(min(1.0, stored.tell() / size))
                return content

            unread = unpacked.read
            unpacked = cast(IO[bytes], io.BufferedReader(_Reads(read), _CHUNK))
        with unpacked:
            yield unpacked


class _Reads(io.RawIOBase):
    """A stream whose bytes come from a function."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self._read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _compression(stored: IO[bytes]) -> str | None:
    start = stored.read(COMPRESSION_BYTES)
    stored.seek(0)
    return compression_of(start)


def _unpacked(path: Path, stored: IO[bytes]) -> IO[bytes]:
    match _compression(stored):
        case ".gz":
            return cast(IO[bytes], gzip.open(stored))
        case ".bz2":
            return _of_streams(stored, bz2.BZ2Decompressor)
        case ".xz":
            return _of_streams(stored, lzma.LZMADecompressor, padding=b"\0")
        case ".zst":
            return cast(IO[bytes], zstd.open(stored))
        case ".zip":
            archive = zipfile.ZipFile(stored)
            return archive.open(_only_member(path, archive))
        case _:
            return stored


class _BrokenError(Exception):
    """What a compressed file holds is not what it should be."""


def _of_streams(
    stored: IO[bytes],
    decompressor: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
    padding: bytes = b"",
) -> IO[bytes]:
    """The content of compressed streams, one after another.

    `bz2.open` and `lzma.open` silently ignore what follows the first stream if it is not another
    stream, and so leave out the rest of a damaged file.

    Args:
        stored: The compressed file.
        decompressor: Makes one for a stream.
        padding: A byte that may stand between streams, and at the end.
    """
    stream, rest = decompressor(), b""

    def read(count: int) -> bytes:
        nonlocal stream, rest
        while True:
            if stream.eof:
                rest = stream.unused_data.lstrip(padding)
                while not rest:
                    block = stored.read(_CHUNK)
                    if not block:
                        return b""
                    rest = block.lstrip(padding)
                stream = decompressor()
            if stream.needs_input and not rest:
                rest = stored.read(_CHUNK)
                if not rest:
                    raise _BrokenError("it ends too early")
            try:
                content = stream.decompress(rest, count)
            except OSError as error:  # of bz2, which has no error of its own
                raise _BrokenError(str(error).lower()) from error
            rest = b""
            if content:
                return content

    return cast(IO[bytes], io.BufferedReader(_Reads(read), _CHUNK))


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members: list[zipfile.ZipInfo] = []
    hidden: list[zipfile.ZipInfo] = []
    for member in archive.infolist():
        # Members without a name are ignored: on them zipfile's is_dir fails.
        if member.filename and not member.is_dir():
            (hidden if ignored(PurePath(member.filename)) else members).append(member)
    if kind := kind_of_zip(member.filename for member in members):
        raise UserError(f"{path} is {kind}")
    if len(members) != 1:
        shown = members or hidden
        names = ", ".join(printable(member.filename, 60) for member in shown[:5])
        names += ", …" * (len(shown) > 5)
        what = f"{len(members)} files in it ({names}), where one is needed"
        if hidden and not members:
            what = f"only hidden files or an operating system's own in it ({names})"
        elif not members:
            what = "no file in it"
        raise UserError(f"{path} has {what}; unpack it and give a file")
    if members[0].flag_bits & 1:
        raise UserError(f"{path} needs a password; unpack it first")
    return members[0]


_OF_THE_SYSTEM = {"__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini"}


def ignored(path: PurePath) -> bool:
    """Whether a name in the path is hidden or is that of an operating system's own files."""
    return any(
        (name.startswith(".") and name != "..") or name in _OF_THE_SYSTEM for name in path.parts
    )


_BROKEN = (
    *(EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, zstd.ZstdError),
    _BrokenError,
    NotImplementedError,  # zipfile's error for a compression method that it does not know
)


@contextmanager
def _as_user_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading and unpacking into a line that says what is wrong with the file."""
    try:
        yield
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(
            f"{path}: broken compressed file ({error}); fetch or make it again"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


# --- text ---------------------------------------------------------------------------------------


def read_text(path: Path, encoding: str | None = None) -> str:
    """The whole text of a file; the arguments are those of `text_blocks`.

    Raises:
        UserError: What `text_blocks` raises, or the file has more than `LARGEST_WHOLE` characters.
    """
    return whole_text(path, text_blocks(path, encoding))


def whole_text(path: Path, blocks: Iterator[tuple[int, str]], first: str = "") -> str:
    """The rest of a file as one text, see `read_text`.

    Args:
        path: The file, for messages.
        blocks: The remaining blocks of `text_blocks`.
        first: The text before them.
    """
    parts, size = [], 0
    for text in itertools.chain([first], (text for _, text in blocks)):
        parts.append(text)
        size += len(text)
        if size > LARGEST_WHOLE:
            raise UserError(
                f"{path} cannot be read: it has more than {LARGEST_WHOLE:,} characters, and must "
                "be read as a whole; give a file with one record per line"
            )
    return "".join(parts)


def text_blocks(
    path: Path,
    encoding: str | None = None,
    block_bytes: int = 1 << 26,
    seen: Seen | None = None,
) -> Iterator[tuple[int, str]]:
    """Blocks of whole lines, each with the number of its first line, from 1.

    Args:
        path: The file.
        encoding: Its encoding; None for UTF-8. A byte order mark takes precedence.
        block_bytes: Approximate number of bytes of the file in a block.
        seen: See `open_binary`.

    Raises:
        UserError: What `open_binary` raises; bytes that are not text, or a line of more than
            `LONGEST` characters (the message gives the line).
    """
    line, size, line_ends = 1, 0, False
    parts: list[str] = []
    for text in _decoded(path, encoding, min(max(block_bytes, 1 << 16), _CHUNK), seen):
        parts.append(text)
        size += len(text)
        line_ends = line_ends or "\n" in text
        if size > LONGEST and not line_ends:
            raise UserError(
                f"{path}:{line}: a line of more than {LONGEST:,} characters; is this a file of "
                "lines, and is it whole?"
            )
        if size < block_bytes or not line_ends:
            continue
        whole, start = "".join(parts), 0
        while len(whole) - start >= block_bytes:
            end = whole.rfind("\n", start, start + block_bytes) + 1
            end = end or whole.find("\n", start + block_bytes) + 1
            if not end:
                break
            yield line, whole[start:end]
            line += whole.count("\n", start, end)
            start = end
        parts, size = [whole[start:]], len(whole) - start
        line_ends = "\n" in parts[0]
    if block := "".join(parts):
        yield line, block


def _decoded(path: Path, encoding: str | None, size: int, seen: Seen | None) -> Iterator[str]:
    """The text of a file in pieces of about `size` bytes."""
    with open_binary(path, seen) as file:
        content = file.read(size)
        marked = marked_encoding(content)
        if not (marked or encoding):
            _refuse_other(path, content[:_START_BYTES])
        nulls = not (marked or encoding) and b"\0" in content
        name = marked or encoding or "utf-8"
        decoder = codecs.getincrementaldecoder(name)()
        line, starts_line, old_mac = 1, True, False
        while True:
            try:
                text = decoder.decode(content, not content)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(name, "replace")
                byte = error.object[error.start]
                doubt = ", and it has null bytes: is it text? If so," if nulls else ";"
                raise UserError(
                    f"{path}:{line + before.count(chr(10))}: not {name.upper()} (byte 0x{byte:02x})"
                    f"{doubt} convert it to UTF-8, or where a command has --encoding, name its "
                    "encoding, for example cp1252 or gb18030"
                ) from error
            if line == 1 and starts_line:
                old_mac = "\n" not in text and "\r" in text[:-1]
            if old_mac:
                text = text.replace("\r", "\n")
            line += text.count("\n")
            if starts_line:
                text = text.lstrip(_MARK)
            # Some encodings can give halves of surrogate pairs, such as unicode_escape.
            if name not in MARKED.values() and (half := half_pair(text)) is not None:
                at = line - text.count("\n", half)
                raise UserError(f"{path}:{at}: half of a surrogate pair, which is not text")
            text = text.replace(f"\n{_MARK}", "\n")
            if text:
                starts_line = text[-1] == "\n"
                yield text
            if not content:
                return
            content = file.read(size)


def half_pair(text: str) -> int | None:
    """Position of half of a surrogate pair in a text, which UTF-8 cannot hold; None without one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _refuse_other(path: Path, start: bytes) -> None:
    """Refuse what is not text, and UTF-16 and UTF-32 without their marks, by how a file starts.

    Raises:
        UserError: It is something else than text in a usual encoding.
    """
    if kind := kind_of(start):
        raise UserError(f"{path} is {kind}")
    if name := wide_encoding(start):
        raise UserError(
            f"{path} looks like {name.upper()[:6]} without a byte order mark: convert it to UTF-8, "
            f"or where a command has --encoding, give --encoding {name}"
        )
    if len(start) >= 4 and all(start[i::4].count(0) > 0.7 * len(start[i::4]) for i in range(4)):
        raise UserError(f"{path} is not text: most of its bytes are 0")


def read_lines(
    path: Path,
    block_bytes: int,
    *,
    encoding: str | None = None,
    blank: bool = False,
    seen: Seen | None = None,
) -> Iterator[pl.DataFrame]:
    """Lines (column ``text``), numbered from 1 (column ``line``); blank ones only if `blank`.

    The other arguments and the errors are those of `text_blocks`.
    """
    for first_line, block in text_blocks(path, encoding, block_bytes, seen):
        frame = numbered_lines(block, first_line)
        if not blank:
            frame = frame.filter(pl.col("text").str.strip_chars() != "")
        if frame.height:
            yield frame


def numbered_lines(block: str, first_line: int) -> pl.DataFrame:
    """The lines of a block (column ``text``) and their numbers (column ``line``)."""
    # Polars decompresses what begins like compressed data, and "x^2" does: so an empty line comes
    # first.
    frame = pl.read_lines(io.BytesIO(b"\n" + block.encode()), name="text").slice(1)
    return frame.with_row_index("line", first_line).with_columns(pl.col("line").cast(pl.Int64))

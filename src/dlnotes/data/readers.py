"""Labelled texts from the files that people have, one block of records after another.

Every reader yields polars data frames with the string columns ``label`` and ``text`` and the
integer column ``line`` (where a record starts in its file, from 1). A file is never held in
memory as a whole: blocks of whole records are cut from the (decompressed) byte stream.

| format | suffix | layout |
|---|---|---|
| TSV | ``.tsv`` | ``label<TAB>text``, or a header and any columns; never quoted |
| CSV | ``.csv`` | a header, or columns by number; quoted as in RFC 4180 |
| JSONL | ``.jsonl``, ``.ndjson``, ``.json`` | an object per line |
| fastText | ``.txt``, ``.ft`` | ``__label__x text`` |
| Parquet | ``.parquet`` | any columns |
| folder | | ``class/anything.txt``, a document a file |

All but Parquet and folders may be gzipped (``.gz``).
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import polars as pl

from dlnotes.errors import UserError

if TYPE_CHECKING:
    import _csv

BLOCK_BYTES = 1 << 26
"""Size of a block: large enough for polars to use every core, small against memory."""

LABEL, TEXT = "label", "text"
Source = Path | pl.DataFrame | Iterable[tuple[object, str]]
_Block = tuple[int, bytes]  # line number of its first line, bytes of whole records
_Record = tuple[int, list[str]]  # line number of its first line, fields
_Seen = Callable[[float], object]  # told how much of a file has been read, from 0 to 1


def read(
    source: Source,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pl.DataFrame]:
    """Read labelled texts, a block at a time.

    Args:
        source: A file or folder in one of the formats above, a data frame with the columns
            ``label`` and ``text``, or any iterable of (label, text) pairs (the form of
            ``torchtext.datasets``).
        text_column: Name or number (from 0) of the text's column; several, joined by a space,
            with commas between them (``"1,2"``: AG News' title and description).
            Default ``text``, or the second column of a TSV without a header.
        label_column: Name or number of the label's column. Default ``label``, or the first of a
            TSV without a header.
        block_bytes: Bytes of text in a block.

    Yields:
        Data frames with the columns ``label`` (str), ``text`` (str) and ``line`` (int).

    Raises:
        UserError: A missing, empty, broken or unreadable file, a missing column, a record
            without a label or with too few fields; names the file and the line.
    """
    if isinstance(source, pl.DataFrame):
        frames: Iterator[pl.DataFrame] = iter([_numbered(source)])
        name = "the data frame"
    elif isinstance(source, Path):
        name = str(source)
        frames = _read_path(source, text_column, label_column, block_bytes)
    else:
        name = "the iterable"
        frames = _read_pairs(source)
    empty = True
    for frame in frames:
        _check_labels(frame, name)
        if frame.height:
            empty = False
            yield frame
    if empty:
        raise UserError(f"{name} holds no documents; give one with at least two classes")


def check_readable(path: Path) -> None:
    """Fail at once where `path` cannot be read later.

    Raises:
        UserError: No such file or folder, no permission, or an unknown suffix.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give the path of a data file or folder")
    if path.is_dir():
        return
    _check_file(path)
    _format(path)


def _check_file(path: Path) -> None:
    """Require a file that can be opened; a pipe would be waited for, maybe forever."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder, but a pipe or a device")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _read_path(
    path: Path, text_column: str | None, label_column: str | None, block_bytes: int
) -> Iterator[pl.DataFrame]:
    check_readable(path)
    if path.is_dir():
        return _read_folder(path, block_bytes)
    columns = _Columns(path, label_column, text_column)
    match _format(path):
        case "parquet":
            return _read_parquet(path, columns)
        case "csv":
            return _read_csv(path, columns, block_bytes)
        case "tsv":
            return _read_tsv(path, columns, block_bytes)
        case "jsonl":
            return _read_jsonl(path, columns, block_bytes)
        case _:
            return _read_fasttext(path, block_bytes)


_SUFFIXES = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "fasttext",
    ".ft": "fasttext",
    ".parquet": "parquet",
}


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    if not suffix or suffix[0] not in _SUFFIXES or (suffixes[-1] == ".gz" and ".parquet" in suffix):
        raise UserError(
            f"{path}: unknown kind of file; known are {', '.join(_SUFFIXES)}, each but .parquet "
            "also with .gz, and a folder with a sub-folder per class"
        )
    return _SUFFIXES[suffix[0]]


# --- where the label and the text are ----------------------------------------------------------


class _Columns:
    """Finds the label's and the text's columns in a header or by number."""

    def __init__(self, path: Path, label: str | None, text: str | None) -> None:
        self.path = path
        self.label = label
        self.text = text.split(",") if text else None

    def named(self) -> bool:
        """Whether the user asked for a column by name, so that there must be a header."""
        asked = [*(self.text or []), *([self.label] if self.label else [])]
        return any(not column.isdigit() for column in asked)

    def has_header(self, first: list[str]) -> bool:
        """Names were asked for, or the first record looks like the usual header."""
        fields = {field.strip().lower() for field in first}
        return self.named() or bool({LABEL, TEXT} & fields)

    def resolve(self, names: list[str], *, header: bool) -> tuple[int, list[int]]:
        """Positions of the label's and the text's columns among `names`."""
        label = self._position(self.label or (LABEL if header else "0"), names, "label", header)
        return label, self.texts(names, header=header)

    def texts(self, names: list[str], *, header: bool) -> list[int]:
        """Positions of the text's columns."""
        wanted = self.text or [TEXT if header else "1"]
        return [self._position(column, names, "text", header) for column in wanted]

    def _position(self, column: str, names: list[str], what: str, header: bool) -> int:
        if column in names and header:
            return names.index(column)
        if column.isdigit() and int(column) < len(names):
            return int(column)
        lowered = [name.strip().lower() for name in names]
        if header and column.lower() in lowered:
            return lowered.index(column.lower())
        there = ", ".join(names) if header else f"columns 0 to {len(names) - 1}, without a header"
        raise UserError(
            f"{self.path}: no {what} column {column!r}; the file has: {there} "
            f"(choose with --{what}-column NAME or NUMBER)"
        )

    def select(self, names: list[str], *, header: bool) -> list[pl.Expr]:
        label, text = self.resolve(names, header=header)
        return [pl.nth(label).cast(pl.String).alias(LABEL), _joined(text)]


def _joined(columns: list[int]) -> pl.Expr:
    """The text: a column, or several with a space between two."""
    return (
        pl.concat_str(pl.nth(columns).cast(pl.String), separator=" ").alias(TEXT)
        if len(columns) > 1
        else pl.nth(columns[0]).cast(pl.String).alias(TEXT)
    )


# --- formats ------------------------------------------------------------------------------------


def _read_tsv(path: Path, columns: _Columns, block_bytes: int) -> Iterator[pl.DataFrame]:
    layout: tuple[int, list[int]] | None = None
    for lines in read_lines(path, block_bytes):
        frame = lines
        if layout is None:
            first = lines["text"][0].split("\t")
            header = columns.has_header(first)
            # Without a header, a record is label<TAB>text and a text may hold more tabs.
            simple = not header and columns.label is None and columns.text is None
            if simple and len(first) < 2:
                _too_few(path, lines["line"][0], len(first), 2)
            layout = columns.resolve(first[:2] if simple else first, header=header)
            frame = lines[1:] if header else lines
        label, text = layout
        if simple:
            split = pl.col("text").str.splitn("\t", 2).struct
            out = frame.select(split[0].alias(LABEL), split[1].alias(TEXT), "line")
        else:
            fields = pl.col("text").str.split("\t").list
            out = frame.select(
                fields.get(label, null_on_oob=True).alias(LABEL),
                pl.concat_str([fields.get(t, null_on_oob=True) for t in text], separator=" ").alias(
                    TEXT
                ),
                "line",
            )
        short = out.filter(pl.col(TEXT).is_null() | pl.col(LABEL).is_null())
        if short.height:
            line = short["line"][0]
            record = frame.filter(pl.col("line") == line)["text"][0]
            _too_few(path, line, record.count("\t") + 1, 1 + max(label, *text))
        yield out


def _read_fasttext(path: Path, block_bytes: int) -> Iterator[pl.DataFrame]:
    for lines in read_lines(path, block_bytes):
        parts = pl.col("text").str.strip_chars_start().str.splitn(" ", 2).struct
        out = lines.select(
            parts[0].str.strip_prefix("__label__").alias(LABEL),
            parts[1].fill_null("").alias(TEXT),
            "line",
            parts[0].str.starts_with("__label__").alias("marked"),
        )
        for column, problem in (
            (~pl.col("marked"), "does not begin with __label__NAME"),
            (pl.col(TEXT).str.starts_with("__label__"), "has several labels; one is allowed"),
        ):
            wrong = out.filter(column)
            if wrong.height:
                raise UserError(f"{path}:{wrong['line'][0]}: the line {problem}")
        yield out.drop("marked")


def _read_jsonl(path: Path, columns: _Columns, block_bytes: int) -> Iterator[pl.DataFrame]:
    label, text = columns.label or LABEL, columns.text or [TEXT]
    for lines in read_lines(path, block_bytes):
        fields = _json_fields(path, lines, [label, *text])
        frame = fields.select(
            pl.col(label).alias(LABEL),
            pl.concat_str([pl.col(t) for t in text], separator=" ").alias(TEXT),
        )
        frame = frame.with_columns(lines["line"])
        missing = frame[LABEL].is_null() | frame[TEXT].is_null()
        if missing.any():
            raise _absent(path, lines, fields, missing, label)
        yield frame


def _json_fields(path: Path, lines: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """These fields of JSON objects, as text."""
    schema = dict.fromkeys(names, pl.String)
    try:
        return lines.select(pl.col("text").str.json_decode(pl.Struct(schema))).unnest("text")
    except pl.exceptions.PolarsError as error:
        raise _broken_json(path, lines) from error


def _read_csv(path: Path, columns: _Columns, block_bytes: int) -> Iterator[pl.DataFrame]:
    for table in _csv_tables(path, columns, block_bytes):
        out = table.frame.select(columns.select(table.names, header=table.header))
        yield _filled(path, table, out.with_columns(table.lines.alias("line")))


class _Table(NamedTuple):
    """A block of CSV: its fields as columns by number."""

    names: list[str]  # the header, or the first record
    header: bool
    frame: pl.DataFrame
    lines: pl.Series  # in which the records start
    first_line: int
    block: bytes


def _csv_tables(
    path: Path, columns: _Columns, block_bytes: int, seen: _Seen | None = None
) -> Iterator[_Table]:
    names: list[str] | None = None
    header = False
    for first_line, block in _record_blocks(path, block_bytes, quoted=True, seen=seen):
        if not block.strip():
            continue
        line = first_line
        if names is None:
            _decode(path, first_line, block)
            try:
                reader = _csv_reader(block)
                names = next(record for record in reader if record)
            except (csv.Error, StopIteration) as error:
                raise UserError(f"{path}:{first_line}: not CSV: {error or 'no records'}") from error
            header = columns.has_header(names)
            if not header and columns.label is None and columns.text is None:
                raise UserError(
                    f"{path}:{first_line}: no columns 'label' and 'text' among {', '.join(names)}: "
                    "name yours with --label-column and --text-column; where the file has no "
                    "header, give their numbers, from 0"
                )
            if header:
                skipped = reader.line_num
                block = (
                    block.split(b"\n", skipped)[skipped] if block.count(b"\n") >= skipped else b""
                )
                line += skipped
        schema = {str(i): pl.String for i in range(len(names))}
        frame, lines = pl.DataFrame(schema=schema), pl.Series(dtype=pl.Int64)
        if block.strip():
            frame, lines = _csv_frame(path, line, block, len(names))
        yield _Table(names, header, frame, lines, line, block)


def _filled(path: Path, table: _Table, out: pl.DataFrame) -> pl.DataFrame:
    """Empty fields as empty texts; polars reads an absent field like an empty one."""
    asked = [name for name in (TEXT, LABEL) if name in out.columns]
    if any(out[name].null_count() for name in asked):
        records = _csv_records(path, table.first_line, table.block)
        if error_or_none := _short_record(path, records, len(table.names)):
            raise error_or_none
        out = out.with_columns(pl.col(asked).fill_null(""))
    return out


def _csv_frame(
    path: Path, first_line: int, block: bytes, width: int
) -> tuple[pl.DataFrame, pl.Series]:
    """The fields of a block as columns by number, and the lines in which the records start."""
    schema = {str(i): pl.String for i in range(width)}
    blank = block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block
    if not blank:
        try:
            frame = pl.read_csv(block, has_header=False, schema=schema, quote_char='"')
        except pl.exceptions.PolarsError as error:
            _decode(path, first_line, block)
            raise _broken_csv(path, first_line, block, width) from error
        n = frame.height
        if block.count(b"\n") in (n, n - 1):
            return frame, pl.int_range(first_line, first_line + n, dtype=pl.Int64, eager=True)
    # Blank lines or quoted line breaks: only Python's reader tells where a record starts.
    _decode(path, first_line, block)
    records = [(line, x) for line, x in _csv_records(path, first_line, block) if x]
    if error_or_none := _short_record(path, records, width):
        raise error_or_none
    frame = pl.DataFrame([x for _, x in records], schema, orient="row")
    return frame, pl.Series([line for line, _ in records], dtype=pl.Int64)


def _read_parquet(path: Path, columns: _Columns) -> Iterator[pl.DataFrame]:
    def select(names: list[str]) -> list[pl.Expr]:
        return columns.select(names, header=True)

    for start, _, out in _parquet_slices(path, select, lambda rows: 1 << 17):
        line = pl.int_range(start + 1, start + 1 + out.height, dtype=pl.Int64)
        yield out.with_columns(line.alias("line"), pl.col(LABEL, TEXT).fill_null(""))


def _parquet_slices(
    path: Path, select: Callable[[list[str]], list[pl.Expr]], size: Callable[[int], int]
) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """First row, number of all rows, and what is selected of the next rows: `size` of that number.

    A file without rows has one empty slice.
    """
    try:
        frame = pl.scan_parquet(path)
        rows = cast(int, frame.select(pl.len()).collect().item())
        selected = frame.select(select(frame.collect_schema().names()))
        for start in range(0, max(1, rows), step := size(rows)):
            yield start, rows, selected.slice(start, step).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}"
        ) from error


def _read_folder(path: Path, block_bytes: int) -> Iterator[pl.DataFrame]:
    files = sorted(
        (folder.name, file)
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    )
    labels: list[str] = []
    texts: list[str] = []
    size = 0
    for label, file in files:
        try:
            with _open(file) as opened:
                content = opened.read()
        except (EOFError, zlib.error, OSError) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        labels.append(label)
        texts.append(_decode(file, 1, content))
        size += len(content)
        if size >= block_bytes:
            yield _numbered(pl.DataFrame({LABEL: labels, TEXT: texts}))
            labels, texts, size = [], [], 0
    if labels:
        yield _numbered(pl.DataFrame({LABEL: labels, TEXT: texts}))


def _read_pairs(pairs: Iterable[tuple[object, str]]) -> Iterator[pl.DataFrame]:
    rest = iter(pairs)
    start = 1
    while batch := list(itertools.islice(rest, 1 << 16)):
        labels, texts = [], []
        for number, pair in enumerate(batch, start):
            try:
                label, text = pair
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"record {number}: expected pairs (label, text), got {pair!r}"
                ) from error
            if not isinstance(text, str):
                raise UserError(f"record {number}: the text must be a string, got {text!r}")
            labels.append(None if label is None else str(label))
            texts.append(text)
        frame = pl.DataFrame({LABEL: labels, TEXT: texts}, {LABEL: pl.String, TEXT: pl.String})
        yield _numbered(frame, start)
        start += len(batch)


# --- records with all that is in them ------------------------------------------------------------


@dataclass(frozen=True)
class Records:
    """A block of records, for a program that adds something to each.

    Attributes:
        texts: The text of each; never null.
        columns: All columns of the file; of JSONL the single column `OBJECT`.
        share: How much of the file has been read, from 0 to 1.
    """

    texts: pl.Series
    columns: pl.DataFrame
    share: float


OBJECT = "\0object"
"""Column of JSONL records as they stand in the file; no file has a column of this name."""

RECORD_FORMATS = (
    ".txt (a text per line), .csv, .tsv, .jsonl, .ndjson, .json, each also .gz, .parquet"
)


def read_records(
    path: Path, *, text_column: str | None = None, block_bytes: int = 1 << 22
) -> Iterator[Records]:
    """Read texts with all that stands beside them, a block at a time.

    The formats are those of `read`, but no label is needed: a ``.txt`` file has a text per line
    (blank lines are texts, too), and so has a TSV file without tabs.

    Args:
        path: The file.
        text_column: See `read`.
        block_bytes: Bytes of the file in a block, about.

    Yields:
        At least one block, which may be empty: a table without rows still has columns.

    Raises:
        UserError: What `read` raises; a file without a single byte; no regular file.
    """
    _check_file(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if zipped else suffixes[-1:])
    kinds = {**_SUFFIXES, "": "lines", ".txt": "lines"}
    del kinds[".ft"]  # every line of it has a label
    if path.is_dir() or suffix not in kinds or (zipped and suffix == ".parquet"):
        raise UserError(f"{path}: unknown kind of file; known are {RECORD_FORMATS}")
    progress = _Progress()
    columns = _Columns(path, None, text_column)
    match kinds[suffix]:
        case "parquet":
            frames = _parquet_records(path, columns, block_bytes, progress)
        case "csv":
            frames = _csv_table_records(path, columns, block_bytes, progress)
        case "tsv":
            frames = _tsv_records(path, columns, block_bytes, progress)
        case "jsonl":
            frames = _jsonl_records(path, columns, block_bytes, progress)
        case _:
            if text_column:
                raise UserError(f"{path} has a text per line and no columns to choose from")
            frames = _line_records(path, block_bytes, progress)
    empty = True
    for texts, frame in frames:
        empty = False
        yield Records(texts, frame, progress.share)
    if empty:
        raise UserError(f"{path} is empty: it holds no texts")


class _Progress:
    share = 0.0

    def __call__(self, share: float) -> None:
        self.share = share


_Texts = Iterator[tuple[pl.Series, pl.DataFrame]]


def _line_records(path: Path, block_bytes: int, progress: _Progress) -> _Texts:
    for lines in read_lines(path, block_bytes, blank=True, seen=progress):
        yield lines[TEXT], lines.select(TEXT)


def _parquet_records(
    path: Path, columns: _Columns, block_bytes: int, progress: _Progress
) -> _Texts:
    def select(names: list[str]) -> list[pl.Expr]:
        # The text has a name of its own, for it may be of several columns, or of numbers.
        return [pl.all(), _joined(columns.texts(names, header=True)).alias(OBJECT)]

    def size(rows: int) -> int:
        return max(1, min(1 << 17, rows * block_bytes // path.stat().st_size))

    for start, rows, frame in _parquet_slices(path, select, size):
        progress((start + frame.height) / max(1, rows))
        yield frame[OBJECT].fill_null(""), frame.drop(OBJECT)


def _csv_table_records(
    path: Path, columns: _Columns, block_bytes: int, progress: _Progress
) -> _Texts:
    for table in _csv_tables(path, columns, block_bytes, progress):
        text = _joined(columns.texts(table.names, header=table.header))
        texts = _filled(path, table, table.frame.select(text))[TEXT]
        frame = table.frame.fill_null("")  # absent and empty fields are one in CSV
        yield texts, _named(path, frame, table.names if table.header else None)


def _tsv_records(path: Path, columns: _Columns, block_bytes: int, progress: _Progress) -> _Texts:
    names: list[str] = []
    for lines in read_lines(path, block_bytes, seen=progress):
        frame = lines
        if not names:
            first = frame[TEXT][0].split("\t")
            header = columns.has_header(first)
            simple = not header and columns.text is None
            # As in training, a record is label<TAB>text, and a text may hold more tabs.
            names = first if not simple else [LABEL, TEXT][-min(2, len(first)) :]
            places = [len(names) - 1] if simple else columns.texts(names, header=header)
            frame = frame[1:] if header else frame
        if simple:
            fields = frame[TEXT].str.splitn("\t", len(names)).struct
        else:
            split = frame[TEXT].str.split("\t").list
            for wrong, few in (
                (split.len() > len(names), "many"),
                (split.len() <= max(places), "few"),
            ):
                if wrong.any():
                    line = frame.filter(wrong)["line"][0]
                    raise UserError(f"{path}:{line}: too {few} fields; {len(names)} are expected")
            fields = split.to_struct(fields=[str(i) for i in range(len(names))]).struct
        table = fields.unnest()
        table.columns = [str(i) for i in range(len(names))]
        texts = table.select(_joined(places))[TEXT]
        short = texts.is_null()
        if short.any():
            _too_few(path, frame.filter(short)["line"][0], 1, 2)
        yield texts, _named(path, table, names if header or simple else None)


def _jsonl_records(path: Path, columns: _Columns, block_bytes: int, progress: _Progress) -> _Texts:
    for lines in read_lines(path, block_bytes, seen=progress):
        fields = _json_fields(path, lines, columns.text or [TEXT])
        texts = fields.select(_joined(list(range(fields.width))))[TEXT]
        if (missing := texts.is_null()).any():
            raise _absent(path, lines, fields, missing)
        yield texts, lines.select(pl.col(TEXT).str.strip_chars().alias(OBJECT))


def _named(path: Path, table: pl.DataFrame, header: list[str] | None) -> pl.DataFrame:
    """A table by the names of its header, or by column_0, column_1, … where there is none."""
    names = header or [f"column_{i}" for i in range(table.width)]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{path}: two columns are called {twice!r}; rename one")
    return table.rename(dict(zip(table.columns, names, strict=True)))


# --- blocks and lines ---------------------------------------------------------------------------


def _open(path: Path) -> IO[bytes]:
    return (
        cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")
    )


def _record_blocks(
    path: Path, block_bytes: int, *, quoted: bool, seen: _Seen | None = None
) -> Iterator[_Block]:
    """Blocks that end where a record ends: at a line break outside quotes."""
    line, rest = 1, b""
    try:
        size = path.stat().st_size
        with _open(path) as file:
            stored: IO[bytes] = getattr(file, "fileobj", file)  # a gzip file has one inside
            following = file.read(block_bytes)
            while chunk := following:
                following = file.read(block_bytes)
                if seen:
                    seen(stored.tell() / max(1, size))
                if line == 1 and not rest:
                    chunk = chunk.removeprefix(b"\xef\xbb\xbf")
                rest += chunk
                # A last line without a line break belongs to this block.
                if not following and not (quoted and rest.count(b'"') % 2):
                    break
                end = rest.rfind(b"\n") + 1
                if quoted:
                    while end and rest.count(b'"', 0, end) % 2:
                        end = rest.rfind(b"\n", 0, end - 1) + 1
                if end:
                    yield line, rest[:end]
                    line += rest.count(b"\n", 0, end)
                    rest = rest[end:]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: broken gzip file ({error}); fetch or make it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if rest:
        yield line, rest


def read_lines(
    path: Path, block_bytes: int, *, blank: bool = False, seen: _Seen | None = None
) -> Iterator[pl.DataFrame]:
    """Lines (column ``text``), numbered from 1 (column ``line``); blank ones only if `blank`."""
    for first_line, block in _record_blocks(path, block_bytes, quoted=False, seen=seen):
        try:
            frame = pl.read_lines(io.BytesIO(block), name="text")
        except pl.exceptions.PolarsError:
            _decode(path, first_line, block)
            raise
        frame = frame.with_row_index("line", first_line)
        if not blank:
            frame = frame.filter(pl.col("text") != "")
        if frame.height:
            yield frame.with_columns(pl.col("line").cast(pl.Int64))


def _numbered(frame: pl.DataFrame, first: int = 1) -> pl.DataFrame:
    missing = {LABEL, TEXT} - set(frame.columns)
    if missing:
        raise UserError(f"the data frame has no column {missing.pop()!r}; it has {frame.columns}")
    line = pl.int_range(first, first + frame.height, dtype=pl.Int64).alias("line")
    return frame.select(pl.col(LABEL, TEXT).cast(pl.String).fill_null(""), line)


# --- what is wrong, and where -------------------------------------------------------------------


def _check_labels(frame: pl.DataFrame, name: str) -> None:
    unlabelled = frame.filter(pl.col(LABEL).str.strip_chars() == "")
    if unlabelled.height:
        raise UserError(f"{name}:{unlabelled['line'][0]}: the record has no label")


def _decode(path: Path, first_line: int, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}); "
            "convert it, for example with: iconv -f latin1 -t utf-8"
        ) from error


def _too_few(path: Path, line: int, found: int, expected: int) -> None:
    raise UserError(
        f"{path}:{line}: too few fields ({found} where {expected} are needed); "
        "expected label<TAB>text"
        if expected == 2
        else f"{path}:{line}: too few fields ({found} where {expected} are needed)"
    )


def _short_record(path: Path, records: Iterable[_Record], width: int) -> UserError | None:
    """The first CSV record that does not have `width` fields."""
    for line, record in records:
        if record and len(record) != width:
            few = "few" if len(record) < width else "many"
            return UserError(
                f"{path}:{line}: too {few} fields ({len(record)} where {width} are expected)"
            )
    return None


def _broken_csv(path: Path, first_line: int, block: bytes, width: int) -> UserError:
    short = _short_record(path, _csv_records(path, first_line, block), width)
    return short or UserError(f"{path}:{first_line}: not CSV; check the quotes")


def _csv_records(path: Path, first_line: int, block: bytes) -> Iterator[_Record]:
    """Records with their first lines, by Python's reader: slow, for what polars does not tell."""
    reader = _csv_reader(block)
    start = first_line
    try:
        for record in reader:
            yield start, record
            start = first_line + reader.line_num
    except csv.Error as error:
        raise UserError(f"{path}:{start}: not CSV: {error}") from error


def _csv_reader(block: bytes) -> _csv.Reader:
    # A document may be longer than Python's limit for a field, 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), len(block)))
    return csv.reader(io.StringIO(block.decode()), strict=True)


def _broken_json(path: Path, lines: pl.DataFrame) -> UserError:
    for line, text in lines.select("line", "text").iter_rows():
        try:
            if isinstance(json.loads(text), dict):
                continue
            problem = "not an object"
        except json.JSONDecodeError as error:
            problem = str(error)
        return UserError(f"{path}:{line}: not a JSON record: {problem}")
    return UserError(f"{path}:{lines['line'][0]}: label and text must be strings or numbers")


def _absent(
    path: Path, lines: pl.DataFrame, fields: pl.DataFrame, missing: pl.Series, label: str = ""
) -> UserError:
    """Which field the first of the records lacks that are `missing` one."""
    row = missing.to_list().index(True)
    line = lines["line"][row]
    column = next(name for name in fields.columns if fields[name][row] is None)
    what = "label" if column == label else "text"
    return UserError(
        f"{path}:{line}: no {what} column {column!r}; the record has: "
        f"{', '.join(_keys(lines, line))} (choose with --{what}-column NAME)"
    )


def _keys(lines: pl.DataFrame, line: int) -> list[str]:
    return list(json.loads(lines.filter(pl.col("line") == line)["text"][0]))

"""Labelled texts from the files that people have, one block of records after another.

Every reader yields polars data frames with the string columns ``label`` and ``text`` and the
integer column ``line`` (where a record starts in its file, from 1). Except of Parquet and JSON
arrays, a file is never held in memory as a whole.

| format | suffix | layout |
|---|---|---|
| CSV | ``.csv`` | a header, or columns by number; quoted as Python's ``csv`` reads it |
| TSV | ``.tsv`` | ``label<TAB>text``, or a header and any columns; quoted if all of it is |
| JSONL | ``.jsonl``, ``.ndjson``, ``.json`` | an object per line, or an array of objects |
| fastText | ``.txt``, ``.ft`` | ``__label__x text`` |
| Parquet | ``.parquet`` | any columns |
| folder | | ``class/anything.txt``, a document per file |

All but Parquet and folders may be packed (see `dlnotes.data.streams`).
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import polars as pl

from dlnotes.arguments import checked
from dlnotes.data.layout import (
    LABEL,
    TEXT,
    Columns,
    Layout,
    TextLayout,
    is_quoted,
    sniff_separator,
)
from dlnotes.data.streams import (
    PACKED,
    Seen,
    check_file,
    ignored,
    inner_suffix,
    read_lines,
    read_text,
    text_blocks,
)
from dlnotes.errors import UserError

BLOCK_BYTES = 1 << 26
"""Size of a block: large enough for polars to use every core, small against memory."""

LONGEST_LABEL = 1000
"""Characters of a label; what is longer is a text in the label's column."""

Source = Path | Sequence[Path] | pl.DataFrame | Iterable[tuple[object, str]]


@checked
def read(
    source: Source,
    layout: Layout | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
    **settings: Annotated[Any, Layout],
) -> Iterator[pl.DataFrame]:
    """Read labelled texts, a block at a time.

    White space around labels is removed. Records whose fields are all empty, and records equal to
    the header, are passed over.

    Args:
        source: A file or folder in one of the formats above, several of them, a data frame with the
            columns ``label`` and ``text``, or any iterable of (label, text) pairs (the form of
            ``torchtext.datasets``).
        layout: Where labels and texts are in files; default `Layout()`, the columns ``label`` and
            ``text``, or the first two of a file without a header.
        block_bytes: Bytes of text in a block.
        settings: Fields of `layout` to override.

    Yields:
        Data frames with the columns ``label`` (str), ``text`` (str) and ``line`` (int).

    Raises:
        UserError: A missing, empty, broken or unreadable file, a missing column, a record
            without a label or with too few or too many fields; names the file and the line.
    """
    layout = replace(layout or Layout(), **settings)
    if files := files_of(source):
        return itertools.chain.from_iterable(
            _some(_read_path(file, layout, block_bytes), str(file)) for file in files
        )
    if isinstance(source, pl.DataFrame):
        return _some(iter([_numbered(source)]), "the data frame")
    return _some(_read_pairs(cast(Iterable[Any], source)), "the iterable")


def files_of(source: Any) -> list[Path]:
    """The files and folders of a source; none if it is no file.

    Raises:
        UserError: There are none in a list, or one is given twice.
    """
    if isinstance(source, Path):
        return [source]
    if not isinstance(source, list | tuple) or not source:
        return []
    if not all(isinstance(each, Path) for each in source):
        return []
    for i, file in enumerate(source):
        if file in source[:i]:
            raise UserError(f"{file} is given twice")
    return list(source)


def check_readable(path: Path) -> None:
    """Fail at once where `path` cannot be read later.

    Raises:
        UserError: No such file or folder, no permission, or an unknown suffix.
    """
    try:
        there = path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or has a null character
        raise UserError(f"{path} cannot be read: {error}") from error
    if not there:
        raise UserError(f"{path} does not exist; give the path of a data file or folder")
    if not path.is_dir():
        check_file(path)
        _format(path)


def _some(frames: Iterator[pl.DataFrame], name: str) -> Iterator[pl.DataFrame]:
    """The same without empty blocks; at least one record."""
    empty = True
    for frame in frames:
        _check_labels(frame, name)
        if frame.height:
            empty = False
            yield frame
    if empty:
        raise UserError(f"{name} holds no documents; give one with at least two classes")


def _read_path(path: Path, layout: Layout, block_bytes: int) -> Iterator[pl.DataFrame]:
    check_readable(path)
    if path.is_dir():
        yield from _stripped(path, _read_folder(path, layout.encoding, block_bytes))
        return
    columns = Columns(path, layout)
    kind = _format(path)
    if kind == "fasttext":
        frames = _read_fasttext(path, layout, block_bytes)
    else:
        frames = map(_labelled, _tables(kind, path, columns, block_bytes))
    yield from _stripped(path, frames)


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
_HINTS = {
    ".xlsx": "; save the sheet as CSV",
    ".xls": "; save the sheet as CSV",
    ".ods": "; save the sheet as CSV",
}


def _format(path: Path) -> str:
    suffix = inner_suffix(path)
    if suffix not in _SUFFIXES or (suffix == ".parquet" != path.suffix.lower()):
        raise UserError(
            f"{path}: unknown kind of file; known are {', '.join(_SUFFIXES)}, each but .parquet "
            f"also with {', '.join(PACKED)}, and a folder with a sub-folder per class"
            f"{_HINTS.get(suffix, '')}"
        )
    return _SUFFIXES[suffix]


# --- labels -------------------------------------------------------------------------------------


def _stripped(path: Path, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Labels without white space around them, and truth values in one spelling."""
    told = False
    for frame in frames:
        label = pl.col(LABEL).str.strip_chars()
        truth = label.str.to_lowercase()
        out = frame.with_columns(
            pl.when(truth.is_in(["true", "false"])).then(truth).otherwise(label).alias(LABEL)
        )
        padded = (frame[LABEL].str.len_chars() != out[LABEL].str.len_chars()).sum()
        if padded and not told:
            told = True
            row = frame.filter(pl.col(LABEL) != label)
            warnings.warn(
                f"{path}:{row['line'][0]}: white space around labels is removed "
                f"({row[LABEL][0][:40]!r})",
                stacklevel=2,
            )
        yield out


def _check_labels(frame: pl.DataFrame, name: str) -> None:
    length = pl.col(LABEL).str.strip_chars().str.len_chars()
    for wrong, problem in (
        (pl.col(LABEL).is_null() | (length == 0), "the record has no label"),
        (
            length > LONGEST_LABEL,
            f"the label has more than {LONGEST_LABEL:,} characters: is the right column the label? "
            "(choose with --label-column)",
        ),
    ):
        found = frame.filter(wrong)
        if found.height:
            raise UserError(f"{name}:{found['line'][0]}: {problem}")


# --- tables: CSV, TSV, JSONL, Parquet -----------------------------------------------------------


class Table(NamedTuple):
    """A block of records and where in them the label and the text are."""

    fields: pl.DataFrame  # columns "0", "1", …: no two have one name
    names: list[str] | None  # of the columns, by the header
    lines: pl.Series  # in which the records start
    label: int | None
    texts: list[int]
    whole: pl.Series | None = None  # records as they stand in the file: of JSONL


OBJECT = "\0object"
"""Column of JSONL records as they stand in the file; no file has a column of this name."""


def _tables(
    kind: str, path: Path, columns: Columns, block_bytes: int, seen: Seen | None = None
) -> Iterator[Table]:
    match kind:
        case "parquet":
            return _parquet_tables(path, columns, block_bytes, seen)
        case "csv":
            return _csv_tables(path, columns, block_bytes, seen)
        case "tsv":
            return _tsv_tables(path, columns, block_bytes, seen)
        case _:
            return _json_tables(path, columns, block_bytes, seen)


def _joined(table: Table) -> pl.Expr:
    """The text: a column, or several with a blank between two that are not empty."""
    if len(table.texts) == 1:
        return pl.nth(table.texts[0]).cast(pl.String).fill_null("").alias(TEXT)
    parts = [pl.nth(column).cast(pl.String).replace("", None) for column in table.texts]
    return pl.concat_str(parts, separator=" ", ignore_nulls=True).alias(TEXT)


def _labelled(table: Table) -> pl.DataFrame:
    assert table.label is not None
    label = pl.nth(table.label).cast(pl.String).alias(LABEL)
    return table.fields.select(label, _joined(table)).with_columns(table.lines.alias("line"))


def _table(
    fields: pl.DataFrame,
    names: list[str] | None,
    lines: pl.Series,
    columns: Columns,
    places: tuple[int | None, list[int]],
) -> Table:
    """A table of CSV or TSV, for training without records that are empty or repeat the header."""
    if columns.labelled:
        kept = pl.any_horizontal(pl.all().str.strip_chars() != "")
        if names:
            again = [
                pl.col(column) == name for column, name in zip(fields.columns, names, strict=True)
            ]
            kept &= ~pl.all_horizontal(again)
        keep = fields.select(kept).to_series()
        fields, lines = fields.filter(keep), lines.filter(keep)
    return Table(fields, names, lines, *places)


_Blocks = Iterator[tuple[int, str]]


def _first(blocks: _Blocks) -> tuple[str, bool, _Blocks]:
    """The first block, whether it is the whole file, and all blocks."""
    two = list(itertools.islice(blocks, 2))
    return (two[0][1] if two else ""), len(two) < 2, itertools.chain(two, blocks)


def _csv_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    first, whole, blocks = _first(text_blocks(path, columns.layout.encoding, block_bytes, seen))
    separator = columns.layout.delimiter
    if separator is None:
        whole = whole and len(first) <= _SAMPLE
        separator = sniff_separator(columns, first[:_SAMPLE], whole=whole)
        if separator != ",":
            warnings.warn(
                f"{path}: fields are separated by {_named(separator)} (choose with --separator)",
                stacklevel=2,
            )
    return _quoted_tables(path, columns, separator, blocks)


_SAMPLE = 1 << 18  # characters that say how a file is written
_END = "\ue000the file ends here\ue000"


def _quoted_tables(
    path: Path, columns: Columns, separator: str, blocks: _Blocks
) -> Iterator[Table]:
    """Tables of records that Python's reader finds: a quotation mark within a field is one."""
    names: list[str] | None = None
    places: tuple[int | None, list[int]] = (None, [])
    width = 0
    for records, lines in _csv_records(path, separator, blocks):
        if not width:
            header = columns.has_header(records)
            width = len(records[0])
            if header:
                names = records[0]
            elif not columns.asked and (
                width > 2 or (columns.layout.header == "auto" and separator != "\t")
            ):
                _ask_for_columns(path, columns, lines[0], records[0])
            places = _resolve(columns, records[0], header=header)
            records, lines = records[header:], lines[header:]
        for line, record in zip(lines, records, strict=True):
            if len(record) != width:
                _wrong_width(path, line, len(record), width, separator)
        fields = zip(*records, strict=True) if records else [[] for _ in range(width)]
        frame = pl.DataFrame([pl.Series(str(i), f, pl.String) for i, f in enumerate(fields)])
        yield _table(frame, names, pl.Series(lines, dtype=pl.Int64), columns, places)


def _resolve(columns: Columns, first: list[str], *, header: bool) -> tuple[int | None, list[int]]:
    if columns.labelled:
        return columns.resolve(first, header=header)
    return None, columns.texts(first, header=header)


def _ask_for_columns(path: Path, columns: Columns, line: int, first: list[str]) -> None:
    if not columns.labelled:
        columns.texts(first, header=True)  # raises
    raise UserError(
        f"{path}:{line}: no columns 'label' and 'text' among {', '.join(first)}: name yours with "
        "--label-column and --text-column; where the file has no header, give their numbers, from "
        "0, or --header no"
    )


def _csv_records(
    path: Path, separator: str, blocks: Iterable[tuple[int, str]]
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Records and the lines in which they start, about a block at a time; blank lines have none."""
    fetched = 0

    def lines() -> Iterator[str]:
        nonlocal fetched
        for _, block in blocks:
            fetched += 1
            yield from io.StringIO(block, newline="")
        yield _END  # within a field if a quotation mark was left open

    # A document may be longer than Python's limit for a field, 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), 4 * BLOCK_BYTES))
    reader = csv.reader(lines(), delimiter=separator)
    records: list[list[str]] = []
    starts: list[int] = []
    start, seen, width = 1, 1, 0
    try:
        for record in reader:
            if len(record) > 1 or (record and _is_record(record[0], width)):
                width = width or len(record)
                records.append(record)
                starts.append(start)
            start = reader.line_num + 1
            if fetched > seen:
                seen = fetched
                if records:
                    yield records, starts
                    records, starts = [], []
    except csv.Error as error:
        problem = (
            "a quotation mark that opens here is not closed (or the field is too long)"
            if "limit" in str(error)
            else str(error)
        )
        raise UserError(f"{path}:{start}: not CSV: {problem}") from error
    if records and records[-1][-1].endswith(_END):
        raise UserError(
            f"{path}:{starts[-1]}: not CSV: a quotation mark that opens here is never closed"
        )
    if records:
        yield records, starts


def _is_record(field: str, width: int) -> bool:
    """Whether a single field is a record, and no line of blanks between records of several."""
    return field != _END and (field.strip() != "" or width == 1)


def _tsv_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    separator = columns.layout.delimiter or "\t"
    first, whole, blocks = _first(text_blocks(path, columns.layout.encoding, block_bytes, seen))
    if is_quoted(first, separator, whole=whole):
        yield from _quoted_tables(path, columns, separator, blocks)
        return
    names: list[str] | None = None
    width, simple = 0, False
    places: tuple[int | None, list[int]] = (None, [])
    for first_line, block in blocks:
        lines = _numbered_lines(block, first_line)
        if not lines.height:
            continue
        if not width:
            records = [line.split(separator) for line in lines[TEXT].head(10_000)]
            header = columns.has_header(records)
            # Without a header, a record is label<TAB>text and a text may hold more tabs.
            simple = not header and not columns.asked
            fields = records[0]
            if simple:
                fields = fields[: 1 + columns.labelled] if columns.labelled else fields[-2:]
                if columns.labelled and len(fields) < 2:
                    _wrong_width(path, lines["line"][0], 1, 2, separator, pairs=True)
            width = len(fields) if not simple else min(2, len(records[0]))
            names = records[0] if header else None
            places = _resolve(columns, fields, header=header)
            lines = lines[header:]
        if simple:
            split = lines[TEXT].str.splitn(separator, width)
            short = split.struct[-1].is_null()
        else:
            parts = lines[TEXT].str.split(separator)
            short = parts.list.len() != width
            split = parts.list.to_struct(fields=[str(i) for i in range(width)])
        if short.any():
            row = short.to_list().index(True)
            found = lines[TEXT][row].count(separator) + 1
            _wrong_width(path, lines["line"][row], found, width, separator, pairs=simple)
        table = split.struct.unnest()
        table.columns = [str(i) for i in range(width)]
        shown = names or ([LABEL, TEXT][-width:] if simple and not columns.labelled else None)
        yield _table(table, shown, lines["line"], columns, places)


def _numbered_lines(block: str, first_line: int) -> pl.DataFrame:
    lines = pl.read_lines(io.BytesIO(block.encode()), name=TEXT)
    lines = lines.with_row_index("line", first_line).with_columns(pl.col("line").cast(pl.Int64))
    return lines.filter(pl.col(TEXT).str.strip_chars() != "")


def _json_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    label, texts = columns.keys()
    wanted = [label, *texts] if columns.labelled else texts
    for lines in _json_lines(path, columns.layout.encoding, block_bytes, seen):
        fields = _json_fields(path, lines, wanted, columns.labelled)
        fields.columns = [str(i) for i in range(fields.width)]
        first = int(columns.labelled)
        yield Table(
            fields,
            None,
            lines["line"],
            0 if columns.labelled else None,
            list(range(first, fields.width)),
            lines[TEXT],
        )


def _json_lines(
    path: Path, encoding: str | None, block_bytes: int, seen: Seen | None
) -> Iterator[pl.DataFrame]:
    """An object per line, also where the file is an array of objects."""
    blocks = text_blocks(path, encoding, block_bytes, seen)
    array: bool | None = None
    for first_line, block in blocks:
        start = block.lstrip()
        if array is None and start:
            array = start.startswith("[")
            if array:
                rest = "".join(text for _, text in blocks)
                yield from _json_array(path, block + rest)
                return
        lines = _numbered_lines(block, first_line)
        if lines.height:
            yield lines


def _json_array(path: Path, content: str) -> Iterator[pl.DataFrame]:
    decoder = json.JSONDecoder()
    objects: list[str] = []
    lines: list[int] = []
    place = content.index("[") + 1
    line, counted = 1, 0
    comma = True
    while True:
        while content[place : place + 1].isspace():
            place += 1
        line, counted = line + content.count("\n", counted, place), place
        if not comma and content.startswith(",", place):
            place, comma = place + 1, True
            continue
        if content.startswith("]", place) and not (comma and objects):
            break
        if not comma:
            raise UserError(f"{path}:{line}: not JSON: expected ',' or ']' after an object")
        try:
            _, end = decoder.raw_decode(content, place)
        except (json.JSONDecodeError, RecursionError) as error:
            at = content.count("\n", 0, getattr(error, "pos", place)) + 1
            what = getattr(error, "msg", str(error))
            raise UserError(f"{path}:{at}: not JSON: {what}") from error
        objects.append(content[place:end].replace("\n", " ").replace("\r", " "))
        lines.append(line)
        place, comma = end, False
    if content[place + 1 :].strip():
        at = line + content[counted:].count("\n")
        raise UserError(f"{path}:{at}: not JSON: something follows the array")
    if objects:
        yield pl.DataFrame({"line": lines, TEXT: objects}, {"line": pl.Int64, TEXT: pl.String})


def _json_fields(
    path: Path, lines: pl.DataFrame, wanted: list[str], labelled: bool
) -> pl.DataFrame:
    """These fields of JSON objects as text; numbers as they are written."""
    schema = dict.fromkeys(wanted, pl.String)
    try:
        fields = lines.select(pl.col(TEXT).str.json_decode(pl.Struct(schema))).unnest(TEXT)
    except pl.exceptions.PolarsError:
        return _json_fields_of_python(path, lines, wanted, labelled)
    # polars writes 1.0 as 1, and cannot tell null from absent.
    numeric = fields.select(
        pl.any_horizontal(pl.all().is_null() | pl.all().str.contains(r"^-?\d[\d.eE+-]*$"))
    ).to_series()
    if numeric.any():
        again = _json_fields_of_python(path, lines.filter(numeric), wanted, labelled)
        rows = pl.Series(range(fields.height)).filter(numeric)
        fields = fields.with_columns(
            [fields[name].scatter(rows, again[name]).alias(name) for name in wanted]
        )
    return fields


def _json_fields_of_python(
    path: Path, lines: pl.DataFrame, wanted: list[str], labelled: bool
) -> pl.DataFrame:
    decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_number_or_none).decode
    rows = []
    for line, text in lines.select("line", TEXT).iter_rows():
        try:
            record = decode(text)
        except (json.JSONDecodeError, RecursionError) as error:
            whole = "; an object per line is needed, or an array" if text.strip() == "{" else ""
            raise UserError(f"{path}:{line}: not a JSON record: {error}{whole}") from error
        if not isinstance(record, dict):
            raise UserError(f"{path}:{line}: not a JSON record: not an object")
        absent = [name for name in wanted if name not in record]
        if absent:
            what = LABEL if absent[0] == wanted[0] and labelled else TEXT
            raise UserError(
                f"{path}:{line}: no {what} column {absent[0]!r}; the record has: "
                f"{', '.join(record)} (choose with --{what}-column NAME)"
            )
        row = []
        for name in wanted:
            value = record.get(name)
            if isinstance(value, bool):
                value = str(value).lower()
            if value is not None and not isinstance(value, str):
                raise UserError(
                    f"{path}:{line}: {name!r} holds {str(value)[:40]}; label and text must be "
                    "strings or numbers"
                )
            row.append(value)
        rows.append(row)
    return pl.DataFrame(rows, dict.fromkeys(wanted, pl.String), orient="row")


def _number_or_none(name: str) -> str | None:
    return None if name == "NaN" else name


def _parquet_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    """Slices of a Parquet file; for labelled texts only the columns that are needed."""
    try:
        frame = pl.scan_parquet(path)
        rows = cast(int, frame.select(pl.len()).collect().item())
        names = frame.collect_schema().names()
        label, texts = _resolve(columns, names, header=True)
        step = 1 << 17
        if label is None:
            step = max(1, min(step, rows * block_bytes // path.stat().st_size))
        else:
            kept = [label, *texts]
            frame, names = frame.select(pl.nth(kept)), [names[i] for i in kept]
            label, texts = 0, list(range(1, len(kept)))
        for start in range(0, max(1, rows), step):
            fields = frame.slice(start, step).collect()
            fields.columns = [str(i) for i in range(fields.width)]
            for i in {*texts, *([] if label is None else [label])}:
                fields = fields.with_columns(_as_text(path, names[i], fields[str(i)]))
            if seen:
                seen((start + fields.height) / max(1, rows))
            lines = pl.int_range(start + 1, start + 1 + fields.height, dtype=pl.Int64, eager=True)
            yield Table(fields, names, lines, label, texts)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}"
        ) from error


# --- fastText, folders, Python's objects --------------------------------------------------------


MARK = "__label__"
"""What a label begins with in fastText's format."""


def _read_fasttext(path: Path, layout: Layout, block_bytes: int) -> Iterator[pl.DataFrame]:
    for lines in read_lines(path, block_bytes, encoding=layout.encoding):
        out = lines.select(
            pl.col(TEXT).str.extract(rf"^\s*{MARK}(\S*)").alias(LABEL),
            pl.col(TEXT).str.replace(rf"^\s*{MARK}\S*\s?", "").alias(TEXT),
            "line",
        )
        for wrong, problem in (
            (pl.col(LABEL).is_null(), f"does not begin with {MARK}NAME"),
            (pl.col(TEXT).str.contains(rf"(^|\s){MARK}\S"), "has several labels; one is allowed"),
        ):
            found = out.filter(wrong)
            if found.height:
                raise UserError(f"{path}:{found['line'][0]}: the line {problem}")
        yield out


_SPLITS = {"train", "dev", "val", "valid", "validation", "test"}


def _read_folder(path: Path, encoding: str | None, block_bytes: int) -> Iterator[pl.DataFrame]:
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not ignored(Path(f.name)))
    names = {folder.name.lower() for folder in folders}
    if len(names) > 1 and names <= _SPLITS:
        raise UserError(
            f"{path} has the folders {', '.join(f.name for f in folders)}: give each by its own "
            "option, --train, --dev and --test"
        )
    if not folders and any(f.suffix.lower() in _SUFFIXES for f in path.iterdir()):
        raise UserError(f"{path} has no folder per class; give its files one by one")
    labels: list[str] = []
    texts: list[str] = []
    size = 0
    for folder in folders:
        for file in sorted(f for f in folder.rglob("*") if not ignored(f.relative_to(folder))):
            if not file.is_file():
                continue
            text = read_text(file, encoding)
            labels.append(folder.name)
            texts.append(text)
            size += len(text)
            if size >= block_bytes:
                yield _numbered(pl.DataFrame({LABEL: labels, TEXT: texts}))
                labels, texts, size = [], [], 0
    if labels:
        yield _numbered(pl.DataFrame({LABEL: labels, TEXT: texts}))


def _read_pairs(pairs: Iterable[tuple[object, str]]) -> Iterator[pl.DataFrame]:
    if not isinstance(pairs, Iterable):
        raise UserError(f"expected a file, a data frame or pairs (label, text), not {pairs!r}")
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
            labels.append(None if _is_missing(label) else str(label))
            texts.append(text)
        frame = pl.DataFrame({LABEL: labels, TEXT: texts}, {LABEL: pl.String, TEXT: pl.String})
        yield _numbered(frame, start)
        start += len(batch)


def _is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, or pandas' NA or NaT."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    try:
        return bool(math.isnan(label))
    except (TypeError, ValueError, OverflowError):
        return False


def _numbered(frame: pl.DataFrame, first: int = 1) -> pl.DataFrame:
    missing = {LABEL, TEXT} - set(frame.columns)
    if missing:
        raise UserError(f"the data frame has no column {missing.pop()!r}; it has {frame.columns}")
    line = pl.int_range(first, first + frame.height, dtype=pl.Int64).alias("line")
    strings = [_as_text(None, name, frame[name]) for name in (LABEL, TEXT)]
    return pl.DataFrame(strings).select(LABEL, pl.col(TEXT).fill_null(""), line)


def _as_text(path: Path | None, name: str, column: pl.Series) -> pl.Series:
    """A column as text; NaN is null."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        where = f"{path}: " if path else ""
        raise UserError(
            f"{where}column {name!r} is of type {column.dtype}; label and text must be strings or "
            "numbers"
        )
    text: pl.Series = column.cast(pl.String)
    return text


# --- records with all that is in them -----------------------------------------------------------


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


RECORD_FORMATS = (
    ".txt (a text per line), .csv, .tsv, .jsonl, .ndjson, .json, each also with "
    f"{', '.join(PACKED)}, .parquet"
)


@checked
def read_records(
    path: Path,
    layout: TextLayout | None = None,
    *,
    block_bytes: int = 1 << 22,
    **settings: Annotated[Any, TextLayout],
) -> Iterator[Records]:
    """Read texts with all that stands beside them, a block at a time.

    The formats are those of `read`, but no label is needed: a ``.txt`` file has a text per line
    (blank lines are texts, too), after a label in fastText's format, and so has a TSV file without
    tabs.

    Args:
        path: The file.
        layout: Where the texts are; default `TextLayout()`.
        block_bytes: Bytes of the file in a block, about.
        settings: Fields of `layout` to override.

    Yields:
        At least one block, which may be empty: a table without rows still has columns.

    Raises:
        UserError: What `read` raises; a file without a single byte; no regular file.
    """
    layout = replace(layout or TextLayout(), **settings)
    check_file(path)
    suffix = inner_suffix(path)
    kind = {**_SUFFIXES, "": "fasttext"}.get(suffix)
    if kind is None or (suffix == ".parquet" != path.suffix.lower()):
        raise UserError(f"{path}: unknown kind of file; known are {RECORD_FORMATS}")
    if kind == "fasttext" and layout.text_column:
        raise UserError(f"{path} has a text per line and no columns to choose from")
    return _some_records(path, kind, layout, block_bytes)


def _some_records(path: Path, kind: str, layout: TextLayout, block_bytes: int) -> Iterator[Records]:
    share = 0.0

    def seen(now: float) -> None:
        nonlocal share
        share = now

    empty = True
    if kind == "fasttext":
        blocks = _line_records(path, layout, block_bytes, seen)
    else:
        tables = _tables(kind, path, Columns(path, layout), block_bytes, seen)
        blocks = (_record_table(path, table) for table in tables)
    for texts, frame in blocks:
        empty = False
        yield Records(texts, frame, share)
    if empty:
        raise UserError(f"{path} is empty: it holds no texts")


def _line_records(
    path: Path, layout: TextLayout, block_bytes: int, seen: Seen
) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
    marked = False
    for lines in read_lines(path, block_bytes, encoding=layout.encoding, blank=True, seen=seen):
        texts = lines[TEXT]
        mark = rf"^\s*{MARK}\S+(\s+|$)"
        if not marked and texts.str.contains(mark).any():
            marked = True
            warnings.warn(f"{path}: labels ({MARK}…) are no part of the texts", stacklevel=2)
        if marked:
            texts = texts.str.replace(rf"^(\s*{MARK}\S+(\s+|$))+", "")
        yield texts, lines.select(TEXT)


def _record_table(path: Path, table: Table) -> tuple[pl.Series, pl.DataFrame]:
    texts: pl.Series = table.fields.select(_joined(table)).to_series()
    if table.whole is not None:
        return texts, table.whole.str.strip_chars().alias(OBJECT).to_frame()
    names = table.names or [f"column_{i}" for i in range(table.fields.width)]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{path}: two columns are called {twice!r}; rename one")
    return texts, table.fields.rename(dict(zip(table.fields.columns, names, strict=True)))


# --- what is wrong, and where -------------------------------------------------------------------


def _wrong_width(
    path: Path, line: int, found: int, expected: int, separator: str, *, pairs: bool = False
) -> None:
    few = "few" if found < expected else "many"
    hint = ""
    if found > expected:
        hint = f": a text with {_named(separator)} in it must be in quotation marks"
    elif pairs:
        hint = f": expected label{separator.replace(chr(9), '<TAB>')}text"
    raise UserError(
        f"{path}:{line}: too {few} fields ({found} where {expected} are expected){hint}"
    )


def _named(separator: str) -> str:
    return {"\t": "a tab", " ": "a blank"}.get(separator, repr(separator))

"""Tables in files: blocks of records, and where in them the label and the text are."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import polars as pl

from dlnotes.data.layout import (
    LABEL,
    TEXT,
    Columns,
    holds_records,
    is_quoted,
    listed,
    names_columns,
    sniff_separator,
)
from dlnotes.data.streams import (
    LONGEST,
    Seen,
    half_pair,
    numbered_lines,
    refuse_as_parquet,
    text_blocks,
    whole_text,
)
from dlnotes.errors import UserError
from dlnotes.files import repeated

MAX_COLUMNS = 1 << 15
"""Most columns of a file: a data frame takes memory for each, whether it is used or not."""


class Table(NamedTuple):
    """A block of records and where in them the labels and the text are."""

    fields: pl.DataFrame  # columns "0", "1", …, since names in a file may repeat
    names: list[str] | None  # of the columns, from the header
    lines: pl.Series  # in which the records start
    labels: list[int]
    texts: list[int]
    whole: pl.Series | None = None  # records as they are in the file; only for JSONL


def read_tables(
    kind: str,
    path: Path,
    columns: Columns,
    block_bytes: int,
    seen: Seen | None = None,
    *,
    whole: bool = False,
) -> Iterator[Table]:
    """Tables of a file, a block at a time.

    Args:
        kind: csv, tsv, jsonl or parquet.
        path: The file.
        columns: The wanted columns.
        block_bytes: Approximate number of bytes of the file in a block.
        seen: See `dlnotes.data.streams.open_binary`.
        whole: Whether all fields are used, so that none of a JSON object may occur twice.

    Raises:
        UserError: A broken or unreadable file, a missing column, a record with too few or too many
            fields; the message gives file and line.
    """
    match kind:
        case "parquet":
            return _parquet_tables(path, columns, block_bytes, seen)
        case "csv":
            return _csv_tables(path, columns, block_bytes, seen)
        case "tsv":
            return _tsv_tables(path, columns, block_bytes, seen)
        case _:
            return _json_tables(path, columns, block_bytes, seen, whole=whole)


def joined_text(table: Table) -> pl.Expr:
    """The text: one column, or those of several that are not empty, joined by spaces."""
    if len(table.texts) == 1:
        return pl.nth(table.texts[0]).cast(pl.String).fill_null("").alias(TEXT)
    parts = [pl.nth(column).cast(pl.String).replace("", None) for column in table.texts]
    return pl.concat_str(parts, separator=" ", ignore_nulls=True).alias(TEXT)


def _table(
    fields: pl.DataFrame,
    names: list[str] | None,
    lines: pl.Series,
    columns: Columns,
    places: _Places,
) -> Table:
    """A table of CSV or TSV; if labelled, without records that are empty or repeat the header."""
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
_Places = tuple[list[int], list[int]]


def _first(blocks: _Blocks) -> tuple[str, bool, _Blocks]:
    """The first block, whether it is the whole file, and all blocks."""
    two = list(itertools.islice(blocks, 2))
    return (two[0][1] if two else ""), len(two) < 2, itertools.chain(two, blocks)


def _allow_long_fields() -> None:
    """A document may be longer than Python's limit for a field, 128 KiB."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))


def _declared(
    separator: str | None, first: str, blocks: _Blocks
) -> tuple[str | None, str, _Blocks]:
    """The separator that a first line such as Excel's ``sep=;`` names, and the file without it."""
    found = re.match(r"sep=([^\w\s]|\t)\r?\n", first)
    if not found or separator not in (None, found[1]):
        return separator, first, blocks
    line, block = next(blocks)
    rest = itertools.chain([(line, "\n" + block[found.end() :])], blocks)
    return found[1], first[found.end() :], rest


def _csv_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    _allow_long_fields()
    first, whole, blocks = _first(text_blocks(path, columns.layout.codec, block_bytes, seen))
    separator, first, blocks = _declared(columns.layout.delimiter, first, blocks)
    if separator is None:
        whole = whole and len(first) <= _SAMPLE
        separator = sniff_separator(columns, first[:_SAMPLE], whole=whole)
        if separator != ",":
            warnings.warn(
                f"{path}: fields are separated by {_named(separator)} (choose with --separator)",
                stacklevel=2,
            )
    return _quoted_tables(path, columns, separator, blocks)


_SAMPLE = 1 << 18  # characters that show how a CSV file is written
_TSV_SAMPLE = 1 << 21  # the same of TSV, which is less strict
_END = "\ue000endoffile\ue000"  # without anything that may separate fields
_LITERAL = "\ue000mark\ue000"  # a quotation mark that opens no field
_NO_QUOTES = "(where the marks are part of the texts, give --quoting no)"


def _quoted_tables(
    path: Path, columns: Columns, separator: str, blocks: _Blocks, *, suspicious: bool = False
) -> Iterator[Table]:
    """Tables of the records that Python's reader finds; a mark inside of a field is a character.

    If `suspicious`, a field that holds what looks like further records is an error.
    """
    names: list[str] | None = None
    places: _Places = ([], [])
    width = 0
    quoted = columns.layout.quoting != "no"
    warned = columns.layout.quoting in ("yes", "no") or suspicious
    headless = columns.layout.header == "no"
    for records, lines in _csv_records(path, separator, blocks, quoted=quoted, headless=headless):
        if not width:
            header = columns.has_header(records)
            width = len(records[0])
            if header:
                names = records[0]
            elif not columns.asked and (
                width > 2 or (columns.layout.header in (None, "auto") and separator != "\t")
            ):
                _ask_for_columns(path, columns, lines[0], records[0])
            places = _resolve(columns, records[0], header=header)
            if not header:
                _warn_of_names(columns, records, places[1])
            records, lines = records[header:], lines[header:]
        if not warned and len(places[0]) == 1:
            line = _line_of_swallowed(records, lines, separator, places[0][0])
            if line is not None:
                warned = True
                warnings.warn(
                    f"{path}:{line}: a field between quotation marks holds a line that looks like "
                    f"a record of its own {_NO_QUOTES}; --quoting yes if all is well",
                    stacklevel=2,
                )
        for line, record in zip(lines, records, strict=True):
            if len(record) != width:
                _wrong_width(path, line, len(record), width, separator)
            if suspicious and holds_records(record, separator):
                raise UserError(
                    f"{path}:{line}: a quotation mark that opens here is closed some records later "
                    f"{_NO_QUOTES}"
                )
        fields = zip(*records, strict=True) if records else [[] for _ in range(width)]
        frame = pl.DataFrame([pl.Series(str(i), f, pl.String) for i, f in enumerate(fields)])
        yield _table(frame, names, pl.Series(lines, dtype=pl.Int64), columns, places)


def _line_of_swallowed(
    records: list[list[str]], lines: list[int], separator: str, label: int
) -> int | None:
    """The line of the first record with a field that holds a line with a label in its place.

    In CSV, the marks may well delimit this field: what it is cannot be decided.
    """
    labels: set[str] = set()
    for line, record in zip(lines, records, strict=True):
        for field in record:
            if "\n" not in field:
                continue
            labels = labels or {each[label] for each in records if len(each) > label} - {""}
            for each in field.splitlines():
                parts = each.split(separator)
                if len(parts) == len(record) > 1 and parts[label] in labels:
                    return line
    return None


def _warn_of_names(columns: Columns, records: list[list[str]], texts: list[int]) -> None:
    """Warn of a first text that is a single word where most others are not: it may be a header.

    Of labelled texts the labels say more, see `dlnotes.data.dataset`.
    """
    if columns.labelled or columns.layout.header in ("yes", "no"):
        return

    def is_word(record: list[str]) -> bool:
        return not any(" " in field.strip() for i, field in enumerate(record) if i in texts)

    first, *others = map(is_word, records[:50])
    if first and 2 * sum(others) < len(others):
        warnings.warn(
            f"{columns.path}: the first record is read as a text; if it has the names of the "
            "columns, give --header yes",
            stacklevel=2,
        )


def _resolve(columns: Columns, first: list[str], *, header: bool) -> _Places:
    if columns.labelled:
        return columns.resolve(first, header=header)
    return [], columns.texts(first, header=header)


def _ask_for_columns(path: Path, columns: Columns, line: int, first: list[str]) -> None:
    if not columns.labelled:
        columns.texts(first, header=True)  # raises
    raise UserError(
        f"{path}:{line}: no columns 'label' and 'text' among {listed(first)}: name yours with "
        "--label-column and --text-column; where the file has no header, give their numbers, from "
        "0, or --header no"
    )


def _csv_records(
    path: Path,
    separator: str,
    blocks: Iterable[tuple[int, str]],
    *,
    quoted: bool,
    headless: bool,
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Records and the lines in which they start, about a block at a time, without blank lines.

    In a file of one column without a header, a first line that is blank but quoted is a record: an
    empty text.
    """
    fetched = 0
    taken: list[str] = []  # the lines of the record that is being read
    again: list[str] = []  # lines that are read once more, the next one last

    def source() -> Iterator[str]:
        nonlocal fetched
        for _, block in blocks:
            fetched += 1
            yield from io.StringIO(block, newline="")
        yield _END  # within a field if a quotation mark was left open

    def lines() -> Iterator[str]:
        rest = source()
        while True:
            line = again.pop() if again else next(rest, None)
            if line is None:
                return
            taken.append(line)
            yield line

    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines(), delimiter=separator, quoting=quoting)
    records: list[list[str]] = []
    starts: list[int] = []
    start, seen, width, warned = 1, 1, 0, False
    try:
        for record in reader:
            if record and record[-1].endswith(_END) and record != [_END]:
                raise UserError(
                    f"{path}:{start}: not CSV: a quotation mark that opens here is never closed "
                    f"{_NO_QUOTES}"
                )
            if quoted and len(taken) > 1:
                first = _with_literal_mark(taken, separator, width or len(record))
                if first is not None:
                    if not warned:
                        warned = True
                        warnings.warn(
                            f"{path}:{start}: a quotation mark opens a field, and the next one, "
                            "some lines later, is not at the end of a field: such marks are read "
                            "as part of the texts",
                            stacklevel=2,
                        )
                    again += [*taken[:0:-1], first]
                    taken.clear()
                    continue
            if warned:
                record = [field.replace(_LITERAL, '"') for field in record]
            if len(record) > 1 or (record and _is_record(record[0], width)):
                if not width:
                    width = _width(path, start, len(record))
                    if width > 1:  # what was blank above was not a record
                        records, starts = [], []
                records.append(record)
                starts.append(start)
            elif headless and not width and record == [""]:
                records.append(record)
                starts.append(start)
            start += len(taken)
            taken.clear()
            if fetched > seen:
                seen = fetched
                if records and width:
                    yield records, starts
                    records, starts = [], []
    except csv.Error as error:
        problem = (
            "a quotation mark that opens here is not closed (or the field is too long)"
            if "limit" in str(error)
            else str(error)
        )
        raise UserError(f"{path}:{start}: not CSV: {problem}") from error
    if records:
        yield records, starts


def _with_literal_mark(lines: list[str], separator: str, width: int) -> str | None:
    """The first of a record's lines, if a mark that opens a field there must be part of the text.

    In CSV, a separator or the end of the line follows the mark that closes a field. Where something
    else does, lines below, the two marks belong to different texts, provided that the first line is
    a record of its own, with `width` fields. `_LITERAL` then stands for the mark in it.
    """
    text, end = "".join(lines), len(lines[0])
    other = f"[^{re.escape(separator)}\r\n]*"
    field = re.compile(rf'"[^"]*(?:""[^"]*)*("{other})|{other}')
    place = 0
    while place < end:
        found = cast(re.Match[str], field.match(text, place))
        if found.end() > end and found[1] not in (None, '"'):
            first = text[:place] + _LITERAL + text[place + 1 : end]
            return first if len(next(csv.reader([first], delimiter=separator))) == width else None
        place = found.end() + 1  # after the separator
    return None


def _is_record(field: str, width: int) -> bool:
    """Whether a single field is a record, rather than a blank line between records of several."""
    return field != _END and (field.strip() != "" or width == 1)


def _tsv_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    _allow_long_fields()
    first, whole, blocks = _first(text_blocks(path, columns.layout.codec, block_bytes, seen))
    given, first, blocks = _declared(columns.layout.delimiter, first, blocks)
    separator = given or "\t"
    line = first.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    other = None
    if given is None and "\t" not in line:
        other = names_columns(columns, line)
    if other is not None:
        warnings.warn(f"{path}: fields are separated by {_named(other)}", stacklevel=2)
        yield from _quoted_tables(path, columns, other, blocks)
        return
    quoting = columns.layout.quoting
    sample = first[:_TSV_SAMPLE]  # so that the result does not depend on the size of blocks
    whole = whole and len(sample) == len(first)
    if quoting == "yes" or (quoting != "no" and is_quoted(sample, separator, whole=whole)):
        suspicious = quoting != "yes"
        yield from _quoted_tables(path, columns, separator, blocks, suspicious=suspicious)
        return
    names: list[str] | None = None
    width, simple = 0, False
    places: _Places = ([], [])
    for first_line, block in blocks:
        lines = _filled_lines(block, first_line)
        if not lines.height:
            continue
        if not width:
            records = [line.split(separator) for line in lines[TEXT].head(2000)]
            header = columns.has_header(records)
            # Without a header, a record is label<TAB>text and a text may hold more tabs.
            simple = not header and not columns.asked
            fields = records[0]
            if simple:
                fields = fields[: 1 + columns.labelled] if columns.labelled else fields[-2:]
                if columns.labelled and len(fields) < 2:
                    _wrong_width(path, lines["line"][0], 1, 2, separator, pairs=True)
            width = len(fields) if not simple else min(2, len(records[0]))
            _width(path, lines["line"][0], width)
            names = records[0] if header else None
            places = _resolve(columns, fields, header=header)
            if not header:
                _warn_of_names(columns, records, places[1])
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


def _width(path: Path, line: int, width: int) -> int:
    """The number of columns.

    Raises:
        UserError: There are more than `MAX_COLUMNS`.
    """
    if width > MAX_COLUMNS:
        raise UserError(
            f"{path}:{line}: {width:,} columns; allowed: at most {MAX_COLUMNS:,}. Is the "
            "separator the right one? (choose with --separator)"
        )
    return width


def _filled_lines(block: str, first_line: int) -> pl.DataFrame:
    """Lines that are not blank; a line of tabs is not, for it has empty fields."""
    lines = numbered_lines(block, first_line)
    return lines.filter(pl.col(TEXT).str.strip_chars(" ") != "")


def _json_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None, *, whole: bool
) -> Iterator[Table]:
    labels: list[str] | None = None
    texts: list[str] = []
    for lines in _json_lines(path, columns.layout.codec, block_bytes, seen):
        if labels is None:
            labels, texts = columns.keys(_keys_of(lines[TEXT][0]))
            labels = labels if columns.labelled else []
        if whole:
            _refuse_repeated_keys(path, lines)
        fields = _json_fields(path, lines, labels, texts)
        fields.columns = [str(i) for i in range(fields.width)]
        places = list(range(len(labels))), list(range(len(labels), fields.width))
        yield Table(fields, labels or None, lines["line"], *places, lines[TEXT])


def _keys_of(record: str) -> list[str]:
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):  # which is reported when the record is read
        return []
    return list(found) if isinstance(found, dict) else []


_DEEP = 500  # brackets, of which fewer are never nested too deeply for Python
# Strings of a record, those that are keys with the colon after them.
_STRINGS = r'"(?:[^"\\]|\\.)*"(?:\s*:)?'
# The rest of a key from a backslash on.
_ESCAPED_KEY = r'\\.(?:[^"\\]|\\.)*"\s*:'


def _refuse_repeated_keys(path: Path, lines: pl.DataFrame) -> None:
    """Refuse records with a key twice, of which readers of JSON keep different values.

    Those that Python cannot read are refused as well.
    """
    keys = (
        pl.col(TEXT)
        .str.extract_all(_STRINGS)
        .list.eval(
            pl.element().filter(pl.element().str.ends_with(":")).str.strip_chars_end(": \t\r\n")
        )
    )
    suspect = (
        (keys.list.n_unique() < keys.list.len())
        | pl.col(TEXT).str.contains(_ESCAPED_KEY)
        | (pl.col(TEXT).str.count_matches(r"[\[{]") > _DEEP)
    )
    for line, text in lines.filter(suspect).select("line", TEXT).iter_rows():
        _decoded_record(path, line, text, None)


def _json_lines(
    path: Path, encoding: str | None, block_bytes: int, seen: Seen | None
) -> Iterator[pl.DataFrame]:
    """Lines of one object each, even if the file is an array of objects."""
    blocks = text_blocks(path, encoding, block_bytes, seen)
    array: bool | None = None
    for first_line, block in blocks:
        start = block.lstrip()
        if array is None and start:
            array = start.startswith("[")
            if array:
                yield from _json_array(path, whole_text(path, blocks, block))
                return
        lines = _filled_lines(block, first_line)
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
            raise UserError(f"{path}:{at}: {_not_json(error, 'JSON')}") from error
        objects.append(content[place:end].replace("\n", " ").replace("\r", " "))
        lines.append(line)
        place, comma = end, False
    if content[place + 1 :].strip():
        end = len(content) - len(content[place + 1 :].lstrip())
        at = line + content.count("\n", counted, end)
        raise UserError(f"{path}:{at}: not JSON: something follows the array")
    if objects:
        yield pl.DataFrame({"line": lines, TEXT: objects}, {"line": pl.Int64, TEXT: pl.String})


def _json_fields(
    path: Path, lines: pl.DataFrame, labels: list[str], texts: list[str]
) -> pl.DataFrame:
    """These fields of JSON objects as text; numbers as they are written.

    A single label column becomes a column of lists if any label in it is a list.
    """
    wanted = [*labels, *texts]
    fields = _decoded(lines, dict.fromkeys(wanted, pl.String))
    if fields is None and len(labels) == 1:
        fields = _decoded(lines, {labels[0]: pl.List(pl.String)} | dict.fromkeys(texts, pl.String))
    if fields is None:
        return _json_fields_of_python(path, lines, labels, texts)
    # polars writes 1.0 as 1, does not tell null from absent, makes a null character of half a
    # surrogate pair, and may return a list or an object as text. Python decodes such lines again.
    unsure = r"^(-?\d[\d.eE+-]*$|[\[{])"
    doubtful = lines[TEXT].str.contains(r"\\u[dD][89a-fA-F]")
    for column in fields:
        doubtful |= column.is_null()
        if column.dtype == pl.List:
            each = pl.element()
            unsure_item = each.is_null() | each.str.contains(unsure)
            doubtful |= column.list.eval(unsure_item).list.any().fill_null(True)
        else:
            doubtful |= column.str.contains(unsure).fill_null(True)
    for name in wanted:  # polars does not tell that a key occurs twice
        written = re.escape(json.dumps(name, ensure_ascii=False))
        doubtful |= lines[TEXT].str.count_matches(rf"{written}\s*:") > 1
    doubtful |= lines[TEXT].str.contains(_ESCAPED_KEY)  # or a key is written with escapes
    if doubtful.any():
        again = _json_fields_of_python(path, lines.filter(doubtful), labels, texts)
        if again.schema != fields.schema:  # lists here and single labels there
            lists = pl.List(pl.String)
            fields, again = (_as_lists(frame, labels[0], lists) for frame in (fields, again))
        row = pl.int_range(fields.height, eager=True).alias("row")
        rest = fields.with_columns(row).filter(~doubtful)
        fields = pl.concat([rest, again.with_columns(row.filter(doubtful))]).sort("row").drop("row")
    return fields


def _as_lists(fields: pl.DataFrame, label: str, lists: pl.DataType) -> pl.DataFrame:
    """The fields with single labels as lists of one; a null stays a null."""
    if fields.schema[label] == lists:
        return fields
    one = pl.concat_list(pl.col(label))
    return fields.with_columns(pl.when(pl.col(label).is_not_null()).then(one).alias(label))


def _decoded(lines: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame | None:
    # polars reads the lines as one text: a line with two objects gives two records, and a blank
    # line none.
    if (lines[TEXT].str.strip_chars() == "").any():
        return None
    try:
        found = lines.select(pl.col(TEXT).str.json_decode(pl.Struct(schema))).unnest(TEXT)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return found if found.height == lines.height else None


def _decoded_record(path: Path, line: int, text: str, names: list[str] | None) -> dict[str, Any]:
    """A record with numbers as they are written, of whose keys `names` (or all) occur once."""
    try:
        record = _DECODER.decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        whole = "; an object per line is needed, or an array" if text.strip() == "{" else ""
        raise UserError(f"{path}:{line}: {_not_json(error, 'a JSON record')}{whole}") from error
    if not isinstance(record, _Object):
        raise UserError(f"{path}:{line}: not a JSON record: not an object")
    twice = next((key for key in names or record.repeated if key in record.repeated), None)
    if twice is not None:
        raise UserError(f"{path}:{line}: the record has {twice[:60]!r} twice")
    return record


def _not_json(error: json.JSONDecodeError | RecursionError, what: str) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply to be read"
    return f"not {what}: {error.msg if what == 'JSON' else error}"


def _json_fields_of_python(
    path: Path, lines: pl.DataFrame, labels: list[str], texts: list[str]
) -> pl.DataFrame:
    wanted = [*labels, *texts]
    rows = []
    lists = False
    for line, text in lines.select("line", TEXT).iter_rows():
        record = _decoded_record(path, line, text, wanted)
        absent = [name for name in wanted if name not in record]
        if absent:
            what = LABEL if absent[0] in labels else TEXT
            there = (
                f"the record has: {listed(record)} (choose with --{what}-column NAME)"
                if record
                else "the record has no fields"
            )
            raise UserError(f"{path}:{line}: no {what} column {absent[0]!r}; {there}")
        row: list[Any] = []
        for name in wanted:
            value = record.get(name)
            place = f"{path}:{line}: {name!r}"
            if isinstance(value, list) and labels == [name]:
                lists = True
                for i, each in enumerate(value):
                    if each is None:
                        raise UserError(f"{place} holds null at position {i}, not a label")
                row.append([_json_text(place, each) for each in value])
            else:
                row.append(_json_text(place, value))
        rows.append(row)
    schema: dict[str, Any] = dict.fromkeys(wanted, pl.String)
    if lists:
        schema[labels[0]] = pl.List(pl.String)
        rows = [[[row[0]] if isinstance(row[0], str) else row[0], *row[1:]] for row in rows]
    return pl.DataFrame(rows, schema, orient="row")


def _json_text(place: str, value: Any) -> str | None:
    if isinstance(value, bool):
        value = str(value).lower()
    if value is not None and not isinstance(value, str):
        raise UserError(
            f"{place} holds {str(value)[:40]}; label and text must be strings or numbers"
        )
    if value is not None and half_pair(value) is not None:
        raise UserError(f"{place} has half of a surrogate pair (\\ud8…)")
    return value


def _number_or_none(name: str) -> str | None:
    return None if name == "NaN" else name


class _Object(dict[str, Any]):
    """An object of JSON, and the keys that it has more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = repeated(key for key, _ in pairs) if len(self) < len(pairs) else []


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=_number_or_none
)


_FIRST_ROWS, _MAX_ROWS = 1 << 10, 1 << 17


def _parquet_tables(
    path: Path, columns: Columns, block_bytes: int, seen: Seen | None
) -> Iterator[Table]:
    """Slices of a Parquet file; for each, polars reads only the row groups that it touches.

    Of labelled texts only the needed columns are read. So that a slice has about the bytes of a
    block, its number of rows follows from the slice before it: compressed, a file may have a
    hundredth of the bytes of its text.
    """
    try:
        frame = pl.scan_parquet(path, glob=False)
        rows = cast(int, frame.select(pl.len()).collect().item())
        names = frame.collect_schema().names()
        labels, texts = _resolve(columns, names, header=True)
        if labels:
            kept = [*labels, *texts]
            frame, names = frame.select(pl.nth(kept)), [names[i] for i in kept]
            labels, texts = list(range(len(labels))), list(range(len(labels), len(kept)))
        start, step = 0, max(1, min(_FIRST_ROWS, rows * block_bytes // path.stat().st_size))
        while start < rows or not start:  # at least one table, for the sake of its columns
            fields = frame.slice(start, step).collect()
            fields.columns = [str(i) for i in range(fields.width)]
            for i in {*texts, *labels}:
                read = as_labels if labels == [i] else as_text
                fields = fields.with_columns(read(path, names[i], fields[str(i)], start + 1))
            if seen:
                seen((start + fields.height) / max(1, rows))
            lines = pl.int_range(start + 1, start + 1 + fields.height, dtype=pl.Int64, eager=True)
            start += max(1, fields.height)
            fitting = step * block_bytes // max(1, int(fields.estimated_size()))
            step = max(1, min(fitting, 2 * step, _MAX_ROWS))
            yield Table(fields, names, lines, labels, texts)
    # On damaged files some versions of polars panic; a PanicException is not an Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        refuse_as_parquet(path)
        raise UserError(
            f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}"
        ) from error


def as_labels(path: Path | None, name: str, column: pl.Series, first: int = 1) -> pl.Series:
    """A column of labels as text, or as lists of text if it has lists.

    Raises:
        UserError: A list within a list, or a null in one; the message counts rows from `first`.
    """
    if not isinstance(column.dtype, pl.List | pl.Array):
        return as_text(path, name, column)
    lists = column.cast(pl.List(column.dtype.inner))
    items = as_text(path, name, lists.explode(empty_as_null=False, keep_nulls=False))
    if items.has_nulls():
        is_null = items.is_null().to_list().index(True)
        row = int((lists.list.len().fill_null(0).cum_sum() <= is_null).sum())
        where = f"{path or 'the data frame'}:{first + row}"
        raise UserError(f"{where}: {name!r} holds a null in its list, which is not a label")
    text: pl.Series = lists.cast(pl.List(pl.String))
    return text


def as_text(path: Path | None, name: str, column: pl.Series, first: int = 1) -> pl.Series:
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
    return {"\t": "a tab", " ": "a space"}.get(separator, repr(separator))

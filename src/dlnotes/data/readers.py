"""Labelled texts from files of the usual formats, one block of records after another.

Every reader yields polars data frames with the string columns ``label`` and ``text`` and the
integer column ``line`` (where a record starts in its file, from 1). Where a text may have several
labels, or none, ``label`` is a column of lists. Except for JSON arrays, a file is never held in
memory as a whole.

| format | suffix | layout |
|---|---|---|
| CSV | ``.csv`` | a header, or columns by number; quoted as Python's ``csv`` reads it |
| TSV | ``.tsv`` | ``label<TAB>text``, or a header and any columns; quoted if all of it is |
| JSONL | ``.jsonl``, ``.ndjson``, ``.json`` | an object per line, or an array of objects |
| fastText | ``.txt``, ``.ft`` | ``__label__x text``, or several labels before the text |
| Parquet | ``.parquet`` | any columns |
| folder | | ``class/anything.txt``, a document per file |

In CSV, a quotation mark whose partner stands within the text of a later record is part of the text.
All but Parquet and folders may be compressed (see `dlnotes.data.streams`). A text has several
labels if its label is a list (JSONL, Parquet), or if `Layout` says so: in one column with a
separator between labels, or in a column of 0 and 1 for each label.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import polars as pl

from dlnotes.arguments import checked
from dlnotes.data.formats import Table, as_labels, as_text, joined_text, read_tables
from dlnotes.data.layout import (
    LABEL,
    TEXT,
    Columns,
    Layout,
    TextLayout,
)
from dlnotes.data.streams import (
    COMPRESSED,
    PACKED_PARQUET,
    Seen,
    check_file,
    half_pair,
    ignored,
    inner_suffix,
    read_lines,
    read_text,
    refuse_known,
)
from dlnotes.errors import UserError

BLOCK_BYTES = 1 << 23
"""Size of a block: large enough for polars to use every core, small against memory."""

_FIRST_BYTES = 1 << 22  # of a file, to see how it is written

LONGEST_LABEL = 1000
"""Most characters of a label; anything longer is a text in the label's column."""

Source = Path | Sequence[Path] | pl.DataFrame | Iterable[tuple[object, str]]


@checked
def read(
    source: Source,
    layout: Layout | None = None,
    *,
    multi_label: bool = False,
    block_bytes: int = BLOCK_BYTES,
    **settings: Annotated[Any, Layout],
) -> Iterator[pl.DataFrame]:
    """Read labelled texts, a block at a time.

    White space around labels is removed. Records whose fields are all empty, and records equal to
    the header, are skipped.

    If only some records of a file have several labels, some blocks may have a column of labels and
    others a column of lists.

    Args:
        source: A file or folder in one of the formats above or a pattern of their names (see
            `matching`), several of them, a data frame with the columns ``label`` and ``text``, or
            any iterable of (label, text) pairs (the form of ``torchtext.datasets``), where a label
            may also be a list, tuple or set of labels.
        layout: Where labels and texts are in files; default `Layout()`, the columns ``label`` and
            ``text``, or the first two of a file without a header.
        multi_label: Whether a line in fastText's format may be without a label even if no line of
            the file has several.
        block_bytes: Bytes of text in a block.
        settings: Fields of `layout` to override.

    Yields:
        Data frames with the columns ``label`` (str or list of str), ``text`` (str) and ``line``
        (int).

    Raises:
        UserError: A missing, empty, broken or unreadable file, a missing column, a record
            without a label or with too few or too many fields, or a null in a list of labels; the
            message gives file and line.
    """
    layout = replace(layout or Layout(), **settings)
    if files := files_of(source):
        parts = [(str(f), _read_path(f, layout, block_bytes, multi_label)) for f in files]
        return _some(parts, layout)
    if isinstance(source, pl.DataFrame):
        return _some([("the data frame", iter([_numbered(source)]))], layout)
    return _some([("the iterable", _read_pairs(cast(Iterable[Any], source)))], layout)


def files_of(source: Any) -> list[Path]:
    """The files and folders of a source; empty if the source is not made of files.

    Raises:
        UserError: A file is given twice, or a pattern matches nothing.
    """
    given = [source] if isinstance(source, Path) else source
    if not isinstance(given, list | tuple) or not all(isinstance(each, Path) for each in given):
        return []
    files = [file for each in given for file in matching(each)]
    places: set[str] = set()
    for file in files:
        place = str(file)
        with suppress(ValueError):  # a name that no file can have is reported when it is opened
            place = os.path.realpath(file)
        if place in places:
            raise UserError(f"{file} is given twice")
        places.add(place)
    return files


def matching(path: Path) -> list[Path]:
    """The files and folders that a pattern such as ``parts/*.csv`` matches, sorted by name.

    ``*``, ``?`` and ``[…]`` stand for characters of a name and ``**`` for any folders, as in a
    shell. A path that is not a pattern, or that exists under this very name, stands for itself.

    Raises:
        UserError: The pattern matches nothing.
    """
    pattern = str(path)
    if not glob.has_magic(pattern) or os.path.lexists(path):
        return [path]
    if found := sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 -- absolute, too
        return list(map(Path, found))
    raise UserError(f"{path} matches no file: the pattern must be that of a file or folder")


def stem_of(path: Path) -> str:
    """The name of a file of documents without its format: ``a.1`` for ``a.1.csv.gz``."""
    place = path.absolute()
    name = place.name
    for endings in () if place.is_dir() else (COMPRESSED, _SUFFIXES):
        suffix = Path(name).suffix
        name = name.removesuffix(suffix) if suffix.lower() in endings else name
    return name.lstrip(".") or "data"


def named_labels(source: Source, layout: Layout) -> list[str]:
    """The labels that are columns of their own, even if no text has them; none in other layouts.

    Args:
        source: What `read` takes.
        layout: Where the labels are.

    Raises:
        UserError: What `read` raises.
    """
    found: dict[str, None] = {}
    for path in files_of(source) if layout.names_labels else ():
        if path.is_dir() or (kind := _format(path)) == "fasttext":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when the file is read as a whole
            table = next(read_tables(kind, path, Columns(path, layout), _FIRST_BYTES), None)
        if table is not None and len(table.labels) > 1:
            given = pl.Series(LABEL, [_name(table, column) for column in table.labels])
            found |= dict.fromkeys(given.to_frame().select(_clean(pl.col(LABEL)))[LABEL])
    return list(found)


def check_readable(path: Path) -> None:
    """Raise an error now if `path` could not be read later.

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


class NoDocumentsError(UserError):
    """A source holds no documents."""


def first_documents(source: Source | None, layout: Layout) -> Iterator[tuple[str, pl.DataFrame]]:
    """The name and the first documents of each file or folder of a source, without empty ones.

    They show errors in the source before a long training.

    Raises:
        UserError: See `read`.
    """
    files = files_of(source)
    for file in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when the file is read as a whole
            try:
                first = next(read(file, layout, multi_label=True, block_bytes=_FIRST_BYTES))
            except NoDocumentsError:
                if len(files) == 1:
                    raise
                continue
        yield str(file), first


def _some(
    parts: list[tuple[str, Iterator[pl.DataFrame]]], layout: Layout
) -> Iterator[pl.DataFrame]:
    """The nonempty blocks of all parts, with labels separated; at least one record is required."""
    empty: list[str] = []
    for name, frames in parts:
        found = False
        for frame in separated(frames, layout):
            _check_labels(frame, name)
            if frame.height:
                found = True
                yield frame
        if not found:
            empty.append(name)
    if len(empty) == len(parts):
        hold = " holds" if len(empty) == 1 else f" and {len(empty) - 1} more hold"
        raise NoDocumentsError(f"{empty[0]}{hold} no documents; give one with at least two classes")
    for name in empty:  # for example one of many that a program wrote
        warnings.warn(f"{name} holds no documents", stacklevel=2)


def _read_path(
    path: Path, layout: Layout, block_bytes: int, multi_label: bool
) -> Iterator[pl.DataFrame]:
    check_readable(path)
    if path.is_dir():
        yield from _stripped(path, _read_folder(path, layout.codec, block_bytes), layout)
        return
    columns = Columns(path, layout)
    kind = _format(path)
    if kind == "fasttext":
        frames = _read_fasttext(path, layout, block_bytes, multi_label)
    else:
        tables = read_tables(kind, path, columns, block_bytes)
        frames = (_labelled(path, table) for table in tables)
    yield from _stripped(path, frames, layout)


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


def _known_suffix(path: Path) -> str | None:
    """The suffix that names a file's format; None if it names none that is read.

    Raises:
        UserError: The file is compressed Parquet, or of another known kind that is not read. The
            message says what to do.
    """
    suffix = inner_suffix(path)
    if suffix == ".parquet" != path.suffix.lower():
        raise UserError(f"{path}: {PACKED_PARQUET}")
    if suffix in _SUFFIXES:
        return suffix
    refuse_known(path)
    return None


def _format(path: Path) -> str:
    suffix = _known_suffix(path)
    if suffix is None:
        raise UserError(
            f"{path}: unknown kind of file; known are {', '.join(_SUFFIXES)}, each but .parquet "
            f"also with {', '.join(COMPRESSED)}, and a folder with a sub-folder per class"
            f"{_HINTS.get(inner_suffix(path), '')}"
        )
    return _SUFFIXES[suffix]


# --- labels -------------------------------------------------------------------------------------


def separated(frames: Iterable[pl.DataFrame], layout: Layout) -> Iterator[pl.DataFrame]:
    """Split labels into lists if `layout` gives a separator; an empty label counts as none."""
    if layout.label_delimiter is None:
        yield from frames
        return
    for frame in frames:
        if frame.schema[LABEL] == pl.String:
            lists = pl.col(LABEL).fill_null("").str.split(layout.label_delimiter)
            stripped = lists.list.eval(pl.element().str.strip_chars())
            frame = frame.with_columns(stripped.list.filter(pl.element() != "").alias(LABEL))
        yield frame


def _stripped(path: Path, frames: Iterator[pl.DataFrame], layout: Layout) -> Iterator[pl.DataFrame]:
    """Labels without white space around them, and truth values in one spelling."""
    warned = layout.label_separator is not None  # beside which spaces are usual
    for frame in frames:
        if frame.schema[LABEL] == pl.List:
            yield frame.with_columns(pl.col(LABEL).list.eval(_clean(pl.element())))
            continue
        label = pl.col(LABEL).str.strip_chars()
        out = frame.with_columns(_clean(pl.col(LABEL)).alias(LABEL))
        padded = (frame[LABEL].str.len_chars() != out[LABEL].str.len_chars()).sum()
        if padded and not warned:
            warned = True
            row = frame.filter(pl.col(LABEL) != label)
            warnings.warn(
                f"{path}:{row['line'][0]}: white space around labels is removed "
                f"({row[LABEL][0][:40]!r})",
                stacklevel=2,
            )
        yield out


def _clean(label: pl.Expr) -> pl.Expr:
    label = label.str.strip_chars()
    truth = label.str.to_lowercase()
    return pl.when(truth.is_in(["true", "false"])).then(truth).otherwise(label)


def _check_labels(frame: pl.DataFrame, name: str) -> None:
    has_lists = frame.schema[LABEL] == pl.List
    each = frame.explode(LABEL, empty_as_null=False) if has_lists else frame
    length = pl.col(LABEL).str.strip_chars().str.len_chars()
    nothing = "a label is empty" if has_lists else "the record has no label"
    for wrong, problem in (
        (pl.col(LABEL).is_null(), "the record has no label"),
        (length == 0, nothing),
        (
            length > LONGEST_LABEL,
            f"the label has more than {LONGEST_LABEL:,} characters: is the right column the label? "
            "(choose with --label-column)",
        ),
    ):
        found = each.filter(wrong)
        if found.height:
            raise UserError(f"{name}:{found['line'][0]}: {problem}")


def _labelled(path: Path, table: Table) -> pl.DataFrame:
    several = len(table.labels) > 1
    label = _columns_of_labels(path, table) if several else pl.nth(table.labels[0]).alias(LABEL)
    return table.fields.select(label, joined_text(table)).with_columns(table.lines.alias("line"))


def _name(table: Table, column: int) -> str:
    """The name of a label that has a column of its own."""
    return table.names[column].strip() if table.names else str(column)


def are_truth_values(labels: Iterable[str]) -> bool:
    """Whether labels only say that a text has or has not something: 0 and 1, no and yes."""
    return all(re.sub(r"^([01])\.0*$", r"\1", label.lower()) in _HAS for label in labels)


_HAS = {**dict.fromkeys(("1", "true", "yes"), True), **dict.fromkeys(("0", "false", "no"), False)}


def _columns_of_labels(path: Path, table: Table) -> pl.Series:
    """The names of the columns that hold 1, as a list for each record."""
    chosen = []
    for column in table.labels:
        given = table.fields.to_series(column)
        name = _name(table, column)
        plain = given.str.strip_chars().str.to_lowercase().str.replace(r"^([01])\.0*$", "${1}")
        has = plain.replace_strict(_HAS, default=None, return_dtype=pl.Boolean)
        if has.has_nulls():
            row = has.is_null().to_list().index(True)
            raise UserError(
                f"{path}:{table.lines[row]}: the label's column {name!r} holds "
                f"{(given[row] or '')[:40]!r}; each of several such columns must hold 1 for the "
                "texts with this label and 0 for the others (or true and false, yes and no)"
            )
        chosen.append(pl.when(has).then(pl.lit(name)).alias(str(column)))
    lists: pl.Series = pl.select(pl.concat_list(chosen).list.drop_nulls().alias(LABEL)).to_series()
    return lists


# --- fastText, folders, Python's objects --------------------------------------------------------


MARK = "__label__"
"""What a label begins with in fastText's format."""

# Includes one white space character after the last label: any more belong to the text.
_LEADING = rf"^(\s*{MARK}\S*(?:\s+{MARK}\S+)*)\s?"


def _read_fasttext(
    path: Path, layout: Layout, block_bytes: int, multi_label: bool
) -> Iterator[pl.DataFrame]:
    """Labels; from the first block on in which a line has several or none, lists of labels.

    A line without a label is an error unless some line has several.
    """
    bare: int | None = None
    several = multi_label
    for lines in read_lines(path, block_bytes, encoding=layout.codec):
        marks = pl.col(TEXT).str.extract(_LEADING).fill_null("")
        out = lines.select(
            marks.str.extract_all(rf"{MARK}\S*").alias(LABEL),
            pl.col(TEXT).str.replace(_LEADING, "").alias(TEXT),
            "line",
        ).with_columns(pl.col(LABEL).list.eval(pl.element().str.strip_prefix(MARK)))
        for wrong, problem in (
            (
                pl.col(TEXT).str.contains(rf"(^|\s){MARK}\S"),
                f"has the mark {MARK} within its text; labels stand at the beginning of a line",
            ),
            (
                pl.col(LABEL).list.eval(pl.element().str.contains(MARK)).list.any(),
                "has labels without a space between them",
            ),
        ):
            found = out.filter(wrong)
            if found.height:
                raise UserError(f"{path}:{found['line'][0]}: the line {problem}")
        sizes = out[LABEL].list.len()
        if bare is None and not several and (sizes == 0).any():
            bare = out["line"][sizes.to_list().index(0)]
        several |= bool((sizes > 1).any())
        if not several and bare is None:
            out = out.with_columns(pl.col(LABEL).list.first())
        yield out
    if bare is not None and not several:
        raise UserError(
            f"{path}:{bare}: the line does not begin with {MARK}NAME, and no line has several "
            "labels (where a text may have none, train with --multi-label)"
        )


_SPLITS = {"train", "dev", "val", "valid", "validation", "test", "unsup"}


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
        if half_pair(folder.name) is not None:
            raise UserError(f"{path} has a folder whose name is not UTF-8: {folder.name!a}")
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
            labels.append(_names(number, label))
            texts.append(text)
            if half_pair(text + "".join(labels[-1] or "")) is not None:
                raise UserError(f"record {number}: half of a surrogate pair, which is not text")
        kind: Any = pl.String
        if any(isinstance(each, list) for each in labels):
            kind = pl.List(pl.String)
            labels = [[each] if isinstance(each, str) else each for each in labels]
        frame = pl.DataFrame({LABEL: labels, TEXT: texts}, {LABEL: kind, TEXT: pl.String})
        yield _numbered(frame, start)
        start += len(batch)


def _names(number: int, label: Any) -> str | list[str] | None:
    """A label as text, or several."""
    if isinstance(label, list | tuple | Set):
        missing = next((each for each in label if _is_missing(each)), 0)
        if missing != 0 or any(isinstance(each, list | tuple | Set) for each in label):
            raise UserError(f"record {number}: {label!r} must be a list of labels")
        return [str(each) for each in (sorted(label, key=str) if isinstance(label, Set) else label)]
    if getattr(label, "ndim", 0):
        raise UserError(
            f"record {number}: the label is an array; several labels must be a list, tuple or set"
        )
    return None if _is_missing(label) else str(label)


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
    strings = [as_labels(None, LABEL, frame[LABEL], first), as_text(None, TEXT, frame[TEXT])]
    return pl.DataFrame(strings).select(LABEL, pl.col(TEXT).fill_null(""), line)


# --- records with all that is in them -----------------------------------------------------------


@dataclass(frozen=True)
class Records:
    """A block of records, for a program that adds something to each.

    Attributes:
        texts: The text of each; never null.
        columns: All columns of the file; for JSONL the single column `OBJECT`.
        share: How much of the file has been read, from 0 to 1.
    """

    texts: pl.Series
    columns: pl.DataFrame
    share: float


OBJECT = "\0object"
"""Column of JSONL records as they are in the file; no file has a column of this name."""


RECORD_FORMATS = (
    ".txt (a text per line), .csv, .tsv, .jsonl, .ndjson, .json, each also with "
    f"{', '.join(COMPRESSED)}, .parquet"
)


@checked
def read_records(
    path: Path,
    layout: TextLayout | None = None,
    *,
    block_bytes: int = 1 << 22,
    whole: bool = True,
    **settings: Annotated[Any, TextLayout],
) -> Iterator[Records]:
    """Read texts with everything else in their records, a block at a time.

    The formats are those of `read`, but no label is needed. A ``.txt`` file has one text per line
    (also blank ones), which may follow labels in fastText's format; a TSV file without tabs has one
    text per line as well.

    Args:
        path: The file.
        layout: Where the texts are; default `TextLayout()`.
        block_bytes: Approximate number of bytes of the file in a block.
        whole: Whether more than the texts is used, so that no field of a JSON object may occur
            twice.
        settings: Fields of `layout` to override.

    Yields:
        At least one block, which may be empty: a table without rows still has columns.

    Raises:
        UserError: What `read` raises; an empty file; something that is not a regular file.
    """
    layout = replace(layout or TextLayout(), **settings)
    check_file(path)
    suffix = _known_suffix(path) if inner_suffix(path) else ".txt"
    if suffix is None:
        raise UserError(f"{path}: unknown kind of file; known are {RECORD_FORMATS}")
    kind = _SUFFIXES[suffix]
    if kind == "fasttext" and layout.text_column:
        raise UserError(f"{path} has a text per line and no columns to choose from")
    return _some_records(path, kind, layout, block_bytes, whole)


def _some_records(
    path: Path, kind: str, layout: TextLayout, block_bytes: int, whole: bool
) -> Iterator[Records]:
    share = 0.0

    def seen(now: float) -> None:
        nonlocal share
        share = now

    empty = True
    if kind == "fasttext":
        blocks = _line_records(path, layout, block_bytes, seen)
    else:
        tables = read_tables(kind, path, Columns(path, layout), block_bytes, seen, whole=whole)
        blocks = (_record_table(table) for table in tables)
    for texts, frame in blocks:
        empty = False
        yield Records(texts, frame, share)
    if empty:
        raise UserError(f"{path} is empty: it holds no texts")


def _line_records(
    path: Path, layout: TextLayout, block_bytes: int, seen: Seen
) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
    marked = False
    for lines in read_lines(path, block_bytes, encoding=layout.codec, blank=True, seen=seen):
        texts = lines[TEXT]
        mark = rf"^\s*{MARK}\S+(\s+|$)"
        if not marked and texts.str.contains(mark).any():
            marked = True
            warnings.warn(f"{path}: labels ({MARK}…) are removed from the texts", stacklevel=2)
        if marked:
            texts = without_labels(texts)
        yield texts, lines.select(TEXT)


def without_labels(texts: pl.Series) -> pl.Series:
    """Lines in fastText's format without their labels."""
    return texts.str.replace(rf"^(\s*{MARK}\S*(\s+|$))+", "")


def _record_table(table: Table) -> tuple[pl.Series, pl.DataFrame]:
    texts: pl.Series = table.fields.select(joined_text(table)).to_series()
    if table.whole is not None:
        return texts, table.whole.str.strip_chars().alias(OBJECT).to_frame()
    names: list[str] = []
    for i, name in enumerate(table.names or [""] * table.fields.width):
        free = name or f"column_{i}"
        while free in names or (free != name and free in (table.names or ())):
            free += "_2"
        names.append(free)
    return texts, table.fields.rename(dict(zip(table.fields.columns, names, strict=True)))

"""Where the label and the text of a record are: columns by name or number, header, separator."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from dlnotes.arguments import OneOf, Settings
from dlnotes.display import printable
from dlnotes.errors import UserError

LABEL, TEXT = "label", "text"

_NAMED = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
_AUTO = "auto"


class _Separator(OneOf):
    """A character that may stand between two fields."""

    def allows(self, value: Any) -> bool:
        if value == _AUTO:
            return True
        one = _NAMED.get(value, value)
        return isinstance(one, str) and len(one) == 1 and not one.isalnum() and one not in '"\r\n'

    def __str__(self) -> str:
        names = ", ".join(name for name in self.names if len(name) > 2)
        return f"a single character, or one of {_AUTO}, {names}"


class _Column(OneOf):
    """A column, or several."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and value.strip() != "" and "\n" not in value

    def __str__(self) -> str:
        return "the name or number of a column"


class _LabelSeparator(OneOf):
    """What may stand between two labels of a text."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and value != "" and "\n" not in value and "\r" not in value

    def __str__(self) -> str:
        return "one or more characters, such as |, or one of comma, semicolon, tab, pipe"


class _Encoding(OneOf):
    """An encoding of text that Python knows."""

    def allows(self, value: Any) -> bool:
        if value == _AUTO:
            return True
        try:
            return bool(getattr(codecs.lookup(value), "_is_text_encoding", True)) and bool(
                codecs.getincrementaldecoder(value)
            )
        except (LookupError, ValueError, TypeError):
            return False

    def __str__(self) -> str:
        return f"the name of an encoding, such as {', '.join(self.names)}, or {_AUTO}"


@dataclass(frozen=True, kw_only=True)
class TextLayout(Settings):
    """Where the text of a record is."""

    text_column: Annotated[str, _Column(())] | None = None
    """Name or number (from 0) of the text's column. Several, separated by commas, are joined with a
    space; put a name that contains a comma in double quotes."""

    header: Annotated[str, OneOf(("auto", "yes", "no"))] | None = None
    """Whether the first record of CSV and TSV holds the names of the columns. Default: auto, which
    is yes if a column is given by name or the first record contains label or text."""

    separator: Annotated[str, _Separator(_NAMED)] | None = None
    """Character between two fields of CSV and TSV: any single one, or comma, semicolon, tab, pipe.
    Default: auto, which finds it in the first records; for .tsv a tab."""

    quoting: Annotated[str, OneOf(("auto", "yes", "no"))] | None = None
    """Whether fields of CSV and TSV may be in quotation marks. Default: auto, which is yes for CSV,
    and for TSV if the beginning of the file can be read with them."""

    encoding: Annotated[str, _Encoding(("utf-8", "utf-16", "cp1252", "gb18030"))] | None = None
    """Encoding of the files. Default: auto, which is what the byte order mark says, or else
    UTF-8."""

    def auto_as_none(self) -> dict[str, Any]:
        """The fields given as auto, with None in its place, which means the same."""
        return {name: None for name, value in vars(self).items() if value == _AUTO}

    @property
    def delimiter(self) -> str | None:
        """The separator as a character; None if it must be found out."""
        if self.separator in (None, _AUTO):
            return None
        return _NAMED.get(str(self.separator), self.separator)

    @property
    def codec(self) -> str | None:
        """The encoding; None if it must be found out."""
        return None if self.encoding == _AUTO else self.encoding


@dataclass(frozen=True, kw_only=True)
class Layout(TextLayout):
    """Where the text and the label of a record are."""

    label_column: Annotated[str, _Column(())] | None = None
    """Name or number (from 0) of the label's column. Of several, separated by commas, each is one
    label with the column's name: it holds 1 for the texts that have the label and 0 for the others;
    put a name that contains a comma in double quotes."""

    label_separator: Annotated[str, _LabelSeparator(())] | None = None
    """What separates the labels where a text may have several, such as a|b: one or more characters,
    or comma, semicolon, tab, pipe. A text whose label is empty then has none. Default: a text has
    one label, except in formats with lists."""

    @property
    def label_delimiter(self) -> str | None:
        """The characters that `label_separator` stands for."""
        return _NAMED.get(str(self.label_separator), self.label_separator)

    @property
    def names_labels(self) -> bool:
        """Whether `label_column` names several columns, each of which is one label."""
        return len(split_columns(self.label_column)) > 1


def split_columns(columns: str | None) -> list[str]:
    """The columns that an option names, separated by commas."""
    if columns is None:
        return []
    return [name.strip() for name in next(csv.reader([columns], skipinitialspace=True))]


class Columns:
    """Finds the label's and the text's columns by name or by number.

    Args:
        path: The file, for messages.
        layout: What the user says about it; a `TextLayout` asks only for the text.
    """

    def __init__(self, path: Path, layout: TextLayout) -> None:
        self.path = path
        self.layout = layout
        self.labelled = isinstance(layout, Layout)
        self.label = layout.label_column if isinstance(layout, Layout) else None
        self.text = layout.text_column

    @property
    def asked(self) -> bool:
        """Whether the user said which columns are wanted."""
        return self.label is not None or self.text is not None

    def by_name(self) -> bool:
        """Whether the user asked for a column by name, so that there must be a header."""
        asked = [*split_columns(self.text), *split_columns(self.label)]
        return any(not _is_number(column) for column in asked)

    def has_header(self, records: Sequence[list[str]]) -> bool:
        """Whether the first of the records at the beginning of a file holds names.

        If it holds only one of the two usual names, neither this nor the record's label may occur
        again in its column: the first document may be the word text.
        """
        if self.layout.header in ("yes", "no"):
            return self.layout.header == "yes"
        if self.by_name():
            return True
        first = [field.strip().lower() for field in records[0]]
        usual = {LABEL, TEXT} & set(first)
        if len(usual) != 1:
            return bool(usual)
        label = self.first_label
        places = {first.index(name) for name in usual} | ({label} if label < len(first) else set())
        others = [[field.strip().lower() for field in record] for record in records[1:]]
        return not any(o[i : i + 1] == first[i : i + 1] for o in others for i in places)

    @property
    def first_label(self) -> int:
        """Number of the (first) label column; 0 if none is given by number."""
        first = next(iter(split_columns(self.label)), "")
        return int(first) if _is_number(first) else 0

    def resolve(self, names: list[str], *, header: bool) -> tuple[list[int], list[int]]:
        """Positions of the labels' and the text's columns among `names`."""
        labels = self.labels(names, header=header)
        texts = self.texts(names, header=header)
        both = [names[column] for column in labels if column in texts]
        if both:
            raise UserError(
                f"{self.path}: the label and the text are both column {both[0]!r}; choose two "
                "with --label-column and --text-column"
            )
        return labels, texts

    def labels(self, names: list[str], *, header: bool) -> list[int]:
        """Positions of the label's column, or of several columns of one label each."""
        wanted = self._named_labels(names if header else [], LABEL if header else "0")
        found = [self._position(column, names, LABEL, header) for column in wanted]
        if len(set(found)) < len(found):
            raise UserError(f"--label-column {self.label} names a column twice")
        return found

    def _named_labels(self, names: Iterable[str], default: str) -> list[str]:
        if self.label is None:
            return [default]
        wanted = [self.label] if self.label in names else split_columns(self.label)
        if len(wanted) > 1 and self.separates_labels:
            raise UserError(
                f"--label-column {self.label} names several columns, each of which is one label: "
                "give either them or --label-separator"
            )
        return wanted

    @property
    def separates_labels(self) -> bool:
        """Whether a column has several labels with a separator between them."""
        return isinstance(self.layout, Layout) and self.layout.label_separator is not None

    def texts(self, names: list[str], *, header: bool) -> list[int]:
        """Positions of the text's columns."""
        if self.text is None:
            wanted = [TEXT if header else str(min(1, len(names) - 1))]
        elif header and self.text in names:  # a name may have a comma in it
            wanted = [self.text]
        else:
            wanted = split_columns(self.text)
        found = [self._position(column, names, TEXT, header) for column in wanted]
        if len(set(found)) < len(found):
            raise UserError(f"--text-column {self.text} names a column twice")
        return found

    def keys(self, first: Iterable[str]) -> tuple[list[str], list[str]]:
        """Names of the labels' and the text's fields in objects; `first` has the names in one."""
        return self._named_labels(first, LABEL), split_columns(self.text) or [TEXT]

    def _position(self, column: str, names: list[str], what: str, header: bool) -> int:
        if column in names and header:
            return names.index(column)
        if _is_number(column) and int(column) < len(names):
            return int(column)
        lowered = [name.strip().lower() for name in names]
        if header and column.strip().lower() in lowered:
            return lowered.index(column.strip().lower())
        there = listed(names) if header else f"columns 0 to {len(names) - 1}, without a header"
        raise UserError(
            f"{self.path}: no {what} column {column!r}; the file has: {there} "
            f"(choose with --{what}-column NAME or NUMBER)"
        )


def listed(names: Iterable[str]) -> str:
    """Names of columns for a message: not too many, none too long, and all in one line."""
    shown = [printable(name if len(name) <= 60 else f"{name[:60]}…") for name in names]
    return ", ".join(shown[:20]) + (f", … ({len(shown):,} in all)" if len(shown) > 20 else "")


def _is_number(column: str) -> bool:
    return column.isascii() and column.isdigit()


def sniff_separator(columns: Columns, sample: str, *, whole: bool) -> str:
    """The separator of a CSV file, judged by its first records.

    It is the one with which the first record holds the wanted names. If there is none, it is one
    with which all records have the same number of fields, at least two. Among several of these, the
    one with the fewest labels wins, then one whose labels contain none of the others, then the
    first of comma, semicolon, tab and pipe.

    Args:
        columns: The wanted columns.
        sample: The beginning of the file.
        whole: Whether it is the whole file.
    """
    tables = {separator: _records(sample, separator, whole) for separator in ",;\t|"}
    for separator, records in tables.items():
        if records and _finds(columns, records[0]):
            return separator
    label = columns.first_label
    layout = columns.layout
    between = layout.label_delimiter if isinstance(layout, Layout) else None
    labels = {
        separator: {record[label] for record in records}
        for separator, records in tables.items()
        if records
        and separator != between
        and {*map(len, records)} == {len(records[0])}
        and len(records[0]) > max(1, label)
    }

    def unlikely(separator: str) -> tuple[int, bool]:
        others = labels.keys() - {separator}
        return len(labels[separator]), any(o in name for o in others for name in labels[separator])

    return min(labels, key=unlikely, default=",")


def names_columns(columns: Columns, line: str) -> str | None:
    """The separator with which a line without tabs holds the wanted names, or None."""
    found = (separator for separator in ",;|" if _finds(columns, line.split(separator)))
    return next(found, None)


def _finds(columns: Columns, names: list[str]) -> bool:
    if len(names) < 2 or columns.layout.header == "no" or (columns.asked and not columns.by_name()):
        return False
    try:
        if columns.labelled:
            columns.resolve(names, header=True)
        else:
            columns.texts(names, header=True)
    except UserError:
        return False
    return True


def _records(sample: str, separator: str, whole: bool) -> list[list[str]]:
    try:
        records = [
            r for r in csv.reader(io.StringIO(sample, newline=""), delimiter=separator) if any(r)
        ]
    except csv.Error:
        return []
    return records if whole else records[:-1] or records


def is_quoted(sample: str, separator: str, *, whole: bool) -> bool:
    """Whether quotation marks delimit the fields of a TSV file.

    They do if all records then have the same number of fields, no mark is left open, and no field
    holds a line that may be a record, as between two marks that belong to different texts.

    Args:
        sample: The beginning of the file.
        separator: Character between two fields.
        whole: Whether it is the whole file.
    """
    if not (f'{separator}"' in sample or sample.startswith('"') or '\n"' in sample):
        return False
    # A small part is enough to recognise most files that are not quoted.
    return _quotes_fit(sample[: 1 << 16], separator, whole=False) and _quotes_fit(
        sample, separator, whole=whole
    )


def holds_records(record: list[str], separator: str) -> bool:
    """Whether a line within one of its fields has as many fields as the record."""
    return any(
        line.count(separator) == len(record) - 1
        for field in record
        if "\n" in field
        for line in field.split("\n")[1:]
    )


def _quotes_fit(sample: str, separator: str, *, whole: bool) -> bool:
    lines = io.StringIO(sample, newline="")
    widths: set[int] = set()
    last = 0  # the last record may be cut
    try:
        for record in csv.reader(lines, delimiter=separator, strict=True):
            if last:
                widths.add(last)
            last = len(record)
            if holds_records(record, separator):
                return False
    except csv.Error as error:
        if whole or "unexpected end" not in str(error):
            return False
    if last and (whole or not widths):
        widths.add(last)
    return len(widths) == 1 and widths != {1}

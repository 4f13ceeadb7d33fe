"""Tables written to a file a block at a time: JSONL, CSV and Parquet, whole or not at all."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

import polars as pl

from dlnotes.errors import UserError
from dlnotes.files import check_output, option_of, parts_of, write_atomically

BETWEEN = "|"
"""Default separator of labels in a field of CSV."""

FORMATS = ".jsonl, .ndjson and .csv, each also .gz, and .parquet"


def table_format(path: Path) -> str:
    """``jsonl``, ``csv`` or ``parquet``, by the suffix.

    Raises:
        UserError: Another suffix.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if zipped else suffixes[-1:])
    kinds = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
    if suffix not in kinds or (zipped and suffix == ".parquet"):
        raise UserError(f"{path}: unknown kind of file to write; known are {FORMATS}")
    return kinds[suffix]


def check_joins(option: str, label_names: Iterable[str], between: str, advice: str) -> None:
    """Require labels that can be told apart when several are in one field of CSV.

    Args:
        option: The argument that names the file, for the message.
        label_names: The labels.
        between: The separator between labels.
        advice: What to do instead, for the message.

    Raises:
        UserError: A label contains `between`.
    """
    if (unclear := next((name for name in label_names if between in name), None)) is not None:
        raise UserError(
            f"{option_of(option)}: the label {unclear!r} contains {between!r}, which stands "
            f"between two labels in CSV: {advice}"
        )


def check_writable(path: Path) -> None:
    """Raise an error now if a table could not be written later.

    Raises:
        UserError: An unknown suffix, a missing folder, or something that is not a file.
    """
    table_format(path)
    check_output(path)


def write_table(path: Path, blocks: Iterable[pl.DataFrame | pl.Series]) -> None:
    """Write blocks of rows one after another; memory holds one at a time.

    Args:
        path: The file; its suffix decides the format.
        blocks: Data frames with the same columns, at least one; for JSONL also series of finished
            lines.

    Raises:
        UserError: The file cannot be written, or its format cannot hold a column.
    """
    write = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}
    name = path.name
    zipped = path.suffix.lower() == ".gz"
    write_atomically(path, partial(write[table_format(path)], blocks, name, zipped))


@contextmanager
def _open(path: Path, zipped: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not zipped:
            yield file
            return
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as compressed:
            yield cast(IO[bytes], compressed)


def _write_jsonl(
    blocks: Iterable[pl.DataFrame | pl.Series], name: str, zipped: bool, path: Path
) -> None:
    with _open(path, zipped) as file:
        for block in blocks:
            if isinstance(block, pl.Series):
                file.write("".join(f"{line}\n" for line in block).encode())
                continue
            _check_columns(name, block, (pl.Binary, pl.Object), "JSON has no form for it")
            file.write(block.write_ndjson().encode())


def _write_csv(
    blocks: Iterable[pl.DataFrame | pl.Series], name: str, zipped: bool, path: Path
) -> None:
    nested = (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Object, pl.Duration)
    with _open(path, zipped) as file:
        for i, block in enumerate(blocks):
            assert isinstance(block, pl.DataFrame)
            _check_columns(name, block, nested, "CSV holds flat values; write .jsonl or .parquet")
            # Polars writes an empty text as "", to tell it from null; most CSV files do not.
            flat = block.with_columns(pl.col(pl.String).replace("", None))
            file.write(flat.write_csv(include_header=i == 0).encode())


def _write_parquet(
    blocks: Iterable[pl.DataFrame | pl.Series], name: str, zipped: bool, path: Path
) -> None:
    """A file per block, which polars then joins without holding them in memory."""
    folder = parts_of(path)
    folder.mkdir()
    try:
        parts: list[Path] = []
        for block in blocks:
            assert isinstance(block, pl.DataFrame)
            parts.append(folder / f"{len(parts):06}.parquet")
            block.write_parquet(parts[-1])
        pl.scan_parquet(parts, glob=False).sink_parquet(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_columns(
    name: str, block: pl.DataFrame, refused: tuple[type[pl.DataType], ...], why: str
) -> None:
    for column, kind in block.schema.items():
        if isinstance(kind, refused):
            raise UserError(f"{name}: column {column!r} is of type {kind}: {why}")

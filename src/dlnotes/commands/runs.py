"""List trained runs, or compare the settings and figures of some."""

from __future__ import annotations

import json as json_format
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dlnotes.arguments import fields_of
from dlnotes.data.layout import Layout, TextLayout
from dlnotes.display import console, printable, tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, read_json, write_json
from dlnotes.training.folder import (
    CHECKPOINT,
    CLASSIFIER,
    CONFIG,
    METRICS,
    TRANSLATOR,
    check_not_of_a_run,
)

_LONGEST = 60  # characters of a setting that are shown
_TRAINED = (CLASSIFIER, TRANSLATOR)


@dataclass
class Row:
    """What a run folder says of itself.

    Attributes:
        name: The folder, relative to the one that was given.
        model: Name of the model, or ensemble.
        corpus: Name of the corpus or of the training file; languages of a translator.
        dev_accuracy: Share of dev documents classified correctly.
        test_accuracy: The same of test documents.
        dev_micro_f1: Micro-F1 on the dev documents, where a document may have several labels.
        test_micro_f1: The same on the test documents.
        macro_f1: Macro-F1 on the test documents.
        bleu: BLEU of a translator on its test split, of detokenized text.
        epochs: Passes over the training documents that were made.
        seconds: Time of the training.
        date: When the record was written last.
        problem: What is wrong with the run; None for a finished one.
        settings: All settings of the training.
        data: SHA-256 of the training documents.
        test: The figures on the test documents.
        parent: The run that it started from (--from).
        documents: How many test documents there are.
    """

    name: str
    model: str | None = None
    corpus: str | None = None
    dev_accuracy: float | None = None
    test_accuracy: float | None = None
    dev_micro_f1: float | None = None
    test_micro_f1: float | None = None
    macro_f1: float | None = None
    bleu: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    date: str | None = None
    problem: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    test: dict[str, Any] = field(default_factory=dict)
    documents: int | None = None
    parent: str | None = None


_SCORES = (
    "dev_accuracy",
    "test_accuracy",
    "dev_micro_f1",
    "test_micro_f1",
    "macro_f1",
)
FIGURES = (*_SCORES, "bleu", "epochs", "seconds", "date")
FIELDS = ("name", "model", "corpus", "parent", *FIGURES)
_BEST_FIRST = (*_SCORES, "bleu", "date")
_OF_SOME = ("dev_micro_f1", "test_micro_f1", "bleu", "parent")
"""What most runs do not have: shown only if a run has it."""


def main(
    folders: tuple[Path, ...] = (Path("runs"),),
    /,
    sort: str = "name",
    json: Path | None = None,
) -> None:
    """List the runs below a folder, or compare several runs: their settings and figures.

    A run is a folder that dlnotes train, dlnotes ensemble or dlnotes translate wrote. Its date is
    that of its record. Runs that are not finished, or damaged, are listed with the reason.

    Args:
        folders: A folder to look into (default runs), or run folders to compare.
        sort: name, model, corpus, parent, dev_accuracy, test_accuracy, dev_micro_f1, test_micro_f1,
            macro_f1, bleu, epochs, seconds or date: figures and dates from the highest, all else
            from the lowest.
        json: Also write what is listed to this file, with all settings.
    """
    sort = sort.replace("-", "_")
    if sort not in FIELDS:
        raise UserError(f"--sort must be one of {', '.join(FIELDS)}, not {sort!r}")
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; give a folder of runs, or run folders")
    if json:
        check_output(json)
        check_not_of_a_run(json=json)
    are_runs = [is_run(folder) for folder in folders]
    if len(folders) > 1 and any(are_runs):
        if not all(are_runs):
            other = folders[are_runs.index(False)]
            raise UserError(f"{other} is not a run folder; to compare, give run folders alone")
        rows = [read_row(folder, str(folder)) for folder in folders]
    else:
        one = len(folders) == 1
        rows = [
            read_row(run, str(run.relative_to(folder)) if one and run != folder else str(run))
            for folder in folders
            for run in find_runs(folder)
        ]
    if not rows:
        raise UserError(f"there are no runs below {', '.join(map(str, folders))}")
    _name_corpora(rows)
    compared = len(folders) > 1 and all(are_runs)
    if not compared:
        _sort(rows, sort)
    if json:  # first, since printing ends the program where a pipe's reader has gone
        write_json(json, [asdict(row) for row in rows])
    if compared:
        _compare(rows)
    else:
        _list(rows)


def recorded_layout(run: Path, layout: type[TextLayout]) -> dict[str, Any]:
    """The fields of the layout that the training was given, as far as the run's record has them."""
    said = read_row(run, "").settings
    known = {name: said[name] for name in fields_of(layout) if isinstance(said.get(name), str)}
    try:
        return given_fields(layout(**known))
    except UserError:  # the record is damaged
        return {}


def tell_layout(trained: dict[str, Any], layout: TextLayout) -> None:
    """Say that a file is read as in training, without the columns: wrong ones raise errors."""
    shown = given_fields(layout).keys() | {"text_column", "label_column", "label_separator"}
    used = {name: value for name, value in trained.items() if name not in shown}
    if used:
        options = " ".join(f"--{name} {shlex.quote(value)}" for name, value in used.items())
        undone = " ".join(f"--{name} auto" for name in used)
        print(f"note: read as in training, with {options} (else: {undone})", file=sys.stderr)


def layout_as_trained(run: Path, given: Layout) -> Layout:
    """Where texts and labels are: as `given`, and otherwise as in the run's training.

    A separator between labels excludes several columns that are a label each: the one of them that
    is given replaces the other.
    """
    trained = recorded_layout(run, Layout)
    if given.names_labels:
        trained.pop("label_separator", None)
    if given.label_separator is not None and Layout(**trained).names_labels:
        trained.pop("label_column")
    tell_layout(trained, given)
    return replace(given, **trained | given_fields(given))


def given_fields(layout: TextLayout) -> dict[str, Any]:
    """The fields that are given."""
    return {name: value for name, value in vars(layout).items() if value is not None}


def is_run(folder: Path) -> bool:
    """Whether a training wrote into this folder."""
    files = any((folder / name).exists() for name in (METRICS, CHECKPOINT))
    return files or any((folder / part / CONFIG).exists() for part in _TRAINED)


def find_runs(folder: Path) -> Iterator[Path]:
    """The run folders at or below a folder, sorted; nothing within a run is one."""

    def skip(error: OSError) -> None:
        tell(f"warning: {error.filename} is left out: {error.strerror}")

    for place, below, _ in os.walk(folder, onerror=skip):
        try:
            found = is_run(Path(place))
        except OSError as error:  # it may be listed, but what is in it may not be looked at
            skip(error)
            below.clear()
            continue
        if found:
            below.clear()
            yield Path(place)
        below[:] = sorted(name for name in below if not name.startswith("."))


def read_row(run: Path, name: str) -> Row:
    """Read a run's record."""
    row = Row(name)
    try:
        # Earlier versions wrote infinite losses.
        record = read_json(run / METRICS, "is not a finished run", finite=False)
        row.date = _date(run / METRICS)
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            row.problem = str(error).removeprefix(f"{run}{os.sep}")
        elif (run / CHECKPOINT).exists():
            row.problem = "not finished: go on with --resume"
            row.date = _date(run / CHECKPOINT)
        else:
            row.problem = f"no {METRICS}" if run.is_dir() else "there is no such folder"
        return row
    settings = _get(record, "settings", dict)
    if settings is None:
        row.problem = f"{METRICS} is not a record of a training: it has no settings"
        return row
    row.settings = settings
    row.model = _get(settings, "model", str)
    row.corpus = _get(settings, "corpus", str) or _languages(settings)
    row.data = _get(record, "data", "train", str)
    if place := _get(record, "parent", "run", str):
        beside = Path(place).parent == run.absolute().parent
        row.parent = Path(place).name if beside else place
    if _get(record, "test", "detokenized", dict) is None and "pairs" not in record:
        row.dev_accuracy = _get(record, "dev", "accuracy", float)
        row.test_accuracy = _get(record, "test", "accuracy", float)
        if _get(record, "dev", "accuracy", float) is None:  # of one label it is the accuracy
            row.dev_micro_f1 = _get(record, "dev", "micro_f1", float)
        if row.test_accuracy is None:
            row.test_micro_f1 = _get(record, "test", "micro_f1", float)
        row.macro_f1 = _get(record, "test", "macro_f1", float)
    row.test = _get(record, "test", dict) or {}
    row.documents = _get(record, "documents", "test", int)
    row.bleu = _get(record, "test", "detokenized", "bleu", float)
    history = _get(record, "history", list)
    row.epochs = None if history is None else len(history)
    row.seconds = _get(record, "seconds", float)
    if not any((run / part / CONFIG).exists() for part in _TRAINED):
        row.problem = "damaged: it has neither a classifier nor a translator"
    return row


def _get(record: Any, *path: Any) -> Any:
    """What lies at the keys of `path`, if it is of the type at its end; None otherwise."""
    *keys, kind = path
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    if kind is float and isinstance(record, int | float) and not isinstance(record, bool):
        return float(record) if math.isfinite(record) else None
    return record if isinstance(record, kind) else None


def _languages(settings: dict[str, Any]) -> str | None:
    pair = _get(settings, "languages", list) or [settings.get(n) for n in ("source", "target")]
    return "→".join(pair) if len(pair) == 2 and all(isinstance(x, str) for x in pair) else None


def _date(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")


def _name_corpora(rows: Sequence[Row]) -> None:
    """Name the corpus of an ensemble, whose record has only a fingerprint, after other runs."""
    known = {row.data: row.corpus for row in rows if row.corpus}
    for row in rows:
        row.corpus = row.corpus or (known.get(row.data) if row.data else None)


def _sort(rows: list[Row], by: str) -> None:
    there = [row for row in rows if getattr(row, by) is not None]
    there.sort(key=lambda row: getattr(row, by), reverse=by in _BEST_FIRST)
    rows[:] = there + [row for row in rows if getattr(row, by) is None]


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in _SCORES:
        return f"{value:.4f}"
    if name in ("bleu", "seconds"):
        return f"{value:,.1f}"
    return str(value)[:16] if name == "date" else printable(str(value))


_TITLES = {
    "dev_accuracy": "dev accuracy",
    "test_accuracy": "test accuracy",
    "dev_micro_f1": "dev micro-F1",
    "test_micro_f1": "test micro-F1",
    "macro_f1": "macro-F1",
    "bleu": "BLEU",
}
# Left out in this order where the terminal is too narrow.
_DISPENSABLE = (
    "seconds",
    "epochs",
    "date",
    "parent",
    "corpus",
    "macro_f1",
    "dev_micro_f1",
    "dev_accuracy",
)


def _list(rows: Sequence[Row]) -> None:
    from rich import box
    from rich.table import Table

    out = console()
    finished = [row for row in rows if not row.problem]
    cells = {
        name: [_shown(name, getattr(row, name)) for row in finished]
        for name in FIELDS
        if name not in _OF_SOME or any(getattr(row, name) is not None for row in rows)
    }
    widths = {name: _least_width(name, column) for name, column in cells.items()}
    left_out = []
    for name in _DISPENSABLE:
        if sum(widths.values()) + 3 * len(widths) <= out.width:
            break
        if widths.pop(name, 0):
            left_out.append(_TITLES.get(name, name))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, width in widths.items():
        right = name in FIGURES and name != "date"
        table.add_column(
            _TITLES.get(name, name),
            justify="right" if right else "left",
            overflow="fold",
            min_width=width,
        )
    for row in zip(*(cells[name] for name in widths), strict=True):
        table.add_row(*row)
    if table.row_count:
        out.print(table)
    if left_out:
        out.print(f"This terminal is too narrow for {', '.join(left_out)}: see --json FILE.")
    _say_problems(rows)


def _least_width(name: str, cells: Sequence[str]) -> int:
    """How wide a column has to be: names may be folded, figures may not."""
    words = _TITLES.get(name, name).split()
    longest = max(map(len, [*words, *cells]))
    return longest if name in FIGURES else min(longest, 16)


def _say_problems(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.problem:
            console().print(printable(f"{row.name}: {row.problem}"), soft_wrap=True)


def _compare(rows: Sequence[Row]) -> None:
    from rich import box
    from rich.table import Table

    settings = list(dict.fromkeys(name for row in rows for name in _flat(row.settings)))
    flat = [_flat(row.settings) for row in rows]
    known = [f for f in flat if f]  # of an unfinished run there is nothing to compare
    different = [
        name
        for name in settings
        if len({json_format.dumps(f[name]) if name in f else "" for f in known}) > 1
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_column(printable(row.name), overflow="fold")
    for name in ("parent", *FIGURES):
        if any(getattr(row, name) is not None for row in rows):
            shown = (_shown(name, getattr(row, name)) for row in rows)
            table.add_row(_TITLES.get(name, name), *shown)
    table.add_section()
    for name in different:
        shown = (printable(str(f[name]), _LONGEST) if name in f else "–" for f in flat)
        table.add_row(printable(name, _LONGEST), *shown)
    console().print(table)
    if not different and len(known) > 1:
        console().print("All settings are the same.")
    _say_problems(rows)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings by names with a dot: model_settings.dropout."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat

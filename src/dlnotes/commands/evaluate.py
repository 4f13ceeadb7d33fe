"""Measure a trained classifier on labelled documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.cli import console
from dlnotes.commands.runs import look, remembered
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import LABEL, TEXT, read
from dlnotes.data.tables import check_writable, table_format, write_table
from dlnotes.errors import UserError
from dlnotes.files import check_different, check_output, write_json
from dlnotes.training.classifier import Classifier, TextClassifier
from dlnotes.training.device import choose_device
from dlnotes.training.evaluate import Metrics
from dlnotes.training.folder import METRICS, check_not_of_a_run

_FIGURES = ("accuracy", "macro_f1", "micro_f1", "loss")
_OF_A_CLASS = ("documents", "precision", "recall", "f1")
_PAIRS = 15  # most confused pairs that are shown


def main(
    run: Path,
    /,
    test: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    errors: Path | None = None,
    json: Path | None = None,
    device: str = "auto",
) -> None:
    """Print accuracy and macro-F1, a table by class, and what is taken for what.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        test: Labelled documents, in any format that dlnotes train reads. Without them the figures
            of the run's own test documents are shown, as its record has them.
        text_column: Name or number (from 0) of the text's column. Default: as in training.
        label_column: Name or number (from 0) of the label's column. Default: as in training.
        errors: Also write the misclassified documents to this CSV file, the most confident first.
        json: Also write all figures to this file.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps.
    """
    if json:
        check_output(json)
    check_different(test=test, errors=errors, json=json)
    check_not_of_a_run(errors=errors, json=json)
    where = choose_device(device)
    if test is None:
        for name, given in {
            "text-column": text_column,
            "label-column": label_column,
            "errors": errors,
        }.items():
            if given:
                raise UserError(f"--{name} belongs to --test FILE; a record has no documents")
        figures = _recorded(run)
        if json:
            write_json(json, figures)
        _print_figures(figures)
        return
    if errors:
        check_writable(errors)
        if table_format(errors) != "csv":
            raise UserError(f"--errors: {errors} must end in .csv or .csv.gz")
    columns = (
        text_column or remembered(run, "text_column"),
        label_column or remembered(run, "label_column"),
    )
    classifier = TextClassifier.load(run, where)
    names = classifier.label_names
    measured = classifier.evaluate(
        test,
        text_column=columns[0],
        label_column=columns[1],
        cache_dir=cache_folder() / "tokens",
    )
    figures = measured.summary() | {"classes": measured.per_class(names)}
    figures["confusion"] = measured.confusion.tolist()
    # First the files: the reader of what is printed may go away.
    if errors:
        write_table(errors, [_wrong(classifier, measured, test, columns)])
    if json:
        write_json(json, figures)
    _print_figures(figures)
    _print_confusion(measured.confusion, names)


def _recorded(run: Path) -> dict[str, Any]:
    """The test figures of a run's record.

    Raises:
        UserError: There are none.
    """
    row = look(run, str(run))
    if row.test_accuracy is None:
        reason = row.problem or (
            "it is of a translator: dlnotes translate score measures those"
            if row.bleu is not None
            else f"its {METRICS} has no test figures"
        )
        raise UserError(f"{run}: {reason}; give --test FILE")
    classes = row.test.get("classes")
    rows = list(classes.values()) if isinstance(classes, dict) else [None]
    wanted = [(row.test, _FIGURES), *((each, _OF_A_CLASS) for each in rows)]
    for figures, names in wanted:
        for name in names:
            if not isinstance(figures, dict) or not isinstance(figures.get(name), int | float):
                raise UserError(f"{run}: {METRICS} is damaged: no {name}; give --test FILE")
    return row.test


def _print_figures(figures: dict[str, Any]) -> None:
    """The figures that people ask for first, then a table, the most frequent class first."""
    from rich.table import Table

    classes: dict[str, Any] = figures.get("classes", {})
    documents = sum(row["documents"] for row in classes.values())
    console().print(
        f"{documents:,} documents  accuracy {figures['accuracy']:.4f}  "
        f"macro-F1 {figures['macro_f1']:.4f}  micro-F1 {figures['micro_f1']:.4f}  "
        f"loss {figures['loss']:.4f}"
    )
    table = Table("class")
    for name in ("documents", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for label, row in sorted(classes.items(), key=lambda item: (-item[1]["documents"], item[0])):
        shown = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        table.add_row(label, f"{row['documents']:,}", *shown)
    console().print(table)


def _print_confusion(confusion: NDArray[np.int64], names: list[str]) -> None:
    """The matrix where it fits on the screen, otherwise its largest entries beside the diagonal."""
    from rich.table import Table

    matrix = Table("label \\ predicted", title="confusion matrix")
    for name in names:
        matrix.add_column(name, justify="right", no_wrap=True)
    for label, counts in zip(names, confusion, strict=True):
        matrix.add_row(label, *map(str, counts))
    out = console()
    screen = out.width if out.is_terminal else 100
    if len(names) <= 20 and out.measure(matrix).maximum <= screen:
        out.print(matrix)
        return
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = Table("label", "predicted", title="most confused")
    pairs.add_column("documents", justify="right")
    pairs.add_column("of the label", justify="right")
    for label, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := wrong[label, predicted]:
            share = count / confusion[label].sum()
            pairs.add_row(names[label], names[predicted], f"{count:,}", f"{share:.1%}")
    out.print(pairs if pairs.row_count else "no document was misclassified")


def _wrong(
    classifier: Classifier, measured: Metrics, test: Path, columns: tuple[str | None, str | None]
) -> pl.DataFrame:
    """The misclassified documents, the most confident first; read again, for they were not kept."""
    names = pl.Series(classifier.label_names)

    def parts() -> Iterator[pl.DataFrame]:
        start = 0
        for frame in read(test, text_column=columns[0], label_column=columns[1]):
            stop = start + frame.height
            found = frame.select(
                TEXT,
                LABEL,
                names.gather(measured.predictions[start:stop]).alias("predicted"),
                pl.Series("probability", measured.confidence[start:stop]),
                "line",
            )
            yield found.filter(pl.col(LABEL) != pl.col("predicted"))
            start = stop

    return pl.concat(parts()).sort("probability", descending=True, maintain_order=True)

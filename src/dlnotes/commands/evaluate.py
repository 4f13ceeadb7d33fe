"""Measure a trained classifier on labelled documents."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from dlnotes.data.download import cache_folder
from dlnotes.training.classifier import TextClassifier, write_json


def main(
    run: Path,
    /,
    test: Path,
    text_column: str | None = None,
    label_column: str | None = None,
    json: Path | None = None,
) -> None:
    """Print accuracy, macro- and micro-F1, a table by class and the confusion matrix.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        test: Labelled documents, in any format that dlnotes train reads.
        text_column: Name or number (from 0) of the text's column.
        label_column: Name or number (from 0) of the label's column.
        json: Also write all figures to this file.
    """
    classifier = TextClassifier.load(run)
    names = classifier.label_names
    measured = classifier.evaluate(
        test,
        text_column=text_column,
        label_column=label_column,
        cache_dir=cache_folder() / "tokens",
    )
    console = Console(highlight=False)
    console.print(
        f"{measured.confusion.sum():,} documents  accuracy {measured.accuracy:.4f}  "
        f"macro-F1 {measured.macro_f1:.4f}  micro-F1 {measured.micro_f1:.4f}  "
        f"loss {measured.loss:.4f}"
    )
    by_class = Table("class", "precision", "recall", "F1", "documents")
    for label, row in measured.per_class(names).items():
        shown = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        by_class.add_row(label, *shown, f"{row['documents']:,}")
    console.print(by_class)
    confusion = Table("label \\ predicted", *names, title="confusion matrix")
    for label, counts in zip(names, measured.confusion, strict=True):
        confusion.add_row(label, *map(str, counts))
    console.print(confusion)
    if json:
        figures = measured.summary() | {"classes": measured.per_class(names)}
        write_json(json, {**figures, "confusion": measured.confusion.tolist()})

"""Measure a trained classifier on labelled documents."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tyro.conf import arg

from dlnotes.commands.runs import given_fields, layout_as_trained, read_row
from dlnotes.commands.sources import files_of_options
from dlnotes.data.download import cache_folder
from dlnotes.data.layout import LABEL, TEXT, Layout
from dlnotes.data.readers import read
from dlnotes.data.tables import BETWEEN, check_joins, check_writable, write_table
from dlnotes.display import console, printable
from dlnotes.errors import UserError
from dlnotes.files import (
    check_different,
    check_output,
    option_of,
    write_atomically,
    write_json,
)
from dlnotes.training.calibration import has_trained_decision
from dlnotes.training.classifier import Classifier, TextClassifier
from dlnotes.training.decision import Decision
from dlnotes.training.device import choose_device
from dlnotes.training.evaluate import Metrics
from dlnotes.training.folder import METRICS, check_not_of_a_run
from dlnotes.training.multi_label import CUTS, MultiLabelMetrics
from dlnotes.training.reliability import reliability_figure

_OF_ONE = {"accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1"}
_OPTIONAL = ("ece", "coverage", "answered_accuracy")  # not in all records
_OF_SEVERAL = {  # where a document may have several labels
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "samples_f1": "samples-F1",
    "micro_precision": "precision",
    "micro_recall": "recall",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "mean_average_precision": "mAP",
}
_OF_A_CLASS = ("documents", "precision", "recall", "f1")
_PAIRS = 15  # most confused pairs that are shown
_CLASSES = 50  # the most frequent classes, which are shown
_LONGEST = 60  # characters of a label that are shown
_PICTURES = (".png", ".svg", ".pdf")
_MATRIX = 1000  # classes up to which --json has the confusion matrix; above, it has pairs


def main(
    run: Path,
    /,
    test: tuple[Path, ...] = (),
    layout: Annotated[Layout, arg(name="")] = Layout(),
    errors: Path | None = None,
    json: Path | None = None,
    reliability: Path | None = None,
    device: str = "auto",
) -> None:
    """Print accuracy and macro-F1, a table by class, and which classes are confused.

    Where a text may have several labels: micro-, macro- and samples-F1, figures of how well the
    labels are ranked, and a table by label.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        test: Labelled documents, one or more files in any format that dlnotes train reads. Default:
            show the recorded figures of the run's own test documents.
        layout: Where texts and labels are. Default: as in training.
        errors: Also write the misclassified documents to this CSV file, the most confident first.
            Where a text may have several labels: those with any label wrong or missing, the least
            probable set of true labels first.
            Where the classifier may give no label (--precision of dlnotes train and dlnotes
            calibrate), the column predicted has the most probable label, and the column answer what
            dlnotes predict gives: the same label, or nothing.
        json: Also write all figures to this file.
        reliability: Also draw a reliability diagram: how often predictions of each probability are
            correct (.png, .svg or .pdf).
        device: auto, cpu, cuda, cuda:1 (and so on) or mps.
    """
    test = files_of_options(test=test)["test"]
    if json:
        check_output(json)
    if errors and not errors.name.lower().endswith((".csv", ".csv.gz")):
        raise UserError(f"--errors {errors} must end in .csv or .csv.gz")
    if reliability:
        check_output(reliability)
        if reliability.suffix.lower() not in _PICTURES:
            raise UserError(f"--reliability: {reliability} must end in {', '.join(_PICTURES)}")
    for file in test or [None]:
        check_different(test=file, errors=errors, json=json, reliability=reliability)
    check_not_of_a_run(errors=errors, json=json, reliability=reliability)
    where = choose_device(device)
    if not test:
        of_documents = {"errors": errors, "reliability": reliability}
        for name, given in {**given_fields(layout), **of_documents}.items():
            if given:
                option = option_of(name)
                raise UserError(f"{option} belongs to --test FILE; a record has no documents")
        figures = _recorded(run)
        if not has_trained_decision(run):
            print(
                f"note: {run} decides differently since dlnotes calibrate; these test figures are "
                "from before it: measure again with --test FILE",
                file=sys.stderr,
            )
        if json:
            write_json(json, figures)
        _print_figures(figures)
        return
    if errors:
        check_writable(errors)
    layout = layout_as_trained(run, layout)
    classifier = TextClassifier.load(run, where)
    names = classifier.label_names
    if errors and classifier.multi_label:
        between = layout.label_delimiter or BETWEEN
        check_joins("errors", names, between, "name another with --label-separator")
    measured = classifier.evaluate(
        test,
        layout=layout,
        cache_dir=cache_folder() / "tokens",
    )
    figures = measured.summary() | {"classes": measured.per_class(names)}
    if isinstance(measured, MultiLabelMetrics):
        figures["documents"] = len(measured.correct)
    elif len(names) <= _MATRIX:
        figures["confusion"] = measured.confusion.tolist()
    else:
        figures["confusions"] = [
            {"label": names[label], "predicted": names[predicted], "documents": count}
            for label, predicted, count in measured.confusions.tolist()
        ]
    # The files come first, since printing ends the program where a pipe's reader has gone.
    if errors:
        write_table(errors, [_wrong(classifier, measured, test, layout)])
    if json:
        write_json(json, figures)
    if reliability:
        title, kind = printable(str(run), _LONGEST), reliability.suffix[1:].lower()
        what = "true" if classifier.multi_label else "correct"
        figure = reliability_figure(measured.reliability, title=title, what=what)
        write_atomically(reliability, partial(figure.savefig, format=kind))
    _print_figures(figures)
    if isinstance(measured, Metrics):
        _print_confusion(measured, names)


def _recorded(run: Path) -> dict[str, Any]:
    """The test figures of a run's record.

    Raises:
        UserError: There are none.
    """
    row = read_row(run, str(run))
    several = row.test_micro_f1 is not None
    if row.test_accuracy is None and not several:
        reason = row.problem or (
            "it is of a translator: dlnotes translate score measures those"
            if row.bleu is not None
            else f"its {METRICS} has no test figures"
        )
        raise UserError(f"{run}: {reason}; give --test FILE")
    classes = row.test.get("classes")
    rows = list(classes.values()) if isinstance(classes, dict) else [None]
    first = (*(_OF_SEVERAL if several else _OF_ONE), "loss")
    wanted = [(row.test, first), *((each, _OF_A_CLASS) for each in rows)]
    for figures, names in wanted:
        optional = [name for name in _OPTIONAL if isinstance(figures, dict) and name in figures]
        for name in (*names, *optional):
            found = figures.get(name, "") if isinstance(figures, dict) else ""
            if not isinstance(found, int | float) and (name != "loss" or found is not None):
                raise UserError(f"{run}: {METRICS} is damaged: no {name}; give --test FILE")
    return row.test | ({"documents": row.documents or 0} if several else {})


def _print_figures(figures: dict[str, Any]) -> None:
    """Print the main figures, then a table by class, the most frequent class first."""
    from rich.table import Table

    classes: dict[str, Any] = figures.get("classes", {})
    several = "accuracy" not in figures
    names = _OF_SEVERAL if several else _OF_ONE
    documents = sum(row["documents"] for row in classes.values())
    if several:  # a document may count in several classes, or in none
        documents = figures["documents"]
    loss = figures["loss"]  # JSON has null in the place of an infinity
    console().print(
        f"{documents:,} documents  "
        + "".join(f"{name} {figures[figure]:.4f}  " for figure, name in names.items())
        + f"loss {'infinite' if loss is None else f'{loss:.4f}'}"
        + (f"  ECE {figures['ece']:.4f}" if "ece" in figures else "")
    )
    if ranked := [k for k in CUTS if several and f"ndcg_at_{k}" in figures]:
        order = Table()
        for name in ("of the k best labels", "precision", "recall", "nDCG"):
            order.add_column(name, justify="right")
        for k in ranked:
            each = (figures.get(f"{name}_at_{k}", 0.0) for name in ("precision", "recall", "ndcg"))
            order.add_row(f"k = {k}", *(f"{value:.4f}" for value in each))
        console().print(order)
    if "coverage" in figures:
        console().print(
            f"{figures['coverage']:.1%} of the documents get a label, "
            f"{figures['answered_accuracy']:.4f} of them correctly; the others are too unsure "
            "(all other figures count the most probable label of every document)"
        )
    table = Table()
    table.add_column("label" if several else "class", overflow="fold")
    for name in ("documents", "precision", "recall", "F1", *(["average precision"] * several)):
        table.add_column(name, justify="right")
    rows = sorted(classes.items(), key=lambda item: (-item[1]["documents"], item[0]))
    for label, row in rows[:_CLASSES]:
        shown = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        if several:
            found = row.get("average_precision")
            shown.append("–" if found is None else f"{found:.4f}")
        table.add_row(printable(label, _LONGEST), f"{row['documents']:,}", *shown)
    console().print(table)
    if len(rows) > _CLASSES:
        console().print(f"The {_CLASSES} most frequent of {len(rows):,} classes; --json has all.")


def _print_confusion(measured: Metrics, names: list[str]) -> None:
    """Print the matrix if it fits on the screen, otherwise its largest off-diagonal entries."""
    from rich.table import Table

    shown = [printable(name, _LONGEST) for name in names]
    out = console()
    if len(names) <= 20:
        matrix = Table("label \\ predicted", title="confusion matrix")
        for name in shown:
            matrix.add_column(name, justify="right", no_wrap=True)
        for label, counts in zip(shown, measured.confusion, strict=True):
            matrix.add_row(label, *map(str, counts))
        needed = out.measure(matrix, options=out.options.update(width=10_000)).maximum
        if needed <= (out.width if out.is_terminal else 100):
            out.print(matrix)
            return
    documents = measured.documents
    pairs = Table(title="most confused")
    for name in ("label", "predicted"):
        pairs.add_column(name, overflow="fold")
    pairs.add_column("documents", justify="right")
    pairs.add_column("of the label", justify="right")
    for label, predicted, count in measured.most_confused(_PAIRS).tolist():
        share = count / documents[label]
        pairs.add_row(shown[label], shown[predicted], f"{count:,}", f"{share:.1%}")
    out.print(pairs if pairs.row_count else "no document was misclassified")


def _wrong(
    classifier: Classifier,
    measured: Metrics | MultiLabelMetrics,
    test: tuple[Path, ...],
    layout: Layout,
) -> pl.DataFrame:
    """The misclassified documents, the most confident first; read again, as texts are not kept."""
    decision = classifier.decision
    answers = _answers_of_several
    if not isinstance(measured, MultiLabelMetrics):
        answers = partial(_answers_of_one, decision=decision)

    def parts() -> Iterator[pl.DataFrame]:
        start = 0
        for file in test:
            for frame in read(file, layout, multi_label=classifier.multi_label):
                part = slice(start, start + frame.height)
                given, missed = answers(measured, part, classifier.label_names, layout)
                found = frame.select(
                    TEXT,
                    _as_cell(frame[LABEL], layout),
                    *given,
                    *([pl.lit(str(file)).alias("file")] if len(test) > 1 else []),
                    "line",
                )
                yield found.filter(pl.Series(missed))
                start = part.stop

    by = "loss" if isinstance(measured, MultiLabelMetrics) else "probability"
    return pl.concat(parts()).sort(by, descending=True, maintain_order=True)


def _as_cell(labels: pl.Series, layout: Layout) -> pl.Series:
    """Labels as cells of CSV; several labels are joined by the separator of the file."""
    if not isinstance(labels.dtype, pl.List):
        return labels
    return labels.list.join(layout.label_delimiter or BETWEEN)


def _answers_of_one(
    measured: Any, part: slice, label_names: list[str], _: Layout, *, decision: Decision
) -> tuple[list[pl.Series], NDArray[np.bool_]]:
    """Columns for documents with one label each, and which documents are misclassified."""
    predictions = measured.predictions[part]
    predicted = pl.Series("predicted", label_names).gather(predictions)
    confidence = measured.confidence[part]
    columns = [predicted, pl.Series("probability", confidence)]
    if decision.reject:
        given = pl.Series(~decision.rejected(torch.as_tensor(confidence)).numpy())
        columns.insert(1, pl.select(pl.when(given).then(predicted).alias("answer")).to_series())
    # Compared by index, not by name: this file may write 1.0 for the label 1.
    return columns, predictions != measured.labels[part]


def _answers_of_several(
    measured: Any, part: slice, label_names: list[str], layout: Layout
) -> tuple[list[pl.Series], NDArray[np.bool_]]:
    """The same for documents that may have several labels."""
    predicted = [[label_names[k] for k in np.flatnonzero(row)] for row in measured.given[part]]
    lists = pl.Series("predicted", predicted, dtype=pl.List(pl.String))
    columns = [_as_cell(lists, layout), pl.Series("loss", measured.losses[part])]
    return columns, ~measured.correct[part]

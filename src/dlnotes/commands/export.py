"""Write a trained classifier for programs without dlnotes: ONNX, torch, fastText."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from tyro.conf import arg

from dlnotes.arguments import OneOf, checked
from dlnotes.commands.runs import given_fields, layout_as_trained
from dlnotes.commands.sources import sources_of
from dlnotes.data.documents import check_labels
from dlnotes.data.download import cache_folder
from dlnotes.data.layout import Layout
from dlnotes.data.readers import Source, first_documents
from dlnotes.display import console, printable
from dlnotes.errors import UserError
from dlnotes.export.folder import FORMATS, FULL, PROGRAM, check_place, export
from dlnotes.export.session import ExportedClassifier, Session
from dlnotes.files import option_of
from dlnotes.training.classifier import Ensemble, TextClassifier
from dlnotes.training.evaluate import headline


@checked
def main(
    run: Path,
    out: Path,
    /,
    format: Annotated[str, OneOf(FORMATS)] = "onnx",
    int8: bool = False,
    test: tuple[Path, ...] = (),
    layout: Annotated[Layout, arg(name="")] = Layout(),
    overwrite: bool = False,
) -> None:
    """Write a folder that classifies text without dlnotes and, as ONNX, without torch.

    The folder has the network, the vocabulary, the labels and how it decides; as ONNX also a
    program, predict.py, that needs only numpy and onnxruntime and prints what dlnotes predict
    prints: python OUT/predict.py TEXT. The network takes batches and texts of any size; its scores
    are compared with the model's before the folder is written.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        out: Folder to write; it must be empty or not exist.
        format: onnx, torch (for torch.export.load) or fasttext (the .bin of fastText, for a run of
            the model fasttext with words only and one label per text; in texts that fastText is to
            classify, replace words that are not in the vocabulary by <unk>).
        int8: Quantize the weights of an ONNX network, and report size, speed and accuracy.
        test: With --int8: labelled documents to measure speed and accuracy on. Default: the run's
            own test documents, if their files have not moved.
        layout: Where texts and labels are in --test. Default: as in training.
        overwrite: Replace an earlier export.
    """
    if not int8 and (given := next(iter({"test": test} if test else given_fields(layout)), None)):
        raise UserError(f"{option_of(given)} belongs to --int8, which reports what it costs")
    if int8 and format != "onnx":
        raise UserError(f"--int8 is for --format onnx, not {format}")
    check_place(run, out, overwrite)
    classifier = TextClassifier.load(run)
    documents = None
    if int8:
        layout = layout_as_trained(run, layout)
        documents = _documents(run, test, layout, classifier.label_names)
    found = export(classifier, out, format, int8=int8, overwrite=overwrite)
    print(f"{printable(str(found.network))}: {_megabytes(found.network)} MB")
    if found.quantized is not None:
        print(f"its scores differ from the model's by at most {found.quantized:.0e}")
    if found.difference is not None:
        unquantized = printable(str(found.network.with_name(FULL)))
        its = "its" if found.quantized is None else f"{unquantized}: its"
        print(f"{its} scores differ from the model's by at most {found.difference:.0e}")
    if found.without_program:
        print(f"without {PROGRAM}: {found.without_program}")
    else:
        program = printable(shlex.quote(str(out / PROGRAM)))
        print(f"python {program} TEXT classifies with numpy and onnxruntime alone")
    if int8:
        _report(classifier, out, documents, layout)


def _documents(
    run: Path, test: tuple[Path, ...], layout: Layout, label_names: list[str]
) -> Source | None:
    """The documents to measure on: those given, or the run's test documents if readable."""
    try:
        source = test or sources_of(run).get("test")
        for name, first in first_documents(source, layout):
            check_labels(first, name, label_names)
        return source
    except UserError:
        if test:
            raise
        return None


def _report(
    classifier: TextClassifier | Ensemble, out: Path, test: Source | None, layout: Layout
) -> None:
    """A table of size, speed and accuracy before and after quantization."""
    rows: list[tuple[str, list[str]]] = []
    names: list[str] = []
    for kind, path in (("float32", out / FULL), ("int8", out / FORMATS["onnx"])):
        cells = [_megabytes(path)]
        if test is not None:
            figures, speed = _measured(classifier, path, test, layout)
            names = list(figures)
            cells += [f"{speed:,.0f}", *(f"{value:.4f}" for value in figures.values())]
        rows.append((kind, cells))
    table = Table("", "MB", *(["documents/s", *names] if test is not None else []))
    for kind, cells in rows:
        table.add_row(kind, *cells)
    console().print(table)
    if test is None:
        print("speed and accuracy are not measured: give --test FILE")


def _measured(
    classifier: TextClassifier | Ensemble, path: Path, test: Source, layout: Layout
) -> tuple[dict[str, float], float]:
    """Test figures by their names, and how many documents are scored in a second."""
    exported = ExportedClassifier(classifier, Session(path))
    how: dict[str, Any] = {"layout": layout, "cache_dir": cache_folder() / "tokens"}
    exported.evaluate(test, **how)  # files of the cache, memory of the runtime
    start = time.perf_counter()
    metrics = exported.evaluate(test, **how)
    seconds = time.perf_counter() - start
    summary = metrics.summary()
    figures = {title: summary[key] for key, title in headline(summary).items()}
    return figures, exported.scored / seconds


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f}"

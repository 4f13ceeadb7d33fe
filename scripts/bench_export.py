"""Compare exported models with the originals: scores, size, speed and, with int8, accuracy."""

from __future__ import annotations

import json as jsonlib
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from dlnotes.arguments import Count, check_names, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.readers import Source, read
from dlnotes.display import console
from dlnotes.export.folder import FULL, PROGRAM, export
from dlnotes.export.session import ExportedClassifier, Session
from dlnotes.files import check_output, write_json
from dlnotes.models import MODELS
from dlnotes.training.classifier import Classifier, Ensemble, TextClassifier
from dlnotes.training.record import provenance

ENSEMBLE = "ensemble"


def trained(name: str, train: pl.DataFrame, epochs: int) -> TextClassifier:
    """A model by its recipe, but with few epochs: it need not be good to be compared."""
    return TextClassifier.train(
        train["text"], train["label"].to_list(), model=name, epochs=epochs, refit=False,
        seed=0, progress=False,
    )  # fmt: skip


def measured(classifier: Classifier, test: Source) -> dict[str, float]:
    """Accuracy on test documents, and how many are tokenized and scored in a second."""
    classifier.evaluate(test)
    start = time.perf_counter()
    metrics: Any = classifier.evaluate(test)
    seconds = time.perf_counter() - start
    documents = int(metrics.confusion.sum())
    return {"accuracy": metrics.accuracy, "documents_per_second": documents / seconds}


def compare(classifier: TextClassifier | Ensemble, test: Source, folder: Path) -> dict[str, Any]:
    """All figures of one classifier."""
    start = time.perf_counter()
    onnx = export(classifier, folder / "onnx", "onnx", int8=True)
    seconds = time.perf_counter() - start
    program = export(classifier, folder / "torch", "torch")
    quantized, full = onnx.network, onnx.network.with_name(FULL)
    figures = {"torch": measured(classifier, test)}
    for kind, path in (("onnx", full), ("int8", quantized)):
        figures[kind] = measured(ExportedClassifier(classifier, Session(path, threads=1)), test)
        figures[kind]["megabytes"] = path.stat().st_size / 1e6
    return {
        "difference": {"onnx": onnx.difference, "torch": program.difference},
        "program_lines": len((folder / "onnx" / PROGRAM).read_text().splitlines()),
        "export_seconds": seconds,
        **figures,
    }


@checked
def main(
    names: tuple[str, ...] = (*MODELS, ENSEMBLE),
    /,
    json: Path | None = None,
    data_dir: Path | None = None,
    corpus: str = "trec",
    documents: Count = 2000,
    epochs: Count = 2,
) -> None:
    """Print how far exported scores are from the models', and what int8 costs.

    Each model is trained for a few epochs on a part of the corpus; the ensemble has the FastText
    and the TextCNN. Scores are compared on made-up documents of several lengths and batches,
    accuracy and speed (one thread, tokenization included) on the test documents.

    Args:
        names: Models, or ensemble.
        json: Also write all figures to this file, after each model; rows of others stay.
        data_dir: Folder of corpora, searched before downloading.
        corpus: Name of the corpus.
        documents: Number of training documents.
        epochs: Number of epochs of a training.
    """
    check_names("bench_export", "model", names, (*MODELS, ENSEMBLE))
    if json:
        check_output(json)
    splits = load(corpus, data_dir=data_dir)
    train = pl.concat(read(splits["train"])).head(documents)
    rows: dict[str, Any] = {}
    if json and json.exists():
        rows = jsonlib.loads(json.read_text("utf-8"))["rows"]
    for name in names:
        chosen = ("fasttext", "textcnn") if name == ENSEMBLE else (name,)
        members = [trained(each, train, epochs) for each in chosen]
        classifier = Ensemble(members, [0.4, 0.6], list(chosen)) if members[1:] else members[0]
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = compare(classifier, splits["test"], Path(folder))
        if json:
            order = sorted(rows, key=[*MODELS, ENSEMBLE].index)
            record = {
                **provenance(0), "corpus": corpus, "documents": documents, "epochs": epochs,
                "rows": {each: rows[each] for each in order},
            }  # fmt: skip
            write_json(json, record)
        print(f"{name}: {jsonlib.dumps(rows[name])}", flush=True)
    table = Table("model", "ONNX", "torch", "MB", "int8 MB", "accuracy", "int8 accuracy")
    for name in names:
        row = rows[name]
        table.add_row(
            name,
            *(f"{row['difference'][kind]:.0e}" for kind in ("onnx", "torch")),
            *(f"{row[kind]['megabytes']:.2f}" for kind in ("onnx", "int8")),
            *(f"{row[kind]['accuracy']:.3f}" for kind in ("onnx", "int8")),
        )
    console().print(table)


if __name__ == "__main__":
    run(main)

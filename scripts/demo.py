"""Two of our text classifiers and an honest baseline on BBC News, in two minutes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from dlnotes.arguments import Seed, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.reading import Reading
from dlnotes.display import console
from dlnotes.files import make_folder
from dlnotes.training.baseline import tfidf_logistic_regression
from dlnotes.training.folder import METRICS
from dlnotes.training.train import train_classifier

MODELS = {"FastText": "fasttext", "TextCNN": "textcnn"}
SENTENCES = (
    "The striker scored twice in the second half and the cup is theirs.",
    "Shares fell after the bank warned that profits would be lower this year.",
)


@checked
def main(out: Path = Path("runs/demo"), seed: Seed = 0) -> None:
    """Train FastText and TextCNN with our own Adam, compare them with TF-IDF, classify two texts.

    Args:
        out: Folder of the two runs.
        seed: Decides initial weights, dropout and the documents' order.
    """
    make_folder(out)
    dataset = load_dataset(
        load("bbc"),
        Reading(split_seed=seed),
        name="bbc",
        cache_dir=cache_folder() / "tokens",
    )
    print(
        f"BBC News: {len(dataset.train):,} documents to train on, {len(dataset.dev):,} to choose "
        f"the epoch, {len(dataset.label_names)} classes, {len(dataset.vocabulary):,} words\n"
    )
    table = Table("model", "test accuracy", "macro-F1", "documents/s", "seconds", box=box.SIMPLE)
    rows: list[tuple[str, dict[str, Any]]] = []
    for name, model in MODELS.items():
        print(f"{name}, trained with dlnotes.optim.Adam")
        folder = out / model
        if (folder / METRICS).exists():  # nothing but an earlier demo is ever deleted
            shutil.rmtree(folder)
        classifier, record = train_classifier(dataset, model, out=folder, seed=seed)
        rows.append((name, record))
    rows.append(("TF-IDF + logistic regression", tfidf_logistic_regression(dataset)))
    for name, record in rows:
        test = record["test"]
        table.add_row(
            name,
            f"{test['accuracy']:.4f}",
            f"{test['macro_f1']:.4f}",
            f"{record['documents_per_second']:,.0f}",
            f"{record['seconds']:.1f}",
        )
    console().print(table)
    for text, result in zip(SENTENCES, classifier.classify(SENTENCES), strict=True):
        print(f"{result['label']:>9} {result['probability']:.3f}  {text}")
    print(
        "\nCurves, histograms and confusion matrices:  make board   "
        f"(tensorboard --logdir {out.parent})"
        f'\nClassify your own text:  .venv/bin/dlnotes predict {out}/textcnn "some text"'
    )


if __name__ == "__main__":
    run(main)

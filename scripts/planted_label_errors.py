"""Plant wrong labels in a corpus, and measure how many of them ``dlnotes compare`` finds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl

from dlnotes.arguments import Count, OneOf, Range, checked
from dlnotes.cli import run
from dlnotes.commands.compare import NAMES
from dlnotes.comparison.plan import ComparisonData, Plan, find_label_errors
from dlnotes.data.corpora import label_separator, load
from dlnotes.data.download import cache_folder
from dlnotes.data.layout import LABEL, TEXT
from dlnotes.data.readers import read
from dlnotes.data.reading import Reading
from dlnotes.files import make_folder, write_atomically, write_json
from dlnotes.threads import cpu_limit
from dlnotes.training.record import provenance

RESULTS = Path(__file__).parents[1] / "results" / "label-errors"


@checked
def main(
    corpus: str = "trec",
    data_dir: Path | None = None,
    models: tuple[Annotated[str, OneOf(NAMES)], ...] = ("tfidf", "fasttext"),
    share: Annotated[float, Range(gt=0, lt=0.5)] = 0.05,
    folds: Annotated[int, Range(2)] = 5,
    plants: Count = 3,
    documents: Count | None = None,
    out: Path = RESULTS,
) -> None:
    """Give documents a wrong label at random, and look for them among the most doubtful ones.

    CORPUS.json gets the precision among the most doubtful documents, as many as were planted (which
    makes precision and recall equal), and the same for the documents that are called wrong. A label
    that was wrong in the corpus counts as a mistake of the method. Where a document may have
    several labels, one of them is replaced by another.

    Args:
        corpus: Name of the corpus.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        models: Whose probabilities are averaged.
        share: Share of the documents that get a wrong label.
        folds: Number of folds, as for dlnotes compare.
        plants: How many times the experiment is repeated with other documents.
        documents: Number of training documents, drawn at random. Default: all.
        out: Folder of the record.
    """
    make_folder(out)
    splits = load(corpus, data_dir=data_dir, cache_dir=cache_folder())
    frame = pl.concat(read(splits["train"], label_separator=label_separator(corpus)))
    if documents is not None:
        chosen = random.Random(0).sample(range(len(frame)), min(documents, len(frame)))
        frame = frame[sorted(chosen)]
    found = [planted(corpus, frame, models, share, folds, plant) for plant in range(plants)]
    record = {
        **provenance(0),
        "corpus": corpus,
        "documents": len(frame),
        "models": models,
        "share": share,
        "folds": folds,
        "precision": float(np.mean([each["precision"] for each in found])),
        "plants": found,
    }
    write_json(out / f"{corpus}.json", record)
    print(
        f"{corpus}: precision {record['precision']:.3f} among the {100 * share:g} % most doubtful"
    )


def planted(
    corpus: str, frame: pl.DataFrame, models: tuple[str, ...], share: float, folds: int, plant: int
) -> dict[str, Any]:
    """Plant wrong labels in some documents, and look for them.

    Args:
        corpus: Its name.
        frame: Its training documents.
        models: Whose probabilities are averaged.
        share: Share of the documents that get a wrong label.
        folds: Number of folds, as for dlnotes compare.
        plant: Seed of the choice of documents and wrong labels.
    """
    stream = random.Random(plant)
    labels = frame[LABEL].to_list()
    sets = [label if isinstance(label, list) else [label] for label in labels]
    classes = sorted({name for names in sets for name in names})
    chosen = stream.sample(range(len(labels)), round(share * len(labels)))
    for i in chosen:
        wrong = stream.choice([name for name in classes if name not in sets[i]])
        labels[i] = [*sets[i][:-1], wrong] if isinstance(labels[i], list) else wrong
    folder = cache_folder() / "planted"
    make_folder(folder)
    file = folder / f"{corpus}-{share:g}-{plant}.parquet"
    write_atomically(file, pl.DataFrame({LABEL: labels, TEXT: frame[TEXT]}).write_parquet)
    documents = ComparisonData.of({"train": [file]}, Reading(), models)
    plan = Plan(documents=documents, models=models, seeds=[plant], folds=folds)
    comparison = plan.run(processes=cpu_limit())
    errors = find_label_errors(comparison, documents)
    wrong = np.zeros(len(labels), bool)
    wrong[chosen] = True
    return {
        "planted": len(chosen),
        "precision": float(wrong[errors.order[: len(chosen)]].mean()),
        "called_wrong": int(errors.wrong.sum()),
        "called_wrong_precision": float(wrong[errors.wrong].mean()),
        "called_wrong_recall": float(errors.wrong[wrong].mean()),
        "accuracy": {model: comparison.mean(model) for model in comparison.ranked},
        "first": [bool(wrong[i]) for i in errors.order[:20]],
    }


if __name__ == "__main__":
    run(main)

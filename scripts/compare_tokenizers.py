"""Compare subwords and Chinese words with the default tokenization of the script, on dev."""

from __future__ import annotations

import statistics
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import torch
from rich.table import Table

from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import read
from dlnotes.display import console
from dlnotes.files import write_json
from dlnotes.training.record import provenance
from dlnotes.training.train import train_classifier

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "tokenizers.json"
COMPARED = {
    "trec": ("basic_english", "bpe"),
    "mr": ("basic_english", "bpe"),
    "nsmc_resampled": ("basic_english", "bpe"),
    "tnews": ("basic_english", "characters", "jieba", "bpe"),
    "chnsenticorp": ("basic_english", "characters", "jieba", "bpe"),
}
MODELS: dict[str, dict[str, Any]] = {
    "fasttext": {"lr": 0.02, "epochs": 8, "batch_size": 64},
    "textcnn": {"lr": 0.001, "epochs": 4, "batch_size": 64},
}


def main(
    data_dir: Path,
    out: Path = OUT,
    documents: int = 5_000,
    seeds: tuple[int, ...] = (0, 1, 2),
    threads: int = 1,
) -> None:
    """Train FastText and TextCNN on parts of corpora with one tokenizer after the other.

    Args:
        data_dir: Folder of corpora, NAME/train.tsv[.gz].
        out: The record.
        documents: Maximum number of training documents per corpus, spread over the file; a tenth of
            them becomes dev.
        seeds: Seeds of weights and of the dev split; TextCNN, which is slow, uses only the first.
        threads: Number of torch's threads.
    """
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    record = {**provenance(seeds[0]), "seeds": seeds, "settings": MODELS, "rows": rows}
    for (model, settings), (corpus, tokenizers) in product(MODELS.items(), COMPARED.items()):
        sources = load(corpus, data_dir=data_dir, cache_dir=cache_folder())
        whole = pl.concat(list(read(sources["train"])))
        texts = whole.gather_every(-(-whole.height // documents))
        for tokenizer in tokenizers:
            runs = []
            for seed in seeds if model == "fasttext" else seeds[:1]:
                dataset = load_dataset(
                    {"train": texts}, tokenizer=tokenizer, min_freq=2, split_seed=seed
                )
                given = {**settings, "schedule": "linear", "seed": seed}
                runs.append(train_classifier(dataset, model, progress=False, **given)[1])
            accuracies = [each["dev"]["accuracy"] for each in runs]
            row = {
                "corpus": corpus,
                "model": model,
                "tokenizer": tokenizer,
                "documents": runs[0]["documents"],
                "vocabulary": runs[0]["vocabulary"],
                "dev accuracy": statistics.mean(accuracies),
                "runs": accuracies,
                "seconds": statistics.mean(each["seconds"] for each in runs),
            }
            rows.append(row)
            print(corpus, model, tokenizer, row["dev accuracy"], row["seconds"], flush=True)
            write_json(out, record)
    table = Table("corpus", "model", "tokenizer", "vocabulary", "dev accuracy")
    for row in rows:
        shown = f"{row['dev accuracy']:.4f}"
        table.add_row(
            row["corpus"], row["model"], row["tokenizer"], f"{row['vocabulary']:,}", shown
        )
    console().print(table)


if __name__ == "__main__":
    run(main)

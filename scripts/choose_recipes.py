"""Measure candidates for recipes on dev splits, and write what they reach into results/recipes/."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.layout import LABEL, TEXT
from dlnotes.data.readers import Source, read
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError
from dlnotes.files import read_json, write_json
from dlnotes.training.classifier import reading_for, reads_sentences
from dlnotes.training.record import provenance
from dlnotes.training.settings import Training
from dlnotes.training.trials import TFIDF, run_trial

RECIPES = Path(__file__).parents[1] / "results" / "recipes"


def main(names: tuple[str, ...] = (), /, data_dir: Path | None = None) -> None:
    """Run the trials that have no figures yet.

    A file results/recipes/MODEL.json has `trials`. Each has a `corpus`, optionally `documents` (a
    number of its training documents to draw at random), `reading`, `model_settings`, `settings` (of
    the training, where they differ from the plain recipe) and `seed`; once it has been run, it also
    has `dev`. The test split of a corpus is not opened.

    Args:
        names: Models, or tfidf for the baseline. Default: all.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
    """
    known = sorted(path.stem for path in RECIPES.glob("*.json"))
    for name in names or known:
        if name not in known:
            raise UserError(f"no trials of {name!r} in {RECIPES}; there are: {', '.join(known)}")
        path = RECIPES / f"{name}.json"
        entry = read_json(path, "has no trials")
        for trial in entry["trials"]:
            if "dev" in trial:
                continue
            trial |= measured(name, trial, data_dir)
            entry["record"] = provenance(trial["seed"])
            write_json(path, entry)  # what is done is kept
            print(f"{name} on {trial['corpus']}: dev accuracy {trial['dev']['accuracy']:.4f}")


def measured(model: str, trial: dict[str, Any], data_dir: Path | None) -> dict[str, Any]:
    """What a trial reaches on the dev split."""
    dataset = documents_of(model, trial, data_dir)
    if model == TFIDF:
        return {"dev": dict(run_trial(dataset, model).dev)}
    training = Training(**{"recipe": "plain", **trial["settings"]}, seed=trial["seed"])
    found = run_trial(dataset, model, training, model_settings=trial["model_settings"])
    return {
        "dev": {name: found.dev[name] for name in ("accuracy", "macro_f1", "loss")},
        "epochs": [round(score, 4) for score in found.epochs],
        "seconds": round(found.seconds, 1),
    }


def documents_of(model: str, trial: dict[str, Any], data_dir: Path | None) -> Dataset:
    """The training and dev documents of a trial."""
    sources = dict(load(trial["corpus"], data_dir=data_dir, cache_dir=cache_folder()))
    sources.pop("test", None)
    if "documents" in trial:
        sources["train"] = some(sources["train"], trial["documents"])
    model = "fasttext" if model == TFIDF else model  # both read words
    reading = Reading(**{"min_freq": 1, **trial["reading"]})
    reading = reading_for(model, reading, trial["seed"])
    return load_dataset(sources, reading, name=trial["corpus"], sentences=reads_sentences(model))


def some(source: Source, documents: int) -> pl.DataFrame:
    """A number of the documents, in a random order that is always the same."""
    frame = pl.concat(read(source)).select(LABEL, TEXT)
    order = list(range(len(frame)))
    random.Random(1).shuffle(order)
    return frame[np.array(order[:documents])]


if __name__ == "__main__":
    run(main)

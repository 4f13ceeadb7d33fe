"""Run a named entry of results/ with its exact settings and seeds, and write its record."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.errors import UserError
from dlnotes.training.baseline import tfidf_logistic_regression, tfidf_svm
from dlnotes.training.classifier import read_json, write_json
from dlnotes.training.record import provenance
from dlnotes.training.train import train_classifier

RESULTS = Path(__file__).parents[1] / "results"
BASELINES = {"tfidf": tfidf_logistic_regression, "svm": tfidf_svm}
FIGURES = ("accuracy", "macro_f1")


def main(
    names: tuple[str, ...] = (), /, data_dir: Path | None = None, results: Path = RESULTS
) -> None:
    """Repeat figures: train once a seed, write mean and standard deviation into the entry's file.

    An entry results/NAME.json says `corpus`, `model` (or a baseline, tfidf or svm), `seeds`,
    `reading` (how texts become documents), `settings` (how the model is trained) and, where not the
    mean but one of the runs is to be measured, `choose`: "best on dev".

    Args:
        names: Entries to run; without any, the list of entries is printed.
        data_dir: Folder of corpora, NAME/train.tsv[.gz] and so on; looked at before downloading.
        results: Folder of the entries.
    """
    known = sorted(path.stem for path in results.glob("*.json"))
    for name in names:
        if name not in known:
            raise UserError(f"no entry {name!r} in {results}; there are: {', '.join(known)}")
    if not names:
        print("\n".join(known))
    for name in names:
        entry = read_json(results / f"{name}.json", "has no results")
        runs: list[dict[str, Any]] = []
        for seed in entry["seeds"]:
            runs.append(_run(entry, seed, data_dir))
            entry["record"] = _record(entry, runs)
            write_json(results / f"{name}.json", entry)  # what is done is kept
        test = entry["record"]["test"]["accuracy"]
        print(f"{name}: test accuracy {test['mean']:.4f} ± {test['std']:.4f} {test['runs']}")


def _record(entry: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over the runs; with `choose`, test figures of the best on dev alone."""
    measured = runs
    if entry.get("choose") == "best on dev":
        measured = [max(runs, key=lambda r: (r["dev"]["accuracy"], -r["dev"]["loss"]))]
    record = provenance(entry["seeds"][0]) | {
        "seed": entry["seeds"][: len(runs)],
        "data": runs[0]["data"],
        "documents": runs[0].get("documents"),
        "test": {figure: _spread([r["test"][figure] for r in measured]) for figure in FIGURES},
        "seconds": _spread([r["seconds"] for r in runs]),
        "documents_per_second": _spread([r["documents_per_second"] for r in runs]),
    }
    if "dev" in runs[0]:
        record["dev"] = {"accuracy": _spread([r["dev"]["accuracy"] for r in runs])}
        record["best_epoch"] = [r["best_epoch"] for r in runs]
    return record


def _run(entry: dict[str, Any], seed: int, data_dir: Path | None) -> dict[str, Any]:
    sources = load(entry["corpus"], data_dir=data_dir, cache_dir=cache_folder())
    dataset = load_dataset(
        sources, seed=seed, cache_dir=cache_folder() / "tokens", **entry["reading"]
    )
    if entry["model"] in BASELINES:
        return BASELINES[entry["model"]](dataset) | {"data": dict(dataset.fingerprints)}
    return train_classifier(
        dataset, None, model=entry["model"], seed=seed, corpus=entry["corpus"], **entry["settings"]
    )[1]


def _spread(values: list[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": std, "runs": values}


if __name__ == "__main__":
    run(main)

"""Run a named entry of results/ with its exact settings and seeds, and write its record."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from dlnotes.cli import run
from dlnotes.data import tokenization, vocabulary, word2vec
from dlnotes.data.corpora import label_separator, load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.pairs import load_pairs
from dlnotes.data.readers import Source
from dlnotes.data.reading import PairReading, Reading
from dlnotes.data.tokenized import fingerprint
from dlnotes.data.word2vec import unlabelled
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import read_json, write_json
from dlnotes.training.baseline import (
    figures_by_threshold,
    tfidf_logistic_regression,
    tfidf_svm,
)
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.decision import Deciding
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.evaluate import headline
from dlnotes.training.fit import Interrupted
from dlnotes.training.folder import CHECKPOINT, DEV_SCORES, METRICS, REFIT
from dlnotes.training.pretrained import WORD2VEC
from dlnotes.training.record import provenance
from dlnotes.training.scoring import scores
from dlnotes.training.train import train_classifier
from dlnotes.training.translation import train_translator

RESULTS = Path(__file__).parents[1] / "results"
NUMBERS = Path(__file__).parents[1] / "tests" / "training" / "fingerprints.json"
BASELINES = {"tfidf": tfidf_logistic_regression, "svm": tfidf_svm}
FIGURES = ("accuracy", "micro_f1", "macro_f1", "mean_average_precision", "bleu")


def main(
    names: tuple[str, ...] = (),
    /,
    data_dir: Path | None = None,
    results: Path = RESULTS,
    runs: Path | None = None,
) -> None:
    """Repeat figures: train once per seed, write mean and standard deviation to the entry's file.

    An entry results/NAME.json has `corpus`, `model` (or a baseline, tfidf or svm), `seeds`,
    `reading` (how texts become documents) and `settings` (how the model is trained). With `choose`:
    "best on dev", one of the runs is measured instead of their mean. Where texts have several
    labels, `thresholds` lists ways to choose thresholds on dev (see `choose_thresholds`), and the
    trained classifier is measured with each of them.

    An entry whose `model` is ensemble has `members` instead of `reading`: other entries of the same
    corpus and how many times each is trained, all with the dev split of the ensemble's seed and the
    first with the seed itself; `settings` are those of `make_ensemble`. An entry with `languages`
    is a translation, measured by BLEU. Where `vectors` in `settings` is a table, word vectors are
    first learned from the training texts of its `corpora`; its other entries are settings of
    `learn_from`.

    Args:
        names: Entries to run. Default: print the list of entries.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        results: Folder of the entries.
        runs: Folder where trained classifiers are kept. A classifier that it holds is not trained
            again if its settings, its documents and the tests' fingerprints of training are still
            the same, so that an ensemble of such entries takes moments.
    """
    known = sorted(path.stem for path in results.glob("*.json"))
    for name in names:
        if name not in known:
            raise UserError(f"no entry {name!r} in {results}; there are: {', '.join(known)}")
    if not names:
        print("\n".join(known))
    for name in names:
        entry = read_json(results / f"{name}.json", "has no results")
        measured: list[dict[str, Any]] = []
        for seed in entry["seeds"]:
            measure = _ensemble if entry["model"] == "ensemble" else _run
            measure = _translation if "languages" in entry else measure
            try:
                measured.append(measure(name, entry, seed, Places(data_dir, results, runs)))
            except Interrupted as stop:
                kept = f"; {runs} keeps what was trained" if runs else ""
                print(f"stopped at seed {seed} of {name}{kept}", file=sys.stderr)
                sys.exit(128 + stop.number)
            entry["record"] = _record(entry, measured)
            write_json(results / f"{name}.json", entry)  # what is done is kept
        figure, test = next(iter(entry["record"]["test"].items()))
        print(f"{name}: test {figure} {test['mean']:.4f} ± {test['std']:.4f} {test['runs']}")


def _record(entry: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over the runs; with `choose`, only the test figures of the best on dev."""
    measured = runs
    if entry.get("choose") == "best on dev":
        measured = [max(runs, key=_on_dev)]
    record = provenance(entry["seeds"][0]) | {
        "seed": entry["seeds"][: len(runs)],
        "data": runs[0]["data"],
        "documents": runs[0].get("documents"),
        "test": _figures([r["test"] for r in measured]),
        "seconds": _spread([r["seconds"] for r in runs]),
        "documents_per_second": _spread([r["documents_per_second"] for r in runs]),
    }
    if "test_by_threshold" in runs[0]:
        record["test_by_threshold"] = {
            how: _figures([r["test_by_threshold"][how] for r in measured])
            for how in runs[0]["test_by_threshold"]
        }
    if "dev" in runs[0]:
        first = _first_figure(runs[0])
        record["dev"] = {first: _spread([r["dev"][first] for r in runs])}
        record["best_epoch"] = [r["best_epoch"] for r in runs]
    if "members" in runs[0]:
        best = [max(r["members"], key=_on_dev) for r in runs]
        record["best_member"] = {first: _spread([m["test"][first] for m in best])}
        record["members"] = [r["members"] for r in runs]
    return record


def _figures(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Those of the measured figures that a record keeps; with several labels also micro-F1."""
    wanted = [f for f in FIGURES if f in measured[0]]
    if "accuracy" in wanted:  # of one label the two are the same
        wanted.remove("micro_f1")
    return {figure: _spread([m[figure] for m in measured]) for figure in wanted}


def _first_figure(run: dict[str, Any]) -> str:
    return next(iter(headline(run["dev"])))


def _on_dev(run: dict[str, Any]) -> tuple[float, float]:
    return run["dev"][_first_figure(run)], -run["dev"]["loss"]


class Places(NamedTuple):
    """Where corpora, entries and trained classifiers lie."""

    data_dir: Path | None
    results: Path
    runs: Path | None

    def sources(self, entry: dict[str, Any]) -> dict[str, Source]:
        """Files of an entry's corpus."""
        return dict(load(entry["corpus"], data_dir=self.data_dir, cache_dir=cache_folder()))


def _run(name: str, entry: dict[str, Any], seed: int, places: Places) -> dict[str, Any]:
    if entry["model"] in BASELINES:
        dataset = _dataset(entry, places, seed)
        settings = dict(entry.get("settings", {}))
        if "thresholds" in entry:
            settings["thresholds"] = entry["thresholds"]
        record = BASELINES[entry["model"]](dataset, **settings)
        return record | {"data": dict(dataset.fingerprints)}
    if places.runs is None and "thresholds" not in entry:
        return _train(entry, places, seed, seed, None)
    if places.runs is None:  # thresholds are chosen by scores that a run's folder has
        with TemporaryDirectory() as temporary:
            return _train(entry, places, seed, seed, Path(temporary) / "run")
    return _train(entry, places, seed, seed, _folder(places, name, entry, seed, seed))


def _ensemble(name: str, entry: dict[str, Any], seed: int, places: Places) -> dict[str, Any]:
    folders, trained, called = [], [], []
    with TemporaryDirectory() as temporary:
        places = places._replace(runs=places.runs or Path(temporary))
        for member_name, times in entry["members"].items():
            member = read_json(places.results / f"{member_name}.json", "has no results")
            for k in range(times):
                called.append(f"{member_name}-{k}")
                own = seed + 1000 * k
                folder = _folder(places, member_name, member, seed, own)
                trained.append(_train(member, places, seed, own, folder))
                folders.append(folder)
        cache = cache_folder() / "tokens"
        members = load_members(folders, places.sources(entry), cache_dir=cache)
        thresholds = entry.get("thresholds", ["one"])
        records = {
            how: make_ensemble(
                members, None, deciding=Deciding(threshold=how), **entry["settings"]
            )[1]
            for how in thresholds
        }
    record = records[thresholds[0]]
    if "thresholds" in entry:
        record["test_by_threshold"] = {how: r["test"] for how, r in records.items()}
    for row, run_name in zip(record["members"], called, strict=True):
        row["run"] = run_name
    record["best_epoch"] = [r["best_epoch"] for r in trained]
    record["seconds"] = sum(r["seconds"] for r in trained)
    documents = sum(r["documents"]["train"] * len(r["history"]) for r in trained)
    record["documents_per_second"] = documents / record["seconds"]
    return record


def _dataset(entry: dict[str, Any], places: Places, split_seed: int) -> Dataset:
    cache = cache_folder() / "tokens"
    given = {"label_separator": label_separator(entry["corpus"]), **entry["reading"]}
    reading = Reading(**given, split_seed=split_seed)
    return load_dataset(places.sources(entry), reading, name=entry["corpus"], cache_dir=cache)


def _folder(places: Places, name: str, entry: dict[str, Any], split_seed: int, seed: int) -> Path:
    """Folder of a run; its name changes with settings, documents and the tests' fingerprints.

    A change of the code that changes the numbers of training must also change the fingerprints, so
    these stand for the code.
    """
    assert places.runs is not None
    said = [entry[k] for k in ("corpus", "model", "reading", "settings")]
    learned = entry["settings"].get("vectors")
    if isinstance(learned, dict):
        said.append(_vectors_key(learned, places))
    elif learned and learned != WORD2VEC:
        said.append(fingerprint(Path(learned)))
    documents = {split: fingerprint(s) for split, s in places.sources(entry).items()}
    numbers = fingerprint(NUMBERS)
    digest = _digest([*said, documents, numbers, torch.__version__])
    return places.runs / f"{name}-{digest[:8]}-{split_seed}-{seed}"


def _digest(said: list[Any]) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _train(
    entry: dict[str, Any], places: Places, split_seed: int, seed: int, out: Path | None
) -> dict[str, Any]:
    """The record of a run, trained now unless `out` holds it."""
    thresholds = entry.get("thresholds", ())
    if out and (out / METRICS).exists() and not (out / CHECKPOINT).exists():
        kept: dict[str, Any] = read_json(out / METRICS, "is not a finished run")
        if thresholds:
            dataset = _dataset(entry, places, split_seed)
            classifier = TextClassifier.load(out)
            assert isinstance(classifier, TextClassifier)
            kept["test_by_threshold"] = _by_threshold(classifier, dataset, thresholds, out)
        return kept
    settings = {"recipe": "plain", **entry["settings"]}
    if isinstance(settings.get("vectors"), dict):
        settings["vectors"] = str(_vectors(settings["vectors"], places))
    dataset = _dataset(entry, places, split_seed)
    classifier, record = train_classifier(
        dataset,
        entry["model"],
        out=out,
        seed=seed,
        resume=out is not None and (out / CHECKPOINT).exists(),
        **settings,
    )
    for name in (REFIT, CHECKPOINT):
        if out:
            (out / name).unlink(missing_ok=True)  # large, and only there to go on from
    if thresholds:
        record["test_by_threshold"] = _by_threshold(classifier, dataset, thresholds, out)
    return record


def _by_threshold(
    classifier: TextClassifier, dataset: Dataset, thresholds: list[str], out: Path | None
) -> dict[str, dict[str, float]]:
    """Test figures of a trained classifier with each way to choose thresholds on dev."""
    # Thresholds cannot be chosen on documents that the classifier has learned from.
    if out and (out / DEV_SCORES).exists():
        dev_scores = torch.load(out / DEV_SCORES, weights_only=True)
        test = dataset.with_dev_in_train().read_test()  # numbered by the vocabulary of both
    else:
        dev_scores, test = scores(classifier.model, dataset.dev), dataset.read_test()
    test_scores = scores(classifier.model, test)
    figures = figures_by_threshold(
        dev_scores, dataset.dev.labels, test_scores, test.labels, thresholds
    )
    return {how: found for how, (_, found) in figures.items()}


def _texts(settings: dict[str, Any], places: Places) -> list[Source]:
    """What word vectors are learned from."""
    return [
        source
        for name in settings["corpora"]
        for source in unlabelled(places.sources({"corpus": name}))
    ]


def _vectors_key(settings: dict[str, Any], places: Places) -> str:
    """A digest of all that learned vectors depend on."""
    texts = [fingerprint(source) for source in _texts(settings, places)]
    code = [
        fingerprint(Path(str(module.__file__))) for module in (word2vec, tokenization, vocabulary)
    ]
    learner = version("gensim") if find_spec("gensim") else None  # without it nothing is learned
    return _digest([settings, texts, code, learner])[:16]


def _vectors(settings: dict[str, Any], places: Places) -> Path:
    """A file of word vectors, learned now unless the cache has it."""
    path = cache_folder() / "vectors" / f"{_vectors_key(settings, places)}.vec"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        given = {key: value for key, value in settings.items() if key != "corpora"}
        with console(stderr=True).status(f"word2vec of {', '.join(settings['corpora'])}"):
            word2vec.learn_from(
                _texts(settings, places), path, cache_dir=cache_folder() / "tokens", **given
            )
    return path


def _translation(name: str, entry: dict[str, Any], seed: int, places: Places) -> dict[str, Any]:
    if places.data_dir is None:
        raise UserError(
            f"{entry['corpus']} is not downloaded: put its files (train.de, train.en, …) into "
            f"FOLDER/{entry['corpus']} and name FOLDER by --data-dir"
        )
    source, target = entry["languages"]
    folder = places.data_dir / entry["corpus"]
    data = load_pairs(folder, PairReading(source=source, target=target, **entry["reading"]))
    with TemporaryDirectory() as out:
        _, record = train_translator(
            data, entry["model"], out=Path(out) / "run", seed=seed, **entry["settings"]
        )
    measured = record["test"]["detokenized"]
    return record | {
        "test": {"bleu": measured["bleu"]},
        "documents": record["pairs"],
        "documents_per_second": record["pairs_per_second"],
    }


def _spread(values: list[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": std, "runs": values}


if __name__ == "__main__":
    run(main)

"""Does ``dlnotes advise`` recommend what a much longer search would? Measured and recorded."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from choose_recipes import some
from dlnotes.advice.corpus import MODELS, Corpus
from dlnotes.advice.race import Candidate, Race
from dlnotes.advice.report import Advice, percent
from dlnotes.arguments import Positive, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError
from dlnotes.files import write_json
from dlnotes.training.classifier import reading_for, reads_sentences
from dlnotes.training.fit import OutOfTime
from dlnotes.training.record import provenance
from dlnotes.training.trials import TFIDF

RESULTS = Path(__file__).parents[1] / "results" / "advice"
CORPORA: dict[str, int | None] = {"trec": None, "mr": None, "tnews": 5_000}
"""Corpus → how many of its training documents; all of them if None."""
TIMES = 20
POINT = 0.01

_SEEDS = 3  # trainings of the recommended candidate, and of each that leads the sweep
_LEADERS = 6


@checked
def main(
    names: tuple[str, ...] = (), /, minutes: Positive = 1.0, data_dir: Path | None = None
) -> None:
    """Race for some minutes, then sweep with twenty times the budget, and compare.

    The sweep stops no loser early: every model with its recipe and with a third and three times its
    rate, each for all of its epochs on all documents, in a fixed order, as far as the time goes;
    then the leaders from more seeds. What was recommended is trained from the same seeds on all
    documents. The figures go to results/advice/CORPUS.json.

    Args:
        names: Corpora; without any, trec, mr and tnews.
        minutes: Of the race.
        data_dir: Folder of corpora, NAME/train.tsv[.gz] and so on; looked at before downloading.
    """
    for name in names or tuple(CORPORA):
        if name not in CORPORA:
            raise UserError(f"there is no corpus {name!r} here; there are: {', '.join(CORPORA)}")
        sources = dict(load(name, data_dir=data_dir, cache_dir=cache_folder()))
        sources.pop("test", None)
        if (most := CORPORA[name]) is not None:
            sources["train"] = some(sources["train"], most)
        found = measured(name, sources, 60 * minutes)
        path = RESULTS / f"{name}.json"
        write_json(path, {"corpus": name, "documents": most, "minutes": minutes, **found})
        gap = 100 * found["gap"]
        print(
            f"{name}: {found['recommended']} is recommended, {percent(found['score'])} on dev; "
            f"best of the sweep {found['best']}, {percent(found['best_score'])}: "
            f"{gap:.1f} points behind, {'within' if found['holds'] else 'MORE THAN'} one point"
        )


def measured(name: str, sources: Mapping[str, Source], seconds: float) -> dict[str, Any]:
    """The recommendation of a race, the best of a sweep, and how far they are apart."""

    def documents(model: str) -> Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reading = reading_for(model, Reading(), 0)
            return load_dataset(sources, reading, name=name, sentences=reads_sentences(model))

    began = time.perf_counter()
    corpus = Corpus(documents, seconds=seconds)
    race = Race(
        corpus.measure,
        MODELS,
        corpus.vary,
        seconds=seconds,
        clock=lambda: time.perf_counter() - began,
    )
    advice = Advice(race.run(), "micro-F1" if corpus.multi_label else "accuracy", corpus.dev)
    took = time.perf_counter() - began
    chosen = advice.recommended.candidate
    chosen = Candidate(chosen.model, corpus.command_changes(chosen))
    print(f"{name}: {advice.sentence}", flush=True)

    whole = Corpus(documents, seconds=1e9)  # all documents
    scores, swept = sweep(whole, TIMES * seconds)
    while len(scores.setdefault(chosen.name, [])) < (_SEEDS if chosen.has_epochs else 1):
        trial, _ = whole.measure(chosen, 1.0, len(scores[chosen.name]), 1e9)
        scores[chosen.name].append(trial.score)
    means = {name: sum(found) / len(found) for name, found in scores.items()}
    best = max(means, key=means.__getitem__)
    gap = means[best] - means[chosen.name]
    return {
        "sentence": advice.sentence,
        "recommended": chosen.name,
        "score": means[chosen.name],
        "best": best,
        "best_score": means[best],
        "gap": gap,
        "holds": gap <= POINT,
        "seconds": {"race": took, "sweep": swept},
        "measures": asdict(corpus.measures),
        "raced_on": corpus.documents,
        "race": advice.record(),
        "sweep": scores,
        "record": provenance(0),
    }


def sweep(corpus: Corpus, seconds: float) -> tuple[dict[str, list[float]], float]:
    """Dev scores of many candidates, of the leaders from several seeds, and the time it took."""
    began = time.perf_counter()
    plain = [Candidate(model) for model in MODELS]
    rates = [
        candidate
        for model in MODELS
        if model != TFIDF
        for candidate in corpus.vary(Candidate(model))
        if "lr" in candidate.changes
    ]
    scores: dict[str, list[float]] = {}
    tried: dict[str, Candidate] = {}

    def train(candidate: Candidate, until: float) -> None:
        left = until * seconds - (time.perf_counter() - began)
        seed = len(scores.get(candidate.name, ()))
        if left <= 0:
            return
        try:
            trial, _ = corpus.measure(candidate, 1.0, seed, left)
        except (OutOfTime, UserError):  # too slow, or diverged
            return
        tried[candidate.name] = candidate
        scores.setdefault(candidate.name, []).append(trial.score)
        spent = time.perf_counter() - began
        print(f"{spent:6.0f} s  {candidate.name}, seed {seed}: {percent(trial.score)}", flush=True)

    for candidate in [*plain, *rates]:
        train(candidate, 0.75)
    leaders = sorted(scores, key=lambda name: -scores[name][0])[:_LEADERS]
    for _ in range(1, _SEEDS):
        for name in leaders:
            if tried[name].has_epochs:
                train(tried[name], 1.0)
    return scores, time.perf_counter() - began


if __name__ == "__main__":
    run(main)

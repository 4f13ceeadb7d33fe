"""Does ``dlnotes advise`` recommend what a much longer search would? Records in results/advice/."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from choose_recipes import some
from dlnotes.advice.race import Candidate, Race
from dlnotes.advice.report import Advice, percent
from dlnotes.advice.runner import MODELS, TrialRunner
from dlnotes.arguments import Positive, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError
from dlnotes.files import read_json, write_json
from dlnotes.training.classifier import reading_for, reads_sentences
from dlnotes.training.fit import OutOfTime
from dlnotes.training.record import provenance

RESULTS = Path(__file__).parents[1] / "results" / "advice"
CORPORA: dict[str, int | None] = {"trec": None, "mr": None, "tnews": 5_000}
"""Corpus → how many of its training documents; all of them if None."""
TIMES = 20
POINT = 0.01

_SEEDS = 3  # trainings of the recommended candidate, and of each that leads the sweep
_LEADERS = 6


@checked
def main(
    names: tuple[str, ...] = (),
    /,
    minutes: Positive = 1.0,
    data_dir: Path | None = None,
    results: Path = RESULTS,
) -> None:
    """Race for some minutes, then sweep with twenty times the budget, and compare.

    The sweep stops no candidate early. It trains every model with the learning rate of its recipe,
    a third of it and three times as much, for all epochs on all documents, in a fixed order until
    the time is over; then it trains the leaders from more seeds. The recommended candidate is
    trained from the same seeds on all documents. The figures are written to
    results/advice/CORPUS.json after each training, and an interrupted run continues from there.
    Where a run continues with another commit or version or on another machine, the record says
    which of them measured what.

    Args:
        names: Corpora. Default: trec, mr and tnews.
        minutes: Time limit of the race. A record of a race with another limit is replaced.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        results: Folder of the records.
    """
    for name in names or tuple(CORPORA):
        if name not in CORPORA:
            raise UserError(f"there is no corpus {name!r} here; there are: {', '.join(CORPORA)}")
        path = results / f"{name}.json"
        entry: dict[str, Any] = {"corpus": name, "documents": CORPORA[name], "minutes": minutes}
        if path.exists():
            known = read_json(path, "is no record of a race")
            if entry.items() <= known.items():
                entry = known
        if "gap" not in entry:
            path.parent.mkdir(parents=True, exist_ok=True)
            measure(entry, data_dir, path)
        best = f"best of the sweep {entry['best']}, {percent(entry['best_score'])}"
        if entry["gap"] is None:
            print(
                f"{name}: {entry['recommended']} is recommended, and {entry['failed']} on all "
                f"documents; {best}"
            )
            continue
        print(
            f"{name}: {entry['recommended']} is recommended, {percent(entry['score'])} on dev; "
            f"{best}: {100 * entry['gap']:.1f} points behind, "
            f"{'within' if entry['holds'] else 'MORE THAN'} one point"
        )


def measure(entry: dict[str, Any], data_dir: Path | None, path: Path) -> None:
    """Fill in the recommendation of a race, the best of a sweep, and how far they are apart."""
    name, seconds = entry["corpus"], 60 * entry["minutes"]
    sources: dict[str, Source] = dict(load(name, data_dir=data_dir, cache_dir=cache_folder()))
    sources.pop("test", None)
    if entry["documents"] is not None:
        sources["train"] = some(sources["train"], entry["documents"])

    def documents(model: str) -> Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reading = reading_for(model, Reading(), 0)
            return load_dataset(sources, reading, name=name, sentences=reads_sentences(model))

    now = provenance(0)

    def save(measured: str = "") -> None:
        came_from(entry, now, measured)
        write_json(path, entry)

    if "race" not in entry:
        entry |= raced(documents, seconds)
        save()
    print(f"{name}: {entry['sentence']}", flush=True)
    chosen = Candidate(**entry["chosen"])
    whole = TrialRunner(documents, seconds=1e9)  # all documents
    scores = entry["sweep"]
    sweep(whole, TIMES * seconds, scores, entry["seconds"], save)
    ours = scores.setdefault(chosen.name, [])
    failed = ""
    while not failed and len(ours) < (_SEEDS if chosen.has_epochs else 1):
        try:
            ours.append(whole.measure(chosen, 1.0, len(ours), 1e9)[0].score)
        except UserError as error:  # it diverged, which it did not in the race
            failed = f"failed from seed {len(ours)} ({error})"
        save(f"{chosen.name}, seed {len(ours) - (not failed)}")
    means = {name: sum(found) / len(found) for name, found in scores.items() if found}
    best = max(means, key=means.__getitem__)
    if failed:
        entry |= {"failed": failed, "best": best, "best_score": means[best]}
        entry |= {"score": None, "gap": None, "holds": False}
        save()
        return
    gap = means[best] - means[chosen.name]
    entry |= {
        "score": means[chosen.name],
        "best": best,
        "best_score": means[best],
        "gap": gap,
        "holds": gap <= POINT,
    }
    save()


def came_from(entry: dict[str, Any], now: dict[str, Any], measured: str) -> None:
    """Note which code and machine a measurement comes from.

    ``record`` describes the process that ran the race. ``continued`` describes later ones with
    another commit, other versions or another machine, and what they ``measured``.

    Args:
        entry: The record of a corpus.
        now: Provenance of this process.
        measured: The training that is saved, or "".
    """
    what = ("commit", "versions", "machine")

    def same(before: dict[str, Any]) -> bool:
        return all(before.get(key) == now[key] for key in what)

    first = entry.setdefault("record", now)
    if not measured or (same(first) and "continued" not in entry):
        return
    later = entry.setdefault("continued", [])
    if not later or not same(later[-1]):
        later.append({**now, "measured": []})
    later[-1]["measured"].append(measured)


def raced(documents: Callable[[str], Dataset], seconds: float) -> dict[str, Any]:
    """What a race recommends, and an empty sweep.

    Raises:
        KeyboardInterrupt: A signal came, and an incomplete race is not recorded.
    """
    began = time.perf_counter()

    def clock() -> float:
        return time.perf_counter() - began

    corpus = TrialRunner(documents, seconds=seconds, clock=clock)
    race = Race(corpus.measure, MODELS, corpus.vary, seconds=seconds, clock=clock)
    race.run()
    if race.interrupted:
        raise KeyboardInterrupt
    advice = Advice(race.entries, "micro-F1" if corpus.multi_label else "accuracy", corpus.dev)
    chosen = advice.recommended.candidate
    chosen = Candidate(chosen.model, corpus.command_changes(chosen))
    return {
        "sentence": advice.sentence,
        "recommended": chosen.name,
        "chosen": asdict(chosen),
        "measures": asdict(corpus.statistics),
        "raced_on": corpus.documents,
        "race": advice.record(),
        "sweep": {},
        "seconds": {"race": clock(), "sweep": 0.0},
    }


def sweep(
    corpus: TrialRunner,
    seconds: float,
    scores: dict[str, list[float]],
    took: dict[str, float],
    save: Callable[[str], None],
) -> None:
    """Dev scores of many candidates, and of the leaders from several seeds.

    Args:
        corpus: The documents.
        seconds: Time limit of the whole sweep.
        scores: Scores by name, to which new ones are added. Empty where a training diverged or took
            too long.
        took: Its entry ``sweep`` is set to the seconds until the last training that was saved.
        save: Called with the name of each training after it.
    """
    began = time.perf_counter() - took["sweep"]
    plain = [Candidate(model) for model in MODELS]
    rates = [
        varied
        for candidate in plain
        if candidate.has_epochs
        for varied in corpus.vary(candidate)
        if "lr" in varied.changes
    ]

    def train(candidate: Candidate, seed: int, until: float) -> None:
        left = until * seconds - (time.perf_counter() - began)
        found = scores.get(candidate.name)
        if left <= 0 or (found is not None and len(found) != seed):
            return
        found = scores.setdefault(candidate.name, [])
        with suppress(OutOfTime, UserError):  # too slow, or diverged
            found.append(corpus.measure(candidate, 1.0, seed, left)[0].score)
        took["sweep"] = time.perf_counter() - began
        save(f"{candidate.name}, seed {seed}")
        said = percent(found[-1]) if len(found) > seed else "failed"
        print(f"{took['sweep']:6.0f} s  {candidate.name}, seed {seed}: {said}", flush=True)

    for candidate in [*plain, *rates]:
        if not scores.get(candidate.name):
            train(candidate, 0, 0.75)
    tried = [c for c in [*plain, *rates] if scores.get(c.name)]
    tried.sort(key=lambda c: -scores[c.name][0])
    for seed in range(1, _SEEDS):
        for candidate in tried[:_LEADERS]:
            if candidate.has_epochs:
                train(candidate, seed, 1.0)


if __name__ == "__main__":
    run(main)

"""Time FastText's whole command, from a file to its test accuracy, against the C++ program.

The C++ program is the package fasttext-wheel, in a separate environment (see the Makefile).
"""

from __future__ import annotations

import json as jsonlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from dlnotes.arguments import Count, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.readers import read
from dlnotes.data.tokenization import basic_english
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import check_output, write_json
from dlnotes.training.record import provenance

ROOT = Path(__file__).parents[1]
RATES = (0.1, 0.5)
"""Learning rates of the C++ program: the better one on held-out training documents is used."""
EPOCHS, DIMENSIONS, THREADS = 5, 10, 2
BARS = {"cold": 1.0, "warm": 0.7}
"""Goals: our time as a multiple of the C++ program's, with an empty and a filled token cache."""

THEIRS = """
import json, sys, time
import fasttext
start = time.perf_counter()
train, test, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = fasttext.train_supervised(input=train, verbose=0, **settings)
trained = time.perf_counter()
_, accuracy, _ = model.test(test)
end = time.perf_counter()
print(json.dumps({"seconds": end - start, "training": trained - start, "accuracy": accuracy}))
"""

OURS = """
import json, sys, time
from pathlib import Path
from dlnotes import threads
threads.configure()  # as the command does
from dlnotes.cli import run
from dlnotes.commands import train
start = time.perf_counter()
out, *options = sys.argv[1:]
run(train.main, prog="train", arguments=lambda: ["--out", out, *options])
seconds = time.perf_counter() - start
record = json.loads(Path(out, "metrics.json").read_text(encoding="utf-8"))
found = {"training": record["seconds"], "accuracy": record["test"]["accuracy"]}
print(json.dumps({"seconds": seconds, **found}))
"""


@dataclass(frozen=True)
class Ours:
    """How our FastText is trained.

    Attributes:
        epochs: Number of epochs.
        optimizer: Name of the optimizer.
        lr: Learning rate.
        batch_size: Documents per update.
        buckets: Number of vectors for bigrams.
        dropout: Dropout of the document's vector.
    """

    epochs: int
    optimizer: str
    lr: float
    batch_size: int
    buckets: int
    dropout: float


def best(documents: int) -> Ours:
    """The settings that reach the C++ program's accuracy soonest on held-out training documents."""
    few = documents < 100_000
    return Ours(
        epochs=1,
        optimizer="adagrad",
        lr=1.0,
        batch_size=128 if few else 512,
        buckets=500_000 if few else 1_000_000,
        dropout=0.0 if few else 0.2,
    )


EQUAL = Ours(EPOCHS, "adam", lr=3e-3, batch_size=64, buckets=2_000_000, dropout=0.0)
"""As many epochs and buckets as the C++ program has."""


def our_options(train: Path, test: Path, ours: Ours) -> list[str]:
    """Of ``dlnotes train``."""
    return [
        *("--model", "fasttext", "--train", str(train), "--test", str(test)),
        *("--tokenizer", "basic_english", "--recipe", "plain", "--dev-fraction", "0.01"),
        *("--epochs", str(ours.epochs), "--batch-size", str(ours.batch_size)),
        *("--optimizer", ours.optimizer, "--lr", str(ours.lr)),
        *("--model-args", f"embedding_dim={DIMENSIONS}", "ngrams=2", f"buckets={ours.buckets}"),
        f"dropout={ours.dropout}",
    ]


def timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """What a process measured, and how long it took to start and end."""
    start = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    whole = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"{command[0]} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    found: dict[str, float] = jsonlib.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "start_up": whole - found["seconds"]}


@dataclass
class Files:
    """The documents of a corpus as both programs read them.

    Attributes:
        train: Training documents, ``__label__x text``; words are separated by blanks.
        test: Test documents.
        part: Nine tenths of `train`, for the choice of settings.
        rest: The remaining tenth.
    """

    train: Path
    test: Path
    part: Path
    rest: Path


def files(name: str, data_dir: Path | None, folder: Path) -> Files:
    """Write a corpus for both programs."""
    made = Files(*(folder / f"{name}-{part}.txt" for part in ("train", "test", "part", "rest")))
    splits = load(name, data_dir=data_dir)
    line = pl.format("__label__{} {}", "label", basic_english(pl.col("text")).list.join(" "))
    for split, path in (("train", made.train), ("test", made.test)):
        with path.open("w", encoding="utf-8") as file:
            for frame in read(splits[split]):
                file.writelines(f"{text}\n" for text in frame.select(line).to_series())
    with (
        made.train.open(encoding="utf-8") as file,
        made.part.open("w", encoding="utf-8") as part,
        made.rest.open("w", encoding="utf-8") as rest,
    ):
        for i, text in enumerate(file):
            (rest if i % 10 == 9 else part).write(text)
    return made


class Programs:
    """Both programs as processes of their own.

    Args:
        python: Python of the environment that has fasttext-wheel.
        folder: Folder for runs and caches.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder

    def theirs(self, train: Path, test: Path, lr: float) -> dict[str, float]:
        """A training of the C++ program."""
        settings = {"lr": lr, "epoch": EPOCHS, "dim": DIMENSIONS, "wordNgrams": 2}
        given = jsonlib.dumps({**settings, "thread": THREADS})
        return timed([str(self.python), "-c", THEIRS, str(train), str(test), given], {})

    def ours(self, train: Path, test: Path, settings: Ours, *, warm: bool) -> dict[str, float]:
        """A training of ours; if the token cache is to be filled, after one that is not timed."""
        out, cache = self.folder / "run", self.folder / "cache"
        shutil.rmtree(out, ignore_errors=True)
        if not warm:
            shutil.rmtree(cache / "tokens", ignore_errors=True)  # not what was compiled
        options = our_options(train, test, settings)
        command = [sys.executable, "-c", OURS, str(out), *options]
        return timed(command, {"DLNOTES_CACHE": str(cache), "OMP_NUM_THREADS": str(THREADS)})


def compare(programs: Programs, made: Files, turns: int) -> dict[str, Any]:
    """Times and accuracies of all programs on a corpus, measured in alternation."""
    held_out = {lr: programs.theirs(made.part, made.rest, lr)["accuracy"] for lr in RATES}
    lr = max(held_out, key=lambda rate: held_out[rate])
    with made.train.open(encoding="utf-8") as file:
        ours = best(sum(1 for _ in file))
    contestants: dict[str, Callable[[], dict[str, float]]] = {
        "theirs": lambda: programs.theirs(made.train, made.test, lr),
        "ours, cold": lambda: programs.ours(made.train, made.test, ours, warm=False),
        "ours, warm": lambda: programs.ours(made.train, made.test, ours, warm=True),
        "ours, equal epochs": lambda: programs.ours(made.train, made.test, EQUAL, warm=True),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, job in contestants.items():
            found[name].append(job())
    rows = {
        name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    for row in rows.values():
        row["ratio"] = row["seconds"] / rows["theirs"]["seconds"]
    return {"lr": lr, "held_out": held_out, "ours": asdict(ours), "rows": rows}


@checked
def main(
    names: tuple[str, ...] = ("imdb", "nsmc_resampled"),
    /,
    json: Path | None = None,
    python: Path = ROOT / ".venv-fasttext/bin/python",
    data_dir: Path | None = None,
    turns: Count = 5,
) -> None:
    """Print how long both take to read, count words, train and test, and how accurate they are.

    Both read the same files, in which words are separated by blanks. The C++ program trains for 5
    epochs at the better of the rates 0.1 and 0.5 (chosen on a tenth of the training documents);
    ours trains with its best settings, and also for 5 epochs. Figures are medians; starting the
    interpreter and importing are reported separately.

    Args:
        names: Corpora.
        json: Also write all figures to this file.
        python: Python of an environment that has fasttext-wheel.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        turns: Number of trainings of each.
    """
    if not python.exists():
        raise UserError(f"python is {python}, which does not exist: make .venv-fasttext/.ready")
    if json:
        check_output(json)
    record: dict[str, Any] = {**provenance(0), "turns": turns, "threads": THREADS, "corpora": {}}
    record["equal epochs"] = asdict(EQUAL)
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(python, Path(folder))
        for name in names:
            found = compare(programs, files(name, data_dir, Path(folder)), turns)
            record["corpora"][name] = found
            table = Table(title=f"{name}; the C++ program at lr {found['lr']}")
            for heading in ("", "seconds", "training", "start-up", "accuracy (%)", "ratio"):
                table.add_column(heading, justify="right" if heading else "left")
            for kind, row in found["rows"].items():
                figures = [f"{row[key]:.2f}" for key in ("seconds", "training", "start_up")]
                table.add_row(kind, *figures, f"{100 * row['accuracy']:.2f}", f"{row['ratio']:.2f}")
            console().print(table)
            for cache, bar in BARS.items():
                row = found["rows"][f"ours, {cache}"]
                good = row["accuracy"] >= found["rows"]["theirs"]["accuracy"]
                met = "met" if row["ratio"] <= bar and good else "missed"
                print(f"{name}, {cache} cache: at most {bar} x at no lower accuracy: {met}")
            if json:
                write_json(json, record)


if __name__ == "__main__":
    run(main)

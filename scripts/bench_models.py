"""Documents per second in training: our models and training loop against the ordinary way."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table
from torch import nn

from dlnotes.arguments import Count, NotNegative, check_names, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.download import cache_folder
from dlnotes.display import console
from dlnotes.files import check_output, write_json
from dlnotes.models import MODELS
from dlnotes.optim import Adam
from dlnotes.training.classifier import default_tokenizer
from dlnotes.training.evaluate import evaluate
from dlnotes.training.fit import Fitting, Interrupted, fit
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.record import provenance
from ordinary import models as ordinary
from ordinary.examples import Inputs, sentences, story_and_question, words, words_and_bigrams
from ordinary.training import Example, OrdinaryTrainer

SIDES = ("ours", "ordinary")
PIECE = 1024
"""Documents of a measurement: enough for our loop to find documents of similar length."""
DEV = 1000
"""Maximum number of dev documents."""


class OurTrainer:
    """Our model and Adam in `fit`, on batches of documents of similar length."""

    def __init__(self, model: nn.Module, dataset: Dataset, lr: float, batch_size: int) -> None:
        self.model = model
        self.optimizer = Adam(model.parameters(), lr=lr)
        self.dataset, self.batch_size = dataset, batch_size
        self.turns = 0

    def train(self, indices: NDArray[np.int64]) -> float:
        """Seconds of training on these documents, once."""
        try:
            state = fit(
                self.model,
                self.optimizer,
                SingleLabel(),
                self.dataset.train.take(indices),
                self.dataset.dev.take(np.arange(1)),
                Fitting(epochs=1, batch_size=self.batch_size, seed=self.turns),
                progress=False,
            )
        except Interrupted:
            raise KeyboardInterrupt from None
        self.turns += 1
        return state.train_seconds

    def accuracy(self) -> float:
        """Share of the dev documents classified correctly."""
        return evaluate(self.model, self.dataset.dev).summary()["accuracy"]


@dataclass(frozen=True)
class Case:
    """How a model is timed.

    Attributes:
        ordinary: The same model, made of torch's layers.
        corpus: The corpus to train on.
        settings: Sizes and dropout of both.
        lr: Learning rate of both.
        epochs: Number of epochs, after which both must be equally accurate.
        goal: How many times as fast ours must be, or None.
        seconds: In how many seconds ours must train on 10,000 documents, or None.
        documents: Maximum number of training documents.
        batch_size: Documents per update of both.
        reading: How texts become documents.
        lists: Makes the ordinary model's inputs from ids, the settings and the vocabulary's size.
        ours_alone: Those of the `settings` that the ordinary model does not have.
    """

    ordinary: type[nn.Module]
    corpus: str
    settings: dict[str, Any]
    lr: float
    epochs: int
    goal: float | None = None
    seconds: float | None = None
    documents: int = 10_000
    batch_size: int = 64
    reading: dict[str, Any] = field(default_factory=dict)
    lists: Callable[[list[int], dict[str, Any], int], Inputs] = words
    ours_alone: tuple[str, ...] = ()


IMDB = {"max_tokens": 400}

CASES = {
    "fasttext": Case(
        ordinary.FastText,
        "imdb",
        {"embedding_dim": 10, "buckets": 1_000_000},
        lr=1e-2,
        epochs=3,
        goal=2.0,
        documents=4096,
        reading=IMDB,
        lists=words_and_bigrams,
    ),
    "textcnn": Case(
        ordinary.TextCNN,
        "trec",
        {"embedding_dim": 300, "widths": (3, 4, 5), "maps": 100, "dropout": 0.5},
        lr=1e-3,
        epochs=4,
        goal=2.0,
    ),
    "textrnn": Case(
        ordinary.TextRNN,
        "trec",
        {"embedding_dim": 300, "hidden_size": 128, "dropout": 0.5},
        lr=1e-3,
        epochs=8,
        goal=1.3,
    ),
    "rcnn": Case(
        ordinary.RCNN,
        "trec",
        {"embedding_dim": 50, "context_size": 50, "hidden_size": 100, "dropout": 0.5},
        lr=2e-3,
        epochs=6,
        goal=1.3,
    ),
    "han": Case(
        ordinary.HAN,
        "imdb",
        {
            "embedding_dim": 200,
            "hidden_size": 50,
            "context_size": 100,
            "dropout": 0.5,
            "max_sentences": 20,
            "max_words": 40,
        },
        lr=3e-3,
        epochs=3,
        goal=2.0,
        documents=1536,
        reading=IMDB | {"min_freq": 5},
        lists=sentences,
        ours_alone=("max_sentences", "max_words"),
    ),
    "seq2seq": Case(
        ordinary.Seq2seq,
        "trec",
        {"embedding_dim": 200, "hidden_size": 200, "maxout_size": 100, "dropout": 0.5},
        lr=1e-3,
        epochs=4,
        goal=1.3,
    ),
    "transformer": Case(
        ordinary.Transformer,
        "trec",
        {
            "embedding_dim": 128,
            "num_layers": 2,
            "num_heads": 4,
            "feedforward_dim": 256,
            "dropout": 0.1,
        },
        lr=1e-3,
        epochs=4,
        goal=1.3,
    ),
    "dmn": Case(
        ordinary.DynamicMemoryNetwork,
        "babi-1",
        {"embedding_dim": 80, "hidden_size": 80, "passes": 3, "dropout": 0.1, "max_words": 64},
        lr=1e-3,
        epochs=3,
        seconds=12.0,
        lists=story_and_question,
        ours_alone=("max_words",),
    ),
    "entnet": Case(
        ordinary.EntityNetwork,
        "babi-1",
        {"embedding_dim": 100, "slots": 20, "max_words": 64},
        lr=5e-3,
        epochs=4,
        seconds=12.0,
        batch_size=32,
        lists=story_and_question,
    ),
}


def read(name: str, case: Case, data_dir: Path | None) -> Dataset:
    """The documents that a model is timed on, those of train and dev drawn at random."""
    dataset = load_dataset(
        load(case.corpus, data_dir=data_dir, cache_dir=cache_folder()),
        tokenizer=default_tokenizer(name),
        cache_dir=cache_folder() / "tokens",
        **case.reading,
    )
    dataset.train, dataset.dev = some(dataset.train, case.documents), some(dataset.dev, DEV)
    return dataset


def some(documents: Documents, most: int) -> Documents:
    """At most so many of the documents, drawn at random."""
    order = np.random.default_rng(0).permutation(len(documents))
    return documents if len(order) <= most else documents.take(order[:most])


def examples(documents: Documents, case: Case, vocabulary_size: int) -> Iterator[Example]:
    """The documents as the ordinary trainer has them."""
    for i in range(len(documents)):
        tokens, labels = documents.batch(np.array([i]))
        yield case.lists(tokens[0].tolist(), case.settings, vocabulary_size), int(labels)


def competitors(name: str, case: Case, dataset: Dataset) -> dict[str, OurTrainer | OrdinaryTrainer]:
    """Both sides, untrained."""
    torch.manual_seed(0)
    v = len(dataset.vocabulary)
    sizes = {"vocabulary_size": v, "num_classes": len(dataset.label_names)}
    alike = {key: x for key, x in case.settings.items() if key not in case.ours_alone}
    train, dev = (list(examples(part, case, v)) for part in (dataset.train, dataset.dev))
    how = case.lr, case.batch_size
    return {
        "ours": OurTrainer(MODELS[name](**sizes, **case.settings), dataset, *how),
        "ordinary": OrdinaryTrainer(case.ordinary(**sizes, **alike), train, dev, *how),
    }


def race(name: str, case: Case, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Train both in alternation; return the speed of each piece and the final accuracies."""
    trainers = competitors(name, case, dataset)
    n = len(dataset.train)
    turns = max(1, round(n / PIECE))
    task = progress.add_task(name, total=case.epochs * turns)
    random = np.random.default_rng(0)
    speeds: dict[str, list[float]] = {side: [] for side in trainers}
    for _ in range(case.epochs):
        for piece in np.array_split(random.permutation(n), turns):
            for side, trainer in trainers.items():
                speeds[side].append(len(piece) / trainer.train(piece))
            progress.advance(task)
    progress.remove_task(task)
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["ordinary"], strict=True)]
    return {
        "accuracy": {side: trainer.accuracy() for side, trainer in trainers.items()},
        "documents_per_second": {side: statistics.median(s) for side, s in speeds.items()},
        "ratio": statistics.median(ratios),
        "pieces": speeds,
    }


def unequal(accuracy: dict[str, float], labels: NDArray[np.int64], margin: float) -> str | None:
    """Why the two speeds may not be compared; None if they may."""
    most = float(np.bincount(labels).max() / len(labels))
    ours, ordinary = accuracy["ours"], accuracy["ordinary"]
    if not ours >= ordinary - margin / 100:
        return f"accuracy {ours:.3f} on dev, the ordinary model's {ordinary:.3f}"
    if not ordinary >= most + margin / 100:
        return f"the ordinary model has only {ordinary:.3f} on dev, the largest class {most:.3f}"
    return None


def goals(name: str, case: Case, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The goals of a model's speed, and what it reached."""
    if case.goal:
        yield goal(f"{name} × ordinary", row["ratio"], case.goal)
    if case.seconds:
        took = row["seconds_of_10000"]
        what = f"{name} 10,000 documents in {took:.1f} s, {case.seconds:.0f} s"
        yield goal(what, case.seconds / took, 1.0)


def goal(what: str, reached: float, at_least: float) -> dict[str, Any]:
    """A goal as it is recorded."""
    return {"goal": what, "reached": reached, "at_least": at_least, "met": reached >= at_least}


@checked
def main(
    json: Path | None = None,
    models: tuple[str, ...] = tuple(CASES),
    corpus: str | None = None,
    data_dir: Path | None = None,
    documents: Count | None = None,
    epochs: Count | None = None,
    margin: NotNegative = 3.0,
) -> None:
    """Print documents per second in training, ours and the ordinary way, and which goals are met.

    The ordinary way: documents are lists of ids, batches are padded to the longest document of the
    corpus (after the cut at the same number of tokens), the model is made of torch's own layers,
    and the optimizer is torch's Adam with its defaults. Ours: `fit`, which batches documents of
    similar length, our model, and our Adam. Sizes, dropout, batch size, learning rate, documents
    and epochs are the same. Both train in alternation, about a thousand documents each time;
    figures are medians. Making the tensors of a batch is timed; reading and tokenizing the corpus
    is not.

    Both must be equally accurate on dev documents: if ours is worse than the ordinary one by more
    than the margin, or the ordinary one has learned nothing, no times are shown and the exit code
    is 1.

    Args:
        json: Also write all figures to this file (the kept ones: results/benchmarks/models.json).
        models: The models to time.
        corpus: Time on this one (the memory networks always read babi-1). Default: imdb for
            fasttext and han, trec for the others.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        documents: Maximum number of training documents.
        epochs: Number of epochs.
        margin: Points by which the accuracy of ours may be lower.
    """
    check_names("the benchmark", "model", models, CASES)
    if json:
        check_output(json)
    threads = torch.get_num_threads()
    table = Table(title=f"Documents a second in training, on {threads} threads")
    for heading in ("model", "corpus", "dev accuracy", "ordinary", "docs/s", "ordinary", "×"):
        table.add_column(heading, justify="left" if heading in ("model", "corpus") else "right")
    rows: list[dict[str, Any]] = []
    reached: list[dict[str, Any]] = []
    failed: list[str] = []
    with Progress(console=console(stderr=True), transient=True) as progress:
        for name in models:
            case = CASES[name]
            if corpus and case.lists is not story_and_question:
                case = replace(case, corpus=corpus)
            case = replace(
                case, documents=documents or case.documents, epochs=epochs or case.epochs
            )
            dataset = read(name, case, data_dir)
            row: dict[str, Any] = {
                "model": name,
                "corpus": case.corpus,
                "data": dataset.fingerprints,
                "documents": {"train": len(dataset.train), "dev": len(dataset.dev)},
                "settings": case.settings,
                "reading": case.reading,
                **{key: getattr(case, key) for key in ("batch_size", "lr", "epochs")},
                **race(name, case, dataset, progress),
            }
            cells = [f"{row['accuracy'][side]:.3f}" for side in SIDES]
            if reason := unequal(row["accuracy"], np.asarray(dataset.dev.labels), margin):
                failed.append(f"{name}: {reason}")
                for key in ("documents_per_second", "ratio", "pieces"):
                    del row[key]
            else:
                speed = row["documents_per_second"]
                cells += [*(f"{speed[side]:,.0f}" for side in SIDES), f"{row['ratio']:.2f}"]
                if case.seconds:
                    row["seconds_of_10000"] = 10_000 / speed["ours"]
                reached += goals(name, case, row)
            rows.append(row)
            table.add_row(name, case.corpus, *cells)
            progress.console.print(f"{name}: {', '.join(cells)}", highlight=False)
    console().print(table)
    missed = [row for row in reached if not row["met"]]
    load_average = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{len(reached) - len(missed)} of {len(reached)} goals met (load: {load_average})")
    for row in missed:
        print(f"  missed: {row['goal']}: {row['reached']:.2f}, goal {row['at_least']:.2f}")
    if json:
        figures = {"margin": margin, "load": os.getloadavg(), "rows": rows}
        write_json(json, {**provenance(0), **figures, "goals": reached, "failed": failed})
    for why in failed:
        print(f"not equally accurate: {why}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run(main)

"""Draw the rules at work: on four surfaces, in three batch regimes and on a real corpus."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from dlnotes.arguments import Count, checked
from dlnotes.cli import run
from dlnotes.data.batches import by_length
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Batch, Documents
from dlnotes.data.download import cache_folder
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import make_folder, write_json
from dlnotes.models import FastText
from dlnotes.optim import OPTIMIZERS
from dlnotes.training.board import Board
from dlnotes.training.fit import Fitting, TrainingState, fit
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.record import provenance
from optimizers.pictures import NAMES, animate, draw_corpus, draw_paths, draw_rates, draw_regimes
from optimizers.surfaces import RATES, SURFACES, ends, sweep

SHOWN = tuple(name for name in NAMES if name != "adamw")  # without weight decay it is Adam
# The middle of each rule's sweep on a corpus: what suits a mean of word vectors.
MIDDLE = {
    "gradient-descent": 3.0,
    "momentum": 10.0,
    "nesterov": 10.0,
    "rmsprop": 0.01,
    "adagrad": 0.3,
    "adadelta": 10.0,
    "adam": 0.03,
    "adamw": 0.03,
}
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
BATCH = 32


class Curves(Board):
    """Keeps training loss and dev accuracy between updates, and the time of the updates alone.

    Both are measured without dropout on the same documents each time, at most 512 of train and
    2,000 of dev.
    """

    def __init__(self, model: nn.Module, train: Documents, dev: Documents, steps: int) -> None:
        self._train, self._dev = sample(train, 512), sample(dev, 2000)
        self._last, self._every = steps, max(10, steps // 240 * 10)
        self.steps: list[int] = []
        self.values: dict[str, list[float]] = {"seconds": [], "loss": [], "accuracy": []}
        self._seconds = 0.0
        self._mark = time.process_time()
        self.step(model, 0, math.nan, 0.0, None)

    def step(self, model: nn.Module, step: int, loss: float, lr: Any, norm: Tensor | None) -> None:
        """Measure now and then; the clock stands still meanwhile."""
        self._seconds += time.process_time() - self._mark
        if step % self._every == 0 or step == self._last:
            figures = (
                self._seconds if step else 0.0,
                measure(model, self._train)[0],
                100 * measure(model, self._dev)[1],
            )
            self.steps.append(step)
            for values, figure in zip(self.values.values(), figures, strict=True):
                values.append(figure)
        self._mark = time.process_time()

    def epoch(self, model: nn.Module, step: int, record: dict[str, float]) -> None:
        """The epoch's own measurement on dev is not training."""
        self._mark = time.process_time()


def sample(documents: Documents, most: int) -> list[Batch]:
    """Some documents, the same ones each time, in batches of similar length."""
    chosen = np.random.default_rng(0).permutation(len(documents))[:most]
    return [documents.batch(chosen[i]) for i in by_length(documents.lengths[chosen], 1 << 15)]


def measure(model: nn.Module, batches: list[Batch]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    model.eval()
    with torch.inference_mode():
        scores = torch.cat([model(batch.tokens) for batch in batches])
    model.train()
    labels = torch.cat([batch.labels for batch in batches])
    right = (scores.argmax(1) == labels).double().mean()
    return float(nn.functional.cross_entropy(scores, labels)), float(right)


def train(
    dataset: Dataset, rule: str, lr: float, seed: int, epochs: int, *, curves: bool = False
) -> tuple[TrainingState, Curves | None]:
    """One run of FastText on words alone. Its gradients are dense: every rule is what it says."""
    torch.manual_seed(seed)
    model = FastText(
        vocabulary_size=len(dataset.vocabulary),
        num_classes=len(dataset.label_names),
        ngrams=1,
        sparse=False,
    )
    optimizer = OPTIMIZERS[rule](model.parameters(), lr=lr)
    steps = epochs * -(-len(dataset.train) // BATCH)
    board = Curves(model, dataset.train, dataset.dev, steps) if curves else None
    fitting = Fitting(epochs=epochs, batch_size=BATCH, seed=seed)
    data = dataset.train, dataset.dev
    state = fit(model, optimizer, SingleLabel(), *data, fitting, board=board, progress=False)
    return state, board


def study(
    dataset: Dataset,
    *,
    rules: tuple[str, ...] = tuple(NAMES),
    factors: tuple[float, ...] = FACTORS,
    seeds: int = 3,
    epochs: int = 8,
) -> dict[str, Any]:
    """Each rule at the rate of a sweep with the lowest dev loss of any epoch, from several seeds.

    Args:
        dataset: Its train and dev documents are read; the test documents are not.
        rules: Names of rules.
        factors: The sweep's rates as multiples of ``MIDDLE``; it runs on seed 0.
        seeds: Runs at the best rate, from seeds 0, 1, …
        epochs: Passes over the training documents.

    Returns:
        For each rule ``sweep`` (rate, lowest dev loss, its accuracy), ``lr``, ``steps`` and
        ``seconds``, ``loss`` and ``accuracy``: a curve for each seed.
    """
    # Compiles the kernels, so that no curve begins with that.
    for rule in rules:
        train(dataset, rule, MIDDLE[rule] / 10, 0, 1)
    result: dict[str, Any] = {}
    jobs = [(rule, round(factor * MIDDLE[rule], 9)) for rule in rules for factor in factors]
    shown = console(stderr=True)
    for rule, lr in track(jobs, "learning rates", console=shown):
        row: dict[str, float | None] = {"lr": lr, "dev_loss": None, "dev_accuracy": None}
        try:
            history = train(dataset, rule, lr, 0, epochs)[0].history
            best = min(history, key=lambda epoch: epoch["dev_loss"])
            row |= {name: best[name] for name in ("dev_loss", "dev_accuracy")}
        except UserError:  # the loss became NaN or infinite
            pass
        result.setdefault(rule, {"sweep": []})["sweep"].append(row)
    for rule, found in result.items():
        finite = [row for row in found["sweep"] if row["dev_loss"] is not None]
        if not finite:
            raise UserError(f"{rule} diverged at every learning rate of the sweep")
        found["lr"] = min(finite, key=lambda row: row["dev_loss"])["lr"]
        found.update({"seconds": [], "loss": [], "accuracy": []})
    # Seeds outside: what else the machine does affects all rules equally.
    runs = [(rule, seed) for seed in range(seeds) for rule in rules]
    for rule, seed in track(runs, "seeds", console=shown):
        found = result[rule]
        _, curves = train(dataset, rule, found["lr"], seed, epochs, curves=True)
        assert curves is not None
        found["steps"] = curves.steps
        for name, values in curves.values.items():
            found[name].append([float(f"{x:.4g}") for x in values])
    return result


def corpus_title(corpus: str, dataset: Dataset, seeds: int) -> str:
    """What the picture of the corpus shows."""
    return (
        f"FastText (word vectors of 10 numbers) on {corpus}: {len(dataset.train):,} training and "
        f"{len(dataset.dev):,} dev documents, batches of {BATCH}, no test data\n"
        "Each rule at the best of five learning rates by dev loss; line: mean of "
        f"{seeds} seeds, band: from lowest to highest"
    )


def print_sweep(result: dict[str, Any]) -> None:
    """The sweep as a table, a rule a row."""
    table = Table(title="Lowest dev loss at each learning rate (accuracy of that epoch)")
    table.add_column("rule")
    for factor in range(max(len(found["sweep"]) for found in result.values())):
        table.add_column(f"rate {factor + 1}", justify="right")
    for rule, found in result.items():
        cells = []
        for row in found["sweep"]:
            loss = row["dev_loss"]
            text = "diverged" if loss is None else f"{loss:.3f} ({row['dev_accuracy']:.1%})"
            mark = " *" if row["lr"] == found["lr"] else ""
            cells.append(f"{row['lr']:g}: {text}{mark}")
        table.add_row(NAMES[rule], *cells)
    console().print(table)


@checked
def main(
    out: Path = Path("runs/optimizers"),
    corpus: str | None = "bbc",
    data_dir: Path | None = None,
    seeds: Count = 3,
    epochs: Count = 8,
) -> None:
    """Draw every rule on a ravine, Rosenbrock's and Beale's functions, a saddle and a corpus.

    Writes contour plots with paths, a learning-rate sweep and the batch regimes as PNG files and
    for TensorBoard, and an animation. Each rule runs at the best of 61 rates between 1e-4 and 100
    that keep its path inside of the picture, its other hyper-parameters at their defaults.

    On the corpus FastText is trained on words alone with dense gradients, with each rule at the
    best of five rates by dev loss. That takes about 2 minutes; the figures go to corpus.json too.

    Args:
        out: Folder for the pictures and TensorBoard's file.
        corpus: Name of a corpus; None draws no corpus.
        data_dir: Folder of corpora, NAME/train.tsv[.gz] and so on; looked at before downloading.
        seeds: Runs of each rule at its best rate.
        epochs: Passes over the training documents.
    """
    dataset = None
    if corpus:  # at first, so that a wrong name is known at once
        sources = load(corpus, data_dir=data_dir, cache_dir=cache_folder())
        dataset = load_dataset(dict(sources), cache_dir=cache_folder() / "tokens")
    make_folder(out)
    paths: dict[str, dict[str, Tensor]] = {}
    final: dict[str, dict[str, Tensor]] = {}
    table = Table(title="Height above the minimum at the end, at the best learning rate")
    table.add_column("rule")
    chosen: dict[str, dict[str, float]] = {}
    for name, surface in SURFACES.items():
        table.add_column(f"{name}, {surface.steps} steps", justify="right")
        paths[name], final[name], chosen[name] = {}, {}, {}
        for rule in SHOWN:
            swept = sweep(OPTIMIZERS[rule], surface, RATES)
            final[name][rule] = ends(surface, swept)
            index = int(final[name][rule].argmin())
            paths[name][rule], chosen[name][rule] = swept[index], float(RATES[index])
    for rule in SHOWN:
        cells = [f"{float(final[s][rule].min()):.1e} (lr {chosen[s][rule]:.3g})" for s in SURFACES]
        table.add_row(NAMES[rule], *cells)
    console().print(table)
    with SummaryWriter(str(out)) as board:

        def keep(figure: Figure, title: str) -> None:
            figure.savefig(out / f"{title}.png", dpi=90)
            board.add_figure(f"optimizers/{title}", figure, close=True)

        for name, surface in SURFACES.items():
            keep(draw_paths(name, surface, paths[name], chosen[name]), name.lower())
        keep(draw_rates(final), "learning_rates")
        keep(draw_regimes(), "batch_regimes")
        if dataset:
            result = study(dataset, seeds=seeds, epochs=epochs)
            print_sweep(result)
            record = {"corpus": corpus, "epochs": epochs, "batch_size": BATCH, "rules": result}
            write_json(out / "corpus.json", {**provenance(0), **record})
            keep(draw_corpus(result, corpus_title(corpus or "", dataset, seeds)), "corpus")
    animate(paths, out / "paths.gif")
    print(f"Pictures: {out}/*.png and paths.gif; TensorBoard: tensorboard --logdir {out}")


if __name__ == "__main__":
    run(main)

"""Draw the rules at work: on four surfaces, in three batch regimes and on a real corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.tensorboard import SummaryWriter

from dlnotes.cli import run
from dlnotes.data.batches import by_length
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Batch, Documents
from dlnotes.data.download import cache_folder
from dlnotes.errors import UserError
from dlnotes.models import FastText
from dlnotes.optim import BGD, MBGD, OPTIMIZERS, SGD, GradientDescent, UpdateRule
from dlnotes.training.board import Board
from dlnotes.training.classifier import write_json
from dlnotes.training.fit import Fitting, TrainingState, fit
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.record import provenance

mpl.use("Agg")

NAMES = {
    "gradient-descent": "Gradient descent",
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "rmsprop": "RMSProp",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adam": "Adam",
    "adamw": "AdamW",
}
# Okabe & Ito's palette, which colour-blind readers can tell apart, and black.
COLOURS = dict(
    zip(
        NAMES,
        ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#7F7F7F"),
        strict=True,
    )
)
SHOWN = tuple(name for name in NAMES if name != "adamw")  # without weight decay it is Adam
RATES = torch.logspace(-4, 2, 61, dtype=torch.float64)


class Surface(NamedTuple):
    """A function of two variables to go down."""

    formula: str
    height: Callable[[Any, Any], Any]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    view: tuple[float, float, float, float]
    steps: int


SURFACES = {
    "Ravine": Surface(
        "0.1x² + 2y²",
        lambda x, y: 0.1 * x**2 + 2 * y**2,
        (-5.0, -2.0),
        ((0.0, 0.0),),
        (-6, 3, -3, 3),
        100,
    ),
    "Rosenbrock": Surface(
        "(1 − x)² + 100(y − x²)²",
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        (-1.2, 1.0),
        ((1.0, 1.0),),
        (-2, 2, -1, 3),
        400,
    ),
    "Beale": Surface(
        "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        lambda x, y: (
            (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
        ),
        (1.0, 1.5),
        ((3.0, 0.5),),
        (-1, 4.5, -1.5, 2.5),
        200,
    ),
    "Saddle": Surface(
        "x² − y² + ¼y⁴",
        lambda x, y: x**2 - y**2 + 0.25 * y**4,
        (1.5, 1e-3),
        ((0.0, math.sqrt(2)), (0.0, -math.sqrt(2))),
        (-2, 2, -2, 2),
        100,
    ),
}


def excess(surface: Surface, points: Tensor) -> Tensor:
    """Height above the minimum; infinite where a path has left the numbers."""
    height = surface.height(points[..., 0], points[..., 1])
    above: Tensor = height - surface.height(*surface.minima[0])
    return above.nan_to_num(nan=math.inf)


def sweep(rule: type[UpdateRule], surface: Surface, rates: Tensor) -> Tensor:
    """The paths from the surface's start at all learning rates, from one vmapped call.

    Args:
        rule: The optimizer.
        surface: Where to walk.
        rates: Learning rates. Shape (r,).

    Returns:
        Shape (r, steps + 1, 2).
    """
    defaults = rule([Parameter(torch.zeros(1))]).defaults
    hyper = {name: defaults[name] for name in rule.kernel_names() if name != "lr"}
    start = torch.tensor(surface.start, dtype=torch.float64)
    slope = torch.func.grad(lambda theta: surface.height(theta[0], theta[1]))

    def path(lr: Tensor) -> Tensor:
        theta, accumulators = start, [torch.zeros_like(start) for _ in rule.accumulators]
        points = [theta]
        for step in range(surface.steps):
            t = {"t": step + 1.0} if "t" in rule.hyper_names() else {}
            options = {**hyper, **t, "lr": lr}
            theta, *accumulators = rule.update(theta, slope(theta), *accumulators, **options)
            points.append(theta)
        return torch.stack(points)

    swept: Tensor = torch.func.vmap(path)(rates)
    return swept


def ends(surface: Surface, paths: Tensor) -> Tensor:
    """The mean height over the last tenth of the steps; infinite for a path that left the view."""
    left, right, low, high = surface.view
    x, y = paths[..., 0], paths[..., 1]
    inside = ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all(1)
    height = excess(surface, paths)[:, -max(1, surface.steps // 10) :].mean(1)
    return torch.where(inside, height, math.inf)


def contours(axes: Axes, surface: Surface) -> None:
    """Contour lines, the start (square) and the minima (stars)."""
    left, right, low, high = surface.view
    x, y = np.meshgrid(np.linspace(left, right, 300), np.linspace(low, high, 300))
    lowest = surface.height(*surface.minima[0])
    z = surface.height(x, y) - lowest
    levels = np.logspace(-2, math.log10(z.max()), 14)
    axes.contour(x, y, z, levels, cmap="Greys_r", norm=LogNorm(), linewidths=0.6, zorder=0)
    axes.plot(*surface.start, "s", color="black", ms=5, zorder=4)
    for minimum in surface.minima:
        axes.plot(*minimum, "*", color="red", ms=11, zorder=4)
    axes.set(xlim=(left, right), ylim=(low, high), xlabel="x", ylabel="y")


def draw_paths(
    name: str, surface: Surface, paths: dict[str, Tensor], rates: dict[str, float]
) -> Figure:
    """One panel for each rule at its best rate, and the heights of all against steps."""
    figure, panels = plt.subplots(2, 4, figsize=(17, 8.5), layout="constrained")
    figure.suptitle(
        f"{name}: {surface.formula}. Paths of {surface.steps} steps at each rule's best learning "
        "rate; square: start, star: minimum",
        fontsize=13,
    )
    heights = panels.flat[7]
    for axes, (rule, path) in zip(panels.flat, paths.items(), strict=False):
        contours(axes, surface)
        axes.plot(path[:, 0], path[:, 1], ".-", color=COLOURS[rule], ms=3, lw=1.2, zorder=3)
        axes.set_title(f"{NAMES[rule]}, lr = {rates[rule]:.3g}", fontsize=11)
        height = excess(surface, path).clamp(min=1e-16)
        heights.semilogy(height, color=COLOURS[rule], label=NAMES[rule], lw=1.5)
    heights.set(xlabel="steps", ylabel="height above the minimum", title="All rules")
    lowest = min(float(excess(surface, path).min()) for path in paths.values())
    heights.set_ylim(bottom=max(1e-12, lowest / 10))
    heights.grid(alpha=0.3)
    heights.legend(fontsize=8)
    return figure


def draw_rates(final: dict[str, dict[str, Tensor]]) -> Figure:
    """The height at the end against the learning rate."""
    figure, panels = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    figure.suptitle(
        "Which learning rates work: height above the minimum after the last step "
        "(mean of the last tenth, 1e-12 at least); a line ends where the path leaves the picture",
        fontsize=13,
    )
    for axes, (name, rules) in zip(panels.flat, final.items(), strict=True):
        surface = SURFACES[name]
        first = float(excess(surface, torch.tensor(surface.start, dtype=torch.float64)))
        for rule, end in rules.items():
            shown = torch.where(end.isfinite(), end, math.nan).clamp(min=1e-12)
            axes.loglog(RATES, shown, ".-", color=COLOURS[rule], label=NAMES[rule], lw=1.5, ms=4)
        axes.axhline(first, color="grey", ls=":", lw=1)
        axes.text(RATES[-1], first, "start ", ha="right", va="bottom", color="grey", fontsize=9)
        axes.set(title=f"{name}: {surface.formula}", xlabel="learning rate", ylabel="height")
        axes.grid(alpha=0.3)
    panels.flat[0].legend(fontsize=9, loc="lower left")
    return figure


def animate(paths: dict[str, dict[str, Tensor]], file: Path, frames: int = 80) -> None:
    """All rules on all surfaces at once, as a GIF that starts again."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 8.4), dpi=75, layout="constrained")
    moving: list[tuple[Axes, int, Tensor, Any, Any]] = []
    counters: list[tuple[int, Any]] = []
    for axes, (name, rules) in zip(panels.flat, paths.items(), strict=True):
        contours(axes, SURFACES[name])
        axes.set_title(name, fontsize=10)
        corner = {"transform": axes.transAxes, "ha": "right", "va": "top", "fontsize": 9}
        counter = axes.text(0.98, 0.98, "", animated=True, **corner)
        counters.append((SURFACES[name].steps, counter))
        for rule, path in rules.items():
            style = {"color": COLOURS[rule], "animated": True}
            (tail,) = axes.plot([], [], "-", lw=1.3, label=NAMES[rule], **style)
            (head,) = axes.plot([], [], "o", ms=6, zorder=5, **style)
            moving.append((axes, SURFACES[name].steps, path, tail, head))
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=8)
    # The surfaces are drawn once; only what moves is drawn for each picture.
    canvas: Any = FigureCanvasAgg(figure)  # without types
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    pictures = []
    for frame in range(frames):
        canvas.restore_region(still)
        for steps, counter in counters:
            counter.set_text(f"step {round(frame / (frames - 1) * steps)}")
        for axes, steps, path, tail, head in moving:
            step = round(frame / (frames - 1) * steps)
            tail.set_data(path[: step + 1, 0], path[: step + 1, 1])
            head.set_data(path[step : step + 1, 0], path[step : step + 1, 1])
            axes.draw_artist(tail)
            axes.draw_artist(head)
        for _, counter in counters:
            counter.axes.draw_artist(counter)
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("P"))
    times = [80] * (frames - 1) + [2000]  # ms; the end stays on for a while
    first, *others = pictures
    first.save(file, save_all=True, append_images=others, duration=times, loop=0)
    plt.close(figure)


def draw_regimes(epochs: int = 8, samples: int = 256) -> Figure:
    """BGD, MBGD and SGD on one least-squares problem: the same rule, other batches."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, generator=generator, dtype=torch.float64)
    y = 1.5 * x - 0.5 + 0.5 * torch.randn(samples, generator=generator, dtype=torch.float64)
    inputs = torch.stack([x, torch.ones_like(x)], 1)  # b 2
    truth = torch.linalg.lstsq(inputs, y[:, None]).solution[:, 0]

    def cost(theta: Tensor) -> Tensor:
        return 0.5 * ((theta @ inputs.T - y) ** 2).mean(-1)

    regimes = {
        f"BGD: all {samples} samples, lr 0.5": (BGD(samples), 0.5),
        "MBGD: 16 samples, lr 0.2": (MBGD(samples, 16, generator=generator), 0.2),
        "SGD: 1 sample, lr 0.05": (SGD(samples, generator=generator), 0.05),
    }
    figure, (plane, updates, seen) = plt.subplots(1, 3, figsize=(17, 5.5), layout="constrained")
    w, b = torch.meshgrid(
        torch.linspace(-1.6, 2.2, 200, dtype=torch.float64),
        torch.linspace(-1.8, 1.8, 200, dtype=torch.float64),
        indexing="ij",
    )
    z = cost(torch.stack([w, b], -1)) - cost(truth)
    plane.contour(w, b, z, np.logspace(-3, 0.6, 12), cmap="Greys_r", norm=LogNorm(), linewidths=0.6)
    for (label, (regime, lr)), colour in zip(
        regimes.items(), ("#000000", "#009E73", "#D55E00"), strict=True
    ):
        theta = Parameter(torch.tensor([-1.3, 1.5], dtype=torch.float64))
        optimizer = GradientDescent([theta], lr=lr)
        points, used = [theta.detach().clone()], [0]
        for _ in range(epochs):
            for batch in regime:
                residual = inputs[batch] @ theta.detach() - y[batch]
                theta.grad = inputs[batch].T @ residual / len(batch)
                optimizer.step()
                points.append(theta.detach().clone())
                used.append(used[-1] + len(batch))
        path = torch.stack(points)
        above = cost(path) - cost(truth)
        plane.plot(path[:, 0], path[:, 1], ".-", color=colour, lw=0.8, ms=3, label=label)
        updates.loglog(range(1, len(above) + 1), above, ".-", color=colour, lw=1, ms=3)
        seen.semilogy(torch.tensor(used) / samples, above, ".-", color=colour, lw=1, ms=3)
    plane.plot(*truth, "*", color="red", ms=12)
    plane.set(title="Paths (star: least squares)", xlabel="slope", ylabel="intercept")
    plane.legend(fontsize=9, loc="lower left")
    updates.set(title="By updates: BGD's are the most accurate", xlabel="update, counted from 1")
    seen.set(title="By samples read: BGD's are the most costly", xlabel="epochs")
    for axes in (updates, seen):
        axes.set_ylabel("loss above the minimum")
        axes.grid(alpha=0.3)
    figure.suptitle(
        "One rule, three batch regimes: fitting a line to 256 noisy points", fontsize=13
    )
    return figure


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
MEASURED = {
    "loss": "training loss (nats per document)",
    "accuracy": "dev accuracy (% of documents)",
}
AXES = {"steps": "steps (updates)", "seconds": "seconds of training (CPU time, updates alone)"}


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
    rules: tuple[str, ...] = tuple(OPTIMIZERS),
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
    console = Console(stderr=True)
    for rule, lr in track(jobs, "learning rates", console=console):
        row: dict[str, float | None] = {"lr": lr, "dev_loss": None, "dev_accuracy": None}
        try:
            history = train(dataset, rule, lr, 0, epochs)[0].history
            best = min(history, key=lambda epoch: epoch["dev_loss"])
            row |= {name: best[name] for name in ("dev_loss", "dev_accuracy")}
        except UserError:  # the loss left the numbers
            pass
        result.setdefault(rule, {"sweep": []})["sweep"].append(row)
    for rule, found in result.items():
        finite = [row for row in found["sweep"] if row["dev_loss"] is not None]
        if not finite:
            raise UserError(f"{rule} diverged at every learning rate of the sweep")
        found["lr"] = min(finite, key=lambda row: row["dev_loss"])["lr"]
        found.update({"seconds": [], "loss": [], "accuracy": []})
    # Seeds outside: what else the machine does falls on all rules alike.
    runs = [(rule, seed) for seed in range(seeds) for rule in rules]
    for rule, seed in track(runs, "seeds", console=console):
        found = result[rule]
        _, curves = train(dataset, rule, found["lr"], seed, epochs, curves=True)
        assert curves is not None
        found["steps"] = curves.steps
        for name, values in curves.values.items():
            found[name].append([float(f"{x:.4g}") for x in values])
    return result


def apart(heights: list[float], distance: float) -> list[float]:
    """Heights of labels that keep their order and a distance, near the wanted ones."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for _ in range(200):
        for low, high in pairwise(order):
            missing = distance - (placed[high] - placed[low])
            if missing > 1e-9:
                placed[low] -= missing / 2
                placed[high] += missing / 2
    return placed


def draw_corpus(result: dict[str, Any], title: str) -> Figure:
    """Training loss and dev accuracy against steps and against seconds."""
    figure, panels = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    figure.suptitle(title, fontsize=12)
    for row, (measure, meaning) in zip(panels, MEASURED.items(), strict=True):
        for axes, (axis, unit) in zip(row, AXES.items(), strict=True):
            ends: dict[str, tuple[float, float]] = {}
            for rule, found in result.items():
                y = np.array(found[measure])
                x = np.atleast_2d(found[axis]).mean(0)
                style = {"color": COLOURS[rule], "ls": "--" if rule == "adamw" else "-"}
                text = f"lr {found['lr']:g}" if measure == "loss" else f"{y[:, -1].mean():.1f} %"
                axes.plot(x, y.mean(0), lw=1.8, **style)
                axes.fill_between(x, y.min(0), y.max(0), color=COLOURS[rule], alpha=0.15, lw=0)
                ends[f"{NAMES[rule]}, {text}"] = float(x[-1]), float(y.mean(0)[-1])
            axes.set_yscale("log" if measure == "loss" else "linear")
            if measure == "accuracy":
                axes.set_ylim(top=100)
            axes.set_xlim(0, max(x for x, _ in ends.values()))
            axes.set(xlabel=unit, ylabel=meaning)
            axes.grid(alpha=0.3)
            label(axes, ends, [COLOURS[rule] for rule in result])
    return figure


def label(axes: Axes, ends: dict[str, tuple[float, float]], colours: list[str]) -> None:
    """Names right of the picture, each joined to the end of its line."""
    screen = axes.transData + axes.transAxes.inverted()
    points = [tuple(map(float, screen.transform(end))) for end in ends.values()]
    heights = apart([point[1] for point in points], 0.058)
    lift = max(0.0, 0.02 - min(heights)) - max(0.0, max(heights) - 0.98)
    for text, point, height, colour in zip(ends, points, heights, colours, strict=True):
        axes.annotate(
            text,
            (point[0], point[1]),
            (1.08, height + lift),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=10,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.8,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


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
    Console(width=150).print(table)


def main(
    out: Path = Path("runs/optimizers"),
    corpus: str | None = "bbc",
    data_dir: Path | None = None,
    seeds: int = 3,
    epochs: int = 8,
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
    out.mkdir(parents=True, exist_ok=True)
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
    Console(width=120).print(table)
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

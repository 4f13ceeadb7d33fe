"""Draw the rules at work: paths over four surfaces, an animation, rates, and batch regimes."""

from __future__ import annotations

import math
from collections.abc import Callable
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
from rich.table import Table
from torch import Tensor
from torch.nn import Parameter
from torch.utils.tensorboard import SummaryWriter

from dlnotes.cli import run
from dlnotes.optim import BGD, MBGD, OPTIMIZERS, SGD, GradientDescent, UpdateRule

mpl.use("Agg")

NAMES = {
    "gradient-descent": "Gradient descent",
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "rmsprop": "RMSProp",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adam": "Adam",
}
# Okabe & Ito's palette, which colour-blind readers can tell apart, and black.
COLOURS = dict(
    zip(
        NAMES,
        ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00"),
        strict=True,
    )
)
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


def main(out: Path = Path("runs/optimizers")) -> None:
    """Draw every rule of the notes on a ravine, Rosenbrock's and Beale's functions and a saddle.

    Writes contour plots with paths, a learning-rate sweep and the batch regimes as PNG files and
    for TensorBoard, and an animation. Each rule runs at the best of 61 rates between 1e-4 and 100
    that keep its path inside of the picture, its other hyper-parameters at their defaults.

    Args:
        out: Folder for the pictures and TensorBoard's file.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths: dict[str, dict[str, Tensor]] = {}
    final: dict[str, dict[str, Tensor]] = {}
    table = Table(title="Height above the minimum at the end, at the best learning rate")
    table.add_column("rule")
    chosen: dict[str, dict[str, float]] = {}
    for name, surface in SURFACES.items():
        table.add_column(f"{name}, {surface.steps} steps", justify="right")
        paths[name], final[name], chosen[name] = {}, {}, {}
        for rule in NAMES:
            swept = sweep(OPTIMIZERS[rule], surface, RATES)
            final[name][rule] = ends(surface, swept)
            index = int(final[name][rule].argmin())
            paths[name][rule], chosen[name][rule] = swept[index], float(RATES[index])
    for rule in NAMES:
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
    animate(paths, out / "paths.gif")
    print(f"Pictures: {out}/*.png and paths.gif; TensorBoard: tensorboard --logdir {out}")


if __name__ == "__main__":
    run(main)

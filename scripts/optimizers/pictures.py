"""Pictures of the rules at work: paths, learning rates, batch regimes and curves of a corpus."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import Parameter

from dlnotes.data.batches import BGD, MBGD, SGD
from dlnotes.optim import GradientDescent
from optimizers.surfaces import RATES, SURFACES, Surface, excess

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
MEASURED = {
    "loss": "training loss (nats per document)",
    "accuracy": "dev accuracy (% of documents)",
}
AXES = {"steps": "steps (updates)", "seconds": "seconds of training (CPU time, updates alone)"}


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
        "Which learning rates work: height above the minimum after the last step\n"
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
    # A loss of 0 is far below a logarithmic axis: its line ends at the frame.
    points = [tuple(np.clip(screen.transform(end), 0.0, 1.0).tolist()) for end in ends.values()]
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

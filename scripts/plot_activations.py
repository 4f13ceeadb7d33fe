"""Draw the figures of the notes' first chapters: as PNG files, and for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor
from torch.func import grad, vmap
from torch.utils.tensorboard import SummaryWriter

from dlnotes import activations as act
from dlnotes.arguments import Range, checked
from dlnotes.cli import run
from dlnotes.files import make_folder
from dlnotes.foundations.backpropagation import INITIALISATIONS
from dlnotes.foundations.gradient_descent import minimise
from dlnotes.foundations.vanishing_gradients import (
    ACTIVATIONS,
    deep_network,
    gradient_norms,
    losses,
)

VALUE, SLOPE, GREY = "#1f5fa8", "#d1601f", "#777777"

Function = Callable[[Tensor], Tensor]


def _pieces(x: Tensor) -> Tensor:
    return act.maxout(torch.stack((-x / 2 - 1, x / 4, x - 1), -1))


def _halves(x: Tensor) -> Tensor:
    return torch.stack((1 - x / 2, x), -1)


#: Title → function, in the order of the notes.
SHEET: dict[str, Function] = {
    "step": act.step,
    "sigmoid": act.sigmoid,
    "tanh": act.tanh,
    "ReLU": act.relu,
    "leaky ReLU, a = 0.1": lambda x: act.leaky_relu(x, 0.1),
    "PReLU, a = 0.25": lambda x: act.prelu(x, torch.tensor([0.25])),
    "RReLU, a ~ U(1/8, 1/3)": act.rrelu,
    "Maxout of 3 lines": _pieces,
    "ELU, α = 1": act.elu,
    "softplus": act.softplus,
    "GELU": act.gelu,
    "SiLU": act.silu,
}
#: The same for the activations that are not in the notes.
MORE: dict[str, Function] = {
    "hard tanh": act.hardtanh,
    "ReLU6": act.relu6,
    "hard sigmoid": act.hardsigmoid,
    "hard swish": act.hardswish,
    "SELU": act.selu,
    "CELU, α = 2": lambda x: act.celu(x, 2.0),
    "Mish": act.mish,
    "softsign": act.softsign,
    "log sigmoid": act.logsigmoid,
    "soft shrinkage, λ = 1": lambda x: act.softshrink(x, 1.0),
    "hard shrinkage, λ = 1": lambda x: act.hardshrink(x, 1.0),
    "tanh shrinkage": act.tanhshrink,
    "squared ReLU": act.squared_relu,
    "GLU of 1 − x/2 and x": lambda x: act.glu(_halves(x)).squeeze(-1),
    "SwiGLU of 1 − x/2 and x": lambda x: act.swiglu(_halves(x)).squeeze(-1),
}
ALONE = ("sigmoid", "tanh", "ReLU", "PReLU, a = 0.25", "ELU, α = 1", "Maxout of 3 lines")


def draw(ax: Axes, title: str, f: Function) -> None:
    """One activation with its derivative; no line is drawn across jumps."""
    x = torch.linspace(-4, 4, 802)  # an even number: 0 itself, a jump, lies between two points
    y, slope = f(x), vmap(grad(f))(x)
    ax.axhline(0, color=GREY, lw=0.6)
    ax.axvline(0, color=GREY, lw=0.6)
    for values, color, style, label in ((y, VALUE, "-", "f(x)"), (slope, SLOPE, "--", "f′(x)")):
        values = values.clone()
        values[1:][values.diff().abs() > 0.1] = torch.nan
        ax.plot(x, values, color=color, ls=style, lw=2, label=label)
    if title.startswith("RReLU"):
        left = x[x <= 0]
        ax.fill_between(left, left / 3, left / 8, color=VALUE, alpha=0.2, lw=0)
    if title.startswith("Maxout"):
        for line in (-x / 2 - 1, x / 4, x - 1):
            ax.plot(x, line, color=VALUE, lw=0.8, alpha=0.5)
    ax.set(title=title, xlabel="x", ylabel="f(x), f′(x)", xlim=(-4, 4), ylim=(-1.3, 2.3))
    ax.legend(loc="upper left", frameon=False)


def text_plot(f: Function, low: float, high: float, rows: int) -> str:
    """The picture of a docstring: f (*) and f' (.) on x in [-4, 4], of 49 columns."""
    x = torch.tensor([-4 + i / 6 for i in range(49)], dtype=torch.float64)

    def row(y: float) -> int:
        return round((high - y) / (high - low) * (rows - 1))

    picture = [[" "] * 24 + ["|"] + [" "] * 24 for _ in range(rows)]
    picture[row(0)] = ["-"] * 24 + ["+"] + ["-"] * 24
    for mark, values in ((".", vmap(grad(f))(x)), ("*", f(x))):
        for column, y in enumerate(values.tolist()):
            if 0 <= row(y) < rows:
                picture[row(y)][column] = mark
    return "\n".join("".join(line).rstrip() for line in picture)


def sheet(functions: dict[str, Function], columns: int) -> Figure:
    """Activations with their derivatives, in three rows."""
    figure = Figure(figsize=(3 * columns, 8.4), layout="constrained")
    for ax, (title, f) in zip(figure.subplots(3, columns).flat, functions.items(), strict=True):
        draw(ax, title, f)
    return figure


def alone(title: str) -> Figure:
    """One activation with its derivative."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    draw(figure.subplots(), title, SHEET[title])
    return figure


def _unit(ax: Axes, x: float, y: float, text: str = "", color: str = VALUE) -> None:
    ax.add_patch(Circle((x, y), 0.28, facecolor="white", edgecolor=color, lw=1.8, zorder=2))
    ax.text(x, y, text, ha="center", va="center", zorder=3)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.set_aspect("equal")
    ax.axis("off")
    return figure, ax


def neuron() -> Figure:
    """A unit: inputs, weights and bias, sum, activation, output."""
    figure, ax = _canvas(7, 3.6)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        style = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 20}
        ax.annotate("", end, start, arrowprops=style, zorder=1)

    inputs = [("$x_1$", "$w_1$"), ("$x_2$", "$w_2$"), ("$x_3$", "$w_3$"), ("1", "$b$")]
    for i, (value, weight) in enumerate(inputs):
        y = 1.35 - 0.9 * i
        _unit(ax, 0, y, value, GREY)
        arrow((0, y), (3, 0))
        ax.text(0.9, 0.7 * y + 0.12, weight, ha="center", va="bottom", color=SLOPE)
    _unit(ax, 3, 0, "Σ")
    arrow((3, 0), (5, 0))
    ax.text(4, 0.18, "$z = w·x + b$", ha="center")
    _unit(ax, 5, 0, "$f$")
    arrow((5, 0), (6.9, 0))
    ax.text(5.9, 0.18, "$y = f(z)$", ha="center")
    captions = {0: "inputs", 1.2: "weights, bias", 3: "sum", 5: "activation", 6.2: "output"}
    for at, text in captions.items():
        ax.text(at, -1.95, text, ha="center", color=GREY)
    ax.set(xlim=(-0.5, 6.9), ylim=(-2.1, 1.75))
    return figure


def layers() -> Figure:
    """A network: units of neighbouring layers are connected, those of one layer are not."""
    figure, ax = _canvas(7, 4)
    columns = [(3, "input"), (4, "hidden"), (4, "hidden"), (2, "output")]
    places = [[(2.0 * i, (n - 1) / 2 - j) for j in range(n)] for i, (n, _) in enumerate(columns)]
    for here, there in pairwise(places):
        for a in here:
            for b in there:
                ax.plot(*zip(a, b, strict=True), color=GREY, lw=0.7, zorder=1)
    for column, (_, name) in zip(places, columns, strict=True):
        for x, y in column:
            _unit(ax, x, y, color=VALUE if name == "hidden" else SLOPE)
        ax.text(column[0][0], -2.15, f"{name} layer", ha="center", color=GREY)
    ax.set(xlim=(-0.8, 6.8), ylim=(-2.3, 1.9))
    return figure


def descent() -> Figure:
    """Gradient descent on x²/2 (λ = 1), with rates below, at and above what is stable."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    cases = {
        "too small: α = 0.1": 0.1,
        "right: α = 0.7": 0.7,
        "jumps across: α = 1.8": 1.8,
        "too large: α = 2.1": 2.1,
    }
    x = torch.linspace(-4, 4, 200)
    for ax, (title, lr) in zip(figure.subplots(1, 4, sharey=True), cases.items(), strict=True):
        path = minimise(lambda x: x**2 / 2, torch.tensor(-1.6 if lr > 2 else -3.5), lr, steps=8)
        ax.plot(x, x**2 / 2, color=GREY, lw=1.2)
        ax.plot(path, path**2 / 2, "o-", color=SLOPE, ms=4, lw=1)
        ax.plot(path[0], path[0] ** 2 / 2, "o", color=VALUE, ms=7, label="start")
        ax.set(title=title, xlabel="x", xlim=(-4.2, 4.2), ylim=(-0.3, 8))
        ax.legend(loc="upper center", frameon=False)
    figure.axes[0].set_ylabel("f(x) = x²/2")
    return figure


def vanishing(depth: int = 16) -> Figure:
    """The gradient's norm per layer, over activation × initialisation."""
    names = [(a, i) for a in ACTIVATIONS for i in INITIALISATIONS]
    norms = torch.stack([gradient_norms(depth, a, i) for a, i in names])
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(
        norms.clamp(min=1e-30).log10(), vmin=-10, vmax=10, cmap="RdBu_r", aspect="auto"
    )
    for row, values in enumerate(norms):
        for column in (0, depth // 2, depth - 1):
            norm = values[column].item()
            color = "black" if 1e-5 < norm < 1e5 else "white"
            ax.text(column, row, f"{norm:.0e}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(depth), [str(layer) for layer in range(1, depth + 1)])
    ax.set_yticks(range(len(names)), [f"{a}, {i}" for a, i in names])
    ax.set(xlabel="layer (1 is next to the input)", title="gradient norm of each layer's weights")
    figure.colorbar(image, label="log₁₀ ‖∂J/∂W‖", extend="both")
    return figure


def vanishing_by_depth() -> Figure:
    """The first layer's gradient norm over the network's depth."""
    depths = (2, 4, 8, 16, 32)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    pairs = {"sigmoid": "glorot", "tanh": "glorot", "relu": "he"}
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, title, choice in (
        (left, "suitable weights", pairs),
        (right, "weights of deviation 1", dict.fromkeys(pairs, "unit")),
    ):
        for activation, initialisation in choice.items():
            first = [gradient_norms(d, activation, initialisation)[0].item() for d in depths]
            label = f"{activation}, {initialisation}"
            if not all(map(math.isfinite, first)):
                label += " (overflows at 32)"
            ax.plot(depths, first, "o-", label=label)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(depths, [str(d) for d in depths])
        ax.set(xlabel="depth (layers of weights)", title=title)
        ax.legend(frameon=False)
    left.set_ylabel("‖∂J/∂W‖ of the first layer")
    return figure


def exploding() -> Figure:
    """One network whose gradients explode: with clipping, with a smaller rate, with neither."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for label, lr, clip_norm in (
        ("α = 0.5: not a number after {} steps", 0.5, None),
        ("α = 0.5, gradient clipped to norm 1", 0.5, 1.0),
        ("α = 0.005", 0.005, None),
    ):
        history = torch.tensor(losses(deep_network(4, "relu", "unit"), lr, 150, clip_norm))
        good = history[history.isfinite()]
        ax.plot(good.clamp(min=1e-3), "o-", ms=3, label=label.format(len(good)))
    ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="loss (below 0.001 drawn there)", ylim=(5e-4, None))
    ax.set_title("4 layers of ReLU, weights of deviation 1")
    ax.legend(frameon=False)
    return figure


def figures() -> dict[str, Callable[[], Figure]]:
    """File name → figure."""
    single = {title.split()[0].rstrip(",").lower(): title for title in ALONE}
    return {
        "activations": partial(sheet, SHEET, 4),
        "more_activations": partial(sheet, MORE, 5),
        "neuron": neuron,
        "layers": layers,
        "gradient_descent": descent,
        **{name: partial(alone, title) for name, title in single.items()},
        "vanishing_gradients": vanishing,
        "vanishing_by_depth": vanishing_by_depth,
        "exploding_gradients": exploding,
    }


@checked
def main(out: Path = Path("runs/figures"), dpi: Annotated[int, Range(10, lt=1001)] = 120) -> None:
    """Draw every figure into a folder of PNG files that is also a TensorBoard run.

    Args:
        out: Folder for the PNG files and the TensorBoard events.
        dpi: Dots per inch, 10 to 1,000; the widest figure is 15 inches wide.
    """
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
    make_folder(out)
    with SummaryWriter(str(out)) as board:
        for name, figure in figures().items():
            drawn = figure()
            drawn.savefig(out / f"{name}.png", dpi=dpi)
            board.add_figure(name, drawn)
            print(out / f"{name}.png")


if __name__ == "__main__":
    run(main)

"""From a text to a class: the steps, what each family of models looks at, attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from chapters import attention
from chapters.colors import BLUE, GREY, ORANGE
from dlnotes.data.dataset import load_dataset
from dlnotes.nn import PAD, WordVectors, masked_mean
from tables import MODELS

Point = tuple[float, float]

TEXTS = (("good", "a good film"), ("bad", "it was not good at all"))


def steps() -> Figure:
    """Two short texts: tokens, ids, vectors, their mean, probabilities, all computed here."""
    data = load_dataset({"train": list(TEXTS), "dev": list(TEXTS)})
    ids, _ = data.dev.batch([0, 1])  # type: ignore[arg-type]
    torch.manual_seed(1)
    vectors = WordVectors(len(data.vocabulary), 4, scale=1.0)
    with torch.no_grad():
        x = vectors(ids)
        mean = masked_mean(x, ids != PAD)
        p = nn.Linear(4, 2)(mean).softmax(dim=1)
    b, t, e = x.shape

    figure = Figure(figsize=(4.8, 6.6), layout="constrained")
    ax = figure.subplots()
    words = [[*data.dev.words(i), *[""] * t][:t] for i in range(b)]
    _table(ax, 0.0, words, ids == PAD)
    _table(ax, -3.2, [[str(i) for i in row] for row in ids.tolist()], ids == PAD)
    for row in range(b):
        for column in range(t):
            _cells(ax, column + 0.1, -6.6 - 1.9 * row, x[row, column].tolist(), 0.38)
        _cells(ax, t / 2 - 0.4, -11.6 - 1.9 * row, mean[row].tolist(), 0.38)
    _table(
        ax,
        -16.2,
        [[f"{value:.2f}" for value in row] for row in p.tolist()],
        torch.zeros(b, 2, dtype=torch.bool),
        left=t / 2 - 1,
    )
    shapes = {-1.0: "", -4.2: f"{b} × {t}", -7.7: f"{b} × {t} × {e}"}
    shapes |= {-12.7: f"{b} × {e}", -17.2: f"{b} × 2"}
    for number, (y, shape) in enumerate(shapes.items(), start=1):
        ax.text(-0.25, y, chr(0x245F + number), ha="right", va="center", fontsize=15)
        ax.text(t + 0.2, y, shape, ha="left", va="center")
    for y in (-2.2, -5.4, -10.4, -15.2):
        ax.annotate("", (t / 2, y - 0.75), (t / 2, y + 0.05), arrowprops=_ARROW)
    ax.set(xlim=(-0.9, t + 1.9), ylim=(-18.4, 0.2))
    ax.axis("off")
    return figure


def _table(
    ax: Axes, top: float, rows: Sequence[Sequence[str]], faint: torch.Tensor, left: float = 0
) -> None:
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            padding = bool(faint[i, j])
            ax.add_patch(
                Rectangle(
                    (left + j + 0.04, top - i - 0.96),
                    0.92,
                    0.92,
                    fill=False,
                    edgecolor=GREY,
                    ls=":" if padding else "-",
                )
            )
            color: dict[str, Any] = {"color": GREY} if padding else {}
            ax.text(left + j + 0.5, top - i - 0.5, text, ha="center", va="center", **color)


def _cells(ax: Axes, left: float, top: float, values: Sequence[float], height: float) -> None:
    """A vector as a column: blue above 0, orange below, the stronger the larger."""
    for i, value in enumerate(values):
        ax.add_patch(
            Rectangle(
                (left, top - (i + 1) * height),
                0.8,
                height,
                facecolor=BLUE if value > 0 else ORANGE,
                alpha=min(1.0, abs(value)),
                lw=0,
            )
        )
    ax.add_patch(
        Rectangle(
            (left, top - len(values) * height),
            0.8,
            len(values) * height,
            fill=False,
            edgecolor=GREY,
            lw=0.8,
        )
    )


_ARROW = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0}
_N = 6
_WORDS: list[Point] = [(float(i), 0.0) for i in range(_N)]
_TOP: Point = (2.5, 3.0)


def _dots(ax: Axes, points: Iterable[Point], color: str = GREY, size: float = 7) -> None:
    for x, y in points:
        ax.plot(x, y, "o", color=color, ms=size, zorder=3)


def _lines(
    ax: Axes, starts: Iterable[Point], end: Point, widths: Sequence[float] = (), color: str = BLUE
) -> None:
    for i, start in enumerate(starts):
        width = widths[i] if widths else 1.0
        ax.plot(*zip(start, end, strict=True), color=color, lw=width, zorder=1)


def _arrow(ax: Axes, start: Point, end: Point, color: str = BLUE) -> None:
    style = {"arrowstyle": "->", "color": color, "shrinkA": 4, "shrinkB": 4}
    ax.annotate("", end, start, arrowprops=style, zorder=1)


def _fasttext(ax: Axes) -> None:
    pairs = [((a[0] + b[0]) / 2, 0.9) for a, b in pairwise(_WORDS)]
    for pair, (a, b) in zip(pairs, pairwise(_WORDS), strict=True):
        _lines(ax, (a, b), pair, color=GREY)
    _lines(ax, pairs, _TOP)
    _lines(ax, _WORDS, _TOP, [0.6] * _N)
    _dots(ax, pairs, BLUE, 5)


def _textcnn(ax: Axes) -> None:
    for i in range(_N - 2):
        ax.add_patch(
            Rectangle((i - 0.3, -0.35 + 0.06 * i), 2.6, 0.7, fill=False, edgecolor=BLUE, lw=1)
        )
        _lines(ax, [(i + 1.0, 0.35 + 0.06 * i)], _TOP, [2.5 if i == 2 else 0.6])


def _recurrence(ax: Axes, y: float = 1.1) -> list[Point]:
    """States above the words, linked in both directions."""
    states = [(x, y) for x, _ in _WORDS]
    for word, state in zip(_WORDS, states, strict=True):
        _lines(ax, [word], state, color=GREY)
    for (x, _), (x2, _) in pairwise(states):
        _arrow(ax, (x, y + 0.12), (x2, y + 0.12))
        _arrow(ax, (x2, y - 0.12), (x, y - 0.12))
    _dots(ax, states, BLUE, 6)
    return states


def _textrnn(ax: Axes) -> None:
    _lines(ax, _recurrence(ax), _TOP)


def _rcnn(ax: Axes) -> None:
    at = 3
    middle = (float(at), 1.4)
    _arrow(ax, (-0.3, 0.75), (at - 0.3, 0.75))
    _arrow(ax, (_N - 0.7, 0.75), (at + 0.3, 0.75))
    _lines(ax, [(at - 0.4, 0.75), _WORDS[at], (at + 0.4, 0.75)], middle)
    _lines(ax, [middle], _TOP, [2.0])
    for i in set(range(_N)) - {at}:
        _lines(ax, [(float(i), 1.4)], _TOP, [0.6])
    _dots(ax, [(float(i), 1.4) for i in range(_N)], BLUE, 5)


def _han(ax: Axes) -> None:
    for first, sentence, widths in (
        (0, (1.0, 1.5), (0.5, 3.0, 1.0)),
        (3, (4.0, 1.5), (2.5, 0.5, 0.8)),
    ):
        _lines(ax, _WORDS[first : first + 3], sentence, widths)
        ax.add_patch(
            Rectangle((first - 0.35, -0.35), 2.7, 0.7, fill=False, edgecolor=GREY, ls=":", lw=1)
        )
    _lines(ax, [(1.0, 1.5), (4.0, 1.5)], _TOP, (3.0, 1.0))
    _dots(ax, [(1.0, 1.5), (4.0, 1.5)], BLUE, 7)


def _seq2seq(ax: Axes) -> None:
    _lines(ax, _recurrence(ax), _TOP, (0.5, 3.5, 1.5, 0.5, 0.8, 0.5))


def _transformer(ax: Axes) -> None:
    states = [(x, 1.8) for x, _ in _WORDS]
    for state in states:
        _lines(ax, _WORDS, state, [0.7] * _N)
    _lines(ax, states, _TOP, color=GREY)
    _dots(ax, states, BLUE, 6)


_SENTENCES: list[Point] = [(0.0, 0.0), (1.4, 0.0), (2.8, 0.0), (4.2, 0.0)]


def _facts(ax: Axes, question: Point) -> None:
    for x, y in _SENTENCES:
        ax.add_patch(Rectangle((x - 0.4, y - 0.2), 0.8, 0.4, facecolor=GREY, lw=0))
    ax.text(*question, "?", ha="center", va="center", color=ORANGE, fontsize=14, weight="bold")


def _dmn(ax: Axes) -> None:
    _facts(ax, (-0.4, 1.7))
    memories = [(0.8, 1.7), (2.1, 1.7), (3.4, 1.7)]
    for memory, widths in zip(
        memories, ((0.4, 0.4, 3.0, 0.4), (3.0, 0.4, 0.4, 0.4), (0.4, 0.4, 0.4, 0.4)), strict=True
    ):
        _lines(ax, [(x, 0.2) for x, _ in _SENTENCES], memory, widths)
    for a, b in pairwise(memories):
        _arrow(ax, a, b, ORANGE)
    _arrow(ax, (-0.35, 1.7), memories[0], ORANGE)
    _arrow(ax, memories[-1], _TOP, ORANGE)
    _dots(ax, memories, BLUE, 7)
    _dots(ax, [_TOP], ORANGE, 9)


def _entnet(ax: Axes) -> None:
    _facts(ax, (5.4, 0.0))
    answer = (5.4, 1.6)
    heights = (0.9, 1.6, 2.3)
    opened = {(0, 0), (1, 1), (2, 0), (3, 2)}
    for j, y in enumerate(heights):
        for i, (x, _) in enumerate(_SENTENCES):
            is_open = (i, j) in opened
            ax.plot(x, y, "o", ms=8, color=BLUE, fillstyle="full" if is_open else "none", zorder=3)
            if is_open:
                _lines(ax, [(x, 0.2)], (x, y), [1.5])
        for (x, _), (x2, _) in pairwise(_SENTENCES):
            _arrow(ax, (x, y), (x2, y), GREY)
        _lines(ax, [(4.3, y)], answer, [(2.5, 0.6, 0.6)[j]])
    _arrow(ax, (5.4, 0.2), answer, ORANGE)
    _dots(ax, [answer], ORANGE, 9)


def _ensemble(ax: Axes) -> None:
    for x in (0.5, 2.5, 4.5):
        ax.add_patch(Rectangle((x - 0.6, 0.9), 1.2, 0.8, fill=False, edgecolor=BLUE, lw=1.5))
        _lines(ax, _WORDS, (x, 0.9), [0.5] * _N, GREY)
        _lines(ax, [(x, 1.7)], _TOP, [1.5])


_FAMILIES: dict[str, Callable[[Axes], None]] = {
    "fasttext": _fasttext,
    "textcnn": _textcnn,
    "textrnn": _textrnn,
    "rcnn": _rcnn,
    "han": _han,
    "seq2seq": _seq2seq,
    "transformer": _transformer,
    "dmn": _dmn,
    "entnet": _entnet,
    "ensemble": _ensemble,
}


def families() -> Figure:
    """What each family looks at on the way from the words (below) to the scores (above)."""
    figure = Figure(figsize=(5, 8.4), layout="constrained")
    for ax, (name, draw) in zip(figure.subplots(5, 2).flat, _FAMILIES.items(), strict=True):
        if name not in ("dmn", "entnet"):  # they read sentences, and answer a question
            _dots(ax, _WORDS)
            _dots(ax, [_TOP], ORANGE, 9)
        draw(ax)
        ax.set(xlim=(-0.7, 5.7), ylim=(-0.6, 3.4), title=MODELS[name])
        ax.axis("off")
    return figure


def attended() -> Figure:
    """The first question as each model reads it; stands in for the interactive figure."""
    record = attention.record()
    readings = [r for r in record["readings"] if ", head " not in r["line"]]
    tokens = readings[0]["answers"][0]["tokens"]
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    ax = figure.subplots()
    for row, reading in enumerate(readings):
        weights = reading["answers"][0]["weights"]
        shades = attention.shades(reading["method"], weights)
        for column, (weight, shade) in enumerate(zip(weights, shades, strict=True)):
            color = ORANGE if weight < 0 else BLUE
            ax.add_patch(
                Rectangle(
                    (column, -row - 0.95), 0.95, 0.9, facecolor=color, alpha=0.8 * shade, lw=0
                )
            )
            text = f"{weight:.2f}".replace("-", "−")
            ax.text(column + 0.475, -row - 0.5, text, ha="center", va="center")
        name = MODELS[reading["model"]]
        ax.text(-0.15, -row - 0.5, name, ha="right", va="center")
    for column, token in enumerate(tokens):
        ax.text(column + 0.475, 0.15, token, ha="center", va="bottom")
    ax.set(xlim=(-2.3, len(tokens)), ylim=(-len(readings), 0.8))
    ax.axis("off")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "steps": steps,
    "families": families,
    "attended": attended,
}

"""The data flow of the ten models: boxes with shapes, from top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from chapters.colors import BLUE, GREY, ORANGE
from chapters.flows import FLOWS, Stage, shapes

_WIDTH = 4.4
"""Of the drawing, in inches: no wider, so that the letters stay legible on a phone."""
_MARGIN, _GAP = 0.25, 0.28
_HEIGHT, _NARROW, _WIDE = 0.8, 1.88, 2.6


class _Box(NamedTuple):
    """Where a stage stands."""

    x: float
    top: float
    width: float

    @property
    def middle(self) -> float:
        return self.top - _HEIGHT / 2

    @property
    def bottom(self) -> float:
        return self.top - _HEIGHT

    def covers(self, x: float) -> bool:
        return abs(x - self.x) < self.width / 2 + 0.03


def flow(model: str) -> Figure:
    """Draw a model's stages, with the shapes of a run.

    Args:
        model: One of `chapters.flows.FLOWS`.
    """
    declared = FLOWS[model]
    found = shapes(declared)
    height = len(declared.rows) * (_HEIGHT + _GAP) - _GAP + 0.1
    figure = Figure(figsize=(_WIDTH, height))
    ax: Axes = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, _WIDTH), ylim=(0, height))
    ax.axis("off")
    boxes: dict[str, _Box] = {}
    above: tuple[Stage, ...] = ()
    for number, row in enumerate(declared.rows):
        top = height - 0.05 - number * (_HEIGHT + _GAP)
        color = BLUE if number == 0 else ORANGE if row is declared.rows[-1] else GREY
        for stage in row:
            width = _WIDE if stage.column == 0.5 else _NARROW
            x = _MARGIN + _NARROW / 2 + stage.column * (_WIDTH - 2 * _MARGIN - _NARROW)
            box = boxes[stage.name] = _Box(x, top, width)
            _draw(ax, stage, found[stage.name], box, color)
            made_of = stage.after if stage.after is not None else [each.name for each in above]
            for name in made_of:
                _connect(ax, boxes[name], box, list(boxes.values()))
        above = row
    if declared.loop:
        last, first, often = declared.loop
        _loop(ax, boxes[last], boxes[first], often)
    return figure


def _draw(ax: Axes, stage: Stage, shape: tuple[int, ...], box: _Box, color: str) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (box.x - box.width / 2 + 0.05, box.bottom + 0.05),
            box.width - 0.1,
            _HEIGHT - 0.1,
            boxstyle="round,pad=0.05",
            fill=False,
            edgecolor=color,
            linewidth=1.4,
        )
    )
    letters = " × ".join(dim.replace("-", "−") for dim in stage.dims.split())
    numbers = " × ".join(map(str, shape))
    lines = [
        (stage.how, {"fontsize": 8.5, "style": "italic"}),
        (stage.name, {"fontsize": 10, "weight": "bold"}),
        (letters, {"fontsize": 9.5}),
        (numbers, {"fontsize": 8.5, "color": GREY}),
    ]
    lines = [line for line in lines if line[0]]
    step = _HEIGHT / (len(lines) + 0.4)
    for number, (text, how) in enumerate(lines):
        y = box.top - step * (number + 0.7)
        ax.text(box.x, y, text, ha="center", va="center", **how)  # type: ignore[arg-type]


def _connect(ax: Axes, start: _Box, end: _Box, boxes: list[_Box]) -> None:
    """An arrow from a stage to a later one: straight, or round what stands in between."""
    between = [box for box in boxes if end.top + _GAP / 2 < box.bottom < start.bottom - _GAP / 2]
    # Far down it arrives above where it started, if it can.
    arrival = start.x if between and end.covers(start.x) else end.x

    def at(y: float) -> float:
        return start.x + (arrival - start.x) * (start.bottom - y) / (start.bottom - end.top)

    if not any(box.covers(at(y)) for box in between for y in (box.top, box.middle, box.bottom)):
        _arrow(ax, (start.x, start.bottom), (arrival, end.top))
        return
    left = end.x - end.width / 2
    if start.x - start.width / 2 < left:  # down from below the start, then to the right
        x, begin = left - 0.25, (left - 0.25, start.bottom)
    else:  # out to the left first
        x, begin = left - 0.15, (start.x - start.width / 2, start.middle)
    color = mpl.rcParams["text.color"]
    ax.plot([begin[0], x, x], [begin[1], begin[1], end.middle], color=color, lw=0.9)
    _arrow(ax, (x, end.middle), (left, end.middle))


def _loop(ax: Axes, last: _Box, first: _Box, often: str) -> None:
    """From a stage back to an earlier one, on their right."""
    side = first.x + first.width / 2
    out = min(side + 0.9, _WIDTH - 0.1)
    ax.plot(
        [last.x + last.width / 2, out, out],
        [last.middle, last.middle, first.middle],
        color=ORANGE,
        lw=1.2,
    )
    _arrow(ax, (out, first.middle), (side, first.middle), ORANGE)
    ax.text(side + 0.06, first.middle + 0.1, often, fontsize=8.5, color=ORANGE, va="center")


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str | None = None
) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=9,
            shrinkA=0,
            shrinkB=0,
            color=color or mpl.rcParams["text.color"],
            linewidth=1.2 if color else 0.9,
        )
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    f"flow_{model}": partial(flow, model) for model in FLOWS
}
"""File name → figure."""

"""The figures of the book. They bear symbols alone, so that every language can use them.

A chapter's figures are a module of this package; ``FIGURES`` of the module names them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl

from chapters.figures import (
    activations,
    back_propagation,
    benchmarks,
    deep,
    descent,
    flows,
    gates,
    rules,
    texts,
)
from dlnotes.files import make_folder, write_text

INK = {"light": "#222222", "dark": "#d8d8d8"}
"""Colour of text and axes for each of the site's two schemes."""

FIGURES = {
    **activations.FIGURES,
    **back_propagation.FIGURES,
    **benchmarks.FIGURES,
    **deep.FIGURES,
    **descent.FIGURES,
    **flows.FIGURES,
    **gates.FIGURES,
    **rules.FIGURES,
    **texts.FIGURES,
}
"""File name → figure."""


def draw(name: str, folder: Path) -> None:
    """Write a figure as ``NAME-light.svg``, ``NAME-dark.svg`` and, for notebooks, ``NAME.png``.

    Args:
        name: One of ``FIGURES``.
        folder: Where to.
    """
    make_folder(folder)
    ink = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"),
        INK["light"],
    )
    plain: Any = {**ink, "axes.spines.top": False, "axes.spines.right": False, "font.size": 11}
    plain["svg.hashsalt"] = "dlnotes"
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user has set
        mpl.rcParams.update(plain)
        figure = FIGURES[name]()
        light = io.StringIO()
        figure.savefig(light, format="svg", transparent=True, metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=100)
    for scheme, color in INK.items():
        drawn = light.getvalue().replace(INK["light"], color)
        write_text(folder / f"{name}-{scheme}.svg", drawn)

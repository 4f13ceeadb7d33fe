"""Oracles: torch's built-ins, autograd and the papers' equations in NumPy, and the comparisons.

The tests, the benchmarks and ``scripts/verify.py`` use the same oracles:

>>> from dlnotes.oracles import rows
>>> all(row.ok for row in rows())  # takes some seconds
True
"""

from __future__ import annotations

from collections.abc import Iterator

from dlnotes.oracles import activations, foundations, models, optimizers, papers
from dlnotes.oracles.comparison import (
    Case,
    Comparison,
    Row,
    difference,
    largest,
    largest_difference,
)

__all__ = [
    "Case",
    "Comparison",
    "Row",
    "comparisons",
    "difference",
    "largest",
    "largest_difference",
    "rows",
]


def comparisons(steps: int = 300) -> Iterator[Comparison]:
    """Yield every comparison with an oracle, chapter by chapter, in float64 unless noted.

    Args:
        steps: Length of the optimizers' trajectories.
    """
    yield from optimizers.comparisons(steps)
    yield from activations.comparisons()
    yield from foundations.comparisons()
    yield from models.comparisons()
    yield from papers.comparisons()


def rows(steps: int = 300) -> Iterator[Row]:
    """Run every comparison and yield its outcome.

    Args:
        steps: Length of the optimizers' trajectories.
    """
    for comparison in comparisons(steps):
        yield comparison.row()

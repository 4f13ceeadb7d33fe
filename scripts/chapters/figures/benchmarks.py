"""What benchmarks measured, drawn from their records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

import bench_scale
from dlnotes.files import read_json

_RECORDS = Path(__file__).parents[3] / "results" / "benchmarks"


def scale() -> Figure:
    """Memory and time of a training over the number of its documents."""
    return bench_scale.figure(read_json(_RECORDS / "scale.json", "has no benchmark")["rows"])


FIGURES: dict[str, Callable[[], Figure]] = {"scale": scale}

"""How well probabilities match frequencies: calibration error and reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 15


@dataclass(frozen=True)
class Reliability:
    r"""Probabilities in bins of equal width, and how many of the predictions came true.

    The expected calibration error (Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602;
    with 15 bins as in Guo et al. 2017, https://arxiv.org/abs/1706.04599) is

    .. math:: ECE = \sum_b \frac{n_b}{n} \bigl| a_b - p_b \bigr|

    with the number :math:`n_b` of probabilities in bin :math:`b = (b/15, (b+1)/15]`, their mean
    :math:`p_b` and the share :math:`a_b` of them that came true.

    Attributes:
        counts: :math:`n_b`, shape (bins,).
        probability: Sum of the probabilities in each bin.
        true: How many of them came true.
    """

    counts: NDArray[np.int64]
    probability: NDArray[np.float64]
    true: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error; 0 if there are no predictions."""
        return float(np.abs(self.true - self.probability).sum() / max(1, self.counts.sum()))

    def __add__(self, other: Reliability) -> Reliability:
        """The sum of two counts, so that probabilities can be counted in parts."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Reliability(*(one + more for one, more in pairs))


def reliability(probabilities: NDArray[Any], true: NDArray[np.bool_]) -> Reliability:
    """Sort probabilities into bins.

    Args:
        probabilities: With one label per document the confidence, which is the probability of the
            predicted label; with several labels the probability of every label. Any shape.
        true: Whether each came true, of the same shape: whether the prediction is correct, or the
            document has the label.
    """
    p, came_true = np.asarray(probabilities).ravel(), np.asarray(true).ravel()
    if np.isnan(p).any():  # the training has diverged, which is reported elsewhere
        p, came_true = p[~np.isnan(p)], came_true[~np.isnan(p)]
    bins = np.clip(np.ceil(p * p.dtype.type(BINS)).astype(np.int64) - 1, 0, BINS - 1)
    return Reliability(
        counts=np.bincount(bins, minlength=BINS),
        probability=np.bincount(bins, weights=p.astype(np.float64), minlength=BINS).astype(
            np.float64, copy=False
        ),
        true=np.bincount(bins[came_true], minlength=BINS),
    )


def reliability_figure(found: Reliability, *, title: str, what: str = "correct") -> Figure:
    """Draw a reliability diagram: a bar per bin up to the share that came true, and the diagonal.

    A second plot below it shows how many probabilities each bin has.

    Args:
        found: The bins.
        title: What was measured; the calibration error is added.
        what: The adjective for predictions that came true.
    """
    from matplotlib.figure import Figure

    from dlnotes.training.figure_text import prepare_text

    centres = (np.arange(BINS) + 0.5) / BINS
    there = found.counts > 0
    p, true = (part[there] / found.counts[there] for part in (found.probability, found.true))
    # Fixed margins that fit every such figure: a layout engine takes as long as the drawing.
    figure = Figure(figsize=(5, 6))
    figure.subplots_adjust(0.15, 0.09, 0.96, 0.94, hspace=0.08)
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    bar = {"width": 1 / BINS, "edgecolor": "white", "linewidth": 0.5}
    above.bar(centres[there], true, **bar, color="#1f5fa8", label=f"share that is {what}")
    above.bar(centres[there], p - true, **bar, bottom=true, color="#e0701d", alpha=0.4, label="gap")
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", label="perfect calibration")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel=f"share that is {what}")
    (shown,), style = prepare_text([title], most=60)
    told = f"{shown}: expected calibration error {found.ece:.4f}"
    above.set_title(told, fontsize="medium", **style)
    above.legend(loc="upper left", fontsize="small")
    below.bar(centres, found.counts, **bar, color="#7a7a7a")
    below.set(xlabel="probability", ylabel="predictions")
    if there.any() and found.counts.max() > 30 * np.median(found.counts[there]):
        below.set(yscale="symlog", ylabel="predictions (log scale)")
        below.minorticks_off()
    return figure

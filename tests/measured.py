"""Figures of documents that nobody has classified."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlnotes.training.evaluate import Metrics


def figures_of(confusion: NDArray[np.int64]) -> Metrics:
    """Figures of documents with this confusion matrix."""
    cells = np.repeat(np.arange(confusion.size), confusion.flatten())
    return measured(*np.divmod(cells, len(confusion)), len(confusion))


def measured(labels: ArrayLike, predictions: ArrayLike, classes: int) -> Metrics:
    """Figures of documents with these labels and predictions, all of them sure."""
    sure = np.ones(len(np.asarray(labels)), np.float32)
    return Metrics(0.0, np.asarray(labels), np.asarray(predictions), sure, classes)

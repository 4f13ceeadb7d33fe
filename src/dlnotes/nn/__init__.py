"""Parts that two or more models use."""

from dlnotes.nn.pooling import last_states, masked_max, masked_mean
from dlnotes.nn.recurrence import Bidirectional
from dlnotes.nn.vectors import PAD, WordVectors, widen

__all__ = [
    "PAD",
    "Bidirectional",
    "WordVectors",
    "last_states",
    "masked_max",
    "masked_mean",
    "widen",
]

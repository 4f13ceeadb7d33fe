"""Recurrent entity network in NumPy, one document at a time (arXiv:1612.03969, section 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def phi(x: Array, slope: Array) -> Array:
    """The PReLU, whose slopes are shared by all layers."""
    return np.where(x > 0, x, slope * x)


def encode(vectors: Array, masks: Array) -> Array:
    """Equation 1: the sum of the word vectors, each times the mask of its position."""
    s = np.zeros(vectors.shape[1])
    for i, e in enumerate(vectors):
        s = s + masks[i] * e
    return s


def answer(
    p: dict[str, Array], story: list[list[int]], question: list[int]
) -> tuple[Array, Array, Array]:
    """Scores of the classes, each sentence's gates, and the question's attention over the slots."""
    keys = p["keys"]
    memory = [w.copy() for w in keys]
    gates = np.zeros((len(story), len(keys)))
    for t, sentence in enumerate(story):
        s = encode(p["vectors.weight"][sentence], p["masks"])
        for j, w in enumerate(keys):
            h = memory[j]
            g = 1 / (1 + np.exp(-(s @ h + s @ w)))  # equation 2
            new = phi(p["U"] @ h + p["V"] @ w + p["W"] @ s, p["phi.weight"])  # equation 3
            h = h + g * new  # equation 4
            memory[j] = h / np.sqrt(h @ h)  # equation 5
            gates[t, j] = g
    # Equation 6.
    q = encode(p["vectors.weight"][question], p["question_masks"])
    relevance = np.array([np.exp(q @ h) for h in memory])
    relevance = relevance / relevance.sum()
    u = sum(p_j * h for p_j, h in zip(relevance, memory, strict=True))
    return p["output.weight"] @ phi(q + p["H"] @ u, p["phi.weight"]), gates, relevance

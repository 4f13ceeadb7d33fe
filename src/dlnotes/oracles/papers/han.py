"""HAN of Yang et al. 2016, word by word: equations 1 to 11 of the paper in plain NumPy.

The update gate is that of torch, which weights the old state; the paper's weights the new one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class GRU(NamedTuple):
    """Parameters of a GRU, arranged as in torch."""

    W: Array  # 3h e: reset, update, new
    U: Array  # 3h h
    b: Array  # 3h
    c: Array  # 3h


class Attention(NamedTuple):
    """Parameters of an attention."""

    W: Array  # a d
    b: Array  # a
    u: Array  # a


class Trace(NamedTuple):
    """Intermediate results for a document."""

    word_weights: list[Array]
    sentence_vectors: Array
    sentence_weights: Array
    document: Array


def sigmoid(x: Array) -> Array:
    """σ(x)."""
    return 1 / (1 + np.exp(-x))


def gru(x: Array, p: GRU) -> list[Array]:
    """Equations 1 to 4: the states over a sequence."""
    h = np.zeros(p.U.shape[1])
    states = []
    for x_t in x:
        (ar, az, an), (hr, hz, hn) = np.split(p.W @ x_t + p.b, 3), np.split(p.U @ h + p.c, 3)
        r, z = sigmoid(ar + hr), sigmoid(az + hz)
        h = (1 - z) * np.tanh(an + r * hn) + z * h
        states.append(h)
    return states


def bidirectional(x: Array, right: GRU, left: GRU) -> Array:
    """The states of both directions, side by side."""
    pairs = zip(gru(x, right), reversed(gru(x[::-1], left)), strict=True)
    return np.array([np.concatenate(pair) for pair in pairs])


def attend(h: Array, p: Attention) -> tuple[Array, Array]:
    """Equations 5 to 7 (for sentences: 8 to 10): the weighted sum, and the weights."""
    scores = np.array([np.tanh(p.W @ h_i + p.b) @ p.u for h_i in h])
    alpha = np.exp(scores) / np.exp(scores).sum()
    return sum(a * h_i for a, h_i in zip(alpha, h, strict=True)), alpha


def han(
    sentences: list[Array],
    *,
    words: tuple[GRU, GRU],
    word_attention: Attention,
    sentence_cells: tuple[GRU, GRU],
    sentence_attention: Attention,
) -> Trace:
    """Read one document, given for each sentence the vectors ``w e`` of its words."""
    pairs = [attend(bidirectional(x, *words), word_attention) for x in sentences]
    s = np.array([vector for vector, _ in pairs])
    document, alpha = attend(bidirectional(s, *sentence_cells), sentence_attention)
    return Trace([weights for _, weights in pairs], s, alpha, document)


def of_parameters(p: dict[str, Array], sentences: list[list[int]]) -> Trace:
    """Read one document, with the parameters by their names in the model."""

    def cells(level: str) -> tuple[GRU, GRU]:
        names = [f"{kind}_{x}h_l0" for kind in ("weight", "bias") for x in "ih"]
        right, left = (
            GRU(*(p[f"{level}.{way}.0.{name}"] for name in names))
            for way in ("rightward", "leftward")
        )
        return right, left

    def attention(level: str) -> Attention:
        names = ("hidden.weight", "hidden.bias", "context")
        return Attention(*(p[f"{level}_attention.{name}"] for name in names))

    return han(
        [p["vectors.weight"][words] for words in sentences],
        words=cells("words"),
        word_attention=attention("word"),
        sentence_cells=cells("sentences"),
        sentence_attention=attention("sentence"),
    )

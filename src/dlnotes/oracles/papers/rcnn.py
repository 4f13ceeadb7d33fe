"""RCNN of Lai et al. 2015, word by word: equations 1 to 7 of the paper in plain NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Trace(NamedTuple):
    """Intermediate results and scores for a document."""

    left: Array  # n l: c_l(w_1) ... c_l(w_n)
    right: Array  # n l
    latent: Array  # n h: y2
    scores: Array  # c


def rcnn(
    e: Array,
    *,
    first: Array,
    last: Array,
    W_l: Array,
    W_sl: Array,
    W_r: Array,
    W_sr: Array,
    W2: Array,
    b2: Array,
    W4: Array,
    b4: Array,
) -> Trace:
    """Read one document, given its word vectors ``n e``, n ≥ 1."""
    n = len(e)
    left, right = [first] * n, [last] * n
    for i in range(1, n):
        left[i] = np.tanh(W_l @ left[i - 1] + W_sl @ e[i - 1])
    for i in range(n - 2, -1, -1):
        right[i] = np.tanh(W_r @ right[i + 1] + W_sr @ e[i + 1])
    latent = [np.tanh(W2 @ np.concatenate([left[i], e[i], right[i]]) + b2) for i in range(n)]
    y3 = np.max(latent, axis=0)
    return Trace(np.array(left), np.array(right), np.array(latent), W4 @ y3 + b4)


def of_parameters(p: dict[str, Array], words: list[int]) -> Trace:
    """Read one document, with the parameters by their names in the model."""
    return rcnn(
        p["vectors.weight"][words],
        first=p["first"],
        last=p["last"],
        W_l=p["rightward.weight_hh_l0"],
        W_sl=p["rightward.weight_ih_l0"],
        W_r=p["leftward.weight_hh_l0"],
        W_sr=p["leftward.weight_ih_l0"],
        W2=p["hidden.weight"],
        b2=p["hidden.bias"],
        W4=p["output.weight"],
        b4=p["output.bias"],
    )

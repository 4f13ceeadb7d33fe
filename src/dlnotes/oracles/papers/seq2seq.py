"""Bahdanau's encoder, attention and decoder, transcribed from the paper, one document at a time.

Appendix A of https://arxiv.org/abs/1409.0473 with torch's GRU. The attention's score is Bahdanau's
or, in the same decoder, the general score of Luong et al. 2015 (https://arxiv.org/abs/1508.04025);
Luong's own decoder, which attends after its recurrence, is not transcribed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    """σ(x)."""
    return 1 / (1 + np.exp(-x))


def gru(x: Array, h: Array, W: Array, U: Array, b: Array, c: Array) -> Array:
    """One step of a GRU, with the gates in the order and meaning that they have in torch."""
    n = len(h)
    a, d = W @ x + b, U @ h + c
    r = sigmoid(a[:n] + d[:n])
    z = sigmoid(a[n : 2 * n] + d[n : 2 * n])
    candidate = np.tanh(a[2 * n :] + r * d[2 * n :])
    return (1 - z) * candidate + z * h


def softmax(e: Array) -> Array:
    """Positive numbers with sum 1."""
    p = np.exp(e - e.max())
    weights: Array = p / p.sum()
    return weights


def encode(p: Weights, words: list[int]) -> Array:
    """Encoder states of a document without padding, (t, 2h)."""
    x = [p["vectors.weight"][w] for w in words]
    forwards, backwards = range(len(x)), range(len(x) - 1, -1, -1)
    right = _states(p, "encoder.rightward.0", x, forwards)
    left = _states(p, "encoder.leftward.0", x, backwards)
    return np.array([np.concatenate([right[i], left[i]]) for i in forwards])


def _states(p: Weights, name: str, x: list[Array], order: Iterable[int]) -> dict[int, Array]:
    W, U, b, c = (
        p[f"{name}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h, states = np.zeros(U.shape[1]), {}
    for i in order:
        h = states[i] = gru(x[i], h, W, U, b, c)
    return states


def attend(p: Weights, s: Array, h: Array) -> tuple[Array, Array]:
    """Context and attention weights, with the score that the parameters belong to."""
    if "alignment.v.weight" in p:
        W, U, v = (p[f"alignment.{name}.weight"] for name in "WUv")
        e = np.array([v[0] @ np.tanh(W @ s + U @ h_i) for h_i in h])
    else:
        e = np.array([s @ p["alignment.W.weight"] @ h_i for h_i in h])
    weights = softmax(e)
    return sum(a * h_i for a, h_i in zip(weights, h, strict=True)), weights


def decode(p: Weights, source: list[int], target: list[int]) -> tuple[Array, Array]:
    """Logits (u, v) and attention weights (u, t) for one document, given the target's words."""
    h = encode(p, source)
    n = h.shape[1] // 2
    s = np.tanh(p["initial.weight"] @ h[0, n:] + p["initial.bias"])
    W, U, b, c = (p[f"decoder.{x}"] for x in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    logits, weights = [], []
    for word in target:
        y = p["target_vectors.weight"][word]
        context, alpha = attend(p, s, h)
        s = gru(np.concatenate([y, context]), s, W, U, b, c)
        pieces = p["maxout.linear.weight"] @ np.concatenate([s, context, y])
        pieces = (pieces + p["maxout.linear.bias"]).reshape(2, -1)
        t = np.maximum(pieces[0], pieces[1])
        logits.append(p["output.weight"] @ t + p["output.bias"])
        weights.append(alpha)
    return np.array(logits), np.array(weights)

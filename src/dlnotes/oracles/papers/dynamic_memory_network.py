"""Dynamic memory networks in NumPy, one document at a time (arXiv:1506.07285, arXiv:1603.01417)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    """σ(x)."""
    return 1 / (1 + np.exp(-x))


def gru(p: Weights, name: str, x: Array, h: Array) -> Array:
    """One step of a GRU with the parameters of torch's GRU or GRUCell."""
    end = "" if f"{name}.weight_ih" in p else "_l0"
    W, U = p[f"{name}.weight_ih{end}"], p[f"{name}.weight_hh{end}"]
    return gru_step(W, U, p[f"{name}.bias_ih{end}"], p[f"{name}.bias_hh{end}"], x, h)


def gru_step(W: Array, U: Array, b: Array, c: Array, x: Array, h: Array) -> Array:
    """One step of a GRU, with the gates in the order and meaning that they have in torch."""
    (xr, xz, xn), (hr, hz, hn) = np.split(W @ x + b, 3), np.split(U @ h + c, 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + r * hn) + z * h


def attention_gru(p: Weights, facts: list[Array], g: list[float]) -> Array:
    """DMN+, equation 11: the attention weight replaces the update gate."""
    h = np.zeros(len(facts[0]))
    for f, g_i in zip(facts, g, strict=True):
        wr, wn = np.split(p["attend.W"] @ f + p["attend.b"], 2)
        ur, un = np.split(p["attend.U"] @ h + p["attend.c"], 2)
        h = g_i * np.tanh(wn + sigmoid(wr + ur) * un) + (1 - g_i) * h
    return h


def gated_gru(p: Weights, facts: list[Array], g: list[float]) -> Array:
    """DMN, section 2.3: the attention weight mixes the old state with that after a GRU's step."""
    h = np.zeros(len(facts[0]))
    W, U, b, c = (p[f"attend.{name}"] for name in "WUbc")
    for f, g_i in zip(facts, g, strict=True):
        h = g_i * gru_step(W, U, b, c, f, h) + (1 - g_i) * h
    return h


def read(p: Weights, name: str, words: list[int], size: int) -> list[Array]:
    """States of a GRU after each word."""
    h, states = np.zeros(size), []
    for word in words:
        h = gru(p, name, p["vectors.weight"][word], h)
        states.append(h)
    return states


def position_encoding(vectors: Array) -> Array:
    """DMN+, section 3.1."""
    M, D = vectors.shape
    s = np.zeros(D)
    for j in range(1, M + 1):
        for d in range(1, D + 1):
            s[d - 1] += ((1 - j / M) - d / D * (1 - 2 * j / M)) * vectors[j - 1, d - 1]
    return s


def fuse(p: Weights, sentences: list[Array], size: int) -> list[Array]:
    """DMN+, section 3.1: the sum of the states of a GRU in each direction."""
    right, left = [], []
    h = np.zeros(size)
    for s in sentences:
        h = gru(p, "fusion.rightward.0", s, h)
        right.append(h)
    h = np.zeros(size)
    for s in reversed(sentences):
        h = gru(p, "fusion.leftward.0", s, h)
        left.append(h)
    return [a + b for a, b in zip(right, reversed(left), strict=True)]


def dmn_plus(
    p: Weights, story: list[list[int]], question: list[int], passes: int
) -> tuple[Array, list[list[float]]]:
    """Scores, and the weights of the facts in every pass."""
    size = p["attend.U"].shape[1]
    q = read(p, "question", question, size)[-1]
    facts = fuse(p, [position_encoding(p["vectors.weight"][s]) for s in story], size)
    m, weights = q, []
    for k in range(passes):
        a = []
        for f in facts:
            z = np.concatenate([f * q, abs(f - q), f * m, abs(f - m)])
            hidden = np.tanh(p["hidden.weight"] @ z + p["hidden.bias"])
            a.append((p["weight.weight"] @ hidden + p["weight.bias"]).item())
        g = (np.exp(a) / np.exp(a).sum()).tolist()
        c = attention_gru(p, facts, g)
        W, b = p[f"update.{k}.weight"], p[f"update.{k}.bias"]
        m = np.maximum(W @ np.concatenate([m, c, q]) + b, 0)
        weights.append(g)
    return p["output.weight"] @ np.concatenate([m, q]) + p["output.bias"], weights


def dmn(
    p: Weights, story: list[list[int]], question: list[int], passes: int
) -> tuple[Array, list[list[float]]]:
    """Scores, and the weights of the facts in every pass.

    In ``story``, the mark after each sentence is a sentence of one word, since the GRU reads it.
    """
    size = p["attend.U"].shape[1]
    q = read(p, "question", question, size)[-1]
    states = read(p, "story", [word for s in story for word in s], size)
    ends = np.cumsum([len(s) for s in story]) - 1
    facts = [states[end] for end in ends[::2]]
    m, weights = q, []
    W = p["bilinear"]
    for _ in range(passes):
        g = []
        for f in facts:
            from_q = [f * q, abs(f - q), q, [f @ W @ q]]
            from_m = [f * m, abs(f - m), m, [f @ W @ m]]
            z = np.concatenate([f, *from_q, *from_m])
            hidden = np.tanh(p["hidden.weight"] @ z + p["hidden.bias"])
            g.append(sigmoid(p["weight.weight"] @ hidden + p["weight.bias"]).item())
        m = gru(p, "remember", gated_gru(p, facts, g), m)
        weights.append(g)
    return p["output.weight"] @ gru(p, "answer", q, m) + p["output.bias"], weights

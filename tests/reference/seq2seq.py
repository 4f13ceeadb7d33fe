"""Bahdanau's encoder, attention and decoder, transcribed from the paper, one document at a time.

Appendix A of https://arxiv.org/abs/1409.0473 with torch's GRU; vectors are NumPy's, loops are
Python's. Parameters go by the names that they have in the model.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, h, W, U, b, c):
    n = len(h)
    a, d = W @ x + b, U @ h + c
    r = sigmoid(a[:n] + d[:n])
    z = sigmoid(a[n : 2 * n] + d[n : 2 * n])
    candidate = np.tanh(a[2 * n :] + r * d[2 * n :])
    return (1 - z) * candidate + z * h


def softmax(e):
    p = np.exp(e - e.max())
    return p / p.sum()


def encode(p, words):
    """States of a document without padding, (t, 2h)."""
    x = [p["vectors.weight"][w] for w in words]
    directions = []
    for name, order in (("rightward", range(len(x))), ("leftward", reversed(range(len(x))))):
        W, U, b, c = (
            p[f"encoder.{name}.0.{part}_l0"]
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, states = np.zeros(U.shape[1]), {}
        for i in order:
            h = states[i] = gru(x[i], h, W, U, b, c)
        directions.append([states[i] for i in range(len(x))])
    return np.array([np.concatenate(pair) for pair in zip(*directions, strict=True)])


def attend(p, s, h):
    """Context and weights: both kinds of attention."""
    if "alignment.v.weight" in p:
        W, U, v = (p[f"alignment.{name}.weight"] for name in "WUv")
        e = np.array([v[0] @ np.tanh(W @ s + U @ h_i) for h_i in h])
    else:
        e = np.array([s @ p["alignment.W.weight"] @ h_i for h_i in h])
    weights = softmax(e)
    return sum(a * h_i for a, h_i in zip(weights, h, strict=True)), weights


def decode(p, source, target):
    """Logits (u, v) and weights (u, t) for one document, the target's words known."""
    h = encode(p, source)
    n = h.shape[1] // 2
    s = np.tanh(p["initial.weight"] @ h[0, n:] + p["initial.bias"])
    logits, weights = [], []
    for word in target:
        y = p["target_vectors.weight"][word]
        context, alpha = attend(p, s, h)
        s = gru(
            np.concatenate([y, context]), s,
            *(p[f"decoder.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        )  # fmt: skip
        pieces = p["maxout.linear.weight"] @ np.concatenate([s, context, y])
        pieces = (pieces + p["maxout.linear.bias"]).reshape(2, -1)
        t = np.maximum(pieces[0], pieces[1])
        logits.append(p["output.weight"] @ t + p["output.bias"])
        weights.append(alpha)
    return np.array(logits), np.array(weights)

"""Classify raw text with what `dlnotes export` wrote; needs numpy and onnxruntime alone.

python predict.py [--top-k K] TEXT ...      without texts: a text per line of standard input
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
CONFIG, LABELS = (json.loads((HERE / n).read_text("utf-8")) for n in ("config.json", "labels.json"))
LOWER = str.maketrans(CONFIG["lower"])
MEMBERS = CONFIG["members"]
for member in MEMBERS:
    words = (HERE / member["vocabulary"]).read_text("utf-8").split("\n")
    member["ids"] = {word: i for i, word in enumerate(words) if i > 0}  # 0 is padding, 1 unknown
SESSION = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])


def tokenize(text, steps):
    """The tokens of a text."""
    for kind, *given in steps:
        if kind == "lower":
            text = text.translate(LOWER).lower()
        elif kind == "map":
            text = text.translate(str.maketrans(given[0]))
        elif kind == "sub":
            text = re.sub(given[0], given[1], text)
        elif kind == "find":
            return re.findall(given[0], text)
    return [token for token in text.split(" ") if token]


def encode(text, member):
    """Ids of the tokens that the model reads."""
    tokens, most, mark = tokenize(text, member["steps"]), member["max_tokens"], member["question"]
    if most is not None and len(tokens) > most and mark in tokens:  # a story keeps its question
        question = tokens[tokens.index(mark) :]
        tokens = tokens[: max(0, most - len(question))] + question
    return [member["ids"].get(token, 1) for token in tokens[:most]]


def probabilities(texts):
    """Probability of each label for each text."""
    inputs = {}
    for put, member in zip(SESSION.get_inputs(), MEMBERS):
        rows = [encode(text, member) for text in texts]
        inputs[put.name] = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
        for row, ids in zip(inputs[put.name], rows):
            row[: len(ids)] = ids
    z = SESSION.run(None, inputs)[0] / np.float32(CONFIG["temperature"])
    with np.errstate(over="ignore"):
        e = np.exp(z - z.max(1, keepdims=True))
        return 1 / (1 + np.exp(-z)) if CONFIG["multi_label"] else e / e.sum(1, keepdims=True)


def classify(texts, top_k=3):
    """What `dlnotes predict` prints of each text, as a dictionary."""
    for text, p in zip(texts, probabilities(texts)):
        best = np.argsort(-p, kind="stable")
        top = [{"label": LABELS[k], "probability": float(p[k])} for k in best[:top_k]]
        if CONFIG["multi_label"]:
            given = [k for k in best if (p >= np.array(CONFIG["threshold"], p.dtype))[k]]
            answer = {"labels": [LABELS[k] for k in given], "probabilities": p[given].tolist()}
        else:
            unsure = p[best[0]] < np.float32(CONFIG["reject"])
            answer = top[0] | ({"label": None} if unsure else {})
        yield {**answer, "top": top, "text": text}


if __name__ == "__main__":
    texts, top_k = sys.argv[1:], 3
    if texts[:1] == ["--top-k"]:
        texts, top_k = texts[2:], int(texts[1])
    for text in texts or (line.rstrip("\r\n") for line in sys.stdin):
        print(json.dumps(next(classify([text], top_k))), flush=True)

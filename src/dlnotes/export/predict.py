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
for m in CONFIG["members"]:
    _, *words = (HERE / m["vocabulary"]).read_text("utf-8").split("\n")  # padding aside
    m["ids"] = {word: i for i, word in enumerate(words, 1)}
SESSION = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])


def tokenize(text, steps):
    """The tokens of a text."""
    for kind, *given in steps:
        if kind == "lower":
            text = text.translate(str.maketrans(CONFIG["lower"])).lower()
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
    for put, member in zip(SESSION.get_inputs(), CONFIG["members"]):
        rows = [encode(text, member) for text in texts]
        inputs[put.name] = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
        for row, ids in zip(inputs[put.name], rows):
            row[: len(ids)] = ids
    z = SESSION.run(None, inputs)[0] / np.float32(CONFIG["temperature"])
    e = np.exp(z - z.max(1, keepdims=True))
    return np.exp(-np.logaddexp(0, -z)) if CONFIG["multi_label"] else e / e.sum(1, keepdims=True)


def classify(texts, top_k=3):
    """What `dlnotes predict` prints of each text, as a dictionary."""
    for text, p in zip(texts, probabilities(texts)):
        best = np.argsort(-p, kind="stable")
        top = [{"label": LABELS[k], "probability": float(p[k])} for k in best[:top_k]]
        if CONFIG["multi_label"]:
            given = [k for k in best if (p >= np.array(CONFIG["threshold"], p.dtype))[k]]
            answer = {"labels": [LABELS[k] for k in given], "probabilities": p[given].tolist()}
        else:
            answer = top[0] | {"label": None} if p.max() < np.float32(CONFIG["reject"]) else top[0]
        yield {**answer, "top": top, "text": text}


if __name__ == "__main__":
    given = sys.argv[1:2] == ["--top-k"]
    top_k, texts = ("".join(sys.argv[2:3]), sys.argv[3:]) if given else ("3", sys.argv[1:])
    if not top_k.isdecimal() or int(top_k) < 1:
        sys.exit(f"error: --top-k must be a number of at least 1, not {top_k!r}")
    try:
        for text in texts or (line.rstrip("\r\n") for line in open(0, encoding="utf-8-sig")):  # noqa: SIM115
            print(json.dumps(next(classify([text.encode().decode()], int(top_k)))), flush=True)
    except UnicodeError as error:
        sys.exit(f"error: not UTF-8: {error}")

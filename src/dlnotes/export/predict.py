"""Classify raw text by a network that `dlnotes export` wrote; needs only numpy and onnxruntime."""

import argparse
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
MIXED = f"error: {HERE} holds an unfinished export: export it again"
WRITTEN = (HERE / "config.json").stat().st_mtime_ns
CONFIG = json.loads((HERE / "config.json").read_text("utf-8"))
"unfinished" in CONFIG and sys.exit(MIXED)
LABELS = json.loads((HERE / "labels.json").read_text("utf-8"))
for m in CONFIG["members"]:
    words = enumerate((HERE / m["vocabulary"]).read_text("utf-8").split("\n"))
    m["ids"] = {word: i for i, word in words if i}  # without padding
NETWORK = (HERE / "model.onnx").read_bytes()  # onnxruntime itself opens no path beyond UTF-8
(HERE / "config.json").stat().st_mtime_ns == WRITTEN or sys.exit(MIXED)  # exported meanwhile
SESSION = onnxruntime.InferenceSession(NETWORK, providers=["CPUExecutionProvider"])


def tokenize(text, steps, lower=str.maketrans(CONFIG["lower"])):  # noqa: B008 -- once is wanted
    """The tokens of a text: the matches of the last step, which is "find"."""
    for kind, *given in steps[:-1]:
        if kind == "lower":
            text = text.translate(lower).lower()
        else:  # "map", of a table, or "sub", of a pattern and what replaces it
            text = text.translate(str.maketrans(*given)) if kind == "map" else re.sub(*given, text)
    return re.findall(steps[-1][1], text)


def encode(text, member):
    """Ids of the tokens that the model reads."""
    tokens, most, mark = tokenize(text, member["steps"]), member["max_tokens"], member["question"]
    if most is not None and len(tokens) > most:
        warnings.warn(f"texts of more than {most:,} tokens are cut there", stacklevel=2)
        question = tokens[tokens.index(mark) :] if mark in tokens else []  # is never cut off
        tokens = tokens[: max(0, most - len(question))] + question
    return [member["ids"].get(token, 1) for token in tokens[:most]]


def probabilities(texts):
    """Probability of each label for each text."""
    inputs = {}
    for put, member in zip(SESSION.get_inputs(), CONFIG["members"]):
        rows = [encode(text, member) for text in texts]
        t = max(map(len, rows), default=0)
        inputs[put.name] = np.array([ids + [0] * (t - len(ids)) for ids in rows], np.int64, ndmin=2)
    z = SESSION.run(None, inputs)[0] / np.float32(CONFIG["temperature"])
    e = np.exp(z - z.max(1, keepdims=True))
    return np.exp(-np.logaddexp(0, -z)) if CONFIG["multi_label"] else e / e.sum(1, keepdims=True)


def classify(texts, top_k=3):
    """What `dlnotes predict` prints for each text, as a dictionary."""
    for text, p in zip(texts, probabilities(texts)):
        best = np.argsort(-p, kind="stable")
        top = [{"label": LABELS[k], "probability": float(p[k])} for k in best[:top_k]]
        answer = top[0] | {"label": None} if p.max() < np.float32(CONFIG["reject"]) else top[0]
        if CONFIG["multi_label"]:
            given = best[(p >= np.array(CONFIG["threshold"], p.dtype))[best]]
            answer = {"labels": [LABELS[k] for k in given], "probabilities": p[given].tolist()}
        yield {**answer, "top": top, "text": text}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--top-k", type=int, default=3, help="how many labels (default 3)")
    parser.add_argument("text", nargs="*", help="without, or for -: a text per line of stdin")
    given = parser.parse_intermixed_args()
    given.top_k > 0 or parser.error(f"argument --top-k: must be at least 1, not {given.top_k}")
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    stdin = given.text in ([], ["-"]) and (sys.stdin or parser.error("there is no standard input"))
    stdin and stdin.reconfigure(encoding="utf-8-sig", newline="\n")  # type: ignore[union-attr]
    try:
        for text in (t.rstrip("\n").removesuffix("\r") for t in stdin) if stdin else given.text:
            print(json.dumps(next(classify([text.encode().decode()], given.top_k))), flush=True)
    except (UnicodeError, OSError, KeyboardInterrupt) as error:
        sys.stdout = None  # the reader may have closed the pipe, or the disk may be full
        sys.exit({BrokenPipeError: 0, KeyboardInterrupt: 130}.get(type(error), f"error: {error}"))

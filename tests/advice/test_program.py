"""The baseline's program, run as it is printed, is the baseline that was measured."""

import contextlib
import io
import json

import numpy as np
import pytest

from dlnotes.advice.program import program
from dlnotes.data.dataset import load_dataset
from dlnotes.training.trials import TFIDF, run_trial


def noisy(n, seed):
    """Texts in which case, punctuation and how often a word occurs say a little of the class."""
    random = np.random.default_rng(seed)
    words = ["a", "I", "U.S.", "it's", "Win", "win", "b", "c,", "d;e", "x"]
    for _ in range(n):
        label = int(random.integers(3))
        weights = np.ones(len(words))
        weights[[2 * label, 2 * label + 1, 9 - label]] += 0.7
        chosen = random.choice(words, random.integers(3, 40), p=weights / weights.sum())
        yield label, " ".join(chosen)


def write(path, n, seed):
    path.write_text("".join(f"{'xyz'[label]}\t{text}\n" for label, text in noisy(n, seed)))
    return path


def figure(text):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(text, {})
    name, _, value = said.getvalue().strip().rpartition(": ")
    return name, float(value)


@pytest.mark.parametrize("settings", [{}, {"tokenizer": "cased", "dev_fraction": 0.4}])
@pytest.mark.parametrize("own_dev", [False, True])
def test_of_one_label(tmp_path, settings, own_dev):
    sources = {"train": (write(tmp_path / "it's.tsv", 300, 0),)}
    if own_dev:
        sources["dev"] = (write(tmp_path / "dev.tsv", 200, 1),)
    measured = run_trial(load_dataset(sources, **settings), TFIDF).score
    assert 0.4 < measured < 0.95
    assert figure(program(sources, settings)) == ("accuracy on dev", pytest.approx(measured))


def test_of_several_labels(tmp_path):
    lines = [
        json.dumps({"text": f"{a} {b}", "label": sorted({"xyz"[i], "xyz"[k]} - {"x"})})
        for (i, a), (k, b) in zip(noisy(300, 0), noisy(300, 1), strict=True)
    ]
    path = tmp_path / "several.jsonl"
    path.write_text("\n".join(lines))
    measured = run_trial(load_dataset({"train": path}), TFIDF)
    assert 0.4 < measured.score < 0.95
    text = program({"train": (path,)}, {}, threshold=measured.decision.threshold)
    assert figure(text) == ("micro-F1 on dev", pytest.approx(measured.score))


def test_of_a_corpus(tmp_path):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "train.tsv", 300, 0)
    write(tmp_path / "mine" / "test.tsv", 50, 1)
    data = load_dataset({"train": tmp_path / "mine" / "train.tsv"}, split_seed=3)
    found = figure(program("mine", {"split_seed": 3}, data_dir=tmp_path))
    assert found == ("accuracy on dev", pytest.approx(run_trial(data, TFIDF).score))

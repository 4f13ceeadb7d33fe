"""Folders that dlnotes 0.1.0 wrote before its training core was rebuilt can still be used."""

import json
import shutil
from pathlib import Path

import pytest

from small import random_stream

OLD = Path(__file__).parent / "old_runs"
DATA = OLD / "data"
TRAINING = ["--lr", ".05", "--epochs", "3", "--batch-size", "24", "--device", "cpu", "--split-seed", "5", "--warmup", ".1", "--schedule", "linear", "--seed", "1", "--label-smoothing", ".1", "--class-weights", "balanced", "--clip-norm", "1"]  # fmt: skip


def figures(folder):
    return json.loads((folder / "metrics.json").read_text())


# What random_stream gives with the torch that the interrupted trainings were made with.
STREAM = [69.51295690604319, 9.561396686397675, 17574114.0]


def same(history, kept):
    """The same epochs; the rest of a dropout's numbers is another one in some versions of torch."""
    assert [row["epoch"] for row in history] == [row["epoch"] for row in kept]
    if random_stream() != STREAM:
        kept = kept[:1]
    speeds = ("documents_per_second",)
    for row, old in zip(history, kept, strict=False):
        assert row.keys() - {"dev_ece"} == old.keys()  # which earlier versions did not measure
        for name in old.keys() - set(speeds):
            assert row[name] == pytest.approx(old[name], rel=1e-5), name


@pytest.mark.parametrize("run", ["fasttext", "textcnn", "ensemble"])
def test_classifiers_evaluate_as_they_did(script, run, tmp_path):
    found = tmp_path / "figures.json"
    result = script("evaluate", OLD / run, "--test", DATA / "test.tsv", "--json", found)
    assert result.code == 0, result.err
    kept, measured = figures(OLD / run)["test"], json.loads(found.read_text())
    for name in ("accuracy", "macro_f1", "micro_f1", "loss"):
        assert measured[name] == pytest.approx(kept[name], rel=1e-5)


def test_runs_form_an_ensemble(script, tmp_path):
    runs = [OLD / "fasttext", OLD / "textcnn"]
    data = ["--train", DATA / "train.tsv", "--test", DATA / "test.tsv"]
    result = script("ensemble", *runs, *data, "--out", tmp_path / "joined", "--weights", "equal")
    assert result.code == 0, result.err
    found, kept = figures(tmp_path / "joined"), figures(OLD / "ensemble")
    for split in ("dev", "test"):
        assert found[split]["loss"] == pytest.approx(kept[split]["loss"], rel=1e-5)


def test_a_translator_translates(script):
    result = script("translate", "translate", OLD / "translator", "ein zwei", "--device", "cpu")
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 1


def test_an_interrupted_training_goes_on(script, tmp_path):
    out = shutil.copytree(OLD / "interrupted", tmp_path / "run")
    model = ["--model", "textcnn", "--model-args", "embedding_dim=4", "maps=3", "widths=(2,3)"]
    data = ["--train", DATA / "train.tsv", "--test", DATA / "test.tsv"]
    options = [*data, *TRAINING, *model, "--out", out, "--resume"]
    result = script("train", *options, "--min-freq", "2")
    assert result.code == 2
    assert "min_freq=1" in result.err
    result = script("train", *options)
    assert result.code == 0, result.err
    found, kept = figures(out), figures(OLD / "textcnn")
    same(found["history"], kept["history"])
    if random_stream() == STREAM:
        assert found["test"]["loss"] == pytest.approx(kept["test"]["loss"], rel=1e-5)


def test_an_interrupted_translation_goes_on(script, tmp_path):
    out = shutil.copytree(OLD / "translator-interrupted", tmp_path / "run")
    result = script(
        "translate", "train", "--data-dir", DATA / "parallel", "--epochs", "3", "--batch-size", "24", "--lr", ".01", "--device", "cpu", "--min-freq", "1",
        "--model-args", "embedding_dim=8", "hidden_size=8", "maxout_size=8", "--out", out, "--resume",
    )  # fmt: skip
    assert result.code == 0, result.err
    same(figures(out)["history"], figures(OLD / "translator")["history"])

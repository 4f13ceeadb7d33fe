"""The commands with --device: figures, labels and texts are those of the CPU."""

import json
import re
from pathlib import Path

import pytest

OLD = Path(__file__).parent / "old_runs"
DATA = OLD / "data"
TEXTS = [line.split("\t", 1)[1] for line in (DATA / "test.tsv").read_text().splitlines()]


def figures(out):
    return [float(x) for x in re.findall(r"\d+\.\d+", out.splitlines()[0])]


@pytest.mark.parametrize("model", ["fasttext", "textcnn", "ensemble"])
def test_evaluate_and_predict(model, device, script, tmp_path):
    found, expected = (
        script("evaluate", OLD / model, "--test", DATA / "test.tsv", "--device", place)
        for place in (device, "cpu")
    )
    assert (found.code, expected.code) == (0, 0), found.err + expected.err
    assert figures(found.out) == pytest.approx(figures(expected.out), abs=2e-3)
    answers = []
    for place in (device, "cpu"):
        out = tmp_path / f"{place}.jsonl"
        ran = script("predict", OLD / model, *TEXTS, "--out", out, "--device", place)
        assert ran.code == 0, ran.err
        answers.append([json.loads(line) for line in out.read_text().splitlines()])
    assert len(answers[0]) == len(TEXTS)
    for mine, its in zip(*answers, strict=True):
        assert mine["label"] == its["label"]
        assert mine["probability"] == pytest.approx(its["probability"], abs=1e-3)


@pytest.mark.parametrize("model", ["fasttext", "han", "entnet"])
def test_train_writes_a_run_that_any_device_reads(model, device, script, files, tmp_path):
    run = tmp_path / "run"
    ran = script(
        *("train", "--model", model, "--train", files / "train.tsv", "--test", files / "test.tsv"),
        *("--out", run, "--epochs", 3, "--lr", 0.02, "--device", device),
        *("--model-args", "embedding_dim=8", "dropout=0.0"),
    )
    assert ran.code == 0, ran.err
    record = json.loads((run / "metrics.json").read_text())
    assert record["test"]["accuracy"] > 0.9
    for place in (device, "cpu"):
        again = script("evaluate", run, "--test", files / "test.tsv", "--device", place)
        assert again.code == 0, again.err
        assert figures(again.out)[0] == pytest.approx(record["test"]["accuracy"], abs=1e-3)


def test_mixed_precision_is_for_a_gpu(device, script, files, tmp_path):
    ran = script(
        *("train", "--model", "textcnn", "--train", files / "train.tsv", "--test"),
        *(files / "test.tsv", "--out", tmp_path / "run", "--epochs", 3, "--device", device),
        *("--amp", "--model-args", "embedding_dim=8", "maps=8"),
    )
    if device.type == "cpu":
        assert ran.code == 2
        assert "amp (bf16 autocast) needs a CUDA device" in ran.err.splitlines()[-1]
    else:
        assert ran.code == 0, ran.err
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"] > 0.9


def test_translate(device, script, tmp_path):
    run = tmp_path / "run"
    trained = script(
        *("translate", "train", "--data-dir", DATA / "parallel", "--out", run, "--epochs", 1),
        *("--device", device, "--model-args", "embedding_dim=8", "hidden_size=8", "maxout_size=8"),
    )
    assert trained.code == 0, trained.err
    texts = []
    for place in (device, "cpu"):
        told = script("translate", "translate", run, "--device", place, "ein hund .", "rot")
        assert told.code == 0, told.err
        texts.append(told.out)
    assert texts[0] == texts[1]

"""Ensembles on files: train members, join them, evaluate and predict."""

import json

from small import model_args


def train(script, files, out, *more):
    result = script(
        "train", "--train", files / "train.tsv", "--test", files / "test.tsv", "--out", out,
        "--recipe", "plain", "--epochs", 1, "--lr", 0.01, "--batch-size", 16, *more,
    )  # fmt: skip
    assert result.code == 0, result.err
    return out


def test_ensemble_evaluate_predict(script, files, tmp_path):
    a = train(script, files, tmp_path / "a", "--model", "fasttext", *model_args("fasttext"))
    b = train(
        script, files, tmp_path / "b", "--model", "textcnn", "--seed", 1, "--split-seed", 0,
        "--tokenizer", "characters", "--bootstrap", *model_args("textcnn"),
    )  # fmt: skip
    c = train(script, files, tmp_path / "c", "--boost", a, *model_args("fasttext"))
    out = tmp_path / "e"
    data = ["--train", files / "train.tsv", "--test", files / "test.tsv"]
    joined = script("ensemble", a, b, "--out", out, "--weights", "equal", *data)
    assert joined.code == 0, joined.err
    record = json.loads((out / "metrics.json").read_text())
    assert f"{record['test']['accuracy']:.4f}" in joined.out
    assert set(record) >= {"command", "commit", "seed", "versions", "machine", "data", "settings"}
    measured = script("evaluate", out, "--test", files / "test.tsv")
    assert f"accuracy {record['test']['accuracy']:.4f}" in measured.out
    assert "confusion matrix" in measured.out
    assert json.loads(script("predict", out, "the goal of a team").out)["label"] == "sport"
    boosted = script("ensemble", a, c, "--out", tmp_path / "f", "--weights", "boosting", *data)
    assert boosted.code == 0, boosted.err


def told(result):
    assert result.code == 2, result
    return result.err.strip().splitlines()[-1]


def test_mistakes(script, files, tmp_path):
    a = train(script, files, tmp_path / "a", *model_args("fasttext"))
    b = train(script, files, tmp_path / "b", "--seed", 1, *model_args("fasttext"))
    data = ["--train", files / "train.tsv"]
    assert "split seed is 0 and 1" in told(script("ensemble", a, b, "--out", tmp_path / "e", *data))
    assert "give --train FILE" in told(script("ensemble", a, "--out", tmp_path / "e"))
    assert "is not a trained classifier" in told(
        script("ensemble", tmp_path, "--out", tmp_path / "e", *data)
    )
    assert not (tmp_path / "e").exists()
    assert "not both" in told(script("train", "--bootstrap", "--boost", a))
    assert "give the same --split-seed" in told(
        script("train", *data, "--boost", a, "--seed", 1, "--out", tmp_path / "g")
    )

"""--vectors on files: train, predict without the file, and a user's mistakes."""

import json

from small import model_args


def test_train_from_vectors(script, files, tmp_path):
    path = tmp_path / "vectors.vec"
    path.write_text("3 4\ngoal 1 0 0 0\nchip 0 1 0 0\nother 0 0 1 0\n")
    command = [
        "train", "--model", "textcnn", "--train", files / "train.tsv", "--test",
        files / "test.tsv", "--vectors", path, "--epochs", 5, "--lr", 0.02, "--batch-size", 16,
    ]  # fmt: skip
    own = ["--model-args", "maps=4", "channels=multichannel"]
    out = tmp_path / "run"
    trained = script(*command, "--out", out, *own)
    assert trained.code == 0, trained.err
    assert "vectors.vec: vectors of 2 of the vocabulary's " in trained.err
    record = json.loads((out / "metrics.json").read_text())
    assert record["pretrained"] == 2
    assert record["test"]["accuracy"] > 0.9
    path.unlink()
    assert json.loads(script("predict", out, "the goal of a team").out)["label"] == "sport"
    failed = script(*command, "--out", tmp_path / "b", *model_args("textcnn"))
    assert failed.code == 2
    assert "vectors.vec cannot be read" in failed.err
    path.write_text("goal 1 0\n")
    failed = script(*command, "--out", tmp_path / "c", *model_args("textcnn"))
    assert failed.code == 2
    assert "leave embedding_dim out" in failed.err


def test_train_from_word2vec(script, files, tmp_path):
    out = tmp_path / "run"
    trained = script(
        "train", "--model", "textrnn", "--train", files / "train.tsv", "--test",
        files / "test.tsv", "--vectors", "word2vec", "--epochs", 1, "--out", out,
        *model_args("textrnn"),
    )  # fmt: skip
    assert trained.code == 0, trained.err
    record = json.loads((out / "metrics.json").read_text())
    assert record["settings"]["vectors"] == "word2vec"
    assert record["pretrained"] > 2


def test_vectors_learned_from_other_text(script, files, tmp_path):
    vectors, out = tmp_path / "words.vec", tmp_path / "run"
    options = ["--dimensions", 6, "--min-freq", 1, "--epochs", 2]
    learned = script("learn_vectors", "bbc", files / "train.tsv", "--out", vectors, *options)
    assert learned.code == 0, learned.err
    count, dimensions = vectors.read_text().splitlines()[0].split()
    assert int(count) > 20_000  # bbc's words
    assert dimensions == "6"
    trained = script(
        "train", "--model", "rcnn", "--train", files / "train.tsv", "--test", files / "test.tsv",
        "--vectors", vectors, "--epochs", 1, "--out", out,
        "--model-args", "context_size=4", "hidden_size=4",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert json.loads((out / "metrics.json").read_text())["pretrained"] > 0


def test_mistakes_in_learning_vectors(script, tmp_path):
    for arguments, said in (
        (["--out", tmp_path / "x.vec"], "give one or more corpora or files"),
        (["nothing", "--out", tmp_path / "x.vec"], "corpus 'nothing' is none of"),
        (["bbc", "--out", tmp_path / "x.vec", "--tokenizer", "no"], "tokenizer must be one of"),
        (["bbc", "--out", tmp_path / "no" / "x.vec"], "there is no folder"),
    ):
        failed = script("learn_vectors", *arguments)
        assert failed.code == 2
        assert said in failed.err
    assert not list(tmp_path.iterdir())

"""scripts/translate.py as a user runs it: train, translate, score, and mistakes."""

import io
import json
from types import SimpleNamespace

import pytest

WORDS = {"rot": "red", "blau": "blue", "hund": "dog", "katze": "cat"}
SMALL = ["--model-args", "embedding_dim=12", "hidden_size=16", "maxout_size=16", "dropout=0.0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    for split, n in (("train", 200), ("val", 20), ("test2016", 20)):
        rows = [
            [list(WORDS)[(i * k + i // 4) % 4] for k in (1, 3, 2)][: 1 + i % 3] for i in range(n)
        ]
        for language, word in (("de", str), ("en", WORDS.get)):
            text = "".join(" ".join(map(word, row)) + " .\n" for row in rows)
            (folder / f"{split}.{language}").write_text(text)
    return folder


def test_train_translate_score(script, folder, tmp_path):
    out = tmp_path / "run"
    trained = script(
        "translate", "train", "--data-dir", folder, "--out", out, "--epochs", 5, "--lr", 0.02,
        "--batch-size", 10, "--beam", 2, *SMALL,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert "epoch   5" in trained.err
    record = json.loads((out / "metrics.json").read_text())
    measured = record["test"]["detokenized"]
    assert measured["bleu"] > 50
    assert f"BLEU {measured['bleu']:.2f}" in trained.out
    assert measured["signature"] in trained.out
    assert record["settings"]["languages"] == ["de", "en"]

    one = script("translate", "translate", out, "Hund", "rot .")
    assert one.code == 0, one.err
    assert len(one.out.splitlines()) == 2
    stream = SimpleNamespace(buffer=io.BytesIO(b"rot .\r\n\nblau .\n"))
    lines = script("translate", "translate", out, "--beam", 1, stdin=stream).out.splitlines()
    assert lines == ["red.", "", "blue."]

    figures = tmp_path / "bleu.json"
    scored = script(
        "translate", "score", out, "--source", folder / "test2016.de",
        "--reference", folder / "test2016.en", "--beam", 2, "--json-file", figures,
    )  # fmt: skip
    assert scored.code == 0, scored.err
    assert json.loads(figures.read_text())["detokenized"]["bleu"] == pytest.approx(measured["bleu"])


MISTAKES = {
    "no folder": (["train", "--data-dir", "/no"], "has no test2016.de, compressed or not"),
    "model": (["train", "--data-dir", "{folder}", "--model", "bert"], "--model must be one of"),
    "setting": (["train", "--data-dir", "{folder}", "--model-args", "x=1"], "has no setting 'x=1'"),
    "batch": (
        ["train", "--data-dir", "{folder}", "--batch-size", "0"],
        "--batch-size must be at least 1",
    ),
    "no run": (["translate", "{folder}", "x"], "is not a trained translator"),
    "misaligned": (
        ["score", "{folder}", "--source", "{folder}/val.de", "--reference", "{folder}/train.en"],
        "has 20 lines and",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(script, folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    arguments, message = MISTAKES[name]
    result = script("translate", *(a.format(folder=folder) for a in arguments))
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert message in result.err


def test_help_is_readable(script):
    for command in ([], ["train"], ["translate"], ["score"]):
        shown = script("translate", *command, "--help")
        assert shown.code == 0
        assert "usage:" in shown.out


def test_figures_do_not_replace_what_is_measured(script, folder, tmp_path):
    before = (folder / "val.en").read_text()
    given = ["score", tmp_path, "--source", folder / "val.de", "--reference", folder / "val.en"]
    result = script("translate", *given, "--json-file", folder / "val.en")
    assert (result.code, "--reference and --json-file are the same file" in result.err) == (2, True)
    assert (folder / "val.en").read_text() == before
    result = script("translate", *given, "--json-file", tmp_path / "none" / "x.json")
    assert (result.code, f"there is no folder {tmp_path}/none" in result.err) == (2, True)

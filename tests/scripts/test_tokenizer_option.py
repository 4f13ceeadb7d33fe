"""--tokenizer on the command line: chosen by the script, learned subwords, Chinese words."""

import json
import random
import shutil
import signal
import sys
import time

import pytest
import yaml
from running import process
from test_main_job import same_run, saved_step

from small import model_args

WORDS = {"好": ["好吃", "喜欢", "不错", "推荐"], "坏": ["难吃", "讨厌", "失望", "退货"]}


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    """train.tsv and test.tsv of two easy classes, two sentences a text."""
    folder = tmp_path_factory.mktemp("chinese")
    drawn = random.Random(0)
    for split, n in (("train", 200), ("test", 40)):
        rows = []
        for i in range(n):
            label = ("好", "坏")[i % 2]
            first, second = drawn.choices(WORDS[label], k=2)
            rows.append(f"{label}\t这家店的菜{first}！我{second}。\n")
        (folder / f"{split}.tsv").write_text("".join(rows), "utf-8")
    return folder


def given(files, out, model, *more, epochs=4):
    return [
        "--model", model, "--train", files / "train.tsv", "--test", files / "test.tsv",
        "--out", out, "--epochs", epochs, "--lr", 0.02, "--batch-size", 8,
        *model_args(model), *more,
    ]  # fmt: skip


def config_of(run):
    return json.loads((run / "classifier" / "config.json").read_text())


@pytest.mark.parametrize(
    ("model", "tokenizer"), [("fasttext", "characters"), ("han", "sentence_characters")]
)
def test_chinese_is_read_by_characters_and_that_is_said(
    script, chinese, tmp_path, model, tokenizer
):
    out = tmp_path / "run"
    trained = script("train", *given(chinese, out, model, "--recipe", "plain"))
    assert trained.code == 0, trained.err
    said = f"tokenizer: {tokenizer} (100 % of the letters are of scripts without spaces)"
    assert trained.err.splitlines().count(said) == 1
    record = json.loads((out / "metrics.json").read_text())
    assert record["test"]["accuracy"] > 0.9
    options = yaml.safe_load((out / "config.yaml").read_text())
    assert record["settings"]["tokenizer"] == options["tokenizer"] == tokenizer
    assert config_of(out)["tokenizer"] == tokenizer
    assert json.loads(script("predict", out, "不推荐。难吃！失望").out)["label"] == "坏"

    resumed = script("train", *given(chinese, out, model, "--recipe", "plain"), "--resume")
    assert resumed.code == 0, resumed.err
    again = script("train", "--config", out / "config.yaml", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert "tokenizer:" not in again.err  # it was given, by the file
    same_run(out, tmp_path / "again")

    joined = script("ensemble", out, tmp_path / "again", "--out", tmp_path / "both",
                    "--train", chinese / "train.tsv", "--test", chinese / "test.tsv")  # fmt: skip
    assert joined.code == 0, joined.err


def test_nothing_is_said_of_the_usual_tokenizer(script, files, tmp_path):
    trained = script("train", *given(files, tmp_path / "run", "fasttext", epochs=1))
    assert trained.code == 0, trained.err
    assert "tokenizer" not in trained.err


@pytest.mark.parametrize("model", ["fasttext", "han"])
def test_subwords_from_training_to_prediction(script, files, tmp_path, model):
    pytest.importorskip("tokenizers")
    out = tmp_path / "run"
    bpe = "--tokenizer", "bpe", "--merges", 8
    trained = script("train", *given(files, out, model, *bpe, "--refit"))
    assert trained.code == 0, trained.err
    name = "sentence_bpe" if model == "han" else "bpe"
    assert config_of(out)["tokenizer"] == name
    record = json.loads((out / "metrics.json").read_text())
    assert record["test"]["accuracy"] > 0.9
    assert len((out / "classifier" / "merges.txt").read_text().splitlines()) == 8
    assert record["settings"]["merges"] == 8

    measured = script("evaluate", out, "--test", files / "test.tsv")
    assert f"accuracy {record['test']['accuracy']:.4f}" in measured.out
    page = tmp_path / "page.html"
    said = script("predict", out, "The goal of goalkeepers", "", "--explain", page)
    assert said.code == 0, said.err
    assert json.loads(said.out.splitlines()[0])["label"] == "sport"
    html = page.read_text("utf-8")
    assert ">goalkeepers</span>" in html
    assert "##" not in html

    other = tmp_path / "characters"
    assert script("train", *given(files, other, "fasttext", "--tokenizer", "characters")).code == 0
    both = tmp_path / "both"
    made = script("ensemble", out, other, "--out", both, "--weights", "equal",
                  "--train", files / "train.tsv", "--test", files / "test.tsv")  # fmt: skip
    assert made.code == 0, made.err
    assert json.loads(script("predict", both, "the goal of a team").out)["label"] == "sport"


def test_subwords_that_do_not_belong_to_the_weights_are_refused(script, files, tmp_path):
    pytest.importorskip("tokenizers")
    out = tmp_path / "run"
    assert script("train", *given(files, out, "fasttext", "--tokenizer", "bpe", epochs=1)).code == 0
    merges = out / "classifier" / "merges.txt"
    content = merges.read_text()
    damages = {
        "has no merges.txt": merges.unlink,
        "two pieces": lambda: merges.write_text(content + "x\n"),
        "saved with other files": lambda: merges.write_text(content + "z z\n"),
    }
    for message, damage in damages.items():
        damage()
        refused = script("predict", out, "goal")
        assert refused.code == 2
        assert message in refused.err
        assert len(refused.err.strip().splitlines()) == 1
    merges.write_text(content)
    assert script("predict", out, "goal").code == 0


def test_a_killed_training_on_subwords_goes_on_bit_for_bit(script, files, tmp_path):
    pytest.importorskip("tokenizers")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = ("--tokenizer", "bpe", "--checkpoint-every", 3)
    assert script("train", *given(files, whole, "textcnn", *more, epochs=8)).code == 0
    child = process("train", *given(files, killed, "textcnn", *more, epochs=8))
    while saved_step(killed) < 3:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (killed / "metrics.json").exists()
    resumed = script("train", *given(files, killed, "textcnn", *more, epochs=8), "--resume")
    assert resumed.code == 0, resumed.err
    same_run(whole, killed)
    merges = [run / "classifier" / "merges.txt" for run in (whole, killed)]
    assert merges[0].read_bytes() == merges[1].read_bytes()


@pytest.mark.parametrize("model", ["fasttext", "entnet"])
def test_chinese_words_from_training_to_prediction(script, chinese, tmp_path, model):
    pytest.importorskip("jieba")
    out = tmp_path / "run"
    trained = script("train", *given(chinese, out, model, "--tokenizer", "jieba"))
    assert trained.code == 0, trained.err
    assert "jieba" not in trained.err
    assert config_of(out)["tokenizer"] == ("sentence_jieba" if model == "entnet" else "jieba")
    page = tmp_path / "page.html"
    said = script("predict", out, "这菜不错，推荐！", "--explain", page)
    assert json.loads(said.out)["label"] == "好"
    words = {"fasttext": ">推荐</span>", "entnet": " 推荐 "}  # EntNet's page shows sentences
    assert words[model] in page.read_text("utf-8")


@pytest.mark.parametrize(("tokenizer", "package"), [("bpe", "tokenizers"), ("jieba", "jieba")])
def test_a_missing_package_is_one_line(script, files, tmp_path, monkeypatch, tokenizer, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("dlnotes.data.chinese._jieba", __import__("dlnotes.data.chinese", fromlist=["x"])._jieba.__wrapped__)  # fmt: skip
    refused = script("train", *given(files, tmp_path / "run", "fasttext", "--tokenizer", tokenizer))
    assert refused.code == 2
    assert refused.err.strip().splitlines() == [
        f"error: the tokenizer {tokenizer} needs the package {package}: "
        f"pip install 'dlnotes[{tokenizer}]'"
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tokenizer", ["bpe", "jieba"])
def test_hard_texts(script, tmp_path, tokenizer):
    pytest.importorskip({"bpe": "tokenizers"}.get(tokenizer, tokenizer))
    hard = [
        "",
        "🤷🏽‍♀️🤷🏽‍♀️",
        "e\u0301e\u0301 \u200d",
        "</s> <question> <unk> <pad> ##x",
        "a\x00b\x1cc",
        "好" * 300_000,
    ]
    rows = [
        json.dumps({"label": "ab"[i % 2], "text": text})
        for i, text in enumerate([*hard, *hard[:-1] * 5])
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    out = tmp_path / "run"
    trained = script("train", "--train", tmp_path / "train.jsonl", "--out", out, "--epochs", 1,
                     "--tokenizer", tokenizer, "--max-tokens", 50, *model_args("fasttext"))  # fmt: skip
    assert trained.code == 0, trained.err
    said = script(
        "predict", out, "--file", tmp_path / "train.jsonl", "--explain", tmp_path / "page.html"
    )
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == len(rows)
    shutil.rmtree(out)

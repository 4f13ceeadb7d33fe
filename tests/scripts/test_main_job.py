"""The main job on files: train, evaluate, predict; kill -9 and Ctrl-C in between."""

import io
import json
import random
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from running import process

from dlnotes.models import MODELS
from dlnotes.training.progress import Progress
from small import model_args


@pytest.mark.parametrize("model", MODELS)
def test_train_evaluate_predict(script, files, tmp_path, model):
    out = tmp_path / "run"
    trained = script(
        "train", "--model", model, "--train", files / "train.tsv", "--test", files / "test.tsv",
        "--out", out, "--epochs", 5, "--lr", 0.02, "--batch-size", 16, *model_args(model),
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert "epoch   5" in trained.err
    record = json.loads((out / "metrics.json").read_text())
    assert record["test"]["accuracy"] > 0.9
    assert f"accuracy {record['test']['accuracy']:.4f}" in trained.out
    assert record["settings"]["model"] == model

    figures = tmp_path / "figures.json"
    measured = script("evaluate", out, "--test", files / "test.tsv", "--json", figures)
    assert measured.code == 0, measured.err
    assert f"accuracy {record['test']['accuracy']:.4f}" in measured.out
    assert "confusion matrix" in measured.out
    written = json.loads(figures.read_text())
    assert written["macro_f1"] == pytest.approx(record["test"]["macro_f1"])
    assert sum(map(sum, written["confusion"])) == 40

    one = script("predict", out, "the goal of a team")
    assert json.loads(one.out)["label"] == "sport"
    texts = ["code for the web", "a match"]
    stream = SimpleNamespace(buffer=io.BytesIO("\n".join(texts).encode()))
    lines = script("predict", out, "--top-k", 1, stdin=stream)
    assert [json.loads(line)["label"] for line in lines.out.splitlines()] == ["tech", "sport"]
    assert [json.loads(line)["text"] for line in lines.out.splitlines()] == texts
    (tmp_path / "texts.txt").write_text("a chip\r\nthe team\n\n")
    from_file = script("predict", out, "--file", tmp_path / "texts.txt")
    assert [json.loads(line)["text"] for line in from_file.out.splitlines()] == [
        "a chip",
        "the team",
        "",
    ]


def test_help_is_readable(script):
    for name in ("train", "evaluate", "predict"):
        shown = script(name, "--help")
        assert shown.code == 0
        assert "usage:" in shown.out
        assert "Traceback" not in shown.err
    text = " ".join(script("train", "--help").out.replace("│", " ").split())
    for option, explained in {
        "--lr": "Learning rate. Default: what the recipe says",
        "--resume": "Continue the interrupted run in --out",
        "--model-args": "The model's own hyper-parameters, for example embedding_dim=100",
    }.items():
        assert option in text
        assert explained in text


def arguments(files, out, model="textcnn", epochs=6):
    return [
        "--model", model, "--train", files / "train.tsv", "--test", files / "test.tsv", "--out", out,
        "--epochs", epochs, "--batch-size", 8, "--lr", 0.01, "--checkpoint-every", 3,
        "--schedule", "linear", "--warmup", 0.1, "--clip-norm", 1, *model_args(model),
    ]  # fmt: skip


def same_run(a, b):
    weights = [folder / "classifier" / "model.safetensors" for folder in (a, b)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    records = [json.loads((folder / "metrics.json").read_text()) for folder in (a, b)]
    for record in records:
        for row in record["history"]:
            row.pop("documents_per_second")
    for key in ("history", "dev", "test", "best_epoch", "settings"):
        assert records[0][key] == records[1][key], key


@pytest.fixture
def begun(monkeypatch):
    """How many updates were done before, for each training that begins in this process."""
    seen = []

    class Seen(Progress):
        def __init__(self, steps, done=0, **options):
            seen.append(done)
            super().__init__(steps, done, **options)

    monkeypatch.setattr("dlnotes.training.fit.Progress", Seen)
    return seen


def saved_step(folder):
    """Updates done at the last checkpoint; 0 while there is none."""
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True)["state"]["step"] if path.exists() else 0


@pytest.mark.parametrize("model", ["fasttext", "textcnn"])
def test_kill_at_a_random_moment_and_resume_bit_for_bit(script, files, tmp_path, model, begun):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert script("train", *arguments(files, whole, model)).code == 0
    steps = saved_step(whole)
    child = process("train", *arguments(files, killed, model))
    moment = random.Random().randint(1, steps // 2)
    while saved_step(killed) < moment:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.005)
    time.sleep(random.Random().uniform(0, 0.02))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL  # it was not done yet
    assert not (killed / "metrics.json").exists()
    done = saved_step(killed)
    assert 0 < done < steps
    resumed = script("train", *arguments(files, killed, model), "--resume")
    assert resumed.code == 0, resumed.err
    # From the start again would give the same; with the dev documents each begins anew.
    assert begun == [0, 0, done, 0]
    same_run(whole, killed)


def test_ctrl_c_saves_and_says_how_to_go_on(script, files, tmp_path, begun):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert script("train", *arguments(files, whole, epochs=20)).code == 0
    child = process("train", *arguments(files, stopped, epochs=20))
    while not (stopped / "checkpoint.pt").exists():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate()
    assert child.returncode == 130
    assert "Traceback" not in err
    command = err.splitlines()[-1]
    assert "Go on with:" in err
    assert command.endswith("--resume")
    done = saved_step(stopped)
    assert 0 < done < saved_step(whole)
    resumed = script("train", *command.split()[2:])
    assert resumed.code == 0, resumed.err
    assert begun == [0, 0, done, 0]
    same_run(whole, stopped)


def test_explain_writes_a_page(script, files, tmp_path):
    out = tmp_path / "run"
    given = ["--train", files / "train.tsv", "--out", out, "--epochs", 1]
    trained = script("train", "--model", "han", *given, *model_args("han"))
    assert trained.code == 0, trained.err
    said = script("predict", out, "A goal. The team!", "code", "--explain", tmp_path / "page.html")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == 2
    html = (tmp_path / "page.html").read_text("utf-8")
    assert html.count("<h2>") == 2
    assert ">goal</span>" in html

    other = tmp_path / "other"
    given[3] = other
    assert script("train", "--model", "fasttext", *given, *model_args("fasttext")).code == 0
    said = script("predict", other, "<i>code</i> goal", "--explain", tmp_path / "other.html")
    assert said.code == 0, said.err
    html = (tmp_path / "other.html").read_text("utf-8")
    assert "Method: occlusion" in html
    assert "<i>code" not in html
    assert ">goal</span>" in html


def test_a_model_of_sentences_refuses_another_tokenizer(script, files, tmp_path):
    given = ["--train", files / "train.tsv", "--out", tmp_path / "run", *model_args("han")]
    refused = script("train", "--model", "han", "--tokenizer", "basic_english", *given)
    assert refused.code == 2
    assert "han reads sentences: the tokenizer must be one of sentences, sentence_" in refused.err

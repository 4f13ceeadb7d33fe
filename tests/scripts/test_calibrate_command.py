"""dlnotes calibrate: what changes, from which documents, and what cannot be done."""

import csv
import json
import shutil

import numpy as np
import pytest

from dlnotes.training.classifier import TextClassifier
from dlnotes.training.decision import Decision

WORDS = {"sport": ["goal", "team", "match"], "tech": ["chip", "code", "web"]}
TRAIN = (
    "--model-args",
    "buckets=500",
    "ngrams=2",
    "--lr",
    ".3",
    "--epochs",
    "3",
    "--device",
    "cpu",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files of two classes with a fifth of the labels wrong."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, n in (("train", 300), ("dev", 150), ("test", 100), ("other", 150)):
        rows = []
        for i in range(n):
            label = ("sport", "tech")[i % 2]
            words = [*random.choice(WORDS[label], 3), *random.choice(["the", "of", "a"], 3)]
            said = label if random.random() > 0.2 else ("tech", "sport")[i % 2]
            rows.append(f"{said}\t{' '.join(random.permutation(words))}\n")
        (folder / f"{split}.tsv").write_text("".join(rows))
    return folder


@pytest.fixture
def train(script, data, tmp_path):
    def run(name, *more, dev=False):
        files = ["--train", data / "train.tsv", "--test", data / "test.tsv"]
        files += ["--dev", data / "dev.tsv"] if dev else []
        result = script("train", *files, "--out", tmp_path / name, *TRAIN, *more)
        assert result.code == 0, result.err
        return tmp_path / name

    return run


def config_of(run):
    return json.loads((run / "classifier" / "config.json").read_text())


@pytest.mark.parametrize("dev", [False, True])
def test_it_finds_the_dev_documents_and_decides_as_training_would_have(script, train, dev):
    later = train("later", dev=dev)
    at_once = train("at-once", "--calibrate", "--precision", ".8", dev=dev)
    weights = (later / "classifier" / "model.safetensors").read_bytes()
    result = script("calibrate", later, "--precision", ".8")
    assert result.code == 0, result.err
    assert "150 dev documents" in result.out if dev else "30 dev documents" in result.out
    for figure in ("temperature", "calibration error (ECE)", "accuracy of these labels"):
        assert figure in result.out
    assert config_of(later) == config_of(at_once)
    assert config_of(later)["decision"]["temperature"] > 1
    assert (later / "classifier" / "model.safetensors").read_bytes() == weights
    told = script("evaluate", later)
    assert "decides differently since dlnotes calibrate" in told.err
    assert not script("evaluate", at_once).err
    # What is left out is as in training, and --reset goes back to it.
    assert script("calibrate", later).code == script("calibrate", at_once).code == 0
    assert [*config_of(later)["decision"]] == ["temperature"]
    assert [*config_of(at_once)["decision"]] == ["temperature", "reject"]
    assert script("calibrate", at_once, "--no-temperature", "--precision", ".75").code == 0
    assert [*config_of(at_once)["decision"]] == ["reject"]
    for run in (later, at_once):
        assert script("calibrate", run, "--reset").code == 0
    assert "decision" not in config_of(later)
    assert config_of(at_once)["decision"]["temperature"] > 1
    assert not script("evaluate", later).err


def test_no_label(script, train, data, tmp_path):
    run = train("run", "--calibrate", "--precision", ".7", dev=True)
    assert "no label below a probability of" in script("train", "--train", data / "train.tsv",
        "--out", run, *TRAIN, "--test", data / "test.tsv", "--calibrate", "--precision", ".7",
        "--resume", "--dev", data / "dev.tsv").out  # fmt: skip
    texts = ["goal", "zzz"]
    lines = [json.loads(line) for line in script("predict", run, *texts).out.splitlines()]
    assert [line["label"] for line in lines] == ["sport", None]
    assert all(line["top"][0]["probability"] == line["probability"] for line in lines)
    assert None not in {top["label"] for line in lines for top in line["top"]}
    file = tmp_path / "texts.csv"
    file.write_text("text\ngoal\nzzz\n")
    for name, top in (("a.csv", 1), ("b.jsonl", 1), ("c.jsonl", 2), ("d.csv", 2)):
        out = tmp_path / name
        result = script("predict", run, "--file", file, "--out", out, "--top-k", top)
        assert result.code == 0, result.err
        if out.suffix == ".csv":
            answers = [row["label"] for row in csv.DictReader(out.open())]
            assert answers == ["sport", ""]
            for row in csv.DictReader(out.open()) if top == 2 else ():
                assert {row["label_1"], row["label_2"]} == {"sport", "tech"}
                assert float(row["probability"]) == float(row["probability_1"])
                assert float(row["probability_1"]) >= float(row["probability_2"])
        else:
            answers = [json.loads(line)["label"] for line in out.open()]
            assert answers == ["sport", None]
    measured = script("evaluate", run, "--test", data / "test.tsv", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert f"{figures['coverage']:.1%} of the documents get a label" in measured.out
    assert 0 < figures["coverage"] < 1
    assert f"ECE {figures['ece']:.4f}" in measured.out.splitlines()[0]
    wrong = tmp_path / "wrong.csv"
    assert script("evaluate", run, "--test", data / "test.tsv", "--errors", wrong).code == 0
    rows = list(csv.DictReader(wrong.open()))
    reject = config_of(run)["decision"]["reject"]
    for row in rows:
        sure = float(row["probability"]) >= reject
        assert row["answer"] == (row["predicted"] if sure else "")
    assert "" in {row["answer"] for row in rows} != {""}
    # A finished run that is trained with --resume says what is in force.
    assert script("calibrate", run, "--precision", "0").code == 0
    assert [*config_of(run)["decision"]] == ["temperature"]
    again = script("train", "--train", data / "train.tsv", "--out", run, *TRAIN, "--test",
        data / "test.tsv", "--calibrate", "--precision", ".7", "--resume", "--dev", data / "dev.tsv")  # fmt: skip
    assert again.code == 0, again.err
    assert "decides differently since dlnotes calibrate" in again.err
    assert "no label below" not in again.out


@pytest.mark.parametrize("refit", ["--refit", "--no-refit"])
def test_dev_documents_that_were_learned_from_are_told(script, train, data, tmp_path, refit):
    run, own = train("run", refit, dev=True), (data / "dev.tsv").read_text().splitlines()
    learned = (data / "train.tsv").read_text().splitlines()
    mixed = tmp_path / "mixed.tsv"
    mixed.write_text(
        "\n".join([*dict.fromkeys(own)][:9] + learned[:7] + ["tech\tnever seen"]) + "\n"
    )
    for command in (("calibrate", run), ("ensemble", run, "--out", tmp_path / "both")):
        result = script(*command, "--dev", mixed)
        assert result.code == 0, result.err
        texts = {line.split("\t")[1].lower() for line in learned}
        texts |= {line.split("\t")[1].lower() for line in own} if refit == "--refit" else set()
        known = sum(line.split("\t")[1].lower() in texts for line in mixed.read_text().splitlines())
        assert f"{run} has learned from {known} of the dev documents" in result.err
    result = script("calibrate", tmp_path / "both", "--dev", mixed)
    assert result.code == 0, result.err
    assert f"{run} has learned from {known} of the dev documents" in result.err


def test_dev_documents_of_the_training_are_no_news(script, data, tmp_path):
    dev, run = tmp_path / "dev.tsv", tmp_path / "run"
    some = (data / "train.tsv").read_text().splitlines(keepends=True)[:7]
    dev.write_text((data / "dev.tsv").read_text() + "".join(some))
    files = ("--train", data / "train.tsv", "--dev", dev)
    assert script("train", *files, "--out", run, *TRAIN, "--no-refit").code == 0
    result = script("ensemble", run, "--dev", dev, "--out", tmp_path / "one")
    assert (result.code, "has learned from" in result.err) == (0, False), result.err


def test_reliability_diagram(script, train, data, tmp_path):
    run, test = train("run"), ("--test", data / "test.tsv")
    for name, begins in (("r.png", b"\x89PNG"), ("r.svg", b"<?xml"), ("R.PDF", b"%PDF")):
        result = script("evaluate", run, *test, "--reliability", tmp_path / name)
        assert result.code == 0, result.err
        assert (tmp_path / name).read_bytes().startswith(begins)
    wrong = script("evaluate", run, *test, "--reliability", tmp_path / "r.txt")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "must end in .png, .svg, .pdf" in wrong.err
    alone = script("evaluate", run, "--reliability", tmp_path / "r.png")
    assert "--reliability belongs to --test FILE" in alone.err
    own = script("evaluate", run, *test, "--reliability", run / "metrics.json")
    assert own.code == 2


def test_a_classifier_without_its_run_and_dev_documents_of_ones_own(script, train, data, tmp_path):
    run = train("run", "--refit", dev=True)
    alone = shutil.copytree(run / "classifier", tmp_path / "alone")
    result = script("calibrate", alone)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "has no metrics.json, and so no dev documents: give --dev FILE" in result.err
    result = script("calibrate", alone, "--dev", data / "other.tsv")
    assert result.code == 0, result.err
    found = json.loads((alone / "config.json").read_text())["decision"]
    assert script("calibrate", run, "--dev", data / "other.tsv").code == 0
    assert config_of(run)["decision"] == found
    for learned in ("train", "dev"):
        result = script("calibrate", run, "--dev", data / f"{learned}.tsv")
        assert "has learned from these documents" in result.err
    result = script("calibrate", alone, "--reset")
    assert result.code == 0, result.err
    assert "as by default: it has no metrics.json" in " ".join(result.out.split())
    assert TextClassifier.load(alone).decision == Decision()
    # Without --dev those of the training, as the model before --refit saw them.
    result = script("calibrate", run)
    assert result.code == 0, result.err
    assert "150 dev documents" in result.out


def test_an_ensemble(script, train, data, tmp_path):
    runs = [train("a", "--split-seed", "0"), train("b", "--seed", "1", "--split-seed", "0")]
    files = ()  # the runs know them
    whole, later = tmp_path / "whole", tmp_path / "later"
    wanted = ("--precision", ".7")  # of data with a fifth of the labels wrong
    for out, more in ((whole, ("--calibrate", *wanted)), (later, ())):
        result = script("ensemble", *runs, "--out", out, "--weights", "equal", *files, *more)
        assert result.code == 0, result.err
    assert "decision" not in config_of(later)
    result = script("calibrate", later, *wanted)
    assert result.code == 0, result.err
    assert config_of(later)["decision"] == pytest.approx(config_of(whole)["decision"])
    rejects = "reject" in config_of(whole)["decision"]
    figures = json.loads((whole / "metrics.json").read_text())["test"]
    assert ("coverage" in figures) == rejects
    shutil.rmtree(runs[1])
    result = script("calibrate", later)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "which is not there" in result.err
    assert script("calibrate", later, "--dev", data / "dev.tsv").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threshold", "one"), "for classifiers that give a document any number of labels"),
        (("--threshold", "two"), "threshold must be one of none, one, label"),
        (("--precision", "1.5"), "precision must be at least 0 and at most 1, not 1.5"),
        (("--precision", "-1"), "precision must be at least 0"),
        (("--reset", "--no-temperature"), "leave out --reset or --no-temperature"),
        (("--reset", "--precision", "0"), "leave out --reset or --precision"),
        (("--reset", "--data-dir", "x"), "leave out --reset or --data-dir"),
        (("--dev", "dev.tsv", "--train", "train.tsv"), "leave out --train or --dev"),
        (("--dev", "dev.tsv", "--data-dir", "x"), "leave out --data-dir or --dev"),
        (("--label-column", "x"), "--label-column belongs to --dev FILE"),
        (("--train", "dev.tsv"), "was trained on other documents"),
    ],
)
def test_what_cannot_be_done(script, train, data, monkeypatch, options, message):
    run = train("run")
    before = config_of(run)
    monkeypatch.chdir(data)
    result = script("calibrate", run, *options)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert config_of(run) == before


def test_a_precision_that_no_confidence_reaches(script, train, data):
    run = train("run")
    flipped = data / "flipped.tsv"
    swapped = {"sport": "tech", "tech": "sport"}
    rows = (data / "dev.tsv").read_text().splitlines()
    flipped.write_text(
        "".join(f"{swapped[r.split(chr(9))[0]]}\t{r.split(chr(9))[1]}\n" for r in rows)
    )
    before = config_of(run)
    trained = json.loads((run / "metrics.json").read_text())
    trained["settings"]["precision"] = 1.0
    (run / "metrics.json").write_text(json.dumps(trained))
    result = script("calibrate", run, "--dev", flipped)
    assert "this precision is the training's: give another one, or --precision 0" in result.err
    result = script("calibrate", run, "--dev", flipped, "--precision", "1")
    assert "the training's" not in result.err
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "reaches --precision 1: the best is 0." in result.err
    assert "stays as it is" in result.err
    assert config_of(run) == before


def test_a_temperature_that_dev_documents_hardly_decide(script, train, data, tmp_path):
    run = train("run", "--calibrate")
    rows = (data / "other.tsv").read_text().splitlines(keepends=True)
    classifier = TextClassifier.load(run)
    texts = [row.split("\t")[1] for row in rows]
    right = [
        row
        for row, answer in zip(rows, classifier.classify(texts), strict=True)
        if row.startswith(answer["label"])
    ]
    swapped = {"sport": "tech", "tech": "sport"}
    wrong = [f"{swapped[row.split(chr(9))[0]]}\t{row.split(chr(9))[1]}" for row in right]
    for name, chosen, message in (
        ("right", right, "the temperature stays 1"),
        ("wrong", wrong, "the temperature is 100, the highest"),
        ("few", rows[:20], "chosen on only 20 dev documents"),
        ("enough", rows, ""),
    ):
        (tmp_path / name).with_suffix(".tsv").write_text("".join(chosen))
        result = script("calibrate", run, "--dev", tmp_path / f"{name}.tsv")
        assert result.code == 0, result.err
        assert message in result.err
        assert ("the temperature" in result.err) == bool(message)

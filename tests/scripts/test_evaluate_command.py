"""dlnotes evaluate: what a person reads first, errors in a file, the record's figures, mistakes."""

import csv
import gzip
import io
import json
import re
import shutil
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from test_bad_input import told

from dlnotes.commands.evaluate import _print_confusion
from dlnotes.data.readers import read
from dlnotes.training.classifier import TextClassifier
from measured import figures_of

OLD = Path(__file__).parent / "old_runs"
DATA = OLD / "data"


def documents():
    return [line.split("\t", 1) for line in (DATA / "test.tsv").read_text().splitlines()]


@pytest.fixture
def run(tmp_path):
    """A copy of a run that gets some documents wrong."""
    return shutil.copytree(OLD / "fasttext", tmp_path / "run")


def without_ece(result):
    """What was printed without the calibration error, which the records of old runs lack."""
    return re.sub(r"  ECE \d\.\d{4}", "", result.out, count=1)


def change(run, edit):
    record = json.loads((run / "metrics.json").read_text())
    edit(record)
    (run / "metrics.json").write_text(json.dumps(record))


def test_first_the_figures_then_classes_by_size(script, run):
    result = script("evaluate", run, "--test", DATA / "test.tsv")
    assert result.code == 0, result.err
    kept = json.loads((run / "metrics.json").read_text())["test"]
    lines = result.out.splitlines()
    assert lines[0].startswith(
        f"60 documents  accuracy {kept['accuracy']:.4f}  macro-F1 {kept['macro_f1']:.4f}"
    )
    rows = re.findall(
        r"│ (class \d) +│ +(\d+) │ +[01]\.\d{4} │ +[01]\.\d{4} │ +[01]\.\d{4} │", result.out
    )
    assert rows == [("class 0", "37"), ("class 1", "13"), ("class 2", "10")]
    assert "confusion matrix" in result.out


def test_the_records_figures_without_test(script, run, tmp_path):
    result = script("evaluate", run, "--json", tmp_path / "f.json")
    measured = script("evaluate", run, "--test", DATA / "test.tsv")
    assert result.code == 0, result.err
    shown = without_ece(measured).splitlines()
    assert result.out.splitlines() == shown[: len(result.out.splitlines())]
    kept = json.loads((run / "metrics.json").read_text())["test"]
    assert json.loads((tmp_path / "f.json").read_text()) == kept


@pytest.mark.parametrize("name", ["errors.csv", "errors.csv.gz"])
def test_errors_in_a_file_the_most_confident_first(script, run, tmp_path, monkeypatch, name):
    monkeypatch.setattr("dlnotes.commands.evaluate.read", partial(read, block_bytes=200))
    rows = [(label, f'{text} "q",\n[b]x[/b]') for label, text in documents()]
    test = tmp_path / "test.csv"
    with test.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *((text, label) for label, text in rows)])
    out = tmp_path / name
    result = script("evaluate", run, "--test", test, "--errors", out)
    assert result.code == 0, result.err
    content = gzip.decompress(out.read_bytes()) if name.endswith("gz") else out.read_bytes()
    found = list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    assert list(found[0]) == ["text", "label", "predicted", "probability", "line"]
    predicted = TextClassifier.load(run).classify([text for _, text in rows])
    wrong = {
        (text, label, p["label"], 2 + 2 * i)  # each record takes two lines, the header one
        for i, ((label, text), p) in enumerate(zip(rows, predicted, strict=True))
        if label != p["label"]
    }
    assert {(r["text"], r["label"], r["predicted"], int(r["line"])) for r in found} == wrong
    for r in found:
        sure = predicted[int(r["line"]) // 2 - 1]["probability"]
        assert float(r["probability"]) == pytest.approx(sure, rel=1e-5)
    probabilities = [float(r["probability"]) for r in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(wrong) > 10


def test_no_errors_and_columns_of_numbers(script, tmp_path):
    """A perfect run writes a header alone; labels that are numbers in Parquet are compared as text."""
    run = OLD / "textcnn"
    result = script("evaluate", run, "--test", DATA / "test.tsv", "--errors", tmp_path / "e.csv")
    assert result.code == 0, result.err
    assert (tmp_path / "e.csv").read_text() == "text,label,predicted,probability,line\n"


def test_the_columns_of_the_training_are_remembered(script, run, tmp_path):
    labels, texts = zip(*documents(), strict=True)
    frame = pl.DataFrame(
        {"text": ["x"] * 60, "label": ["?"] * 60, "review": texts, "stars": labels}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    assert "label '?' does not occur" in told(
        script("evaluate", run, "--test", tmp_path / "t.parquet")
    )
    change(run, lambda r: r["settings"].update(text_column="review", label_column="stars"))
    result = script("evaluate", run, "--test", tmp_path / "t.parquet")
    kept = script("evaluate", run).out
    assert without_ece(result).splitlines()[0] == kept.splitlines()[0]
    given = script("evaluate", run, "--test", tmp_path / "t.parquet", "--label-column", "label")
    assert "label '?' does not occur" in told(given)


def test_many_classes_get_their_most_confused_pairs(capsys):
    names = [f"[red]class {i}[/red] :smile:" for i in range(40)]
    confusion = pl.DataFrame({str(i): [0] * 40 for i in range(40)}).to_numpy().copy()
    for i in range(40):
        confusion[i, i] = 10
    confusion[3, 5], confusion[5, 3], confusion[7, 8] = 30, 2, 10
    _print_confusion(figures_of(confusion), names)
    out = capsys.readouterr().out
    assert "confusion matrix" not in out
    rows = re.findall(
        r"│ (\S+ \d+\S* :smile:) +│ (\S+ \d+\S* :smile:) +│ +(\d+) │ +([\d.]+%) │", out
    )
    assert rows == [
        (names[3], names[5], "30", "75.0%"),
        (names[7], names[8], "10", "50.0%"),
        (names[5], names[3], "2", "16.7%"),
    ]
    _print_confusion(figures_of(confusion * 0), names)
    assert "no document was misclassified" in capsys.readouterr().out
    _print_confusion(figures_of(confusion[:2, :2]), ["[/b]", "x"])
    assert "│ [/b] " in capsys.readouterr().out


def broken(edit):
    return lambda run: change(run, edit)


NO_FIGURES = {
    "no record": (lambda run: (run / "metrics.json").unlink(), "no metrics.json; give --test FILE"),
    "no test": (broken(lambda r: r.pop("test")), "its metrics.json has no test figures; give --test FILE"),
    "in pieces": (lambda run: (run / "metrics.json").write_text('{"settings'), "metrics.json is damaged: Unterminated"),
    "no loss": (broken(lambda r: r["test"].pop("loss")), "metrics.json is damaged: no loss"),
    "no classes": (broken(lambda r: r["test"].update(classes=[1])), "metrics.json is damaged: no documents"),
    "a class": (broken(lambda r: r["test"]["classes"].update(x={"f1": 1})), "metrics.json is damaged: no documents"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_FIGURES.values(), ids=NO_FIGURES)
def test_a_record_without_figures(script, run, case):
    spoil, message = case
    spoil(run)
    assert f"{run}: {message}" in told(script("evaluate", run))


@pytest.mark.parametrize("loss", [float("inf"), None])
def test_an_infinite_loss_is_no_damage(script, run, tmp_path, loss):
    """Records have null for it, older ones Infinity; what is written is JSON."""
    change(run, lambda r: r["test"].update(loss=loss))
    result = script("evaluate", run, "--json", tmp_path / "f.json")
    assert result.code == 0, result.err
    assert re.search(r"loss inf(inite)?$", result.out, re.MULTILINE)
    assert json.loads((tmp_path / "f.json").read_text(), parse_constant=pytest.fail)["loss"] is None


def test_mistakes(script, run, tmp_path):
    test = ["--test", DATA / "test.tsv"]
    assert "is of a translator" in told(script("evaluate", OLD / "translator"))
    assert "no: there is no such folder; give --test" in told(script("evaluate", tmp_path / "no"))
    assert "--errors belongs to --test FILE" in told(script("evaluate", run, "--errors", "x.csv"))
    assert "x.jsonl must end in .csv" in told(script("evaluate", run, *test, "--errors", "x.jsonl"))
    assert "there is no folder" in told(script("evaluate", run, *test, "--errors", tmp_path / "n" / "x.csv"))  # fmt: skip
    assert "device must be auto" in told(script("evaluate", run, *test, "--device", "tpu"))
    assert "is not a trained classifier" in told(script("evaluate", tmp_path / "no", *test))


def test_misclassified_documents_of_several_files_are_named_by_file(script, run, tmp_path):
    files = [tmp_path / name for name in ("a.tsv", "b.tsv")]
    for file in files:
        file.write_text((DATA / "test.tsv").read_text())
    out = tmp_path / "wrong.csv"
    assert script("evaluate", run, "--test", *files, "--errors", out).code == 0
    with out.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["file"] for row in rows} == set(map(str, files))
    assert len({(row["file"], row["line"]) for row in rows}) == len(rows) > 1

"""Documents of several labels on the command line: train, evaluate, predict, runs, ensemble."""

import csv
import json
import shutil

import numpy as np
import polars as pl
import pytest

from dlnotes import TextClassifier

WORDS = {"sport": ["goal", "team"], "tech": ["chip", "code"], "law": ["court"], "rare": ["zebra"]}
QUICK = ["--recipe", "plain", "--epochs", 6, "--lr", 0.1, "--batch-size", 16, "--model-args", "buckets=50", "embedding_dim=8"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """train.csv and test.csv, whose labels are separated by a semicolon."""
    folder = tmp_path_factory.mktemp("sets")
    random = np.random.default_rng(0)
    for split, n in (("train", 240), ("test", 60)):
        rows = ["label,text"]
        for i in range(n):
            labels = [name for name in ("sport", "tech", "law") if random.random() < 0.4]
            labels += ["rare"] if i % 12 == 0 else []
            words = [random.choice(WORDS[name]) for name in labels for _ in range(2)]
            rows.append(f"{';'.join(labels)},{' '.join([*words, 'the', 'of'])}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def data(folder):
    names = ("--train", folder / "train.csv", "--test", folder / "test.csv")
    return [*names, "--label-separator", ";"]


@pytest.fixture
def run(script, data, folder):
    """A trained run, made once."""
    out = folder / "run"
    if not out.exists():
        done = script("train", *data, "--out", out, *QUICK)
        assert done.code == 0, done.err
        (folder / "out.txt").write_text(done.out + done.err)
    return out


def test_training_tells_micro_and_macro_f1(run, folder):
    told = (folder / "out.txt").read_text()
    assert "dev micro-F1" in told  # in the lines of the epochs
    record = json.loads((run / "metrics.json").read_text())
    test = record["test"]
    assert f"test  micro-F1 {test['micro_f1']:.4f}  macro-F1 {test['macro_f1']:.4f}" in told
    assert {"precision", "recall", "f1", "average_precision", "documents"} == set(test["classes"]["law"])  # fmt: skip
    assert json.loads((run / "classifier" / "config.json").read_text())["multi_label"] is True


def test_tensorboard_shows_the_figures_and_labels(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = accumulator.EventAccumulator(str(run), size_guidance={"tensors": 0, "images": 0})
    log.Reload()
    scalars, rest = log.Tags()["scalars"], [*log.Tags()["tensors"], *log.Tags()["images"]]
    assert {"dev/micro f1", "test/micro f1", "test/ndcg at 1", "test/mean average precision"} <= {*scalars}  # fmt: skip
    assert any(tag.startswith("test/labels") for tag in rest)
    assert any(tag.startswith("dev/reliability") for tag in rest)


def test_evaluation_writes_figures_and_wrong_sets(script, run, folder, tmp_path):
    done = script(
        "evaluate", run, "--test", folder / "test.csv", "--json", tmp_path / "all.json",
        "--errors", tmp_path / "wrong.csv",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.err == ""
    record = json.loads((run / "metrics.json").read_text())["test"]
    figures = json.loads((tmp_path / "all.json").read_text())
    assert figures["documents"] == 60
    assert figures["micro_f1"] == pytest.approx(record["micro_f1"])
    assert script("evaluate", run).out == done.out  # what the record says
    given = list(csv.DictReader((folder / "test.csv").open()))
    predicted = TextClassifier.load(run).predict([row["text"] for row in given])
    wrong = {
        i + 2 for i, (row, found) in enumerate(zip(given, predicted, strict=True))
        if set(row["label"].split(";")) - {""} != set(found)
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "wrong.csv").open()))
    assert {int(row["line"]) for row in rows} == wrong
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert len(rows) == round(60 * (1 - figures["subset_accuracy"]))


def test_predictions_are_lists_on_the_screen(script, run):
    done = script("predict", run, "goal team code chip", "the of", "--top-k", 2)
    assert done.code == 0, done.err
    first, second = map(json.loads, done.out.splitlines())
    assert set(first["labels"]) == {"sport", "tech"}
    assert first["probabilities"] == sorted(first["probabilities"], reverse=True)
    assert [set(each) for each in first["top"]] == [{"label", "probability"}] * 2
    assert (second["labels"], second["probabilities"]) == ([], [])
    assert second["text"] == "the of"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_predictions_in_files(script, run, folder, ending, top_k, tmp_path):
    out = tmp_path / f"out.{ending}"
    asked = [] if top_k is None else ["--top-k", top_k]
    done = script("predict", run, "--file", folder / "test.csv", "--out", out, *asked)
    assert done.code == 0, done.err
    texts = pl.read_csv(folder / "test.csv")["text"].to_list()
    expected = TextClassifier.load(run).classify(texts, top_k=top_k or 1)
    if ending == "csv":
        rows = list(csv.DictReader(out.open()))
        for row, e in zip(rows, expected, strict=True):
            assert row["labels"] == ";".join(e["labels"])
            assert [float(p) for p in row["probabilities"].split(";") if p] == pytest.approx(e["probabilities"], rel=1e-4)  # fmt: skip
            assert ("label_2" in row) == (top_k == 2)
            if top_k:
                assert row["label_1"] == e["top"][0]["label"]
        return
    rows = pl.read_parquet(out).to_dicts() if ending == "parquet" else [*map(json.loads, out.open())]  # fmt: skip
    for row, e in zip(rows, expected, strict=True):
        assert row["labels"] == e["labels"]
        assert row["probabilities"] == pytest.approx(e["probabilities"], rel=1e-4)
        assert ("top" in row) == (top_k == 2)
        if top_k:
            assert [each["label"] for each in row["top"]] == [each["label"] for each in e["top"]]


def test_labels_that_contain_the_separator_are_not_joined(script, tmp_path):
    rows = [(["a|b"], "x"), (["c"], "y"), (["a|b", "c"], "x y"), ([], "z")] * 9
    lines = [json.dumps({"label": labels, "text": text}) for labels, text in rows]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    run = tmp_path / "run"
    assert script("train", "--train", tmp_path / "train.jsonl", "--out", run, *QUICK).code == 0
    (tmp_path / "texts.txt").write_text("x\n")
    refused = script("predict", run, "--file", tmp_path / "texts.txt", "--out", tmp_path / "o.csv")
    assert refused.code == 2
    assert "error: --out: the label 'a|b' contains '|'" in refused.err
    assert not (tmp_path / "o.csv").exists()
    done = script("predict", run, "--file", tmp_path / "texts.txt", "--out", tmp_path / "o.jsonl")
    assert done.code == 0
    assert json.loads((tmp_path / "o.jsonl").read_text())["labels"] == ["a|b"]


def test_every_given_label_has_a_place_on_the_page(script, run, tmp_path):
    done = script("predict", run, "goal code", "--explain", tmp_path / "page.html")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    for label in json.loads(done.out)["labels"]:
        assert f"<bdi>{label}</bdi>" in page


def test_runs_are_listed_by_micro_f1(script, run, folder, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / "sets")
    done = script("runs", tmp_path / "runs", "--json", tmp_path / "rows.json", "--sort", "test_micro_f1")  # fmt: skip
    assert done.code == 0, done.err
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    record = json.loads((run / "metrics.json").read_text())
    assert row["test_micro_f1"] == record["test"]["micro_f1"]
    assert row["macro_f1"] == record["test"]["macro_f1"]
    assert row["test_accuracy"] is None
    assert "micro-F1" in done.out


def test_errors_that_would_be_unclear_are_not_written(script, tmp_path):
    rows = [(["a|b"], "x"), (["c"], "y"), (["a|b", "c"], "x y"), (["a"], "z"), (["b"], "v")] * 9
    file, run, out = tmp_path / "train.jsonl", tmp_path / "run", tmp_path / "wrong.csv"
    file.write_text("\n".join(json.dumps({"label": y, "text": x}) for y, x in rows))
    assert script("train", "--train", file, "--out", run, *QUICK[2:], "--epochs", 1).code == 0
    done = script("evaluate", run, "--test", file, "--errors", out)
    assert "error: --errors: the label 'a|b' contains '|', which stands between" in done.err
    assert (done.code, out.exists()) == (2, False)
    done = script("evaluate", run, "--test", file, "--errors", out, "--label-separator", ";")
    assert (done.code, out.exists()) == (0, True), done.err


@pytest.fixture
def other_forms(folder):
    """The test documents with a column of 0 and 1 for each label, and a part in fastText's form."""
    frame = pl.read_csv(folder / "test.csv").with_columns(pl.col("label").fill_null(""))
    bits = [pl.col("label").str.split(";").list.contains(k).cast(int).alias(k) for k in WORDS]
    frame.select("text", *bits).write_csv(folder / "bits.csv")
    few = frame.filter(~pl.col("label").str.contains(";"))
    lines = ["".join(f"__label__{k} " for k in y.split(";") if k) + x for y, x in few.iter_rows()]
    (folder / "few.txt").write_text("\n".join(lines))
    return folder / "bits.csv", folder / "few.txt", len(lines)


def test_columns_take_the_place_of_the_separator_and_the_other_way_round(
    script, run, folder, other_forms, tmp_path
):
    bits, few, n = other_forms
    columns = ["--label-column", ",".join(WORDS)]
    separated = script("evaluate", run, "--test", folder / "test.csv")
    wrong = ["--errors", tmp_path / "w.csv"]
    assert script("evaluate", run, "--test", bits, *columns, *wrong).out == separated.out
    assert script("calibrate", run, "--dev", bits, *columns, "--threshold", "one").code == 0
    done = script("evaluate", run, "--test", few, *wrong, "--json", tmp_path / "few.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "few.json").read_text())["documents"] == n
    assert script("calibrate", run, "--dev", few, "--threshold", "one").code == 0
    assert script("calibrate", run, "--reset").code == 0
    other = tmp_path / "other"
    done = script("train", "--train", bits, *columns, "--out", other, *QUICK[2:], "--epochs", 1)
    assert done.code == 0, done.err
    more = ["--test", folder / "test.csv", "--label-separator", ";"]
    assert script("evaluate", other, *more).out == script("evaluate", other, "--test", bits).out
    both = script("evaluate", other, *more, *columns)
    assert "give either them or --label-separator" in both.err


def test_a_precision_is_refused_at_once(script, data, tmp_path):
    done = script("train", *data, "--out", tmp_path / "p", "--precision", 0.9)
    assert (done.code, (tmp_path / "p").exists()) == (2, False)
    assert "error: precision (0.9) is for classifiers that give one label" in done.err
    assert "micro-F1" not in done.err


def test_refusals(script, data, run, tmp_path):
    done = script("train", *data, "--out", tmp_path / "h", "--model-args", "output=hierarchical")
    assert done.code == 2
    assert "error: output must be 'softmax' where a text may have several labels" in done.err
    assert not (tmp_path / "h").exists()
    done = script("train", *data, "--out", tmp_path / "b", "--boost", run)
    assert done.code == 2
    assert "error: boosting is for documents of one label each" in done.err


def test_an_ensemble_of_sets(script, data, folder, tmp_path):
    runs = [tmp_path / f"{seed}" for seed in (1, 2)]
    for seed, out in enumerate(runs, 1):
        more = ["--bootstrap"] if seed == 2 else []
        done = script(
            "train", *data, "--out", out, "--seed", seed, "--split-seed", 0, *QUICK, *more
        )
        assert done.code == 0, done.err
    done = script("ensemble", *runs, "--out", tmp_path / "whole", *data[:4])
    assert done.code == 0, done.err
    assert "dev micro-F1" in done.out
    record = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    checked = script("evaluate", tmp_path / "whole", "--test", folder / "test.csv", "--label-separator", ";")  # fmt: skip
    assert f"micro-F1 {record['test']['micro_f1']:.4f}" in checked.out
    asked = script("predict", tmp_path / "whole", "court")
    assert json.loads(asked.out)["labels"] == ["law"]

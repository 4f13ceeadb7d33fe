"""``dlnotes compare``: from files to a table of what can be told apart."""

import csv
import functools
import json

import numpy as np
import polars as pl
import pytest

from dlnotes.claims import workers
from dlnotes.commands import compare
from dlnotes.comparison import trainings
from dlnotes.comparison.plan import ComparisonData, Plan, find_label_errors
from dlnotes.data.reading import Reading
from dlnotes.files import locked

QUICK = ("--models", "tfidf", "svm", "--processes", 1)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A file of 120 documents of two classes, every tenth of which has the wrong label."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(120):
        label = "ab"[i % 2]
        words = [*random.choice([f"{label}{k}" for k in range(6)], 4), f"w{random.integers(50)}"]
        rows.append(f"{'ba'[i % 2] if i % 10 == 3 else label}\t{' '.join(words)}\n")
    file = tmp_path_factory.mktemp("noisy") / "noisy.tsv"
    file.write_text("".join(rows))
    return file


def test_on_test_documents(script, files, tmp_path):
    out = tmp_path / "out"
    given = ("--train", files / "train.tsv", "--test", files / "test.tsv", "--seeds", 2)
    given = (*given, "--models", "fasttext", "svm", "--epochs", 2, "--processes", 1)
    result = script("compare", *given, "--out", out)
    assert result.code == 0, result.err
    for said in ("40 test documents", "documents and seeds", "a training", "Written: "):
        assert said in result.out.replace("A training", "a training")
    record = json.loads((out / "comparison.json").read_text())
    assert record["sentence"] == result.out.splitlines()[0]
    assert {row["model"]: row["trainings"] for row in record["models"]} == {"fasttext": 2, "svm": 1}
    assert [set(pair) for pair in record["pairs"]] == [{"better", "worse", "bootstrap"}]
    with (out / "comparison.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["model"] for row in rows] == [row["model"] for row in record["models"]]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert record["sentence"] in (out / "comparison.md").read_text()
    assert not (out / "curve.png").exists()


def test_in_folds_with_curve_and_label_errors(script, noisy, tmp_path):
    out, doubtful_file = tmp_path / "out", tmp_path / "doubts.csv"
    result = script(
        "compare", "--train", noisy, *QUICK, "--folds", 3, "--curve", "--out", out,
        "--label-errors", doubtful_file,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "the corrected resampled t-test over folds" in " ".join(result.out.split())
    assert "from 40 to 80 documents" in result.out
    assert "seem to have a wrong label" in result.out
    record = json.loads((out / "comparison.json").read_text())
    assert record["more_documents"] in result.out
    assert {pair["t-test"]["corrected"] for pair in record["pairs"]}
    assert [each["documents"] for each in record["curve"]] == [20, 40, 80] * 2  # 10 are too few
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    table = pl.read_csv(doubtful_file)
    assert len(table) == 120
    planted = [line % 10 == 4 for line in table["line"]]  # lines begin with 1
    assert sum(planted[:12]) >= 10
    assert (table["label"] != table["suggested"]).all()
    assert table["doubt"].is_sorted(descending=True)
    assert table["wrong"][:12].sum() > table["wrong"][12:].sum()


def test_interrupted_and_resumed_is_the_same_table(script, noisy, tmp_path, monkeypatch):
    given = ("compare", "--train", noisy, *QUICK, "--folds", 4, "--seed", 5)
    original, calls = trainings.train_and_measure, []

    @functools.wraps(original)
    def stopped(item):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(item)
        return original(item)

    monkeypatch.setattr(trainings, "train_and_measure", stopped)
    result = script(*given, "--out", tmp_path / "a")
    assert result.code == 130
    assert "What has been trained is kept: the same command goes on from there." in result.err
    assert not (tmp_path / "a" / "comparison.csv").exists()

    @functools.wraps(original)
    def counted(item):
        calls.append(item)
        return original(item)

    monkeypatch.setattr(trainings, "train_and_measure", counted)
    tables = []
    for folder in ("a", "b"):
        assert script(*given, "--out", tmp_path / folder).code == 0
        tables.append((tmp_path / folder / "comparison.csv").read_bytes())
    assert len(calls) == 2 * 4  # each training once
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_two_processes_find_what_one_does(noisy, tmp_path):
    documents = ComparisonData.of({"train": [noisy]}, Reading(), ["tfidf"])
    plan = Plan(documents=documents, models=["tfidf", "fasttext"], seeds=[0], folds=2)
    one = plan.run(folder=tmp_path / "one")
    try:
        two = plan.run(folder=tmp_path / "two", processes=2)
    finally:
        workers._pool.cache_clear()
    assert one.scores("fasttext") == two.scores("fasttext")
    assert one.tests == two.tests


def test_several_labels(script, tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for i in range(90):
        labels = [name for name in "abc" if random.random() < 0.4]
        words = [f"{name}{random.integers(3)}" for name in labels] * 2 + ["the", f"of{i}"]
        rows.append({"label": labels, "text": " ".join(words)})
    rows[7]["label"] = [*{"a", "b", "c"} - {*rows[7]["label"]}]
    file = tmp_path / "several.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = tmp_path / "doubts.csv"
    given = ("--train", file, "--folds", 3, "--processes", 1, "--out", tmp_path / "out")
    result = script("compare", *given, "--models", "tfidf", "--label-errors", found)
    assert result.code == 0, result.err
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["figure"] == "micro-F1"
    assert record["models"][0]["score"] > 0.8
    table = pl.read_csv(found)
    assert table["line"][0] == 8
    for label, doubtful_label, change in table.select("label", "doubtful", "change").rows()[:5]:
        assert (doubtful_label in (label or "").split("|")) == (change == "remove")
    result = script("compare", *given, "--models", "svm")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: svm is for one label per document; for several there is tfidf\n"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("--test", "TEST", "--folds", 3), "give either --test or --folds: with test"),
        (("--test", "TEST", "--label-errors", "x.csv"), "--label-errors needs folds, so that"),
        (("--models", "svm", "svm"), "--models names svm twice"),
        (("--seed", 2**63 - 1, "--seeds", 2), f"--seed {2**63 - 1} is too large for 2 seeds"),
        (("--models", "svmm"), "dlnotes compare has no model 'svmm'; its models are: tfidf, svm,"),
        (("--folds", 1), "folds must be at least 2, not 1"),
        (("--folds", 201), "folds is 201, but there are 200 training documents"),
        (("--models", "svm", "--label-errors", "x.csv"), "--label-errors needs a model with prob"),
        (("--label-errors", "x.txt"), "x.txt: unknown kind of file to write"),
        (("--label-errors", "TRAIN"), "--train and --label-errors are the same file"),
        (("--label-errors", "out/comparison.csv"), "--out and --label-errors are the same file"),
        (("--out", "TRAIN"), "--train and --out are the same file"),
        (("--train", "nowhere.tsv"), "nowhere.tsv does not exist"),
        (("--train", "no*.tsv"), "--train no*.tsv matches no file"),
        (("--test", "no*.tsv"), "--test no*.tsv matches no file"),
    ],
)
def test_mistakes_end_before_the_first_training(script, files, tmp_path, monkeypatch, given, error):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainings, "train_and_measure", None)
    names = {"TRAIN": files / "train.tsv", "TEST": files / "test.tsv"}
    before = {file: file.read_bytes() for file in names.values()}
    options = {"--train": (files / "train.tsv",), "--out": ("out",)}
    for word in given:
        if str(word).startswith("--"):
            options[word] = ()
            last = word
        else:
            options[last] = (*options[last], names.get(word, word))
    result = script("compare", *(w for o, values in options.items() for w in (o, *values)))
    assert (result.code, result.out) == (2, "")
    assert error in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert {file: file.read_bytes() for file in names.values()} == before


def test_a_pattern_names_no_output_and_the_folder_has_the_whole_name(
    script, files, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    lines = (files / "train.tsv").read_text().splitlines(keepends=True)
    for name, part in (("v.1.tsv", lines[:100]), ("v.2.tsv", lines[100:])):
        (tmp_path / name).write_text("".join(part))
    (tmp_path / "v.3.csv").write_text("label,text\na,b\n")
    told = script("compare", "--train", "v.*", *QUICK, "--label-errors", tmp_path / "v.3.csv")
    assert (told.code, told.out) == (2, "")
    assert "--train and --label-errors are the same file" in told.err
    for name in ("v.1", "v.2"):
        result = script("compare", "--train", f"{name}.tsv", *QUICK, "--folds", 2)
        assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "runs" / "compare").iterdir()) == ["v.1", "v.2"]


def test_a_folder_has_one_comparison_at_a_time(script, noisy, tmp_path):
    given = ("compare", "--train", noisy, *QUICK, "--folds", 2, "--out", tmp_path)
    with locked(tmp_path / ".lock", "it"):
        result = script(*given)
    assert (result.code, result.out) == (2, "")
    assert f"cannot write to {tmp_path}: it is in use by process" in result.err
    assert [path.name for path in tmp_path.iterdir()] == []


def test_files_are_written_before_anything_is_printed(script, noisy, tmp_path, monkeypatch):
    """The reader of what is printed may have gone away."""
    there = []
    monkeypatch.setattr(compare, "_print", lambda *_: there.extend(tmp_path.iterdir()))
    result = script("compare", "--train", noisy, *QUICK, "--folds", 2, "--out", tmp_path)
    assert result.code == 0, result.err
    names = {"comparison.json", "comparison.csv", "comparison.md", "comparison.png"}
    assert {path.name for path in there} == names


def test_if_no_model_can_be_trained_the_reason_is_told(script, files, tmp_path):
    given = ("--train", files / "train.tsv", "--models", "fasttext", "--minutes", "1e-6")
    result = script("compare", *given, "--folds", 2, "--processes", 1, "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: no model could be trained (fasttext: 2 of 2 trainings: takes more than 1e-06 "
        "minutes)\n"
    )


@pytest.mark.slow
def test_planted_label_errors_of_trec_are_found(shared_data, tmp_path):
    """Of the 5 % most doubtful documents more than half were planted; see results/label-errors."""
    frame = pl.read_csv(
        shared_data / "trec" / "train.tsv", separator="\t", has_header=False, quote_char=None
    )
    random = np.random.default_rng(0)
    labels = frame.to_series(0).to_list()
    chosen = random.choice(len(labels), round(0.05 * len(labels)), replace=False)
    for i in chosen:
        labels[i] = random.choice(sorted({*labels} - {labels[i]}))
    file = tmp_path / "planted.parquet"
    pl.DataFrame({"label": labels, "text": frame.to_series(1)}).write_parquet(file)
    documents = ComparisonData.of({"train": [file]}, Reading(), ["tfidf"])
    plan = Plan(documents=documents, models=["tfidf"], seeds=[0], folds=4)
    errors = find_label_errors(plan.run(folder=tmp_path / "cache"), documents)
    assert np.isin(errors.order[: len(chosen)], chosen).mean() >= 0.5

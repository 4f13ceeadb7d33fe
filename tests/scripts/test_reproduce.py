"""Entries of results/ are run seed by seed, and their record keeps what was done."""

import json
import os
import shutil
import signal

import pytest

from dlnotes.data import tokenized
from dlnotes.optim import Adam


@pytest.fixture
def entry(files, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "two").symlink_to(files)

    def write(name, **changes):
        settings = {
            "model_settings": {"buckets": 100},
            "optimizer": "adam",
            "lr": 0.01,
            "epochs": 1,
            "batch_size": 16,
        }
        content = {
            "corpus": "two",
            "model": "fasttext",
            "seeds": [0, 1, 2],
            "reading": {},
            "settings": settings,
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content | changes))
        return ["--data-dir", data, "--results", tmp_path]

    return write


def test_mean_over_seeds_and_best_on_dev(script, entry, tmp_path):
    where = entry("mean")
    entry("best", choose="best on dev")
    entry("svm", model="svm", seeds=[0], settings={})
    ran = script("reproduce", "mean", "best", "svm", *where)
    assert ran.code == 0, ran.err
    record = {
        n: json.loads((tmp_path / f"{n}.json").read_text())["record"] for n in ("mean", "best")
    }
    test, dev = record["mean"]["test"]["accuracy"], record["mean"]["dev"]["accuracy"]
    assert len(test["runs"]) == len(dev["runs"]) == 3
    assert test["mean"] == pytest.approx(sum(test["runs"]) / 3)
    assert record["best"]["dev"]["accuracy"]["runs"] == dev["runs"]  # the same runs
    (chosen,) = record["best"]["test"]["accuracy"]["runs"]
    top = max(dev["runs"])
    assert chosen in [t for t, d in zip(test["runs"], dev["runs"], strict=True) if d == top]
    assert record["mean"]["seed"] == [0, 1, 2]
    assert "svm: test accuracy 1.0000" in ran.out


def test_an_ensemble_of_entries(script, entry, tmp_path):
    where = entry("one")
    entry("two", reading={"tokenizer": "characters"})
    entry(
        "both", model="ensemble", members={"one": 2, "two": 1}, seeds=[0, 1],
        settings={"average": "logits"},
    )  # fmt: skip
    ran = script("reproduce", "both", *where)
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "both.json").read_text())["record"]
    assert len(record["test"]["accuracy"]["runs"]) == 2
    for rows, seed in zip(record["members"], (0, 1), strict=True):
        assert [row["run"] for row in rows] == ["one-0", "one-1", "two-0"]
        assert sum(row["weight"] for row in rows) == pytest.approx(1)
        best = max(rows, key=lambda row: (row["dev"]["accuracy"], -row["dev"]["loss"]))
        assert record["best_member"]["accuracy"]["runs"][seed] == best["test"]["accuracy"]
        assert record["dev"]["accuracy"]["runs"][seed] >= best["dev"]["accuracy"]


def test_vectors_of_an_entry_are_learned_once(script, entry, tmp_path, monkeypatch):
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))
    vectors = {"corpora": ["two", "two"], "min_freq": 1, "dimensions": 5, "epochs": 1}
    settings = {"vectors": vectors, "epochs": 1}
    where = entry("started", model="textrnn", seeds=[0, 1], settings=settings)
    assert script("reproduce", "started", *where).code == 0
    (file,) = (tmp_path / "cache" / "vectors").iterdir()
    assert file.read_text().splitlines()[0].endswith(" 5")
    file.write_text("goal 1 2 3\n")  # what is there is taken
    assert script("reproduce", "started", *where, "--runs", tmp_path / "runs").code == 0
    (metrics, _) = (tmp_path / "runs").glob("started-*/metrics.json")
    assert json.loads(metrics.read_text())["pretrained"] == 1
    assert json.loads((tmp_path / "started.json").read_text())["settings"] == settings


def test_kept_runs_are_not_trained_again(script, entry, tmp_path):
    where = entry("one", seeds=[0, 1])
    entry("both", model="ensemble", members={"one": 2}, seeds=[0, 1], settings={})
    kept = ["--runs", tmp_path / "runs"]
    for name in ("one", "both"):
        ran = script("reproduce", name, *where, *kept)
        assert ran.code == 0, ran.err
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 4  # two of the entry, and the second member of each ensemble
    assert all((f / "metrics.json").exists() for f in folders)
    assert not any(list(f.glob("*.pt")) for f in folders)

    def seconds(name):
        return json.loads((tmp_path / f"{name}.json").read_text())["record"]["seconds"]["runs"]

    before = seconds("one"), seconds("both")
    assert all(both > one for one, both in zip(*before, strict=True))  # a sum over members
    for name in ("one", "both"):
        assert script("reproduce", name, *where, *kept).code == 0
    assert (seconds("one"), seconds("both")) == before  # read, not measured again
    entry("one", seeds=[0], reading={"min_freq": 2})
    assert script("reproduce", "one", *where, *kept).code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 5  # other settings are another run


def other_numbers(source, fingerprint=tokenized.fingerprint):
    """As if the training numbers had been written anew."""
    is_numbers = getattr(source, "name", "") == "fingerprints.json"
    return "others" if is_numbers else fingerprint(source)


def test_runs_and_vectors_are_kept_by_content(script, entry, files, tmp_path, monkeypatch):
    """Another text under the same name, or code that gives other numbers, is another run."""
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))
    vectors = {"corpora": ["two"], "min_freq": 1, "dimensions": 5, "epochs": 1}
    where = entry("one", model="textrnn", seeds=[0], settings={"vectors": vectors, "epochs": 1})
    kept = tmp_path / "runs"

    def run():
        ran = script("reproduce", "one", *where, "--runs", kept)
        assert ran.code == 0, ran.err
        return len(list(kept.iterdir())), len(list((tmp_path / "cache" / "vectors").iterdir()))

    assert run() == (1, 1)
    assert run() == (1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(tokenized, "fingerprint", other_numbers)
        assert run() == (2, 1)
    data = tmp_path / "data" / "two"
    data.unlink()
    shutil.copytree(files, data)
    assert run() == (2, 1)  # the same content
    with (data / "train.tsv").open("a") as file:
        file.write(f"{(data / 'train.tsv').read_text().split(chr(9))[0]}\tone more\n")
    assert run() == (3, 2)
    with (data / "test.tsv").open("a") as file:
        file.write((data / "test.tsv").read_text().splitlines()[0] + " more\n")
    assert run() == (4, 2)


def test_an_unknown_entry_is_named(script, entry):
    ran = script("reproduce", "none", *entry("mean"))
    assert ran.code == 2
    assert "no entry 'none'" in ran.err
    assert "there are: mean" in ran.err


def test_an_interrupted_entry_goes_on_with_the_runs_kept(script, entry, tmp_path, monkeypatch):
    where = entry("one", seeds=[0, 1])
    kept = ["--runs", tmp_path / "runs"]
    step, calls = Adam.step, 0

    def interrupt(*args, **options):
        nonlocal calls
        calls += 1
        if calls == 15:  # in the second seed's run
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Adam, "step", interrupt)
        ran = script("reproduce", "one", *where, *kept)
    assert ran.code == 130
    assert "stopped at seed 1 of one" in ran.err
    record = json.loads((tmp_path / "one.json").read_text())["record"]
    assert record["seed"] == [0]  # what is done is kept
    again = script("reproduce", "one", *where, *kept)
    assert again.code == 0, again.err
    entry("whole", seeds=[0, 1])
    assert script("reproduce", "whole", *where).code == 0
    both = [json.loads((tmp_path / f"{n}.json").read_text())["record"] for n in ("one", "whole")]
    assert both[0]["test"] == both[1]["test"]


def test_several_labels_are_measured_with_each_kind_of_threshold(script, entry, tmp_path):
    rows = ["a|b\tgoal court", "a\tgoal", "b\tcourt", "\tthe", "c\tzebra"] * 12
    (tmp_path / "data" / "goemotions").mkdir()  # whose labels are known to be separated
    for split in ("train", "test"):
        (tmp_path / "data" / "goemotions" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    settings = {"model_settings": {"buckets": 100}, "optimizer": "adam", "lr": 0.05, "epochs": 5, "batch_size": 8}  # fmt: skip
    sets = {"corpus": "goemotions", "seeds": [0, 1], "thresholds": ["one", "label"]}
    where = entry("deep", **sets, settings=settings | {"refit": True})
    entry("tfidf", **sets, model="tfidf", settings={"class_weights": "balanced"})
    entry("whole", **sets, model="ensemble", members={"deep": 2}, settings={"rounds": 3})
    kept = ["--runs", tmp_path / "runs"]
    ran = script("reproduce", "deep", "tfidf", "whole", *where, *kept)
    assert ran.code == 0, ran.err
    assert "deep: test micro_f1 " in ran.out
    for name in ("deep", "tfidf", "whole"):
        record = json.loads((tmp_path / f"{name}.json").read_text())["record"]
        by = record["test_by_threshold"]
        assert list(by) == ["one", "label"]
        assert by["one"] == record["test"]
        assert by["one"].keys() == {"micro_f1", "macro_f1", "mean_average_precision"}
        assert len(by["label"]["micro_f1"]["runs"]) == len(record["dev"]["micro_f1"]["runs"]) == 2
    before = json.loads((tmp_path / "deep.json").read_text())["record"]
    assert script("reproduce", "deep", *where, *kept).code == 0  # from the runs that are kept
    after = json.loads((tmp_path / "deep.json").read_text())["record"]
    assert after["test_by_threshold"] == before["test_by_threshold"]
    assert script("reproduce", "deep", *where).code == 0  # and without
    after = json.loads((tmp_path / "deep.json").read_text())["record"]
    assert after["test_by_threshold"] == before["test_by_threshold"]

"""dlnotes train --from RUN: more documents, more epochs, in the way of a user."""

import json
import shutil
import zipfile

import polars as pl
import pytest
import yaml
from test_bad_input import told
from test_old_runs import DATA, OLD

from dlnotes.commands.continuing import as_source
from dlnotes.commands.sources import sources_of
from dlnotes.data.reading import Reading

SMALL = ["--model", "textcnn", "--model-args", "embedding_dim=4", "maps=3", "widths=(2,3)"]
TRAINING = ["--epochs", 2, "--lr", 0.02, "--batch-size", 32, "--device", "cpu"]


def record(run):
    return json.loads((run / "metrics.json").read_text())


def figures(run):
    found = record(run)
    history = [{k: v for k, v in row.items() if "per_second" not in k} for row in found["history"]]
    return found["settings"], history, found.get("test"), found["documents"]


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    """New documents: a third class, and new words."""
    file = tmp_path_factory.mktemp("news") / "new.tsv"
    lines = [f"law\tthe court and judge {i}" for i in range(30)]
    file.write_text("\n".join([*lines, *(f"tech\trobots code {i}" for i in range(20))]) + "\n")
    return file


@pytest.fixture
def first(script, files, tmp_path, request):
    out = tmp_path / "first"
    shutil.copy(files / "train.tsv", tmp_path / "train.tsv")
    data = ["--train", tmp_path / "train.tsv", "--test", files / "test.tsv"]
    result = script("train", *data, *SMALL, *TRAINING, *getattr(request, "param", []), "--out", out)
    assert result.code == 0, result.err
    return out


def test_new_documents(script, first, news, tmp_path):
    out = tmp_path / "next"
    result = script("train", "--from", first, "--train", news, "--out", out)
    assert result.code == 0, result.err
    assert f"note: from {first}, a textcnn: again 180 training documents, 20 dev documents; new 50 documents, " in result.err  # fmt: skip
    assert "1 label (law)" in result.err
    found = record(out)
    assert found["parent"]["run"] == str(first)
    # The old documents are read again from where they were, and measured on the old test split.
    assert found["documents"] == {"train": 225, "dev": 25, "test": 40}
    assert found["settings"]["lr"] == 0.02
    result = script("predict", out, "the court and judge 7")
    assert "law" in result.out
    # What the run says of itself repeats it.
    result = script("train", "--config", out / "config.yaml", "--out", tmp_path / "again")
    assert result.code == 0, result.err
    assert figures(tmp_path / "again") == figures(out)
    # And it can be gone on from in turn, with all documents.
    result = script("train", "--from", out, "--epochs", 1, "--out", tmp_path / "third")
    assert result.code == 0, result.err
    assert "again 225 training documents, 25 dev documents; new nothing" in result.err
    listed = script("runs", tmp_path).out
    assert "parent" in listed
    row = next(line.split() for line in listed.splitlines() if line.strip().startswith("third"))
    assert row[:4] == ["third", "textcnn", "new", "next"]


# The dev figures of a run with refit are those of the first training, not of what is gone on from.
@pytest.mark.parametrize("first", [["--no-refit"]], indirect=True)
def test_more_epochs(script, first, tmp_path):
    result = script("train", "--from", first, "--lr", 0, "--epochs", 1, "--out", tmp_path / "next")
    assert result.code == 0, result.err
    # Those of the test split are by the model that was trained again, with the dev documents.
    before, after = record(first), record(tmp_path / "next")
    assert after["dev"]["loss"] == pytest.approx(before["dev"]["loss"], rel=1e-6)
    assert f"refit; other settings that are not given are those of {first}" in result.err


def test_the_dev_file_has_other_documents_now(script, files, news, tmp_path):
    dev = tmp_path / "dev.tsv"
    lines = (files / "train.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "train.tsv").write_text("".join(lines[20:]))
    dev.write_text("".join(lines[:20]))
    data = ["--train", tmp_path / "train.tsv", "--dev", dev]
    assert script("train", *data, *SMALL, *TRAINING, "--out", tmp_path / "first").code == 0
    dev.write_text("".join(lines[20:30]))
    options = ["--from", tmp_path / "first", "--train", news, "--no-replay", "--epochs", 1]
    result = script("train", *options, "--out", tmp_path / "next")
    assert result.code == 0, result.err
    assert f"20 of the dev documents of {tmp_path / 'first'} are not among the documents" in result.err  # fmt: skip
    assert "has learned from 10 of the dev documents" in result.err


@pytest.mark.parametrize("dev_file", [False, True])
def test_a_refit_run_that_kept_nothing_else(script, files, news, tmp_path, dev_file):
    data = ["--train", files / "train.tsv", *(["--dev", files / "test.tsv"] if dev_file else [])]
    out = tmp_path / "first"
    assert script("train", *data, *SMALL, *TRAINING, "--refit", "--out", out).code == 0
    shutil.rmtree(out / "first-classifier")
    line = told(script("train", "--from", out, "--epochs", 1, "--out", tmp_path / "none"))
    assert "there are no dev documents: the earlier training has learned from all" in line
    for name, parent in (("next", out), ("third", tmp_path / "next")):
        options = ["--from", parent, "--train", news, "--epochs", 1, "--out", tmp_path / name]
        result = script("train", *options)
        assert result.code == 0, result.err
        assert ("has learned from its dev documents (refit)" in result.err) == (name == "next")
        # All of 200 and the dev file's 40 are learned from, and of the 50 new ones 5 are not.
        assert record(tmp_path / name)["documents"] == {"train": 245 + 40 * dev_file, "dev": 5}


def test_a_parent_that_is_another_run_now(script, first, news, tmp_path):
    out = tmp_path / "next"
    assert script("train", "--from", first, "--train", news, "--epochs", 1, "--out", out).code == 0
    shutil.rmtree(first)
    data = ["--train", news, *SMALL, *TRAINING, "--seed", 4]
    assert script("train", *data, "--out", first).code == 0
    line = told(script("train", "--from", out, "--epochs", 1, "--out", tmp_path / "third"))
    assert f"{first}, which {out} started from, is gone: another run is there now" in line


def test_runs_that_started_from_each_other(script, first, news, tmp_path):
    out = tmp_path / "next"
    assert script("train", "--from", first, "--train", news, "--epochs", 1, "--out", out).code == 0
    said = yaml.safe_load((first / "config.yaml").read_text())
    (first / "config.yaml").write_text(yaml.safe_dump({**said, "from": str(out)}))
    line = told(script("train", "--from", out, "--epochs", 1, "--out", tmp_path / "third"))
    assert f"{first} started from {out}, which started from {first} itself" in line


@pytest.mark.parametrize("way", ["both files", "one file that has grown", "a copy of the old file"])
def test_old_and_new_documents_together(script, first, news, tmp_path, way):
    """Old documents are known by their content, and none is learned from twice."""
    old = tmp_path / "train.tsv"
    both = {"both files": [old, news]}
    if way == "one file that has grown":
        old.write_text(news.read_text() + old.read_text())
        both[way] = [old]
    if way == "a copy of the old file":
        copy = old.rename(tmp_path / "moved.tsv")
        both[way] = [copy, news]
    result = script("train", "--from", first, "--train", *both[way], "--out", tmp_path / "next")
    assert result.code == 0, result.err
    assert "again 180 training documents, 20 dev documents; new 50 documents" in result.err
    assert record(tmp_path / "next")["documents"] == {"train": 225, "dev": 25, "test": 40}


def test_the_old_file_is_gone(script, first, news, tmp_path):
    (tmp_path / "train.tsv").unlink()
    out = tmp_path / "next"
    line = told(script("train", "--from", first, "--train", news, "--out", out))
    assert "train.tsv does not exist" in line
    assert "texts that" in line
    assert "--train OLD NEW), or --no-replay" in line
    assert not out.exists()
    line = told(script("train", "--from", first, "--out", out))
    assert line.endswith("give --train FILE")
    result = script("train", "--from", first, "--train", news, "--no-replay", "--out", out)
    assert result.code == 0, result.err
    assert record(out)["documents"] == {"train": 45, "dev": 5, "test": 40}


def test_the_old_test_file_is_gone(script, first, files, tmp_path):
    said = yaml.safe_load((first / "config.yaml").read_text())
    said["test"] = [str(tmp_path / "gone.tsv")]
    (first / "config.yaml").write_text(yaml.safe_dump(said))
    result = script("train", "--from", first, "--epochs", 1, "--out", tmp_path / "next")
    assert result.code == 0, result.err
    assert "gone.tsv does not exist" in result.err
    assert "so nothing is measured on it" in result.err
    options = ["--test", files / "test.tsv", "--epochs", 1, "--out", tmp_path / "other"]
    result = script("train", "--from", first, *options)
    assert result.code == 0, result.err
    assert "gone.tsv" not in result.err
    assert "test" in record(tmp_path / "other")


def test_without_replay_the_old_dev_documents_are_measured(script, first, news, tmp_path):
    options = ["--train", news, "--no-replay", "--out", tmp_path / "next"]
    result = script("train", "--from", first, *options)
    assert result.code == 0, result.err
    assert "again 20 dev documents; new 50 documents" in result.err
    assert record(tmp_path / "next")["documents"] == {"train": 45, "dev": 25, "test": 40}
    assert yaml.safe_load((tmp_path / "next" / "config.yaml").read_text())["replay"] is False


def test_resumed(script, first, news, tmp_path):
    options = ["--from", first, "--train", news, "--out", tmp_path / "next"]
    assert script("train", *options).code == 0
    before = figures(tmp_path / "next")
    (tmp_path / "next" / "metrics.json").unlink()
    result = script("train", *options, "--resume")
    assert result.code == 0, result.err
    assert figures(tmp_path / "next") == before
    # Without its parent it does not go on, and says why.
    shutil.rmtree(first)
    line = told(script("train", *options, "--resume"))
    assert f"--from {first} is not a trained classifier" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--corpus", "bbc"], "--from takes new documents with --train, not a --corpus"),
        (["--model", "rcnn"], "--model is rcnn, but textcnn in"),
        (["--model-args", "maps=9"], "maps is 9, but 3 in"),
        (["--tokenizer", "words"], "--tokenizer is words, but basic_english in"),
        (["--label-column", "kind"], "new files need the same columns and marks"),
        (["--no-replay"], "--no-replay learns from new documents alone"),
        (["--max-size", "5"], "max_size must be"),
    ],
)
def test_mistakes(script, first, tmp_path, options, said):
    line = told(script("train", "--from", first, *options, "--out", tmp_path / "next"))
    assert said in line
    assert not (tmp_path / "next").exists()


def test_more_mistakes(script, first, news, tmp_path):
    out = ["--out", tmp_path / "next"]
    assert "--out" in told(script("train", "--from", first, "--out", first))
    line = told(script("train", "--from", first, "--boost", first, "--train", news, *out))
    assert "either --from or --boost" in line
    assert "--no-replay" in told(script("train", "--no-replay", *out))
    assert "is not a trained classifier" in told(script("train", "--from", tmp_path, *out))
    shutil.copytree(OLD / "interrupted", tmp_path / "half")
    assert "is not finished" in told(script("train", "--from", tmp_path / "half", *out))


def test_a_run_that_kept_its_dev_documents_forms_no_ensemble(script, first, news, tmp_path):
    assert script("train", "--from", first, "--train", news, "--out", tmp_path / "next").code == 0
    data = ["--train", tmp_path / "train.tsv"]
    line = told(script("ensemble", tmp_path / "next", *data, "--out", tmp_path / "joined"))
    assert "started from another run" in line
    assert "--dev FILE" in line


@pytest.mark.parametrize("refit", ["--refit", "--no-refit"])
def test_dev_documents_of_its_own_beside_those_of_its_parent(
    script, first, files, news, tmp_path, refit
):
    data = ["--train", news, "--dev", files / "test.tsv", refit]
    assert script("train", "--from", first, *data, "--out", tmp_path / "next").code == 0
    assert record(tmp_path / "next")["documents"]["dev"] == 60
    line = told(script("calibrate", tmp_path / "next"))
    assert "started from another run, whose dev documents it kept" in line
    fresh = tmp_path / "fresh.tsv"
    fresh.write_text("".join(f"law\tcourt {i}\nsport\tgoal {i}\n" for i in range(30)))
    assert script("calibrate", tmp_path / "next", "--dev", fresh).code == 0


def test_members_with_new_labels_and_without(script, first, news, tmp_path):
    assert script("train", "--from", first, "--train", news, "--out", tmp_path / "next").code == 0
    for runs in ((first, tmp_path / "next"), (tmp_path / "next", first)):
        line = told(script("ensemble", *runs, "--out", tmp_path / "joined"))
        assert "must have the same labels" in line


def test_a_run_and_what_it_went_on_to_are_no_members_together(script, first, files, tmp_path):
    """Whatever dev documents are given: one has learned from documents that the other has not."""
    more = tmp_path / "more.tsv"
    more.write_text("".join(f"sport\tmatch day {i}\ntech\tweb site {i}\n" for i in range(30)))
    assert script("train", "--from", first, "--train", more, "--out", tmp_path / "next").code == 0
    for options in ([], ["--dev", files / "test.tsv"]):
        for runs in ((first, tmp_path / "next"), (tmp_path / "next", first)):
            line = told(script("ensemble", *runs, *options, "--out", tmp_path / "joined"))
            assert "have learned from different documents" in line


def test_a_run_of_an_earlier_version(script, news, tmp_path):
    """It has no digests: its dev documents are cut again from the file that it names by SHA-256."""
    data = ["--train", DATA / "train.tsv", news]
    result = script("train", "--from", OLD / "textcnn", *data, "--out", tmp_path / "next")
    assert result.code == 0, result.err
    before = record(OLD / "textcnn")["documents"]
    assert f"again {before['train']} training documents, {before['dev']} dev documents" in result.err  # fmt: skip
    options = ["--train", news, "--out", tmp_path / "unknown"]
    result = script("train", "--from", OLD / "textcnn", *options)
    assert result.code == 0, result.err
    assert "the documents of" in result.err
    assert "are not known" in result.err


def test_a_run_of_a_corpus(script, news, tmp_path, monkeypatch):
    folder = tmp_path / "corpora" / "mine"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(DATA / f"{split}.tsv", folder / f"{split}.tsv")
    data = ["--corpus", "mine", "--data-dir", tmp_path / "corpora"]
    assert script("train", *data, *SMALL, *TRAINING, "--out", tmp_path / "first").code == 0
    documents = record(tmp_path / "first")["documents"]
    options = ["--train", news, "--out", tmp_path / "next"]
    result = script("train", "--from", tmp_path / "first", *options)
    assert result.code == 0, result.err
    assert f"{documents['dev']} dev documents; new 50 documents" in result.err
    assert "test" in record(tmp_path / "next")
    # Its documents are found where the corpora are now.
    moved = (tmp_path / "corpora").rename(tmp_path / "moved")
    found = sources_of(tmp_path / "next", data_dir=moved)
    assert found["train"] == [moved / "mine" / "train.tsv", news]


def test_what_a_file_says_gives_way(script, first, tmp_path):
    """--from takes the place of the corpus in a configuration, and --corpus that of its from."""
    file = tmp_path / "c.yaml"
    options = ["--config", file, "--epochs", 1, "--out", tmp_path / "next"]
    file.write_text("corpus: bbc\nlr: 0.03\n")
    result = script("train", "--from", first, *options)
    assert result.code == 0, result.err
    assert record(tmp_path / "next")["settings"]["lr"] == 0.03
    file.write_text(f"from: {first}\n")
    folder = tmp_path / "corpora" / "mine"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(DATA / f"{split}.tsv", folder / f"{split}.tsv")
    data = ["--corpus", "mine", "--data-dir", tmp_path / "corpora", "--model-args", "buckets=50"]
    result = script("train", *data, *options[:4], "--out", tmp_path / "other")
    assert result.code == 0, result.err
    assert "parent" not in record(tmp_path / "other")


def test_a_corpus_in_memory(script, tmp_path):
    """bbc is made of data frames, which files are added to."""
    more = tmp_path / "more.tsv"
    more.write_text("".join(f"sport\tnever seen {i}\n" for i in range(20)))
    model = ["--model-args", "buckets=50", "embedding_dim=4"]
    assert script("train", *model, "--epochs", 1, "--out", tmp_path / "first").code == 0
    options = ["--train", more, "--out", tmp_path / "next"]
    result = script("train", "--from", tmp_path / "first", *options)
    assert result.code == 0, result.err
    assert "new 20 documents" in result.err
    assert record(tmp_path / "next")["documents"]["test"] == record(tmp_path / "first")["documents"]["test"]  # fmt: skip


def test_the_file_of_digests_holds_no_text(first):
    with zipfile.ZipFile(first / "documents.npz") as file:
        assert sorted(file.namelist()) == ["dev.npy", "dev_labelled.npy", "format.npy", "train.npy", "train_labelled.npy"]  # fmt: skip
        assert not any(b"goal" in file.read(name) for name in file.namelist())


def test_single_labels_and_sets_of_frames_and_files_become_one_source(tmp_path):
    (tmp_path / "new.txt").write_text("__label__b y\nz\n")
    frame = pl.DataFrame({"label": ["a"], "text": ["x"]})
    whole = as_source([frame, tmp_path / "new.txt"], Reading(multi_label=True))
    assert whole["label"].to_list() == [["a"], ["b"], []]
    assert whole["text"].to_list() == ["x", "y", "z"]


def test_a_configuration_of_several_labels_repeats_its_run(script, tmp_path):
    for name, labels in (("old", ("a", "b")), ("new", ("a", "c"))):
        lines = [{"label": [labels[i % 2]] * (i % 5 > 0), "text": f"{labels[i % 2]}{labels[i % 2]} word {i}"} for i in range(60)]  # fmt: skip
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, then = tmp_path / "first", tmp_path / "then"
    done = script("train", "--train", tmp_path / "old.jsonl", *SMALL, *TRAINING, "--out", first)
    assert done.code == 0, done.err
    done = script("train", "--from", first, "--train", tmp_path / "new.jsonl", "--out", then)
    assert done.code == 0, done.err
    again = script("train", "--config", then / "config.yaml", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert figures(tmp_path / "again") == figures(then)


def test_an_ensemble_of_such_runs_finds_the_files_of_their_parent(script, first, news, tmp_path):
    runs = [tmp_path / "a", tmp_path / "b"]
    for seed, run in enumerate(runs):
        more = ("--seed", seed, "--out", run)
        assert script("train", "--from", first, "--train", news, *more).code == 0
    fresh = tmp_path / "fresh.tsv"
    fresh.write_text("law\tthe judge\ntech\trobots\nlaw\tcourt\ntech\tcode\n")
    result = script("ensemble", *runs, "--dev", fresh, "--out", tmp_path / "both")
    assert result.code == 0, result.err
    assert record(tmp_path / "both")["documents"]["dev"] == 4


def test_test_documents_are_those_of_the_last_run_that_has_any(script, first, news, tmp_path):
    own = tmp_path / "own.tsv"
    own.write_text("law\tthe judge\ntech\trobots\nlaw\tcourt\n")
    run = tmp_path / "a"
    given = ("--train", news, "--test", own)
    assert script("train", "--from", first, *given, "--out", run).code == 0
    assert script("train", "--from", run, "--epochs", 1, "--out", tmp_path / "more").code == 0
    fresh = tmp_path / "fresh.tsv"
    fresh.write_text("law\tthe judges\ntech\ta robot\nlaw\tcourts\ntech\tcode\n")
    result = script("ensemble", run, "--dev", fresh, "--out", tmp_path / "one")
    assert result.code == 0, result.err
    for out in (run, tmp_path / "more", tmp_path / "one"):
        assert record(out)["documents"]["test"] == 3

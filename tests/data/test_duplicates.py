"""Documents in several splits and texts with several labels, counted and listed."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.data.duplicates import find_duplicates
from dlnotes.data.tokenized import tokenize

TRAIN = [
    ("a", "one two"),
    ("b", "One  TWO"),  # the same tokens, another label
    ("a", "two one"),
    ("a", "three"),
    ("b", "three three"),
    ("a", ""),
    ("b", ""),
]
DEV = [("a", "three"), ("b", "four"), ("a", "")]
TEST = [("b", "four"), ("b", "one two"), ("a", "five five"), ("a", "five five")]


def part(pairs):
    texts = tokenize(pairs)
    return texts, np.arange(len(texts))


def test_what_is_counted_and_listed():
    found = find_duplicates({"train": part(TRAIN), "dev": part(DEV), "test": part(TEST)})
    assert found.shared == {"dev": 1, "test": 2}
    assert found.contradictory == 1
    assert found.table().select("group", "problem", "split", "label", "text").rows() == [
        (1, "several splits and several labels", "train", "a", "one two"),
        (1, "several splits and several labels", "train", "b", "one two"),
        (1, "several splits and several labels", "test", "b", "one two"),
        (2, "several splits", "train", "a", "three"),
        (2, "several splits", "dev", "a", "three"),
        (3, "several splits", "dev", "b", "four"),
        (3, "several splits", "test", "b", "four"),
    ]
    assert found.summary() == (
        "1 dev document also occurs in earlier splits; 2 test documents also occur in earlier "
        "splits; 1 text has different labels"
    )
    nothing = find_duplicates({"train": part(TRAIN[2:5]), "dev": part([("a", "x")])})
    assert (nothing.summary(), nothing.table().height) == ("", 0)


def test_equal_documents_are_found_among_many_and_no_others():
    """The order of tokens and the lengths count; a number stands for a document in each split."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(70_000)]
    train, dev = texts[:66_000], texts[66_000:]
    found = find_duplicates(
        {"train": part([("x", t) for t in train]), "dev": part([("x", t) for t in dev])}
    )
    assert found.shared["dev"] == sum(text in set(train) for text in dev)


def test_a_dev_split_that_is_cut_off(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,text\n" + "a,same\nb,other\n" * 20)
    dataset = load_dataset({"train": path})
    assert dataset.duplicates().shared == {"dev": 4}
    places = dataset.duplicates().table()["place"].to_list()
    assert sorted(int(place.rpartition(":")[2]) for place in places) == list(range(2, 42))


@pytest.mark.parametrize("listed", [False, True])
def test_the_command_tells_and_lists(tmp_path, listed):
    (tmp_path / "train.csv").write_text("label,text\n" + "a,x\nb,y\n" * 10 + "a,y\n")
    (tmp_path / "test.csv").write_text("label,text\na,x\nb,new\n")
    command = "-m dlnotes train --train train.csv --test test.csv --epochs 1 --out run"
    extra = ["--check-data", "problems.csv"] if listed else []
    done = subprocess.run(
        [sys.executable, *command.split(), *extra],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 dev documents also occur in earlier splits" in done.stderr
    assert "1 text has different labels" in done.stderr
    if listed:
        assert "(see problems.csv)" in done.stderr
        table = pl.read_csv(tmp_path / "problems.csv")
        assert table["split"].value_counts(sort=True)["split"].to_list() == ["train", "dev", "test"]
        assert "test.csv:2" in table["place"].to_list()
    else:
        assert "1 test document occurs in train or dev as well" in done.stderr
        assert "--check-data FILE lists them" in done.stderr


def test_the_list_replaces_no_input(tmp_path):
    content = "label,text\n" + "a,x\nb,y\n" * 10
    for option in ("--train", "--test", "--vectors"):
        files = {name: tmp_path / name for name in ("train.csv", "test.csv", "words.csv")}
        for file in files.values():
            file.write_text(content)
        given = ["--train", "train.csv", "--test", "test.csv", "--vectors", "words.csv"]
        target = given[given.index(option) + 1]
        command = [sys.executable, "-m", "dlnotes", "train", *given, "--check-data", target]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"{option} and --check-data are the same file" in done.stderr
        assert (tmp_path / target).read_text() == content

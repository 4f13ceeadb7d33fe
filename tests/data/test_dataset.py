"""Vocabulary, flat token arrays, their cache, views and batches."""

import itertools
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from dlnotes import nn
from dlnotes.data.batches import BatchSampler, by_length
from dlnotes.data.dataset import load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.tokenized import tokenize, tokenize_texts
from dlnotes.data.vocabulary import PAD, UNK, Vocabulary
from dlnotes.errors import UserError
from dlnotes.training import train as training
from dlnotes.training.train import train_classifier

PAIRS = [
    ("pos", "the cat sat on the mat"),
    ("neg", "The dog; the 'dog'"),
    ("pos", ""),
    ("neg", "a <unk> cat"),
    ("pos", "the the cat"),
    ("neg", "dog dog"),
]


def arrays(texts):
    return [texts.tokens, texts.offsets, texts.types, texts.labels, texts.label_names, texts.lines]


def equal(a, b):
    return all(list(x) == list(y) for x, y in zip(arrays(a), arrays(b), strict=True))


@pytest.fixture
def tsv(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in PAIRS))
    return path


def test_tokens_offsets_and_labels():
    texts = tokenize(PAIRS)
    words = [list(texts.types.gather(texts.tokens[a:b])) for a, b in itertools.pairwise(texts.offsets)]  # fmt: skip
    assert words[0] == ["the", "cat", "sat", "on", "the", "mat"]
    assert words[1] == ["the", "dog", "the", "'", "dog", "'"]
    assert words[2] == []
    assert [texts.label_names[i] for i in texts.labels] == [label for label, _ in PAIRS]
    assert texts.tokens.dtype == np.int32


def test_blocks_give_the_same_as_the_whole(tsv):
    assert equal(tokenize(tsv, block_bytes=30), tokenize(tsv))


def test_cache_is_keyed_by_content(tsv, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = tokenize(tsv, cache_dir=cache)
    assert equal(first, tokenize(tsv))
    assert isinstance(first.tokens, np.memmap)
    monkeypatch.setattr("dlnotes.data.tokenized._number", None)  # nothing is numbered again
    assert equal(tokenize(shutil.copy(tsv, tmp_path / "b.tsv") and tmp_path / "b.tsv", cache_dir=cache), first)  # fmt: skip
    tsv.write_text(tsv.read_text() + "pos\tnew words\n")
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        tokenize(tsv, cache_dir=cache)
    monkeypatch.undo()
    assert len(tokenize(tsv, cache_dir=cache)) == len(first) + 1
    assert len(tokenize(tsv, "characters", cache_dir=cache).tokens) > len(first.tokens)


def test_a_failed_read_leaves_no_cache_entry(tsv, tmp_path):
    tsv.write_text("a\tx\nb\n")
    with pytest.raises(UserError, match=r"train\.tsv:2"):
        tokenize(tsv, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_texts_without_a_single_token(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\t \nb\t\n")
    for cache in (None, tmp_path / "cache"):
        texts = tokenize(path, cache_dir=cache)
        assert len(texts) == 2
        assert len(texts.tokens) == 0
        documents = Documents(texts, Vocabulary(["<pad>", "<unk>"]), ["a", "b"])
        assert documents.batch(np.array([0, 1])).tokens.shape == (2, 0)
    assert len(tokenize_texts([], "basic_english")) == 0


def test_vocabulary_order():
    counts = Counter(token for _, text in PAIRS for token in text.lower().replace(";", "").replace("'", " ' ").split())  # fmt: skip
    texts = tokenize(PAIRS)
    vocabulary = Vocabulary.from_counts(texts.types, texts.counts())
    del counts["<unk>"]
    ordered = sorted(counts, key=lambda token: (-counts[token], token))
    assert list(vocabulary.tokens) == ["<pad>", "<unk>", *ordered]
    assert vocabulary.ids(["dog", "never seen", "<unk>", "<pad>"]).tolist()[1:] == [UNK] * 3
    frequent = Vocabulary.from_counts(texts.types, texts.counts(), min_freq=3)
    assert set(frequent.tokens[2:]) == {t for t, n in counts.items() if n >= 3}
    assert len(Vocabulary.from_counts(texts.types, texts.counts(), max_size=4)) == 4


@pytest.mark.parametrize("bad", [{"min_freq": 0}, {"max_size": 1}])
def test_bad_vocabulary_settings(bad):
    with pytest.raises(UserError, match=f"{next(iter(bad))} must be at least"):
        Vocabulary.from_counts(["a"], np.array([1]), **bad)


def test_vocabulary_file(tmp_path):
    vocabulary = Vocabulary(["<pad>", "<unk>", "naïve", "中", "'"])
    vocabulary.save(tmp_path / "v.txt")
    assert list(Vocabulary.load(tmp_path / "v.txt").tokens) == list(vocabulary.tokens)
    for content in ("", "a\nb", "<pad>\n<unk>\na\na"):
        (tmp_path / "v.txt").write_text(content)
        with pytest.raises(UserError, match="not a vocabulary"):
            Vocabulary.load(tmp_path / "v.txt")


def test_batch_of_mixed_lengths():
    texts = tokenize(PAIRS)
    vocabulary = Vocabulary.from_counts(texts.types, texts.counts())
    documents = Documents(texts, vocabulary, texts.label_names, max_tokens=4)
    batch = documents.batch(np.array([4, 0, 2]))
    the, cat = vocabulary.ids(["the", "cat"])
    assert batch.tokens.tolist()[0] == [the, the, cat, PAD]
    assert batch.tokens.tolist()[1][:2] == [the, cat]
    assert batch.tokens.tolist()[2] == [PAD] * 4
    assert batch.tokens.dtype == torch.int64
    assert batch.labels.tolist() == [1, 1, 1]
    assert documents.text(0) == "the cat sat on"


def test_label_unseen_in_training():
    texts = tokenize([("a", "x"), ("b", "y"), ("c", "z")])
    with pytest.raises(
        UserError, match=r"the texts:3: label 'c' does not occur .* which has: a, b"
    ):
        Documents(texts, Vocabulary(["<pad>", "<unk>"]), ["a", "b"])


@pytest.mark.parametrize("batch_size", [1, 7, 64, None])
def test_sampler_visits_every_document_once(batch_size):
    lengths = np.random.default_rng(0).integers(0, 50, 200)
    sampler = BatchSampler(lengths, batch_size, seed=3, bucket=4)
    batches = sampler.epoch(0)
    assert len(batches) == len(sampler)
    assert sorted(np.concatenate(batches)) == list(range(200))
    assert {len(b) for b in batches} <= {batch_size or 200, 200 % (batch_size or 200)}


def test_sampler_is_a_function_of_seed_and_epoch():
    lengths = np.arange(100)

    def flat(seed, epoch):
        return np.concatenate(BatchSampler(lengths, 8, seed=seed).epoch(epoch)).tolist()

    assert flat(0, 1) == flat(0, 1)
    assert len({tuple(flat(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    in_order = np.concatenate(BatchSampler(lengths, 8, shuffle=False).epoch(5))
    assert in_order.tolist() == list(range(100))


def test_buckets_save_padding():
    lengths = np.random.default_rng(0).geometric(0.01, 5000)

    def padded(bucket):
        batches = BatchSampler(lengths, 32, bucket=bucket).epoch(0)
        return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum()

    assert padded(50) < 1.1 < 2.5 < padded(1)


def test_evaluation_batches():
    lengths = np.array([5, 0, 100, 7, 3])
    batches = list(by_length(lengths, 16))
    assert sorted(np.concatenate(batches)) == list(range(5))
    assert all(len(b) == 1 or len(b) * max(lengths[b]) <= 16 for b in batches)


def test_dev_is_cut_from_train_and_the_vocabulary_sees_train_only():
    pairs = [(str(i % 2), f"common word{i}") for i in range(100)]
    dataset = load_dataset({"train": pairs}, dev_fraction=0.2, split_seed=1)
    assert (len(dataset.train), len(dataset.dev)) == (80, 20)
    assert np.bincount(dataset.dev.labels).tolist() == [10, 10]
    in_train = set(" ".join(dataset.train.text(i) for i in range(80)).split())
    assert set(dataset.vocabulary.tokens[2:]) == in_train
    unknown = dataset.dev.batch(np.arange(20)).tokens[:, 1]
    assert (unknown == UNK).all()
    other = load_dataset({"train": pairs}, dev_fraction=0.2, split_seed=2)
    assert [other.dev.text(i) for i in range(20)] != [dataset.dev.text(i) for i in range(20)]


def test_test_is_read_only_when_asked_for(tmp_path):
    test = tmp_path / "test.tsv"
    test.write_text("x\n")
    dataset = load_dataset({"train": [("a", "x"), ("b", "y")] * 9, "test": test})
    with pytest.raises(UserError, match=r"test\.tsv:1: too few fields"):
        dataset.read_test()
    with pytest.raises(UserError, match="does not exist"):
        load_dataset({"train": PAIRS, "test": Path("nowhere.tsv")})


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ({"train": [("a", "x")] * 9}, {}, "only one class, 'a'"),
        ({"train": [("a", "x"), ("b", "y")]}, {}, "too few to cut a dev split"),
        ({"train": PAIRS}, {"dev_fraction": 1.0}, "dev_fraction must be above 0 and below 1"),
        ({"train": PAIRS}, {"max_tokens": -1}, "max_tokens must be at least 0"),
        ({"train": PAIRS}, {"tokenizer": "spacy"}, "tokenizer must be one of basic_english"),
        ({"train": PAIRS, "dev": [("odd", "x")]}, {}, "label 'odd' does not occur"),
    ],
)
def test_bad_data_sets(sources, options, message):
    with pytest.raises(UserError, match=message):
        load_dataset(sources, **options)


@pytest.mark.slow
def test_imdb_is_read_and_numbered_in_three_seconds(shared_data, tmp_path):
    """25,000 documents on a cold cache of our own; the best of three, since machines are noisy."""
    import time

    def seconds(i):
        began = time.perf_counter()
        texts = tokenize(shared_data / "imdb" / "train.tsv.gz", cache_dir=tmp_path / str(i))
        vocabulary = Vocabulary.from_counts(texts.types, texts.counts())
        Documents(texts, vocabulary, texts.label_names)
        took = time.perf_counter() - began
        assert len(texts) == 25_000
        assert len(texts.tokens) > 5_000_000
        return took

    assert min(seconds(i) for i in range(3)) <= 3


def test_marks_have_the_first_ids_whether_they_occur_or_not():
    documents = [("x", "a bb. C d"), ("y", "b b"), ("x", "a"), ("y", "b c")]
    dataset = load_dataset({"train": documents, "dev": documents}, tokenizer="sentences")
    assert list(dataset.vocabulary.tokens[:5]) == ["<pad>", "<unk>", "</s>", "<question>", "b"]
    assert (nn.SENTENCE_END, nn.QUESTION) == (2, 3)
    assert dataset.train.batch(np.array([0])).tokens[0].tolist().count(nn.SENTENCE_END) == 1
    small = load_dataset({"train": documents, "dev": documents}, tokenizer="sentences", max_size=4)
    assert len(small.vocabulary) == 4
    with pytest.raises(UserError, match="max_size must be at least 4, not 3"):
        load_dataset({"train": documents}, tokenizer="sentences", max_size=3)


@pytest.mark.parametrize("own_dev", [False, True])
def test_the_whole_data_set_is_train_and_dev(own_dev):
    sources = {"train": PAIRS} | (
        {"dev": [("neg", "a bird"), ("pos", "cat cat cat bird")]} if own_dev else {}
    )
    dataset = load_dataset(sources, dev_fraction=0.34)
    whole = dataset.with_dev_in_train()
    parts = (dataset.train, dataset.dev)
    texts = [part.text(i) for part in parts for i in range(len(part))]
    assert len(whole.train) == len(texts)
    words = Counter(" ".join(texts).split())
    ordered = sorted(words, key=lambda w: (-words[w], w))
    assert list(whole.vocabulary.tokens) == [
        "<pad>",
        "<unk>",
        *(w for w in ordered if w != "<unk>"),
    ]
    assert len(whole.vocabulary) > len(dataset.vocabulary)  # dev has words of its own
    assert whole.train.labels.tolist() == [label for part in parts for label in part.labels]
    for i, text in enumerate(texts):
        assert whole.train.text(i) == text
        (tokens,), _ = whole.train.batch(np.array([i]))
        assert [whole.vocabulary.tokens[int(t)] for t in tokens] == text.split()
    last = len(texts) - 1
    assert whole.dev.text(len(dataset.dev) - 1) == texts[last]
    given = load_dataset(sources, dev_fraction=0.34, vocabulary=dataset.vocabulary)
    assert given.with_dev_in_train().vocabulary is dataset.vocabulary


def test_the_old_name_of_the_splits_seed_goes_on_working():
    pairs = [(label, f"{label} {i}") for i in range(40) for label in "ab"]
    with pytest.warns(DeprecationWarning, match="seed of load_dataset is now split_seed"):
        old = load_dataset({"train": pairs}, seed=3)
    new = load_dataset({"train": pairs}, split_seed=3)
    assert [old.dev.text(i) for i in range(len(old.dev))] == [new.dev.text(i) for i in range(len(new.dev))]  # fmt: skip
    assert old.reading == new.reading


def test_a_dev_split_that_many_classes_make_larger_or_smaller_is_said(tmp_path):
    """Classes of one and two documents: half of the latter's become dev documents."""
    path = tmp_path / "many.tsv"
    path.write_text("".join(f"c{i // 2}\ttext {i}\n" for i in range(100)))
    with pytest.warns(UserWarning, match="50 of the 100 documents become dev documents, not 0.1"):
        assert len(load_dataset({"train": path}).dev) == 50
    several = [([f"c{i % 200}"], f"text {i}") for i in range(600)]
    with pytest.warns(UserWarning, match="of the 600 documents become dev documents, not 0.1"):
        assert len(load_dataset({"train": several}).dev) < 30
    path.write_text("".join(f"c{i % 2}\ttext {i}\n" for i in range(100)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset({"train": path})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("test.csv", "sentiment,review\npos,good\n", "sentiment"),
        (
            "test.tsv",
            "pos\tgood\nfine\tbad\n",
            r"test\.tsv:2: label 'fine' does not occur in the tr",
        ),
        ("test.jsonl", '{"label": "pos"', "test.jsonl"),
        ("test.tsv", "", "holds no documents"),
        ("folder", {"train": {}, "test": {}}, "give each by its own option"),
        ("folder", {}, "holds no documents"),
        ("folder", {"good": {"1.txt": "fine"}}, "label 'good' does not occur in the training"),
    ],
)
def test_wrong_test_documents_are_told_before_the_training(
    tmp_path, monkeypatch, name, content, told
):
    monkeypatch.setattr(training, "_train", None)
    train, test = tmp_path / "train.tsv", tmp_path / name
    train.write_text("".join(f"{label}\t{text} x{i}\n" for i, (label, text) in enumerate(PAIRS)))
    if isinstance(content, str):
        test.write_text(content)
    else:
        test.mkdir()
        for folder, files in content.items():
            (test / folder).mkdir()
            for file, text in files.items():
                (test / folder / file).write_text(text)
    dataset = load_dataset({"train": train, "test": test})
    with pytest.raises(UserError, match=told):
        train_classifier(dataset, epochs=1, progress=False)

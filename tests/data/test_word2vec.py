"""Word vectors learned from documents: words of like neighbours get like vectors."""

import gzip
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dlnotes.data import word2vec
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.tokenized import tokenize
from dlnotes.data.vectors import PretrainedVectors, read_vectors, write_vectors
from dlnotes.data.vocabulary import UNK, Vocabulary
from dlnotes.data.word2vec import learn_from, learn_vectors, unlabelled
from dlnotes.errors import UserError

TOPICS = (["lion", "tiger", "zebra", "hyena", "camel"], ["piano", "violin", "flute", "organ"])


def documents(sentences, *, tokenizer="basic_english", min_freq=1):
    """Documents of two topics; every sentence stays with one."""
    random = np.random.default_rng(0)
    pairs = []
    for i in range(200):
        topics = [TOPICS[(i + s) % 2] for s in range(sentences)]
        text = " . ".join(" ".join(random.choice(topic, 12)) for topic in topics)
        pairs.append((str(i % 2), text + (" . rare" if i == 7 else " .")))
    dev = pairs[:4]
    sources = {"train": pairs, "dev": dev}
    return load_dataset(sources, tokenizer=tokenizer, min_freq=min_freq)


def learn(dataset, **more):
    given = {"dimensions": 12, "epochs": 200} | more  # frequent words are mostly left out
    return learn_vectors(dataset.train, dataset.vocabulary, **given)


def likeness(dataset, learned):
    """Mean cosine of two words of one topic, and of two topics."""
    words = dataset.vocabulary.tokens.gather(learned.ids)
    row = dict(zip(words, learned.rows, strict=True))
    unit = [[row[word] / np.linalg.norm(row[word]) for word in topic] for topic in TOPICS]
    same = [u @ v for topic in unit for i, u in enumerate(topic) for v in topic[:i]]
    other = [u @ v for u in unit[0] for v in unit[1]]
    return np.mean(same), np.mean(other)


@pytest.mark.parametrize("sentences", [1, 2])
def test_words_of_one_topic_are_alike(sentences):
    """Also where a document has both topics, for neighbours end with the sentence."""
    dataset = documents(sentences, tokenizer="sentences")
    same, other = likeness(dataset, learn(dataset))
    assert same > other + 0.3


def test_without_marks_a_document_is_one_neighbourhood():
    """The gap of the test above comes from the marks: unmarked, one topic leaks into the other."""
    marked, plain = documents(2, tokenizer="sentences"), documents(2)
    gaps = [np.subtract(*likeness(d, learn(d))) for d in (marked, plain)]
    assert gaps[0] > gaps[1]


def test_a_row_for_each_token_that_occurs():
    dataset = documents(2, min_freq=2)  # "rare" becomes unknown
    learned = learn(dataset)
    words = dataset.vocabulary.tokens.gather(learned.ids)
    assert sorted(words) == sorted(["<unk>", ".", *TOPICS[0], *TOPICS[1]])
    assert learned.ids[0] == UNK
    assert (np.diff(learned.ids) > 0).all()
    assert learned.rows.shape == (len(words), 12)
    assert learned.rows.dtype == np.float32
    assert np.isfinite(learned.rows).all()


def test_the_seed_decides_the_numbers():
    dataset = documents(1)
    first, again, other = (learn(dataset, seed=seed).rows for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_passes_are_reported():
    passes = []
    learn(documents(1), epochs=3, on_epoch=passes.append)
    assert passes == [1, 2, 3]


def test_documents_without_a_token_are_refused():
    dataset = documents(1)
    empty = dataset.train.take(np.array([], np.int64))
    with pytest.raises(UserError, match="the training documents have no token"):
        learn_vectors(empty, dataset.vocabulary, dimensions=3)


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(UserError, match=r"needs the package gensim: pip install 'dlnotes\[word2"):
        learn(documents(1))


def test_several_sources_are_learned_together_into_a_file(tmp_path):
    pairs = [("a", "lion tiger zebra"), ("b", "lion zebra rare"), ("c", "tiger lion zebra lion")]
    file = tmp_path / "c.tsv"
    file.write_text("c\ttiger lion zebra lion\n")
    out = tmp_path / "words.vec"
    count = learn_from([pairs[:2], file], out, min_freq=2, dimensions=4, epochs=3, seed=5)
    assert out.read_text().splitlines()[0] == f"{count} 4"
    texts = tokenize(pairs)
    vocabulary = Vocabulary.from_counts(texts.types, texts.counts(), min_freq=2)
    whole = Documents(texts, vocabulary, None)
    expected = learn_vectors(whole, vocabulary, dimensions=4, epochs=3, seed=5)
    found = read_vectors(out, vocabulary)
    assert expected.ids[0] == UNK  # "rare"; what is unknown to another vocabulary is not this
    assert found.ids.tolist() == expected.ids[1:].tolist()
    assert len(found.ids) == count == 3
    np.testing.assert_allclose(found.rows, expected.rows[1:], rtol=1e-5)


def test_words_with_white_space_are_left_out_of_a_file(tmp_path):
    vocabulary = Vocabulary(["<pad>", "<unk>", "one", "two words", "\u2003", "three"])
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    vectors = PretrainedVectors(np.array([2, 3, 4, 5]), rows)
    assert write_vectors(tmp_path / "out.vec", vocabulary, vectors) == 2
    assert read_vectors(tmp_path / "out.vec", vocabulary).rows.tolist() == [[0, 1], [6, 7]]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    vocabulary = Vocabulary(["<pad>", "<unk>", "one"])
    vectors = PretrainedVectors(np.array([2]), np.ones((1, 2), np.float32))
    with pytest.raises(UserError, match=r"cannot write .*nowhere.out\.vec: "):
        write_vectors(tmp_path / "nowhere" / "out.vec", vocabulary, vectors)


def test_a_text_a_line_without_labels(tmp_path):
    lines, marked = tmp_path / "plain.txt", tmp_path / "marked.txt.gz"
    lines.write_text("lion tiger zebra\n\nlion camel\n")
    marked.write_bytes(
        gzip.compress(b"__label__a __label__b lion tiger zebra\n__label__a lion camel\n")
    )
    texts = []
    for k, source in enumerate((lines, marked)):
        learn_from([source], tmp_path / f"{k}.vec", min_freq=1, dimensions=3, epochs=1)
        texts.append((tmp_path / f"{k}.vec").read_text())
    assert texts[0] == texts[1]
    assert {line.split()[0] for line in texts[0].splitlines()[1:]} == {
        "lion",
        "tiger",
        "zebra",
        "camel",
    }
    with pytest.raises(UserError, match="does not exist"):
        learn_from([tmp_path / "no.txt"], tmp_path / "no.vec")


def test_a_corpus_gives_its_training_texts_and_those_without_labels(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("train.tsv", "test.tsv", "unsup.txt"):
        (folder / name).write_text("a\tb\n")
    splits = load("mine", data_dir=tmp_path)
    assert unlabelled(splits) == [folder / "train.tsv", folder / "unsup.txt"]
    (folder / "unsup.txt").unlink()
    assert unlabelled(load("mine", data_dir=tmp_path)) == [folder / "train.tsv"]


def test_vectors_that_are_not_finite_are_refused(monkeypatch):
    dataset = documents(1)

    class Lost:
        def __init__(self, **options):
            vectors = np.ones((2, 3), np.float32)
            vectors[1, 2] = np.nan
            self.wv = SimpleNamespace(index_to_key=["4", "3"], vectors=vectors)

    monkeypatch.setattr("dlnotes.data.word2vec._gensim", lambda: (Lost, object))
    with pytest.raises(UserError, match="not finite after 200 passes: the training has diverged"):
        learn(dataset)


def test_a_seed_that_gensim_refuses_is_told(tmp_path):
    with pytest.raises(UserError, match=r"seed must be at least 0 and below 4,294,967,296"):
        learn(documents(1), seed=2**32)


@pytest.mark.parametrize("tokenizer", ["basic_english", "sentences"])
def test_rare_words_alone_are_told(tmp_path, tokenizer):
    pairs = [("a", "lion tiger"), ("b", "lion zebra")]
    with pytest.raises(UserError, match="min_freq is 3, but no word of the texts occurs as often"):
        learn_from([pairs], tmp_path / "out.vec", min_freq=3, tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_learned_or_written_is_told_before_the_work(tmp_path, monkeypatch):
    text, empty, link = tmp_path / "a.txt", tmp_path / "empty.txt", tmp_path / "link.vec"
    text.write_text("lion tiger\n")
    empty.touch()
    link.symlink_to(text)
    monkeypatch.setattr("dlnotes.data.word2vec.learn_vectors", None)
    for sources, out, message in (
        ([text], text, r"out is .*a\.txt, which is one of the texts: give another file"),
        ([empty, text], link, r"out is .*link\.vec, which is one of the texts"),
        ([text], tmp_path, "it is there and is not a file"),
        ([text], tmp_path / "no" / "out.vec", "there is no folder"),
        ([text, empty], tmp_path / "out.vec", r"empty\.txt has no text"),
    ):
        with pytest.raises(UserError, match=message):
            learn_from(sources, out, min_freq=1)
    assert text.read_text() == "lion tiger\n"


def test_a_huge_document_does_not_fill_memory(monkeypatch):
    """Its block is read document by document, in the same order."""
    dataset = documents(2, tokenizer="sentences")
    whole = list(word2vec._sentences(dataset.train, 2))
    sizes, batch = [], Documents.batch

    def noting(self, indices):
        sizes.append(len(indices))
        return batch(self, indices)

    monkeypatch.setattr(Documents, "batch", noting)
    monkeypatch.setattr(word2vec, "_BLOCK_TOKENS", 100)
    assert list(word2vec._sentences(dataset.train, 2)) == whole
    assert sizes == [1] * len(dataset.train)

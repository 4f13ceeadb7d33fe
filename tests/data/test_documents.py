"""Documents of any text and any length: words that look like marks, and what is cut."""

import numpy as np
import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.tokenized import tokenize_texts
from dlnotes.data.vocabulary import PAD, UNK, Vocabulary
from dlnotes.data.word2vec import learn_vectors
from dlnotes.nn import QUESTION, SENTENCE_END


@pytest.mark.parametrize(
    "tokenizer", ["basic_english", "cased", "sentences", "characters", "words"]
)
def test_no_word_is_padding(tokenizer):
    text = "one <pad> two <unk> three </s> four <question> five <s> <PAD>"
    pairs = [("a", text), ("b", "<pad>")] * 9
    dataset = load_dataset({"train": pairs, "dev": pairs}, tokenizer=tokenizer)
    ids = dataset.train.batch(np.array([0])).tokens[0].tolist()
    words = dataset.train.text(0).split()
    assert len(ids) == len(words) == dataset.train.lengths[0]
    assert PAD not in ids
    marks = {"</s>": SENTENCE_END, "<question>": QUESTION} if tokenizer == "sentences" else {}
    for word, i in zip(words, ids, strict=True):
        expected = UNK if word in ("<pad>", "<unk>") else marks.get(word)
        assert i == expected if expected else dataset.vocabulary.tokens[i] == word


def test_vectors_are_learned_of_marks_that_are_none():
    """A tokenizer without sentence ends has no mark </s>, but texts may have the word."""
    pairs = [("a", "one </s> two"), ("b", "two </s> one one")] * 9
    dataset = load_dataset({"train": pairs, "dev": pairs})
    learned = learn_vectors(dataset.train, dataset.vocabulary, dimensions=2, epochs=1)
    words = dataset.vocabulary.tokens.gather(learned.ids).to_list()
    assert sorted(words) == ["</s>", "one", "two"]


STORY = "a b c d e f </s> g h <question> x y"


def story(max_tokens, text=STORY):
    texts = tokenize_texts(["", text, "a b", text], "sentences")
    vocabulary = Vocabulary(["<pad>", "<unk>", "</s>", "<question>", *"abcdefghxy"])
    return Documents(texts, vocabulary, None, max_tokens=max_tokens), vocabulary


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (12, STORY),
        (11, "a b c d e f </s> g <question> x y"),
        (8, "a b c d e <question> x y"),
        (4, "a <question> x y"),
        (3, "<question> x y"),
        (2, "<question> x"),
        (1, "<question>"),
    ],
)
def test_a_story_that_is_cut_keeps_its_question(max_tokens, expected):
    documents, vocabulary = story(max_tokens)
    assert documents.text(1) == documents.text(3) == expected
    tokens, _ = documents.batch(np.array([2, 1]))
    words = [[vocabulary.tokens[i] for i in row if i != PAD] for row in tokens.tolist()]
    assert [" ".join(row) for row in words] == ["a b"[: 2 * max_tokens - 1], expected]
    assert documents.num_truncated == 2 * (max_tokens < 12) + (max_tokens < 2)
    taken = documents.take(np.array([3, 0]))
    assert [taken.text(0), taken.text(1)] == [expected, ""]
    joined = taken.concatenate(documents, vocabulary)
    assert [joined.text(0), joined.text(3)] == [expected] * 2


def test_the_first_of_several_questions_begins_the_question():
    assert story(4, "a b <question> x <question> y")[0].text(1) == "<question> x <question> y"
    assert story(5, "a b <question> x <question> y")[0].text(1) == "a <question> x <question> y"


def test_without_marks_the_beginning_is_read():
    texts = tokenize_texts([STORY], "basic_english")
    vocabulary = Vocabulary(["<pad>", "<unk>", *"abcdefghxy", "<question>"])
    assert Documents(texts, vocabulary, None, max_tokens=4).text(0) == "a b c d"
    assert story(4, "a b c d e f")[0].text(1) == "a b c d"


def test_huge_documents_are_cut_and_counted():
    pairs = [("a", "one"), ("b", "two")] * 9 + [("a", "one " * 20_001), ("b", "two " * 20_000)]
    with pytest.warns(UserWarning, match=r"1 of 38 documents are longer than 20,000 tokens and"):
        dataset = load_dataset({"train": pairs, "dev": pairs[:18], "test": pairs})
    assert dataset.train.lengths.max() == dataset.max_tokens == 20_000
    assert dataset.reading.max_tokens is None
    with pytest.warns(UserWarning, match=r"1 of 20 documents"):
        assert dataset.read_test().lengths.max() == 20_000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("given", "longest"), [(0, 20_001), (5, 5), (30_000, 20_001)])
def test_a_limit_that_was_asked_for_is_not_told(given, longest):
    pairs = [("a", "one"), ("b", "two")] * 9 + [("a", "one " * 20_001)]
    dataset = load_dataset({"train": pairs, "dev": pairs}, max_tokens=given)
    assert dataset.train.lengths.max() == longest
    assert dataset.max_tokens == (given or None)

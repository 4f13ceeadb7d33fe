"""Labels of documents of which each may have several: the sets, and documents that hold them."""

import numpy as np
import pytest
import torch

from dlnotes.data.documents import Documents
from dlnotes.data.labels import LabelSets
from dlnotes.data.tokenized import tokenize
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError

SETS = [[0, 2], [], [1], [0, 1, 2], []]


def sets(lists=SETS, classes=4):
    ids = np.array([i for each in lists for i in each], np.int64)
    return LabelSets.build(ids, np.array([len(each) for each in lists], np.int64), classes)


def lists(found):
    return [found.of(i).tolist() for i in range(len(found))]


def test_a_set_is_ascending_and_without_repeats():
    found = sets([[2, 0, 2], [], [3, 3]])
    assert lists(found) == [[0, 2], [], [3]]
    assert found.sizes.tolist() == [2, 0, 1]
    assert (len(found), found.classes) == (3, 4)
    assert (found.ids.dtype, found.offsets.dtype) == (np.int64, np.int64)


def test_counts_and_matrix():
    found = sets()
    expected = np.array(
        [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool
    )
    assert (found.dense() == expected).all()
    assert (found.dense(np.array([3, 0, 3])) == expected[[3, 0, 3]]).all()
    assert found.counts().tolist() == [2, 2, 2, 0]
    assert found.dense(np.array([], np.int64)).shape == (0, 4)


@pytest.mark.parametrize("chosen", [[0], [4, 3, 3, 0], [], [1, 1, 4]])
def test_taken_sets_are_those_of_the_documents(chosen):
    taken = sets().take(np.array(chosen, np.int64))
    assert lists(taken) == [SETS[i] for i in chosen]
    assert taken.offsets[0] == 0
    assert taken.offsets[-1] == len(taken.ids)


def test_joined_and_renumbered():
    both = sets().take(np.array([2, 3])).concatenate(sets([[], [3]]))
    assert lists(both) == [[1], [0, 1, 2], [], [3]]
    assert lists(both.renumbered(np.array([5, 0, 5, 1]), 6)) == [[0], [0, 5], [], [1]]


def test_no_matrix_of_all_documents_is_made():
    """100,000 documents with 3,000 labels would take 300 MB as bool."""
    rng = np.random.default_rng(0)
    sizes = rng.poisson(3, 100_000)
    found = LabelSets.build(rng.integers(0, 3000, sizes.sum()), sizes, 3000)
    batch = found.take(rng.permutation(100_000)).concatenate(found).dense(np.arange(32))
    assert batch.shape == (32, 3000)
    assert found.ids.nbytes + found.offsets.nbytes < 5_000_000


TEXTS = [(["b", "a"], "x y"), ([], "y"), (["c"], "z z z"), ({"a"}, "x")]


def documents(pairs=TEXTS, label_names=("a", "b", "c"), **options):
    texts = tokenize(pairs)
    vocabulary = Vocabulary.from_counts(texts.types, texts.counts(), min_freq=1)
    return Documents(texts, vocabulary, label_names, **options)


def test_a_batch_has_a_row_of_zeros_and_ones_per_document():
    tokens, labels = documents().batch(np.array([2, 0, 1]))
    assert tokens.shape == (3, 3)
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_documents_are_taken_and_joined_with_their_sets():
    found = documents()
    taken = found.take(np.array([3, 0, 0]))
    assert lists(taken.labels) == [[0], [0, 1], [0, 1]]
    vocabulary = Vocabulary.from_counts(tokenize(TEXTS).types, np.ones(3, np.int64), min_freq=1)
    assert lists(taken.concatenate(found, vocabulary).labels) == [
        [0],
        [0, 1],
        [0, 1],
        [0, 1],
        [],
        [2],
        [0],
    ]


def test_the_classes_may_be_in_any_order_and_more_than_occur():
    found = documents(label_names=("c", "d", "b", "a"))
    assert lists(found.labels) == [[2, 3], [], [0], [3]]
    assert found.labels.classes == 4


def test_single_labels_are_sets_of_one_where_several_are_allowed():
    pairs = [("a", "x"), ("b", "y")]
    assert lists(documents(pairs, multi_label=True).labels) == [[0], [1]]
    assert documents(pairs).labels.tolist() == [0, 1]
    ones = [(["b"], "x"), (["a"], "y")]
    assert documents(ones, multi_label=False).labels.tolist() == [1, 0]
    assert lists(documents(ones).labels) == [[1], [0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"multi_label": False},
            r"the texts:1: the text has 2 labels \(a, b\); each must have one",
        ),
        (
            {"multi_label": False, "indices": np.array([3, 1])},
            "the texts:2: the text has no label;",
        ),
        ({"label_names": ("a", "b")}, "the texts:3: label 'c' does not occur in the training data"),
    ],
)
def test_labels_that_do_not_fit_are_told_with_their_place(options, message):
    with pytest.raises(UserError, match=message):
        documents(**options)


def test_whether_documents_have_a_class():
    sets = LabelSets.build(np.array([2, 0, 1]), np.array([2, 0, 1]), 3)  # {0, 2}, {} and {1}
    for named, expected in (([2, 0, 1], [True, False, True]), ([1, 2, 0], [False] * 3)):
        assert sets.have(np.array(named)).tolist() == expected

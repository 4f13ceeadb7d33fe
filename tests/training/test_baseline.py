"""The baselines see the same documents, and work with two classes and with more."""

import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.training.baseline import tfidf_logistic_regression, tfidf_svm

WORDS = {"a": "apple pear plum", "b": "bolt nut screw", "c": "cow horse pig"}


@pytest.mark.parametrize("baseline", [tfidf_logistic_regression, tfidf_svm])
@pytest.mark.parametrize("classes", ["ab", "abc"])
def test_baseline_learns_words_of_each_class(baseline, classes):
    documents = [(c, f"the {word} of") for c in classes for word in WORDS[c].split()] * 4
    dataset = load_dataset({"train": documents, "test": [*documents, (classes[0], "bolt nut")]})
    record = baseline(dataset)
    right = len(documents) / (len(documents) + 1)
    assert record["test"]["accuracy"] == pytest.approx(right)
    assert record["documents_per_second"] > 0


def test_the_svm_reads_the_dev_documents_too():
    train = [("a", "apple"), ("b", "bolt")] * 10
    dev = [("a", "pear"), ("b", "nut")] * 10
    dataset = load_dataset({"train": train, "dev": dev, "test": [("a", "pear"), ("b", "nut")]})
    assert tfidf_svm(dataset)["test"]["accuracy"] == 1.0

"""Doubtful labels, by the probabilities of models that have not learned from them."""

import numpy as np
import pytest

from dlnotes.comparison.doubts import Opinion, doubts


def opinion(given, other, suggested):
    return Opinion(np.array(given), np.array(other), np.array(suggested))


def test_the_rule_of_confident_learning():
    # Label 0 has a mean probability of .6, label 1 of .5.
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = doubts(
        [
            opinion(
                [0.9, 0.8, 0.1, 0.9, 0.45, 0.15],
                [0.1, 0.2, 0.9, 0.1, 0.55, 0.85],
                [1, 1, 1, 0, 0, 0],
            )
        ],
        labels,
        2,
    )
    assert found.order.tolist()[:3] == [2, 5, 4]
    # The fifth is more probably of label 0, but not as much as documents of label 0 usually are.
    assert found.wrong.tolist() == [False, False, True, False, False, True]
    assert found.suggested[2] == 1


def test_margins_are_averaged_and_most_models_must_agree():
    sure = opinion([0.9, 0.1], [0.1, 0.9], [1, 0])
    other = opinion([0.9, 0.6], [0.1, 0.4], [1, 1])
    found = doubts([sure, other, other], np.array([0, 1]), 2)
    assert found.margin.tolist() == pytest.approx([0.8, (-0.8 + 0.2 + 0.2) / 3])
    assert found.wrong.tolist() == [False, False]
    assert found.suggested[1] == 0  # of the surest


def test_planted_errors_come_first():
    random = np.random.default_rng(0)
    n, classes = 2000, 5
    true = random.integers(classes, size=n)
    p = np.full((n, classes), 0.05) + random.random((n, classes)) * 0.3
    p[np.arange(n), true] += 1.0
    p /= p.sum(1, keepdims=True)
    labels = true.copy()
    labels[:100] = (true[:100] + 1 + random.integers(classes - 1, size=100)) % classes
    rows = np.arange(n)
    given = p[rows, labels]
    others = p.copy()
    others[rows, labels] = -1
    found = doubts([Opinion(given, others.max(1), others.argmax(1))], labels, classes)
    assert {*found.order[:100]} == {*range(100)}
    assert np.array_equal(found.suggested[:100], true[:100])
    # Half of the documents are below the mean probability of their label, so that not all are.
    assert found.wrong[:100].mean() > 0.5
    assert found.wrong[100:].mean() < 0.01


def test_of_several_labels_the_other_must_be_more_probable():
    found = doubts([opinion([0.4, 0.6], [0.6, 0.4], [2, 0])])
    assert found.wrong.tolist() == [True, False]
    assert found.order.tolist() == [0, 1]

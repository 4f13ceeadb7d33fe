"""Doubtful labels, by the probabilities of models that have not learned from them."""

import numpy as np
import pytest

from dlnotes.comparison.label_errors import (
    HeldOutPrediction,
    rank_label_errors,
    thresholds_multi_label,
    thresholds_single_label,
)
from dlnotes.data.labels import LabelSets


def opinion(given, other, suggested, labels):
    given, other, suggested = map(np.array, (given, other, suggested))
    return HeldOutPrediction(
        given, other, suggested, *thresholds_single_label(given, suggested, np.array(labels))
    )


def test_the_rule_of_confident_learning():
    # Label 0 has a mean probability of .6, label 1 of .5.
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = rank_label_errors(
        [
            opinion(
                [0.9, 0.8, 0.1, 0.9, 0.45, 0.15],
                [0.1, 0.2, 0.9, 0.1, 0.55, 0.85],
                [1, 1, 1, 0, 0, 0],
                labels,
            )
        ]
    )
    assert found.order.tolist()[:3] == [2, 5, 4]
    # The fifth is more probably of label 0, but not as much as documents of label 0 usually are.
    assert found.wrong.tolist() == [False, False, True, False, False, True]
    assert found.suggested[2] == 1


def test_margins_are_averaged_and_most_models_must_agree():
    sure = opinion([0.9, 0.1], [0.1, 0.9], [1, 0], [0, 1])
    other = opinion([0.9, 0.6], [0.1, 0.4], [1, 1], [0, 1])
    found = rank_label_errors([sure, other, other])
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
    found = rank_label_errors([opinion(given, others.max(1), others.argmax(1), labels)])
    assert {*found.order[:100]} == {*range(100)}
    assert np.array_equal(found.suggested[:100], true[:100])
    # Half of the documents are below the mean probability of their label, so that not all are.
    assert found.wrong[:100].mean() > 0.5
    assert found.wrong[100:].mean() < 0.01


def several(p, labels):
    """The opinion of a model that gives these probabilities, for several labels per document."""
    has = labels.dense()
    right = np.where(has, p, 1 - p)
    suggested, rows = right.argmin(1), np.arange(len(p))
    sums = np.stack([np.where(each, right, 0).sum(0) for each in (~has, has)])
    given = right[rows, suggested]
    thresholds = thresholds_multi_label(sums, suggested, labels)
    return HeldOutPrediction(given, 1 - given, suggested, *thresholds)


def test_of_several_labels_each_has_thresholds_of_its_own():
    # Label 0 is easy. Label 1 is rarely seen: those who have it have a mean probability of .3, and
    # those who have not of .1.
    p = np.array([[0.9, 0.1], [0.8, 0.3], [0.1, 0.3], [0.1, 0.05], [0.85, 0.1], [0.9, 0.15]])
    labels = LabelSets.build(np.array([0, 0, 1, 1, 0]), np.array([1, 2, 1, 0, 1]), 2)
    labels = labels.concatenate(LabelSets.build(np.array([1]), np.array([1]), 2))
    found = rank_label_errors([several(p, labels)])
    # More probable than not is the absence of label 1 in the second and the third document, too;
    # but so it is in all that have the label. The last one has label 0, and is said not to.
    assert found.wrong.tolist() == [False, False, False, False, False, True]
    assert found.suggested.tolist() == [0, 1, 1, 0, 0, 0]
    assert found.order[0] == 5


def test_a_label_that_all_documents_have_is_not_called_wrong():
    labels = LabelSets.single(np.zeros(3, np.int64), 2)
    found = rank_label_errors([several(np.array([[0.4, 0.1], [0.9, 0.1], [0.6, 0.2]]), labels)])
    assert not found.wrong.any()


def test_planted_errors_of_rare_labels_are_called_wrong_and_few_others():
    """Of labels that models are rarely sure of, half of the true ones are below .5."""
    random = np.random.default_rng(0)
    n, classes = 4000, 6
    has = random.random((n, classes)) < 0.1
    p = np.where(has, random.beta(2, 3, (n, classes)), random.beta(1, 30, (n, classes)))
    chosen = random.choice(n, n // 20, replace=False)
    label = random.integers(classes, size=len(chosen))
    has[chosen, label] ^= True
    labels = LabelSets.build(np.nonzero(has)[1], has.sum(1), classes)
    found = rank_label_errors([several(p, labels)])
    planted = np.zeros(n, bool)
    planted[chosen] = True
    plain = np.where(has, p, 1 - p).min(1) < 0.5
    precision = planted[found.wrong].mean()
    assert planted[plain].mean() < 0.15
    assert precision > 2 * planted[plain].mean()
    assert found.wrong[planted].mean() > 0.5

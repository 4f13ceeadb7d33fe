"""Find documents with doubtful labels, by models that have not learned from these documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlnotes.data.labels import LabelSets


@dataclass(frozen=True)
class HeldOutPrediction:
    """What a model that was not trained on a document predicts for its label.

    If documents may have several labels, each document is judged by its most doubtful label: the
    one whose presence or absence the model contradicts most (Thyagarajan et al. 2022,
    https://arxiv.org/abs/2211.13895, compare this with other ways to pool labels). Then `given` is
    the probability of the annotation (present or absent) and `other` that of the opposite.

    Attributes:
        given: Probability of the label that the document has, shape (n,).
        other: Probability of the most probable other label.
        suggested: Class number of that other label.
        threshold_given: Mean of `given` among the documents that have the same label.
        threshold_other: Mean of `given` among the documents that have the label `suggested`.
    """

    given: NDArray[np.float64]
    other: NDArray[np.float64]
    suggested: NDArray[np.int64]
    threshold_given: NDArray[np.float64]
    threshold_other: NDArray[np.float64]


Thresholds = tuple[NDArray[np.float64], NDArray[np.float64]]
"""`threshold_given` and `threshold_other` of a `HeldOutPrediction`."""


def thresholds_single_label(
    given: NDArray[np.float64], suggested: NDArray[np.int64], labels: NDArray[np.int64]
) -> Thresholds:
    """The thresholds :math:`t_y` and :math:`t_k` if each document has one label.

    Args:
        given: See `HeldOutPrediction`.
        suggested: See `HeldOutPrediction`.
        labels: Label of each document.
    """
    classes = 1 + max(labels.max(initial=0), suggested.max(initial=0))
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, given, minlength=classes).astype(np.float64)
    thresholds = _means(sums, counts)
    return thresholds[labels], thresholds[suggested]


def thresholds_multi_label(
    sums: NDArray[np.float64], suggested: NDArray[np.int64], labels: LabelSets
) -> Thresholds:
    """The thresholds :math:`t_y` and :math:`t_k` if documents have any number of labels.

    Args:
        sums: For each label, two sums of probabilities, shape (2, classes): over the documents
            without the label, that they do not have it; over those with the label, that they do.
        suggested: See `HeldOutPrediction`.
        labels: Labels of each document.
    """
    counts = labels.counts()
    thresholds = _means(sums, np.stack([len(labels) - counts, counts]))
    has = labels.have(suggested).astype(np.int64)
    return thresholds[has, suggested], thresholds[1 - has, suggested]


def _means(
    sums: NDArray[np.float64], counts: NDArray[np.signedinteger[Any]]
) -> NDArray[np.float64]:
    """Mean probabilities per label; 1 where there is no document to average over."""
    return np.where(counts > 0, sums / np.maximum(1, counts), 1.0)


@dataclass(frozen=True)
class LabelErrors:
    """How doubtful the label of each document is.

    Attributes:
        order: Numbers of the documents, the most doubtful first.
        margin: Probability of the document's label minus that of the most probable other one, from
            -1 to 1, averaged over the models: the lower, the more doubtful.
        given: Mean probability of the document's label.
        suggested: Class number of the label that the most confident model suggests instead.
        wrong: Whether most models call the label wrong by the rule of confident learning.
    """

    order: NDArray[np.int64]
    margin: NDArray[np.float64]
    given: NDArray[np.float64]
    suggested: NDArray[np.int64]
    wrong: NDArray[np.bool_]


def rank_label_errors(predictions: Sequence[HeldOutPrediction]) -> LabelErrors:
    r"""Rank documents by how doubtful their label is.

    Confident learning (Northcutt, Jiang & Chuang 2021, https://doi.org/10.1613/jair.1.12125). The
    ranking is by the normalised margin :math:`\hat p_y - \max_{k \ne y} \hat p_k`. A label
    :math:`y` is called wrong in favour of :math:`k` where :math:`\hat p_k` is at least
    :math:`t_k`, the mean probability of :math:`k` among the documents that have it, and
    :math:`\hat p_y` is below :math:`t_y` or below :math:`\hat p_k`. If a document may have several
    labels, the rule applies to each label separately, where :math:`y` is its presence and :math:`k`
    its absence, or vice versa.

    Differs from the paper: margins are averaged over several models, and only the most probable
    other label is considered. If documents may have several labels, only the most doubtful label of
    each document is considered.

    Args:
        predictions: What each model predicts, at least one.
    """
    margin = np.mean([each.given - each.other for each in predictions], axis=0)
    given = np.mean([each.given for each in predictions], axis=0)
    votes = np.zeros(len(margin))
    for each in predictions:
        sure = (each.given >= each.threshold_given) & (each.given >= each.other)
        votes += (each.other >= each.threshold_other) & ~sure
    surest = np.argmax([each.other for each in predictions], axis=0)
    suggested = np.stack([each.suggested for each in predictions])[surest, np.arange(len(margin))]
    order = np.argsort(margin, kind="stable")
    return LabelErrors(order, margin, given, suggested, votes > len(predictions) / 2)

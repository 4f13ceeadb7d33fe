"""Documents whose label is doubtful, by probabilities of models that have not learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Opinion:
    """What a model says of each document when it has learned from the others.

    Attributes:
        given: Probability of the label that the document has, shape (n,).
        other: Probability of the most probable other label.
        suggested: The number of that label.
    """

    given: NDArray[np.float64]
    other: NDArray[np.float64]
    suggested: NDArray[np.int64]


@dataclass(frozen=True)
class Doubts:
    """How doubtful the label of each document is.

    Attributes:
        order: Numbers of the documents, the most doubtful first.
        margin: Mean over the models of the probability of the document's label less that of the
            most probable other one, from -1 to 1: the lower, the more doubtful.
        given: Mean probability of the document's label.
        suggested: The label that the surest of the models gives instead.
        wrong: Whether most models call the label wrong by the rule of confident learning.
    """

    order: NDArray[np.int64]
    margin: NDArray[np.float64]
    given: NDArray[np.float64]
    suggested: NDArray[np.int64]
    wrong: NDArray[np.bool_]


def doubts(
    opinions: Sequence[Opinion], labels: NDArray[np.int64] | None = None, classes: int = 0
) -> Doubts:
    r"""Rank documents by how doubtful their label is.

    Confident learning (Northcutt, Jiang & Chuang 2021, https://doi.org/10.1613/jair.1.12125). The
    ranking is by the normalised margin :math:`\hat p_y - \max_{k \ne y} \hat p_k`. A label
    :math:`y` is called wrong in favour of :math:`k` where :math:`\hat p_k` is at least
    :math:`t_k`, the mean probability of :math:`k` among the documents that have it, and
    :math:`\hat p_y` is below :math:`t_y` or below :math:`\hat p_k`.

    Differs from the paper: margins are averaged over models, and of the other labels only the most
    probable is looked at.

    Args:
        opinions: Of each model, at least one.
        labels: The label that each document has, shape (n,). None where it may have several: an
            opinion is then of the label whose presence or absence is the most doubtful (Thyagarajan
            et al. 2022, https://arxiv.org/abs/2211.13895, compare this with other ways to pool
            labels), and a label is called wrong where the other is more probable.
        classes: How many labels there are.
    """
    margin = np.mean([each.given - each.other for each in opinions], axis=0)
    given = np.mean([each.given for each in opinions], axis=0)
    votes = np.zeros(len(margin))
    for each in opinions:
        if labels is not None:
            counts = np.maximum(1, np.bincount(labels, minlength=classes))
            t = np.bincount(labels, each.given, minlength=classes) / counts
            sure = (each.given >= t[labels]) & (each.given >= each.other)
            votes += (each.other >= t[each.suggested]) & ~sure
        else:
            votes += each.other > each.given
    surest = np.argmax([each.other for each in opinions], axis=0)
    suggested = np.stack([each.suggested for each in opinions])[surest, np.arange(len(margin))]
    order = np.argsort(margin, kind="stable")
    return Doubts(order, margin, given, suggested, votes > len(opinions) / 2)

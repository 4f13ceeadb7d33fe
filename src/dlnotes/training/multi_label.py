"""Figures of classifiers that give each document any number of labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.errors import UserError
from dlnotes.training.decision import DEFAULT, Decision, choose_thresholds
from dlnotes.training.reliability import Reliability, reliability

CUTS = (1, 3, 5)
"""The k of precision, recall and nDCG at k."""
_SCORES = 1 << 20
"""Scores that are processed at once; a few such pieces fit into any memory."""


@dataclass(frozen=True)
class MultiLabelMetrics:
    r"""Figures of a classifier that gives each document any number of labels.

    Some figures depend on which labels are given. With the counts :math:`tp_k, fp_k, fn_k` of each
    label :math:`k`, precision, recall and F1 are those of `Metrics`. Micro-F1 pools the counts of
    all labels. Macro-F1 is the mean F1 of the labels that occur among the true or the given ones.
    Samples-F1 is the mean over the documents of the F1 of a document's own labels, which is 1 for a
    document without labels that is given none.

    Others depend on the order of the scores. The average precision of a label is the mean, over the
    documents that have it, of the precision among all documents that score at least as high.
    Precision, recall and nDCG at :math:`k` are computed from the :math:`k` best labels of a
    document (of equal scores, the first classes) and averaged over the documents that have a label:

    .. math::
        P@k = \frac{|T \cap B_k|}{k}, \qquad R@k = \frac{|T \cap B_k|}{|T|}, \qquad
        nDCG@k = \frac{\sum_{j \le k} [b_j \in T] / \log_2(j + 1)}
                      {\sum_{j \le \min(k, |T|)} 1 / \log_2(j + 1)}

    with the true labels :math:`T` and the best :math:`B_k = \{b_1, \dots, b_k\}`.

    Attributes:
        loss: Negative log-likelihood of a document's labels in nats: the mean over the documents of
            the sum over the labels of the binary cross-entropy.
        counts: True positives, false positives and false negatives of each label, shape
            (classes, 3).
        samples_f1: See above.
        subset_accuracy: Share of documents whose labels are all correct.
        hamming_loss: Share of wrong decisions among all documents × classes.
        average_precision: Average precision of each label, shape (classes,); NaN for a label that
            no document has.
        at_k: ``precision_at_1``, ``recall_at_1``, ``ndcg_at_1`` and so on, for each k up to the
            number of classes; 0 if no document has a label.
        reliability: The probabilities of all labels of all documents in bins.
        given: Which labels were given, shape (documents, classes).
        correct: Which documents were given exactly their labels, shape (documents,).
        losses: Negative log-likelihood of the labels of each document, shape (documents,).
    """

    loss: float
    counts: NDArray[np.int64]
    samples_f1: float
    subset_accuracy: float
    hamming_loss: float
    average_precision: NDArray[np.float64]
    at_k: dict[str, float]
    reliability: Reliability
    given: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    losses: NDArray[np.float64]

    @property
    def precision(self) -> NDArray[np.float64]:
        """Precision of each label."""
        tp, fp, _ = self.counts.T
        return _ratio(tp, tp + fp)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Recall of each label."""
        tp, _, fn = self.counts.T
        return _ratio(tp, tp + fn)

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each label."""
        tp, fp, fn = self.counts.T
        return _ratio(2 * tp, 2 * tp + fp + fn)

    @property
    def documents(self) -> NDArray[np.int64]:
        """Number of documents that have each label, shape (classes,)."""
        tp, _, fn = self.counts.T
        found: NDArray[np.int64] = tp + fn
        return found

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that occur."""
        occurs = self.counts.sum(1) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    @property
    def micro_precision(self) -> float:
        """Share of the given labels that are correct."""
        tp, fp, _ = self.counts.sum(0)
        return float(tp / max(1, tp + fp))

    @property
    def micro_recall(self) -> float:
        """Share of the true labels that are given."""
        tp, _, fn = self.counts.sum(0)
        return float(tp / max(1, tp + fn))

    @property
    def micro_f1(self) -> float:
        """F1 of the pooled counts."""
        tp, fp, fn = self.counts.sum(0)
        return float(2 * tp / max(1, 2 * tp + fp + fn))

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precisions of the labels that occur; 0 if none does."""
        known = ~np.isnan(self.average_precision)
        return float(self.average_precision[known].mean()) if known.any() else 0.0

    @property
    def ece(self) -> float:
        """Expected calibration error of the probabilities of all labels, see `Reliability`."""
        return self.reliability.ece

    @property
    def score(self) -> float:
        """The figure by which the best epoch is selected, higher is better: micro-F1."""
        return self.micro_f1

    def summary(self) -> dict[str, float]:
        """The figures that are single numbers, by name."""
        names = (
            "loss",
            "micro_f1",
            "macro_f1",
            "samples_f1",
            "micro_precision",
            "micro_recall",
            "subset_accuracy",
            "hamming_loss",
            "mean_average_precision",
            "ece",
        )
        return {name: float(getattr(self, name)) for name in names} | self.at_k

    def per_class(self, label_names: list[str]) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1, average precision and number of documents of each label."""
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        documents = self.documents
        return {
            label: {
                **{name: float(column[i]) for name, column in columns.items()},
                "average_precision": float(self.average_precision[i]) if documents[i] else None,
                "documents": int(documents[i]),
            }
            for i, label in enumerate(label_names)
        }


def multi_label_metrics(
    logits: Float[Tensor, "n c"],
    labels: Any,
    decision: Decision = DEFAULT,
    *,
    whose: str | None = "the model",
) -> MultiLabelMetrics:
    """Compute figures from scores and true labels, in pieces that need little further memory.

    Args:
        logits: Unnormalised scores; -inf where a label is impossible.
        labels: True labels: `LabelSets`, or zeros and ones (n, c).
        decision: Decides which labels are given.
        whose: What computed the scores, for the message; None if the caller checks the loss, which
            is NaN if a score is NaN.

    Raises:
        UserError: `whose` is given, and a score is NaN.
    """
    n, c = logits.shape
    counts = np.zeros((c, 3), np.int64)
    given, correct, losses = np.zeros((n, c), bool), np.zeros(n, bool), np.zeros(n)
    bins = reliability(np.zeros(0, np.float32), np.zeros(0, bool))
    f1 = 0.0
    wrong = lost = labelled = 0
    cuts = [k for k in CUTS if k <= c]
    at_k = torch.zeros(3, len(cuts), dtype=torch.float64)
    for rows in _pieces(n, c):
        z = logits[rows].float().cpu()
        lost += int(z.isnan().any(1).sum())
        y = torch.from_numpy(_dense(labels, rows))
        scaled = decision.scaled(z)
        each = F.softplus(-torch.where(y, scaled, -scaled))
        losses[rows] = each.sum(1, dtype=torch.float64).numpy()
        p = scaled.sigmoid()
        answers, truth = decision.chosen(p).numpy(), y.numpy()
        bins = bins + reliability(p.numpy(), truth)
        hit, either = answers & truth, answers | truth
        tp, true = hit.sum(0), truth.sum(0)
        counts += np.stack([tp, answers.sum(0) - tp, true - tp], axis=1)
        of_each, errors = hit.sum(1), (either & ~hit).sum(1)
        both = np.maximum(1, 2 * of_each + errors)
        f1 += float(np.where(errors == 0, 1.0, 2 * of_each / both).sum())
        wrong += int(errors.sum())
        given[rows], correct[rows] = answers, errors == 0
        known = y.any(1)
        labelled += int(known.sum())
        if known.any():
            at_k += _at_k(z[known], y[known], cuts)
    if lost and whose:
        raise UserError(
            f"{whose} gives {lost:,} of {n:,} documents scores that are not numbers (NaN): its "
            "training has diverged; train again with a lower --lr"
        )
    named = ("precision", "recall", "ndcg")
    return MultiLabelMetrics(
        loss=float(losses.mean()) if n else 0.0,
        counts=counts,
        samples_f1=f1 / max(1, n),
        subset_accuracy=float(correct.mean()) if n else 0.0,
        hamming_loss=wrong / max(1, n * c),
        average_precision=average_precision(logits, labels),
        at_k={
            f"{name}_at_{k}": float(at_k[i, j]) / max(1, labelled)
            for j, k in enumerate(cuts)
            for i, name in enumerate(named)
        },
        reliability=bins,
        given=given,
        correct=correct,
        losses=losses,
    )


def score_and_loss(logits: Float[Tensor, "n c"], labels: Any) -> tuple[float, float]:
    """Micro-F1 with the best common threshold, and the loss.

    Args:
        logits: Unnormalised scores.
        labels: `LabelSets`, or zeros and ones (n, c).
    """
    z, y = logits.float(), torch.from_numpy(_dense(labels, slice(0, len(logits))))
    threshold = choose_thresholds(z.sigmoid(), y.numpy(), "one")
    given = Decision(threshold=threshold).chosen(z.sigmoid())
    f1 = 2 * (given & y).sum() / max(1, int(given.sum() + y.sum()))
    loss = F.softplus(-torch.where(y, z, -z)).sum(dtype=torch.float64) / max(1, len(z))
    return float(f1), float(loss)


def average_precision(logits: Float[Tensor, "n c"], labels: Any) -> NDArray[np.float64]:
    """Average precision of each label, see `MultiLabelMetrics`; equal scores share one rank.

    Args:
        logits: Scores; only their order matters.
        labels: `LabelSets`, or zeros and ones (n, c).

    Returns:
        Shape (c,), NaN for a label that no document has.
    """
    n, c = logits.shape
    found = np.full(c, np.nan)
    documents, classes = _pairs(labels)
    order = np.argsort(classes, kind="stable")
    documents, ends = documents[order], np.cumsum(np.bincount(classes, minlength=c))
    for columns in _pieces(c, n):
        z = logits[:, columns].float().cpu().numpy().T.copy()
        ranked = np.sort(z, axis=1)
        for k in range(columns.start, columns.stop):
            have = documents[ends[k - 1] if k else 0 : ends[k]]
            if not len(have):
                continue
            scored, row = np.sort(z[k - columns.start, have]), ranked[k - columns.start]
            above = n - np.searchsorted(row, scored, side="left")
            found[k] = ((len(have) - np.searchsorted(scored, scored, side="left")) / above).mean()
    return found


def _at_k(z: Tensor, y: Tensor, cuts: list[int]) -> Tensor:
    """Sums over the documents of precision, recall and nDCG at each of `cuts`."""
    order = _best(z, max(cuts))
    hit = y.gather(1, order).double()
    discount = 1 / torch.arange(2, hit.shape[1] + 2, dtype=torch.float64).log2()
    ideal, true = discount.cumsum(0), y.sum(1)
    sums = torch.zeros(3, len(cuts), dtype=torch.float64)
    for j, k in enumerate(cuts):
        found = hit[:, :k].sum(1)
        gain = (hit[:, :k] * discount[:k]).sum(1) / ideal[true.clamp(max=k) - 1]
        sums[:, j] = torch.stack([(found / k).sum(), (found / true).sum(), gain.sum()])
    return sums


def _best(z: Tensor, k: int) -> Tensor:
    """The k best classes of each document; of equal scores, the first classes."""
    values, order = z.topk(min(k + 1, z.shape[1]))
    ties = (values[:, 1:] == values[:, :-1]).any(1)
    if ties.any():  # topk returns equal scores in any order
        order[ties] = z[ties].argsort(dim=1, descending=True, stable=True)[:, : order.shape[1]]
    return order[:, :k]


def _pieces(n: int, width: int) -> Iterator[slice]:
    """Split range(n) into slices, each of at most `_SCORES` numbers when `width` wide."""
    step = max(1, _SCORES // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = part / np.maximum(1, whole)
    return result


def _dense(labels: Any, rows: slice) -> NDArray[np.bool_]:
    if isinstance(labels, np.ndarray):
        return labels[rows].astype(bool)
    found: NDArray[np.bool_] = labels.dense(np.arange(rows.start, rows.stop))
    return found


def _pairs(labels: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Document and class number of each true label."""
    if isinstance(labels, np.ndarray):
        documents, classes = np.nonzero(labels)
        return documents, classes
    return np.repeat(np.arange(len(labels)), np.diff(labels.offsets)), labels.ids

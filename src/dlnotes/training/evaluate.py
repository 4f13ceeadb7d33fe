"""Figures of trained models: what is computed from scores and true labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.data.batches import by_length
from dlnotes.data.documents import Documents
from dlnotes.errors import UserError

# Padded tokens in an evaluation batch: enough to keep the cores busy, little memory.
_BATCH_TOKENS = 1 << 15


class Figures(Protocol):
    """What an evaluation found, whatever the kind of label."""

    @property
    def loss(self) -> float:
        """Mean loss in nats."""
        ...

    @property
    def score(self) -> float:
        """The figure that selects the best epoch; higher is better."""
        ...

    def summary(self) -> dict[str, float]:
        """The single figures by name."""
        ...


@dataclass(frozen=True)
class Metrics:
    r"""Figures of a classifier on a set of documents.

    With \(tp_c, fp_c, fn_c\) the true positives, false positives and false negatives of class
    \(c\): precision \(tp/(tp+fp)\), recall \(tp/(tp+fn)\), F1 \(2tp/(2tp+fp+fn)\), each 0 where
    its denominator is. Macro-F1 is the mean F1 of the classes that occur among labels or
    predictions; micro-F1 pools the counts of all classes, which for one label per document is the
    accuracy.

    Attributes:
        loss: Mean cross-entropy in nats.
        confusion: Documents by (label, prediction), shape (classes, classes).
        predictions: Predicted class of every document.
        confidence: Probability of the predicted class of every document.
    """

    loss: float
    confusion: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidence: NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        """Share of documents classified correctly."""
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Precision of each class."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Recall of each class."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each class."""
        return _ratio(2 * np.diag(self.confusion), self.confusion.sum(0) + self.confusion.sum(1))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        occurs = (self.confusion.sum(0) + self.confusion.sum(1)) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    @property
    def micro_f1(self) -> float:
        """F1 of the pooled counts."""
        true = np.trace(self.confusion)
        wrong = self.confusion.sum() - true
        return float(2 * true / max(1, 2 * true + wrong + wrong))

    @property
    def score(self) -> float:
        """The figure that selects the best epoch, higher is better: the accuracy."""
        return self.accuracy

    def summary(self) -> dict[str, float]:
        """The single figures by name."""
        names = ("loss", "accuracy", "macro_f1", "micro_f1")
        return {name: float(getattr(self, name)) for name in names}

    def per_class(self, label_names: list[str]) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 and number of documents of each class by label."""
        columns = (self.precision, self.recall, self.f1)
        return {
            label: {
                **{
                    n: float(c[i])
                    for n, c in zip(("precision", "recall", "f1"), columns, strict=True)
                },
                "documents": int(self.confusion[i].sum()),
            }
            for i, label in enumerate(label_names)
        }


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while.

    A model that is in it already is left alone, so that several threads may use it at a time.
    """
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def scores(
    model: nn.Module, documents: Documents, *, device: torch.device | str = "cpu", amp: bool = False
) -> Float[Tensor, "n c"]:
    """Unnormalised scores of all documents in their order, on the CPU, without dropout.

    Args:
        model: Maps token ids (b, t) to scores (b, c); already on `device`.
        documents: At least one document.
        device: Where to compute.
        amp: Compute in bf16 where autocast allows it.
    """
    batches = by_length(documents.lengths, _BATCH_TOKENS)
    parts = []
    device = torch.device(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=amp)
    with evaluating(model), torch.inference_mode(), autocast:
        for indices in batches:
            tokens = documents.batch(indices).tokens.to(device, non_blocking=True)
            parts.append(model(tokens).float())
    shuffled = torch.cat(parts).cpu()
    result = torch.empty_like(shuffled)
    result[torch.from_numpy(np.concatenate(batches))] = shuffled
    return result


def check_scores(logits: Float[Tensor, "n c"], whose: str) -> Float[Tensor, "n c"]:
    """Return the scores, or raise if a row has no valid softmax.

    Args:
        logits: Unnormalised scores.
        whose: What gave them, for the message.

    Raises:
        UserError: The scores of a document hold NaN or +inf, or are all -inf.
    """
    lost = int(logits.softmax(-1).isnan().any(-1).sum())
    if lost:
        raise UserError(
            f"{whose} gives {lost:,} of {len(logits):,} documents scores that are not numbers (NaN "
            "or an infinity): its training has diverged; train again with a lower --lr"
        )
    return logits


def evaluate(
    model: nn.Module, documents: Documents, *, device: torch.device | str = "cpu", amp: bool = False
) -> Metrics:
    """Measure `model` on `documents`; arguments as for `scores`."""
    return metrics(scores(model, documents, device=device, amp=amp), documents.labels)


def metrics(logits: Float[Tensor, "n c"], labels: NDArray[np.int64]) -> Metrics:
    """Figures from scores and the true class numbers."""
    target = torch.from_numpy(labels)
    confidence, predicted = logits.softmax(-1).max(-1)
    classes = logits.shape[-1]
    pairs = (target * classes + predicted).numpy()
    return Metrics(
        loss=F.cross_entropy(logits, target).item(),
        confusion=np.bincount(pairs, minlength=classes**2).reshape(classes, classes),
        predictions=predicted.numpy(),
        confidence=confidence.numpy(),
    )


@dataclass(frozen=True)
class SequenceMetrics:
    """Figures of a model that writes sequences, each token predicted from the true ones before it.

    Attributes:
        loss: Mean cross-entropy of a token in nats; its exponential is the perplexity.
        accuracy: Share of the tokens predicted correctly, the end's included.
        tokens: How many there are.
    """

    loss: float
    accuracy: float
    tokens: int

    @property
    def score(self) -> float:
        """The figure that selects the best epoch, higher is better: the accuracy."""
        return self.accuracy

    def summary(self) -> dict[str, float]:
        """The single figures by name."""
        return {"loss": self.loss, "accuracy": self.accuracy}


@dataclass(frozen=True)
class MultiLabelMetrics:
    r"""Figures of a classifier that gives each document any number of labels.

    Micro-F1 pools the counts of all classes, macro-F1 is the mean F1 of the classes that occur
    among labels or predictions, samples-F1 the mean over the documents of the F1 of their own
    labels; a document without labels for which none is predicted counts as 1.

    Attributes:
        loss: Mean binary cross-entropy over documents and classes, in nats.
        counts: True positives, false positives and false negatives of each class, shape
            (classes, 3).
        samples_f1: See above.
        subset_accuracy: Share of documents whose labels are all correct.
        hamming_loss: Share of wrong decisions among all of documents × classes.
        predictions: Which classes were chosen, shape (documents, classes).
    """

    loss: float
    counts: NDArray[np.int64]
    samples_f1: float
    subset_accuracy: float
    hamming_loss: float
    predictions: NDArray[np.bool_]

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each class."""
        tp, fp, fn = self.counts.T
        return _ratio(2 * tp, 2 * tp + fp + fn)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        occurs = self.counts.sum(1) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    @property
    def micro_f1(self) -> float:
        """F1 of the pooled counts."""
        tp, fp, fn = self.counts.sum(0)
        return float(2 * tp / max(1, 2 * tp + fp + fn))

    @property
    def score(self) -> float:
        """The figure that selects the best epoch, higher is better: micro-F1."""
        return self.micro_f1

    def summary(self) -> dict[str, float]:
        """The single figures by name."""
        names = ("loss", "micro_f1", "macro_f1", "samples_f1", "subset_accuracy", "hamming_loss")
        return {name: float(getattr(self, name)) for name in names}


def multi_label_metrics(
    logits: Float[Tensor, "n c"], labels: NDArray[np.int64], chosen: Bool[Tensor, "n c"]
) -> MultiLabelMetrics:
    """Figures from scores, the true labels (0 and 1) and the decisions."""
    target, decided = labels.astype(bool), chosen.cpu().numpy()
    hit, extra, missed = target & decided, decided & ~target, target & ~decided
    counts = np.stack([part.sum(0) for part in (hit, extra, missed)], axis=1).astype(np.int64)
    tp, fp, fn = (part.sum(1) for part in (hit, extra, missed))
    f1 = np.where(tp + fp + fn == 0, 1.0, _ratio(2 * tp, 2 * tp + fp + fn))
    return MultiLabelMetrics(
        loss=F.binary_cross_entropy_with_logits(
            logits.cpu(), torch.from_numpy(target).float()
        ).item(),
        counts=counts,
        samples_f1=float(f1.mean()) if len(f1) else 0.0,
        subset_accuracy=float((fp + fn == 0).mean()) if len(f1) else 0.0,
        hamming_loss=float((fp + fn).sum() / max(1, target.size)),
        predictions=decided,
    )


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = numerator / np.maximum(denominator, 1)
    return result

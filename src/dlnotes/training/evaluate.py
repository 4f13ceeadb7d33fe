"""The one way a classifier is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.data.batches import by_length
from dlnotes.data.documents import Documents, Examples
from dlnotes.data.vocabulary import PAD
from dlnotes.errors import UserError

# Padded tokens in an evaluation batch: enough to keep the cores busy, little memory.
_BATCH_TOKENS = 1 << 15
# The same for sequences, where every token of the target has a score for the whole vocabulary.
_BATCH_TOKENS_OF_SEQUENCES = 1 << 11


@dataclass(frozen=True)
class Metrics:
    r"""Figures of a classifier on a set of documents.

    With \(tp_c, fp_c, fn_c\) the true positives, false positives and false negatives of class
    \(c\): precision \(tp/(tp+fp)\), recall \(tp/(tp+fn)\), F1 \(2tp/(2tp+fp+fn)\), each 0 where
    its denominator is. Macro-F1 is the mean F1 of the classes that occur among labels or
    predictions; micro-F1 pools the counts of all classes, which for one label a document is the
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
        """Share of documents classified rightly."""
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
    was_training = model.training
    model.eval()
    batches = by_length(documents.lengths, _BATCH_TOKENS)
    parts = []
    device = torch.device(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
        for indices in batches:
            tokens = documents.batch(indices).tokens.to(device, non_blocking=True)
            parts.append(model(tokens).float())
    model.train(was_training)
    shuffled = torch.cat(parts).cpu()
    result = torch.empty_like(shuffled)
    result[torch.from_numpy(np.concatenate(batches))] = shuffled
    return result


def check_scores(logits: Float[Tensor, "n c"], whose: str) -> Float[Tensor, "n c"]:
    """Return the scores if they give probabilities: of others the best class means nothing.

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
        accuracy: Share of the tokens predicted rightly, the end's included.
        tokens: How many there are.
    """

    loss: float
    accuracy: float
    tokens: int

    def summary(self) -> dict[str, float]:
        """The single figures by name."""
        return {"loss": self.loss, "accuracy": self.accuracy}


def evaluate_sequences(
    model: nn.Module, documents: Examples, *, device: torch.device | str = "cpu", amp: bool = False
) -> SequenceMetrics:
    """Measure a model whose labels are sequences; arguments as for `scores`."""
    was_training = model.training
    model.eval()
    device = torch.device(device)
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
        for indices in by_length(documents.lengths, _BATCH_TOKENS_OF_SEQUENCES):
            tokens, labels = (x.to(device, non_blocking=True) for x in documents.batch(indices))
            logits, target = predict(model, tokens, labels)
            loss = F.cross_entropy(logits.float(), target, reduction="sum")
            right = logits.argmax(-1) == target
            sums += torch.stack([loss, right.sum(), (target >= 0).sum()])
    model.train(was_training)
    loss, accuracy, count = sums.tolist()
    return SequenceMetrics(loss / max(1, count), accuracy / max(1, count), int(count))


def predict(
    model: nn.Module, tokens: Int[Tensor, "b t"], labels: Int[Tensor, " b *u"]
) -> tuple[Float[Tensor, "n c"], Int[Tensor, " n"]]:
    """Scores, and the class that each of them should have chosen.

    Labels are a class a document, or a sequence: then every label but the first is predicted from
    the true ones before it, and padding has the class -100, which cross-entropy passes over.
    """
    if labels.dim() == 1:
        return model(tokens), labels
    target = labels[:, 1:]
    logits: Tensor = model(tokens, labels[:, :-1])  # b u c
    return logits.flatten(0, 1), target.masked_fill(target == PAD, -100).flatten()


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = numerator / np.maximum(denominator, 1)
    return result
